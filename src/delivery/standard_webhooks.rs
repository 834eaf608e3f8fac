//! Standard Webhooks (<https://www.standardwebhooks.com>), symmetric signatures: HMAC-SHA256 over
//! `{id}.{timestamp}.{body}`, valid for five minutes.
//!
//! Tested against the project's own Rust crate as an oracle. Both accept the same requests, with these exceptions.
//! Stricter here:
//!
//! - **A header that occurs twice** is refused; the crate takes the first value. A proxy in between may have checked
//!   the other.
//! - **The timestamp** is `[1-9][0-9]*` with at most 18 digits. The crate also reads `+1` and `01`, and signs the
//!   number, so that one signature is valid for many texts. Other implementations sign the text.
//! - **The id** is 1 to 256 visible ASCII characters without a dot. Dots separate the signed parts; an id with a dot
//!   would make one signature valid for two requests. The id is also indexed in the database and written to logs.
//! - **More than 16 entries** in the list of signatures are refused; rotation needs two. The crate checks all of them.
//!
//! Looser here:
//!
//! - **A body that is not UTF-8** can be authenticated; the crate cannot sign it. Such a delivery is authentic and
//!   malformed, and is kept as evidence.
//!
//! Secrets must begin with `whsec_`, because it is easy to paste the base64 of another secret by mistake. The
//! specification asks for 24 to 64 bytes. The minimum here is 16, as for every secret of this service, because some
//! senders' portals accept secrets that users choose. There is no maximum, because HMAC has none.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use http::HeaderName;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use subtle::{Choice, ConstantTimeEq};

use super::hmac_sha256::mac;
use super::secret::{Secret, Secrets, WeakSecret};
use super::weakness::{self, Flaw};
use super::{Delivery, NotAuthentic};

/// The names of the three headers.
#[derive(Debug)]
pub(super) struct Names {
    /// The sender's event id.
    pub id: HeaderName,
    /// The time of sending, in seconds since 1970.
    pub timestamp: HeaderName,
    /// The signatures.
    pub signature: HeaderName,
}

/// The names in the specification.
pub(super) static NAMES: Names = Names {
    id: HeaderName::from_static("webhook-id"),
    timestamp: HeaderName::from_static("webhook-timestamp"),
    signature: HeaderName::from_static("webhook-signature"),
};

/// The names that Svix uses (<https://docs.svix.com/receiving/verifying-payloads/how-manual>), where the specification
/// originated.
static SVIX: Names = Names {
    id: HeaderName::from_static("svix-id"),
    timestamp: HeaderName::from_static("svix-timestamp"),
    signature: HeaderName::from_static("svix-signature"),
};

impl Names {
    /// Whether at least one of these headers is present.
    fn are_in(&self, delivery: &Delivery) -> bool {
        [&self.id, &self.timestamp, &self.signature]
            .into_iter()
            .any(|name| delivery.headers.contains_key(name))
    }
}

const TOLERANCE_SECONDS: u64 = 300;
const MAX_ID_BYTES: usize = 256;
const MAX_SIGNATURES: usize = 16;
/// The max number of digits that always fit into an `i64`.
const MAX_TIMESTAMP_DIGITS: usize = 18;

const MIN_KEY_BYTES: usize = 16;
const PREFIX: &str = "whsec_";
const REMEDY: &str = "copy it from the sender's portal, or generate one with `echo whsec_$(openssl rand -base64 32)`";

/// The live secrets of a Standard Webhooks hook: `whsec_` and base64.
#[derive(Debug)]
pub struct StandardSecrets(Secrets);

impl StandardSecrets {
    /// Reads a list of secrets, and trims the space around each. `name` is the setting that they come from.
    ///
    /// # Errors
    /// [`WeakSecret`] if the list is empty, or if a secret is empty, a placeholder, a repeated pattern, not `whsec_`
    /// and base64, or shorter than 16 bytes when decoded.
    pub fn parse<S: AsRef<str>>(
        name: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<Self, WeakSecret> {
        Secrets::collect(name, REMEDY, values, |text| {
            weakness::check_text(text)?;
            let encoded = text.strip_prefix(PREFIX).ok_or(Flaw::NotStandard)?;
            let key = STANDARD_PAD_INDIFFERENT.decode(encoded).map_err(|_| Flaw::NotStandard)?;
            let key = Zeroizing::new(key);
            weakness::check_key(&key, MIN_KEY_BYTES)?;
            Ok(Secret::new(&key))
        })
        .map(Self)
    }

    /// The text of a secret with this key, which must be random.
    pub fn text(key: [u8; 32]) -> SecretString {
        format!("{PREFIX}{}", STANDARD.encode(key)).into()
    }

    /// The header `webhook-signature` of a request with this id, time (in seconds since 1970) and body: an entry of each secret, so
    /// that a receiver that has only one of them can check it.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        let entries = self.0.iter().map(|secret| sign(secret, id, &timestamp, body));
        entries.collect::<Vec<_>>().join(" ")
    }

