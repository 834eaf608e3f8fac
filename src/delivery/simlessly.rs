//! The signature of Simlessly RSP (<https://docs.simlessly.com>): HMAC-SHA256 over the headers `Timestamp`, `Request-ID` and
//! `Access-Key` and the body, valid for ten minutes, and each `Request-ID` only once.
//!
//! Nothing separates the four parts. If they could be cut at other places, a recorded request would be valid again under another
//! `Request-ID`. So every cut is fixed:
//!
//! - **`Timestamp`** is in milliseconds, as the documentation says. Seconds are stale, although the documentation's own example has
//!   them: the first ten of the 13 digits are a time in seconds, and the last three would begin another id.
//! - **`Request-ID`** is 1 to 256 visible ASCII characters without `{`, so that it cannot extend into a JSON object.
//! - **`Access-Key`** is the one that the hook is configured with.
//!
//! The signature covers the timestamp as it was sent, and hexadecimal digits may have either case. `Sign-Method` is not covered; if
//! present, it must be `SHA256`.

use http::HeaderName;
use subtle::{Choice, ConstantTimeEq};

use super::event_id::EventId;
use super::hmac_sha256::{Encoding, mac};
use super::secret::{Secret, Secrets};
use super::sent_credentials::SentCredentials;
use super::standard_webhooks::read_timestamp;
use super::{Delivery, NotAuthentic};
use crate::domain::Timestamp;

const ACCESS_KEY: HeaderName = HeaderName::from_static("access-key");
const SIGN_METHOD: HeaderName = HeaderName::from_static("sign-method");
const TIMESTAMP: HeaderName = HeaderName::from_static("timestamp");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The header that contains the signature.
pub(super) static SIGNATURE: HeaderName = HeaderName::from_static("signature");

const METHOD: &str = "SHA256";

const TOLERANCE_MILLISECONDS: i128 = 600_000;

/// What Simlessly's portal shows beside the secret key. It names the account, and every request contains it.
#[derive(Debug, Clone)]
pub struct AccessKey(String);

impl AccessKey {
    const MAX_BYTES: usize = 256;

    /// Reads an access key; `None` if it is empty, or if a header could not carry it unchanged.
    pub fn parse(text: &str) -> Option<Self> {
        let fit = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        fit.then(|| Self(text.to_owned()))
    }
}

/// Checks the headers, and returns the id of the request. Checks the time last, so that [`NotAuthentic::Stale`] only reports clocks
/// and replays.
pub(super) fn check(
    delivery: &Delivery,
    access_key: &AccessKey,
    secrets: &Secrets,
) -> Result<String, NotAuthentic> {
    let time = delivery.only_header(&TIMESTAMP)?;
    let id = delivery.only_header(&REQUEST_ID)?;
    let given_key = delivery.only_header(&ACCESS_KEY)?;
    let signature = delivery.only_header(&SIGNATURE)?;
    match delivery.only_header(&SIGN_METHOD) {
        Ok(method) if !method.as_bytes().eq_ignore_ascii_case(METHOD.as_bytes()) => {
            return Err(NotAuthentic::Garbled);
        }
        Ok(_) | Err(NotAuthentic::Missing) => {}
        Err(refusal) => return Err(refusal),
    }

    let (digits, sent_at) = read_timestamp(time.as_bytes()).ok_or(NotAuthentic::Garbled)?;
    let id = read_id(id.as_bytes()).ok_or(NotAuthentic::Garbled)?;
    let given = Encoding::Hex.decode(signature.as_bytes()).ok_or(NotAuthentic::Garbled)?;

    let signed = [digits.as_bytes(), id.as_bytes(), given_key.as_bytes(), &delivery.body];
    let found = secrets
        .iter()
        .fold(Choice::from(0), |found, secret| found | mac(secret, &signed).ct_eq(&given));
    if !bool::from(found & access_key.0.as_bytes().ct_eq(given_key.as_bytes())) {
        return Err(NotAuthentic::Wrong);
    }
    if (milliseconds(delivery.received_at) - i128::from(sent_at)).abs() > TOLERANCE_MILLISECONDS {
        return Err(NotAuthentic::Stale);
    }
    Ok(id.to_owned())
}

/// The headers that a sender adds.
pub(super) fn credentials_for(
    access_key: &AccessKey,
    secret: &Secret,
    id: &str,
    at: Timestamp,
    body: &[u8],
) -> SentCredentials {
    let (time, key) = (milliseconds(at).to_string(), access_key.0.as_bytes());
    let mac = mac(secret, &[time.as_bytes(), id.as_bytes(), key, body]);
    SentCredentials::default()
        .with(&ACCESS_KEY, key)
        .with(&SIGN_METHOD, METHOD.as_bytes())
        .with(&TIMESTAMP, time.as_bytes())
        .with(&REQUEST_ID, id.as_bytes())
        .with_sensitive(&SIGNATURE, Encoding::Hex.encode(mac).as_bytes())
}

fn read_id(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok().filter(|text| !text.contains('{'))?;
    EventId::parse(text).map(|_| text)
}

fn milliseconds(at: Timestamp) -> i128 {
    at.as_datetime().unix_timestamp_nanos().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::tests::{delivery, noon};
    use crate::delivery::{Authenticator, Scheme};

    const KEY: &str = "11111";
    const SECRET: &str = "9f2c41d07be8835a6610fe7c";
    const BODY: &[u8] = br#"{"iccid":"8986000000000012345"}"#;

    /// [`noon`] in milliseconds.
    const NOON: i128 = 1_614_265_330_000;

    fn hook() -> Authenticator {
        Authenticator::new(Scheme::Simlessly {
            access_key: AccessKey::parse(KEY).unwrap(),
            secrets: Secrets::parse("test", ["kx81-vq02-mz77-ra40", SECRET]).unwrap(),
        })
    }

    fn sign(time: &[u8], id: &[u8], key: &[u8], body: &[u8]) -> String {
        hex::encode(mac(&Secret::new(SECRET.as_bytes()), &[time, id, key, body]))
    }

    fn ask(headers: &[(&str, &[u8])], body: &[u8]) -> Result<String, NotAuthentic> {
        hook().check(delivery(None, headers, body)).map(|authentic| {
            assert_eq!(authentic.kept_headers(), "{}");
            authentic.event_id().unwrap().to_owned()
        })
    }

    /// Signs correctly, whatever the parts are.
    fn ask_signed(time: &[u8], id: &[u8], key: &[u8], body: &[u8]) -> Result<String, NotAuthentic> {
        let signature = sign(time, id, key, body);
        let headers = [
            ("timestamp", time),
            ("request-id", id),
            ("access-key", key),
            ("signature", signature.as_bytes()),
        ];
        ask(&headers, body)
    }

    fn ask_at(time: &str) -> Result<String, NotAuthentic> {
        ask_signed(time.as_bytes(), b"4ce9d9cd", KEY.as_bytes(), BODY)
    }

    #[test]
    fn the_known_answer_of_the_documentation_holds() {
        let parts: [&[u8]; 4] = [
            b"1628670421",
            b"4ce9d9cdac9e4e17b3a2c66c358c1ce2",
            b"11111",
            br#"{"imsi":"326543826"}"#,
        ];
        let known = "7EB765E27DF5373DEA2DBC8C41A7D9557743E46C8054750F3D851B3FD01D0835";
        let mac = mac(&Secret::new(b"1111"), &parts);
        assert_eq!(hex::encode_upper(mac), known);
        assert_eq!(Encoding::Hex.decode(known.as_bytes()), Some(mac));

        // The whole request is authentic but for its time, which is in seconds.
        let secrets = Secrets::collect("test", "", [""], |_| Ok(Secret::new(b"1111"))).unwrap();
        let access_key = AccessKey::parse("11111").unwrap();
        let hook = Authenticator::new(Scheme::Simlessly { access_key, secrets });
        let names = ["timestamp", "request-id", "access-key"];
        let mut headers: Vec<_> = names.into_iter().zip(parts).collect();
        headers.push(("signature", known.as_bytes()));
        let given = |headers: &[_]| hook.check(delivery(None, headers, parts[3])).map(drop);
        assert_eq!(given(&headers), Err(NotAuthentic::Stale));
        headers[1].1 = b"4ce9d9cdac9e4e17b3a2c66c358c1ce3";
        assert_eq!(given(&headers), Err(NotAuthentic::Wrong));
    }

    #[test]
    fn ten_minutes_in_either_direction_are_tolerated_and_no_millisecond_more() {
        for off in [0, 1, -1, 599_999, -599_999, 600_000, -600_000] {
            assert_eq!(ask_at(&(NOON + off).to_string()).as_deref(), Ok("4ce9d9cd"), "{off}");
        }
        for off in [600_001, -600_001, NOON * 9, 1 - NOON] {
            assert_eq!(ask_at(&(NOON + off).to_string()), Err(NotAuthentic::Stale), "{off}");
        }
        for time in [NOON / 1_000, NOON * 1_000] {
            assert_eq!(ask_at(&time.to_string()), Err(NotAuthentic::Stale), "{time}");
        }
    }

    #[test]
    fn a_time_that_is_not_plain_digits_is_refused_though_signed() {
        for text in [
            "",
            "0",
            "01614265330000",
            "+1614265330000",
            "-1614265330000",
            "1614265330000.0",
            " 1614265330000",
            "1614265330000 ",
            "1.614265330e12",
            "2021-02-25T15:02:10Z",
            "１６１４２６５３３００００",
            "9223372036854775808",
            &"1".repeat(400),
        ] {
            assert_eq!(ask_at(text), Err(NotAuthentic::Garbled), "{text}");
        }
    }

    #[test]
    fn an_id_is_visible_ascii_of_256_at_most_and_does_not_reach_into_the_body() {
        let time = NOON.to_string();
        let given = |id: &[u8]| ask_signed(time.as_bytes(), id, KEY.as_bytes(), BODY);
        for id in ["4", "4ce9d9cdac9e4e17b3a2c66c358c1ce2", "a.b:c/d-e_f", &"x".repeat(256)] {
            assert_eq!(given(id.as_bytes()).as_deref(), Ok(id));
        }
        for id in [&b""[..], b" ", b"a b", b"a\t", b"\xff", "é".as_bytes(), b"a{", &[b'x'; 257]] {
            assert_eq!(given(id), Err(NotAuthentic::Garbled), "{id:?}");
        }
    }

    #[test]
    fn a_signature_is_not_valid_for_parts_that_are_cut_elsewhere() {
        let (time, id) = (NOON.to_string(), "123abc456");
        let signature = sign(time.as_bytes(), id.as_bytes(), KEY.as_bytes(), BODY);
        let whole = [time.as_bytes(), id.as_bytes(), KEY.as_bytes(), BODY].concat();
        let mut accepted = Vec::new();
        for first in 0..=whole.len().min(40) {
            for second in first..=whole.len().min(60) {
                for third in second..=whole.len() {
                    let (head, body) = whole.split_at(third);
                    let headers = [
                        ("timestamp", &head[..first]),
                        ("request-id", &head[first..second]),
                        ("access-key", &head[second..]),
                        ("signature", signature.as_bytes()),
                    ];
                    let sound =
                        headers.iter().all(|(_, it)| http::HeaderValue::from_bytes(it).is_ok());
                    if sound && let Ok(id) = ask(&headers, body) {
                        accepted.push((id, body.to_vec()));
                    }
                }
            }
        }
        assert_eq!(accepted, [(id.to_owned(), BODY.to_vec())]);
    }

    #[test]
    fn another_access_key_is_refused_though_signed() {
        let time = NOON.to_string();
        for key in ["1111", "111111", "11112", ""] {
            let given = ask_signed(time.as_bytes(), b"4ce9", key.as_bytes(), BODY);
            assert_eq!(given, Err(NotAuthentic::Wrong), "{key}");
        }
        for text in ["", " ", "a b", "é", "a\n", &"x".repeat(257)] {
            assert!(AccessKey::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_method_may_be_absent_and_is_otherwise_sha256() {
        let time = NOON.to_string();
        let signature = sign(time.as_bytes(), b"4ce9", KEY.as_bytes(), BODY);
        let (upper, half) = (signature.to_uppercase(), &signature[..32]);
        let given = |signature: &str, methods: &[&str]| {
            let mut headers = vec![
                ("timestamp", time.as_bytes()),
                ("request-id", b"4ce9"),
                ("access-key", KEY.as_bytes()),
                ("signature", signature.as_bytes()),
            ];
            headers.extend(methods.iter().map(|method| ("sign-method", method.as_bytes())));
            ask(&headers, BODY).map(drop)
        };
        for methods in [&[][..], &["SHA256"], &["sha256"]] {
            assert_eq!(given(&signature, methods), Ok(()));
            assert_eq!(given(&upper, methods), Ok(()));
            assert_eq!(given(half, methods), Err(NotAuthentic::Garbled));
        }
        for methods in [&[""][..], &["MD5"], &["SHA256 "]] {
            assert_eq!(given(&signature, methods), Err(NotAuthentic::Garbled), "{methods:?}");
        }
        assert_eq!(given(&signature, &["SHA256", "SHA256"]), Err(NotAuthentic::Ambiguous));
    }

    proptest! {
        #[test]
        fn no_header_panics(value in prop::collection::vec(0x80u8.., 0..100), text in "[ -~]{0,100}") {
            for value in [&value, text.as_bytes()] {
                let headers = ["timestamp", "request-id", "access-key", "signature"].map(|name| (name, value));
                prop_assert_eq!(ask(&headers, b"{}"), Err(NotAuthentic::Garbled));
            }
        }
    }

    #[test]
    fn what_the_sender_is_told_to_add_is_accepted() {
        let credentials = hook().credentials_for("msg_1", noon(), BODY);
        let headers: Vec<_> = credentials
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(headers.len(), 5);
        assert_eq!(ask(&headers, BODY).as_deref(), Ok("msg_1"));
    }
}