    /// All secrets, decoded.
    pub(crate) fn all(&self) -> &Secrets {
        &self.0
    }

    /// The secret that signs.
    pub(super) fn first(&self) -> &Secret {
        self.0.first()
    }
}

/// Checks the three headers and returns the sender's event id. If a header of either set of names is present, that set
/// must be complete and valid: a proxy in between may have checked the other set.
pub(super) fn check(
    delivery: &Delivery,
    secrets: &StandardSecrets,
) -> Result<String, NotAuthentic> {
    let svix = SVIX.are_in(delivery).then(|| check_set(delivery, secrets, &SVIX)).transpose()?;
    match svix {
        Some(id) if !NAMES.are_in(delivery) => Ok(id),
        _ => check_set(delivery, secrets, &NAMES),
    }
}

/// Checks the time last, so that [`NotAuthentic::Stale`] only reports clocks and replays, and not anyone who sends an
/// old time without a valid signature.
fn check_set(
    delivery: &Delivery,
    secrets: &StandardSecrets,
    names: &Names,
) -> Result<String, NotAuthentic> {
    let id = delivery.only_header(&names.id)?;
    let timestamp = delivery.only_header(&names.timestamp)?;
    let signatures = delivery.only_header(&names.signature)?;

    let id = read_id(id.as_bytes()).ok_or(NotAuthentic::Garbled)?;
    let (digits, sent_at) = read_timestamp(timestamp.as_bytes()).ok_or(NotAuthentic::Garbled)?;
    let candidates = read_signatures(signatures.as_bytes()).ok_or(NotAuthentic::Garbled)?;

    // One MAC for each secret, however many candidates there are.
    let mut found = Choice::from(0);
    for secret in &secrets.0 {
        let expected = sign(secret, id, digits, &delivery.body);
        for candidate in &candidates {
            found |= expected.as_bytes().ct_eq(candidate);
        }
    }
    if !bool::from(found) {
        return Err(NotAuthentic::Wrong);
    }
    if delivery.received_at.unix_seconds().abs_diff(sent_at) > TOLERANCE_SECONDS {
        return Err(NotAuthentic::Stale);
    }
    Ok(id.to_owned())
}

/// Makes one entry of the signature header.
pub(super) fn sign(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mac = mac(secret, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

fn read_id(value: &[u8]) -> Option<&str> {
    let fit = (1..=MAX_ID_BYTES).contains(&value.len())
        && value.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'.');
    if fit { str::from_utf8(value).ok() } else { None }
}

/// Reads plain digits without a leading zero, as text and as a number.
pub(super) fn read_timestamp(value: &[u8]) -> Option<(&str, i64)> {
    let fit = (1..=MAX_TIMESTAMP_DIGITS).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && value[0] != b'0';
    let digits = if fit {
        str::from_utf8(value).ok()?
    } else {
        return None;
    };
    Some((digits, digits.parse().ok()?))
}

/// The entries that could match. Skips entries of other versions: a sender may sign in two ways at the same time.
fn read_signatures(value: &[u8]) -> Option<Vec<&[u8]>> {
    if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let mut entries = value.split(|&byte| byte == b' ');
    let candidates =
        (entries.by_ref().take(MAX_SIGNATURES)).filter(|entry| entry.starts_with(b"v1,")).collect();
    entries.next().is_none().then_some(candidates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::tests::delivery;
    use crate::delivery::{Authenticator, Scheme};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID_TEXT: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const KNOWN: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secrets() -> StandardSecrets {
        StandardSecrets::parse("test", [SECRET]).unwrap()
    }

    fn hook() -> Authenticator {
        Authenticator::new(Scheme::StandardWebhooks(secrets()))
    }

    fn ask(id: &[u8], timestamp: &[u8], signature: &[u8], body: &[u8]) -> Result<(), NotAuthentic> {
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ];
        hook().check(delivery(None, &headers, body)).map(drop)
    }

    /// Signs correctly, whatever the id and the timestamp are.
    fn ask_signed(id: &[u8], timestamp: &[u8]) -> Result<(), NotAuthentic> {
        let mac = mac(secrets().first(), &[id, b".", timestamp, b".", BODY]);
        ask(id, timestamp, format!("v1,{}", STANDARD.encode(mac)).as_bytes(), BODY)
    }

    fn ask_signatures(signatures: &str) -> Result<(), NotAuthentic> {
        ask(ID_TEXT.as_bytes(), TIME.to_string().as_bytes(), signatures.as_bytes(), BODY)
    }

    #[test]
    fn the_published_example_holds() {
        assert_eq!(sign(secrets().first(), ID_TEXT, "1614265330", BODY), KNOWN);
        assert_eq!(ask_signatures(KNOWN), Ok(()));
        let headers: [(&str, &[u8]); 3] = [
            ("webhook-id", ID_TEXT.as_bytes()),
            ("webhook-timestamp", b"1614265330"),
            ("webhook-signature", KNOWN.as_bytes()),
        ];
        let authentic = hook().check(delivery(None, &headers, BODY)).unwrap();
        assert_eq!(authentic.event_id(), Some(ID_TEXT));
        assert!(!authentic.kept_headers().contains("webhook-signature"));
    }

    #[test]
    fn svix_own_names_prove_as_well_and_where_both_are_there_both_have_to_hold() {
        let values: [&[u8]; 3] = [ID_TEXT.as_bytes(), b"1614265330", KNOWN.as_bytes()];
        let names = |prefix: [&str; 3]| {
            let rest = ["id", "timestamp", "signature"];
            [0, 1, 2].map(|at| format!("{}-{}", prefix[at], rest[at]))
        };
        let ask = |names: &[String; 3]| {
            let headers = [0, 1, 2].map(|at| (names[at].as_str(), values[at]));
            hook().check(delivery(None, &headers, BODY))
        };
        let authentic = ask(&names(["svix"; 3])).unwrap();
        assert_eq!(authentic.event_id(), Some(ID_TEXT));
        assert!(!authentic.kept_headers().contains("svix-signature"));
        for mixture in [["svix", "svix", "webhook"], ["webhook", "svix", "svix"]] {
            assert_eq!(ask(&names(mixture)).map(drop), Err(NotAuthentic::Missing));
        }
        for (other, given) in [(KNOWN, Ok(())), ("v1,AAAA", Err(NotAuthentic::Wrong))] {
            let both = [names(["webhook"; 3]), names(["svix"; 3])].concat();
            let mut both: Vec<_> =
                both.iter().zip(values.iter().cycle()).map(|(name, it)| (&**name, *it)).collect();
            for wrong in [2, 5] {
                let right = std::mem::replace(&mut both[wrong].1, other.as_bytes());
                assert_eq!(hook().check(delivery(None, &both, BODY)).map(drop), given);
                both[wrong].1 = right;
            }
        }
    }

    #[test]
    fn any_of_the_three_headers_missing_is_missing() {
        let all: [(&str, &[u8]); 3] = [
            ("webhook-id", ID_TEXT.as_bytes()),
            ("webhook-timestamp", b"1614265330"),
            ("webhook-signature", KNOWN.as_bytes()),
        ];
        for absent in 0..3 {
            let mut headers = all.to_vec();
            headers.remove(absent);
            let given = hook().check(delivery(None, &headers, BODY)).map(drop);
            assert_eq!(given, Err(NotAuthentic::Missing));
        }
    }

    #[test]
    fn five_minutes_in_either_direction_are_tolerated_and_no_second_more() {
        for off in [0, 1, -1, 299, -299, 300, -300] {
            assert_eq!(ask_signed(b"msg_1", (TIME + off).to_string().as_bytes()), Ok(()), "{off}");
        }
        for off in [301, -301, 3_600, -TIME + 1, TIME * 999] {
            let given = ask_signed(b"msg_1", (TIME + off).to_string().as_bytes());
            assert_eq!(given, Err(NotAuthentic::Stale), "{off}");
        }
    }

    #[test]
    fn milliseconds_are_a_time_far_off() {
        assert_eq!(ask_signed(b"msg_1", b"1614265330000"), Err(NotAuthentic::Stale));
        assert_eq!(ask_signed(b"msg_1", &[b'9'; 18]), Err(NotAuthentic::Stale));
    }

    #[test]
    fn a_timestamp_that_is_not_plain_digits_is_refused_though_signed() {
        let full_width = "１６１４２６５３３０";
        for text in [
            "",
            "0",
            "+1614265330",
            "-1614265330",
            "01614265330",
            "001614265330",
            "1614265330.0",
            "1614265330.",
            "1614265330,0",
            "1614265330e0",
            "1.614265330e9",
            "0x6037bb32",
            " 1614265330",
            "1614265330 ",
            "1614265330\t",
            "1_614_265_330",
            "1614265330s",
            "-9223372036854775808",
            "9223372036854775807",
            "9223372036854775808",
            "infinity",
            "NaN",
            "2021-02-25T15:02:10Z",
            full_width,
            &"1".repeat(19),
            &"9".repeat(400),
            &"0".repeat(400),
        ] {
            assert_eq!(ask_signed(b"msg_1", text.as_bytes()), Err(NotAuthentic::Garbled), "{text}");
        }
    }

    #[test]
    fn an_id_is_visible_ascii_without_a_dot_of_256_at_most_though_signed() {
        let at = TIME.to_string();
        for id in [&b"m"[..], b"msg_1", b"~!@#$%^&*()_+-=[]{}|;':\",/<>?`", &[b'a'; 256]] {
            assert_eq!(ask_signed(id, at.as_bytes()), Ok(()), "{id:?}");
        }
        for id in [
            &b""[..],
            b".",
            b"msg.1",
            b".msg",
            b"msg.",
            b"msg 1",
            b" msg",
            b"msg\t1",
            b"msg\x80",
            b"msg\xff",
            "mésg".as_bytes(),
            "\u{202e}msg".as_bytes(),
            &[b'a'; 257],
            &[b'a'; 10_000],
        ] {
            assert_eq!(ask_signed(id, at.as_bytes()), Err(NotAuthentic::Garbled), "{id:?}");
        }
    }

    #[test]
    fn a_signature_cannot_be_moved_between_id_time_and_body() {
        // The same signed text, split at another place: `a.1614265330.1614265330.{}`.
        let at = TIME.to_string();
        let moved = sign(secrets().first(), "a", &at, format!("{at}.{{}}").as_bytes());
        assert_eq!(
            ask(b"a", at.as_bytes(), moved.as_bytes(), format!("{at}.{{}}").as_bytes()),
            Ok(())
        );
        let id = format!("a.{at}");
        assert_eq!(
            ask(id.as_bytes(), at.as_bytes(), moved.as_bytes(), b"{}"),
            Err(NotAuthentic::Garbled)
        );
        assert_eq!(ask(b"a", at.as_bytes(), moved.as_bytes(), b"{}"), Err(NotAuthentic::Wrong));
    }

    #[test]
    fn one_right_signature_among_others_is_enough() {
        let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for list in [
            format!("{wrong} {KNOWN}"),
            format!("{KNOWN} {wrong}"),
            format!("v1a,abc {KNOWN}"),
            format!("v2,abc v1,{KNOWN} {KNOWN}"),
            format!("  {KNOWN} "),
            format!("garbage , v1 v1, {KNOWN}"),
            format!("{}{KNOWN}", format!("{wrong} ").repeat(15)),
        ] {
            assert_eq!(ask_signatures(&list), Ok(()), "{list}");
        }
    }

    #[test]
    fn a_cut_garbled_or_otherwise_versioned_signature_is_wrong() {
        let mac = &KNOWN[3..];
        for list in [
            String::new(),
            " ".to_owned(),
            ",".to_owned(),
            "v1".to_owned(),
            "v1,".to_owned(),
            "v1,=".to_owned(),
            mac.to_owned(),
            format!("v2,{mac}"),
            format!("v1a,{mac}"),
            format!("V1,{mac}"),
            format!("v1 ,{mac}"),
            format!("v1, {mac}"),
            format!("v1={mac}"),
            format!("v1,v1,{mac}"),
            KNOWN[..KNOWN.len() - 1].to_owned(),
            KNOWN[..20].to_owned(),
            format!("{KNOWN}="),
            format!("{KNOWN},{KNOWN}"),
            format!("{KNOWN};"),
            KNOWN.to_lowercase(),
            format!("v1,{}", hex::encode(STANDARD.decode(mac).unwrap())),
            KNOWN.replace('/', "_").replace('+', "-"),
        ] {
            assert_eq!(ask_signatures(&list), Err(NotAuthentic::Wrong), "{list}");
        }
        for list in [format!("{KNOWN}\t"), format!("v1,abc\t{KNOWN}"), format!("é {KNOWN}")] {
            assert_eq!(ask_signatures(&list), Err(NotAuthentic::Garbled), "{list}");
        }
    }

    #[test]
    fn more_than_sixteen_entries_are_refused_even_with_a_right_one() {
        assert_eq!(ask_signatures(&[KNOWN; 16].join(" ")), Ok(()));
        for count in [17, 5_000] {
            assert_eq!(ask_signatures(&vec![KNOWN; count].join(" ")), Err(NotAuthentic::Garbled));
            assert_eq!(
                ask_signatures(&vec!["v2,abc"; count].join(" ")),
                Err(NotAuthentic::Garbled)
            );
        }
        assert_eq!(ask_signatures(&" ".repeat(5_000)), Err(NotAuthentic::Garbled));
    }

    #[test]
    fn the_number_of_candidates_looked_at_is_bounded() {
        let most = vec!["v1,abc"; 16].join(" ");
        assert_eq!(read_signatures(most.as_bytes()).unwrap().len(), 16);
        assert_eq!(read_signatures(format!("{most} v1,abc").as_bytes()), None);
    }

    #[test]
    fn a_body_that_is_not_utf8_can_be_proved() {
        let signature = sign(secrets().first(), "msg_1", "1614265330", b"\xff\xfe\0");
        assert_eq!(ask(b"msg_1", b"1614265330", signature.as_bytes(), b"\xff\xfe\0"), Ok(()));
        assert_eq!(
            ask(b"msg_1", b"1614265330", signature.as_bytes(), b"\xff\xfe"),
            Err(NotAuthentic::Wrong)
        );
    }

    #[test]
    fn secrets_are_whsec_and_base64_of_16_bytes_or_more() {
        let of = |bytes: usize| {
            let key: Vec<u8> = (0..bytes).map(|n| u8::try_from(n * 37 % 251).unwrap()).collect();
            format!("whsec_{}", STANDARD.encode(key))
        };
        for bytes in [16, 24, 64, 100] {
            assert!(StandardSecrets::parse("test", [of(bytes)]).is_ok(), "{bytes}");
            assert!(
                StandardSecrets::parse("test", [of(bytes).trim_end_matches('=')]).is_ok(),
                "{bytes}"
            );
        }
        for (text, flaw) in [
            (of(15), "is shorter than 16 bytes"),
            ("whsec_".to_owned(), "is shorter than 16 bytes"),
            (String::new(), "is empty"),
            (SECRET[6..].to_owned(), "is not `whsec_` and base64"),
            (SECRET.replacen("whsec", "WHSEC", 1), "is not `whsec_` and base64"),
            (format!("{SECRET}!"), "is not `whsec_` and base64"),
            ("whsec_MfKQ-r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), "is not `whsec_` and base64"),
            ("whsec_your_secret_here".to_owned(), "is a placeholder"),
            ("whsec_…".to_owned(), "is a placeholder"),
            ("whsec_<secret>".to_owned(), "is not `whsec_` and base64"),
            (format!("whsec_{}", "A".repeat(32)), "is a pattern that repeats"),
        ] {
            let error =
                StandardSecrets::parse("hooks[0].auth.secrets", [&text]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("hooks[0].auth.secrets: secret number 1 {flaw}; ")),
                "{error}"
            );
            assert!(error.contains("openssl rand -base64 32"), "{error}");
            assert!(text.len() < 8 || !error.contains(&text), "{error}");
        }
        let none = StandardSecrets::parse("hooks[0].auth.secrets", [""; 0]).unwrap_err();
        assert!(none.to_string().starts_with("hooks[0].auth.secrets has no secret; "), "{none}");
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let debug = format!("{:?}", secrets());
        let key = format!("{:?}", secrets().first().expose());
        assert!(
            !debug.contains(&SECRET[6..]) && !debug.contains(key.trim_matches(['[', ']'])),
            "{debug}"
        );
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_body_or_headers_is_refused(
            body in prop::collection::vec(any::<u8>(), 1..200), id in "[a-zA-Z0-9_-]{1,40}",
            part in 0..4usize, place: prop::sample::Index, bit in 0..8u8,
        ) {
            let at = TIME.to_string();
            let signature = sign(secrets().first(), &id, &at, &body);
            let mut parts = [id.into_bytes(), at.into_bytes(), signature.into_bytes(), body];
            prop_assert_eq!(ask(&parts[0], &parts[1], &parts[2], &parts[3]), Ok(()));
            let place = place.index(parts[part].len());
            parts[part][place] ^= 1 << bit;
            prop_assume!(parts[..3].iter().all(|value| http::HeaderValue::from_bytes(value).is_ok()));
            prop_assert!(ask(&parts[0], &parts[1], &parts[2], &parts[3]).is_err());
        }

        #[test]
        fn no_header_panics(
            id in "[ -~é]{0,30}", timestamp in "[0-9+. é-]{0,25}", signature in "(v1,|v2,|[ -~é]){0,60}",
        ) {
            prop_assert!(ask(id.as_bytes(), timestamp.as_bytes(), signature.as_bytes(), BODY).is_err());
        }
    }
}
