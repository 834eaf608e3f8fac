//! How a hook authenticates its sender, and the only way from a [`Delivery`] to an [`AuthenticDelivery`].
//!
//! These rules hold for every scheme:
//!
//! - A secret or signature is compared with all live secrets in constant time, and a match does not end the search.
//! - A header that authenticates the sender must occur only once.
//! - A secret in the path is refused if the hook does not ask for one. Its sender relies on a protection that does not
//!   exist, and the secret would end up in logs for nothing.

use http::HeaderName;
use secrecy::ExposeSecret;

use super::hmac_sha256::{self, Encoding};
use super::secret::Secrets;
use super::sent_credentials::SentCredentials;
use super::simlessly::{self, AccessKey};
use super::standard_webhooks::{self, StandardSecrets};
use super::{AuthenticDelivery, Delivery};
use crate::domain::Timestamp;

/// How a hook authenticates its sender.
#[derive(Debug)]
pub enum Scheme {
    /// A secret as the last segment of the path, for senders that cannot sign.
    UrlSecret(Secrets),
    /// A secret in a header.
    Header {
        /// The header. Its value is the secret and nothing else.
        name: HeaderName,
        /// The live secrets.
        secrets: Secrets,
    },
    /// A MAC over the raw body in a header.
    HmacSha256 {
        /// The header.
        header: HeaderName,
        /// How the MAC is encoded.
        encoding: Encoding,
        /// What precedes the MAC, such as `sha256=`; often empty.
        prefix: String,
        /// The live secrets.
        secrets: Secrets,
    },
    /// Standard Webhooks: a MAC over id, time and body, which is valid for five minutes.
    StandardWebhooks(StandardSecrets),
    /// Simlessly: a MAC over time, id, access key and body, which is valid for ten minutes.
    Simlessly {
        /// What `Access-Key` must be.
        access_key: AccessKey,
        /// The live secret keys.
        secrets: Secrets,
    },
    /// No authentication: anyone who knows the address is accepted.
    None,
}

/// Why a delivery was refused. For logs and metrics only: the sender gets the same text for all reasons, because the
/// difference would only help someone who guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// A secret, a signature or a part of it is missing.
    #[error("the request lacks credentials; check that the sender uses this hook's authentication")]
    Missing,
    /// The secret or signature is well formed but does not match.
    #[error(
        "the secret or signature does not match; check that the sender has one of this hook's live secrets"
    )]
    Wrong,
    /// The signature matches, but its time is too far off.
    #[error(
        "the time of the signature is too far off; check the clocks on both sides, or this is a replay"
    )]
    Stale,
    /// An authentication header occurs more than once.
    #[error("an authentication header occurs twice; check the proxies between the sender and here")]
    Ambiguous,
    /// The secret or signature does not have the form that the hook requires.
    #[error(
        "the secret or signature is malformed; check the header, prefix and encoding that the hook is configured with"
    )]
    Garbled,
}

impl NotAuthentic {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Wrong, Self::Stale, Self::Ambiguous, Self::Garbled];

    /// The stable value of a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
            Self::Ambiguous => "ambiguous",
            Self::Garbled => "garbled",
        }
    }
}

/// Authenticates the deliveries of one hook.
#[derive(Debug)]
pub struct Authenticator {
    scheme: Scheme,
}

impl Authenticator {
    /// The authenticator of a hook with this `scheme`.
    pub fn new(scheme: Scheme) -> Self {
        Self { scheme }
    }

    /// Accepts a delivery if its sender holds one of the live secrets, or if the hook asks for none.
    ///
    /// # Errors
    /// [`NotAuthentic`] otherwise.
    pub fn check(&self, delivery: Delivery) -> Result<AuthenticDelivery, NotAuthentic> {
        let url_secret = delivery.url_secret.as_ref();
        if url_secret.is_some() && !self.takes_url_secret() {
            return Err(NotAuthentic::Wrong);
        }
        match &self.scheme {
            Scheme::UrlSecret(secrets) => {
                let segment = url_secret.ok_or(NotAuthentic::Missing)?;
                check_secret(secrets, segment.expose_secret().as_bytes())?;
                Ok(delivery.authenticated(None, None))
            }
            Scheme::Header { name, secrets } => {
                check_secret(secrets, delivery.only_header(name)?.as_bytes())?;
                Ok(delivery.authenticated(Some(name), None))
            }
            Scheme::HmacSha256 { header, encoding, prefix, secrets } => {
                hmac_sha256::check(&delivery, header, *encoding, prefix, secrets)?;
                Ok(delivery.authenticated(Some(header), None))
            }
            Scheme::StandardWebhooks(secrets) => {
                let event_id = standard_webhooks::check(&delivery, secrets)?;
                let signature = &standard_webhooks::NAMES.signature;
                Ok(delivery.authenticated(Some(signature), Some(event_id)))
            }
            Scheme::Simlessly { access_key, secrets } => {
                let event_id = simlessly::check(&delivery, access_key, secrets)?;
                Ok(delivery.authenticated(Some(&simlessly::SIGNATURE), Some(event_id)))
            }
            Scheme::None => Ok(delivery.authenticated(None, None)),
        }
    }

    /// How it authenticates the sender.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Its live secrets.
    pub fn secrets(&self) -> Option<&Secrets> {
        match &self.scheme {
            Scheme::UrlSecret(secrets)
            | Scheme::Header { secrets, .. }
            | Scheme::HmacSha256 { secrets, .. }
            | Scheme::Simlessly { secrets, .. } => Some(secrets),
            Scheme::StandardWebhooks(secrets) => Some(secrets.all()),
            Scheme::None => None,
        }
    }

    /// The name of the scheme in the configuration.
    pub fn scheme_name(&self) -> &'static str {
        match self.scheme {
            Scheme::UrlSecret(_) => "url-secret",
            Scheme::Header { .. } => "header",
            Scheme::HmacSha256 { .. } => "hmac-sha256",
            Scheme::StandardWebhooks(_) => "standard-webhooks",
            Scheme::Simlessly { .. } => "simlessly",
            Scheme::None => "none",
        }
    }

    /// Whether every sender is let through.
    pub fn is_open(&self) -> bool {
        matches!(self.scheme, Scheme::None)
    }

    /// Whether the hook's address ends in a secret.
    pub fn takes_url_secret(&self) -> bool {
        matches!(self.scheme, Scheme::UrlSecret(_))
    }

    /// The credentials that a sender must add to `body` so that [`check`](Self::check) accepts it, made with the first
    /// live secret. Only Standard Webhooks and Simlessly use `id` and `at`. A value that no header can carry, such as an
    /// `id` with a line break, is left out; `check` then reports it missing.
    pub fn credentials_for(&self, id: &str, at: Timestamp, body: &[u8]) -> SentCredentials {
        match &self.scheme {
            Scheme::UrlSecret(secrets) => {
                let segment = String::from_utf8_lossy(secrets.first().expose()).into_owned();
                SentCredentials { url_segment: Some(segment), ..SentCredentials::default() }
            }
            Scheme::Header { name, secrets } => {
                SentCredentials::default().with_sensitive(name, secrets.first().expose())
            }
            Scheme::HmacSha256 { header, encoding, prefix, secrets } => {
                let mac = encoding.encode(hmac_sha256::mac(secrets.first(), &[body]));
                SentCredentials::default()
                    .with_sensitive(header, format!("{prefix}{mac}").as_bytes())
            }
            Scheme::StandardWebhooks(secrets) => {
                let time = at.unix_seconds().to_string();
                let signature = standard_webhooks::sign(secrets.first(), id, &time, body);
                let names = &standard_webhooks::NAMES;
                SentCredentials::default()
                    .with(&names.id, id.as_bytes())
                    .with(&names.timestamp, time.as_bytes())
                    .with_sensitive(&names.signature, signature.as_bytes())
            }
            Scheme::Simlessly { access_key, secrets } => {
                simlessly::credentials_for(access_key, secrets.first(), id, at, body)
            }
            Scheme::None => SentCredentials::default(),
        }
    }
}

fn check_secret(secrets: &Secrets, candidate: &[u8]) -> Result<(), NotAuthentic> {
    if secrets.matches(candidate) { Ok(()) } else { Err(NotAuthentic::Wrong) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::tests::{delivery, noon};
    use http::HeaderValue;

    const OLD: &str = "9f2c41d07be8835a6610fe7c";
    const NEW: &str = "kx81-vq02/mz77 ra40ü";
    const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const STANDARD_NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::parse("test", values).unwrap()
    }

    fn by_url(values: &[&str]) -> Authenticator {
        Authenticator::new(Scheme::UrlSecret(secrets(values)))
    }

    fn by_header(values: &[&str]) -> Authenticator {
        let name = HeaderName::from_static("x-webhook-token");
        Authenticator::new(Scheme::Header { name, secrets: secrets(values) })
    }

    fn by_hmac(values: &[&str]) -> Authenticator {
        Authenticator::new(Scheme::HmacSha256 {
            header: HeaderName::from_static("x-signature"),
            encoding: Encoding::Either,
            prefix: "sha256=".to_owned(),
            secrets: secrets(values),
        })
    }

    fn by_standard(values: &[&str]) -> Authenticator {
        Authenticator::new(Scheme::StandardWebhooks(
            StandardSecrets::parse("test", values).unwrap(),
        ))
    }

    fn by_simlessly(values: &[&str]) -> Authenticator {
        let access_key = AccessKey::parse("ak-204417").unwrap();
        Authenticator::new(Scheme::Simlessly { access_key, secrets: secrets(values) })
    }

    /// Makes an authenticator of some scheme from a list of secrets.
    type Maker = fn(&[&str]) -> Authenticator;

    /// Every scheme that has secrets, with two secrets for it.
    const MAKERS: [(Maker, [&str; 2]); 5] = [
        (by_url, [OLD, NEW]),
        (by_header, [OLD, NEW]),
        (by_hmac, [OLD, NEW]),
        (by_standard, [STANDARD, STANDARD_NEW]),
        (by_simlessly, [OLD, NEW]),
    ];

    /// A delivery with these credentials, as the sender would send it.
    fn send(credentials: &SentCredentials, body: &[u8]) -> Delivery {
        let headers: Vec<_> = credentials
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        delivery(credentials.url_segment.as_deref(), &headers, body)
    }

    fn answer(hook: &Authenticator, delivery: Delivery) -> Result<(), NotAuthentic> {
        hook.check(delivery).map(drop)
    }

    #[test]
    fn both_secrets_are_live_in_any_order_and_a_third_is_not() {
        for (make, [old, new]) in MAKERS {
            let third = make(&[if old == STANDARD {
                "whsec_zqFhFpnqEWwyBNbwnkKZvwXj2MVqYwbS"
            } else {
                "rotated-away-770813"
            }]);
            for order in [[old, new], [new, old]] {
                let hook = make(&order);
                for sender in [make(&[old]), make(&[new]), make(&order)] {
                    assert_eq!(
                        answer(&hook, send(&sender.credentials_for("msg_1", noon(), b"{}"), b"{}")),
                        Ok(())
                    );
                }
                let stranger = send(&third.credentials_for("msg_1", noon(), b"{}"), b"{}");
                assert_eq!(
                    answer(&hook, stranger),
                    Err(NotAuthentic::Wrong),
                    "{}",
                    hook.scheme_name()
                );
            }
        }
    }

    #[test]
    fn a_delivery_without_any_proof_is_refused_by_all_but_none() {
        for (make, values) in MAKERS {
            assert_eq!(
                answer(&make(&values), delivery(None, &[], b"{}")),
                Err(NotAuthentic::Missing)
            );
        }
        assert_eq!(answer(&Authenticator::new(Scheme::None), delivery(None, &[], b"{}")), Ok(()));
    }

    #[test]
    fn a_wrong_url_secret_of_any_length_is_refused() {
        let hook = by_url(&[OLD]);
        let longer = format!("{OLD}0");
        for wrong in [
            "",
            "x",
            &OLD[1..],
            &longer,
            "9f2c41d07be8835a6610fe7d",
            " ",
            "..",
            "\0",
            OLD.to_uppercase().as_str(),
        ] {
            assert_eq!(
                answer(&hook, delivery(Some(wrong), &[], b"{}")),
                Err(NotAuthentic::Wrong),
                "{wrong}"
            );
        }
        assert_eq!(answer(&hook, delivery(Some(OLD), &[], b"{}")), Ok(()));
    }

    #[test]
    fn the_url_secret_proves_nothing_in_a_header_nor_the_header_in_the_url() {
        let headers: [(&str, &[u8]); 1] = [("x-webhook-token", OLD.as_bytes())];
        assert_eq!(
            answer(&by_url(&[OLD]), delivery(None, &headers, b"")),
            Err(NotAuthentic::Missing)
        );
        assert_eq!(
            answer(&by_header(&[OLD]), delivery(Some(OLD), &[], b"")),
            Err(NotAuthentic::Wrong)
        );
    }

    #[test]
    fn a_secret_in_the_path_is_refused_where_none_is_asked_for() {
        let others = MAKERS[1..].iter().map(|(make, values)| make(values));
        for hook in others.chain([Authenticator::new(Scheme::None)]) {
            let mut credentials = hook.credentials_for("msg_1", noon(), b"{}");
            assert_eq!(answer(&hook, send(&credentials, b"{}")), Ok(()));
            for segment in [OLD, STANDARD, ""] {
                credentials.url_segment = Some(segment.to_owned());
                assert_eq!(
                    answer(&hook, send(&credentials, b"{}")),
                    Err(NotAuthentic::Wrong),
                    "{}",
                    hook.scheme_name()
                );
            }
        }
    }

    #[test]
    fn a_header_of_the_proof_given_twice_is_refused() {
        for (make, values) in &MAKERS[1..] {
            let hook = make(values);
            let count = hook.credentials_for("msg_1", noon(), b"{}").headers.len();
            for (index, front) in (0..count).flat_map(|index| [(index, true), (index, false)]) {
                let mut credentials = hook.credentials_for("msg_1", noon(), b"{}");
                let (name, same) = credentials.headers[index].clone();
                credentials.headers.push((name.clone(), same));
                assert_eq!(answer(&hook, send(&credentials, b"{}")), Err(NotAuthentic::Ambiguous));
                credentials.headers.pop();
                let at = if front { 0 } else { credentials.headers.len() };
                credentials.headers.insert(at, (name, HeaderValue::from_static("other")));
                assert_eq!(answer(&hook, send(&credentials, b"{}")), Err(NotAuthentic::Ambiguous));
            }
        }
    }

    #[test]
    fn only_schemes_that_sign_an_event_id_have_one() {
        for (make, values) in MAKERS {
            let hook = make(&values);
            let authentic =
                hook.check(send(&hook.credentials_for("msg_1", noon(), b"{}"), b"{}")).unwrap();
            let signed = ["standard-webhooks", "simlessly"].contains(&hook.scheme_name());
            assert_eq!(authentic.event_id(), signed.then_some("msg_1"));
        }
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        let names = MAKERS.map(|(make, values)| make(&values).scheme_name());
        assert_eq!(
            names,
            ["url-secret", "header", "hmac-sha256", "standard-webhooks", "simlessly"]
        );
        assert_eq!(Authenticator::new(Scheme::None).scheme_name(), "none");
        let takes = MAKERS.map(|(make, values)| make(&values).takes_url_secret());
        assert_eq!(takes, [true, false, false, false, false]);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_left_out_and_refused() {
        let hook = by_standard(&[STANDARD]);
        let credentials = hook.credentials_for("msg\r\nx-injected: 1", noon(), b"{}");
        assert_eq!(credentials.headers.len(), 2);
        assert_eq!(answer(&hook, send(&credentials, b"{}")), Err(NotAuthentic::Missing));
    }

    #[test]
    fn debug_never_shows_a_secret_or_a_signature() {
        for (make, values) in MAKERS {
            let hook = make(&values);
            let credentials = hook.credentials_for("msg_1", noon(), b"{}");
            let debug = format!("{hook:?} {credentials:?}");
            for hidden in
                values.iter().flat_map(|value| [*value, value.trim_start_matches("whsec_")])
            {
                assert!(!debug.contains(hidden), "{debug}");
            }
            for (name, value) in &credentials.headers {
                let public = !name.as_str().contains("signature") && name != "x-webhook-token";
                assert!(public || !debug.contains(value.to_str().unwrap_or("ra40")), "{debug}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_plain_secret_is_refused(place in 0..OLD.len(), bit in 0..7u8) {
            let mut wrong = OLD.as_bytes().to_vec();
            wrong[place] ^= 1 << bit;
            prop_assume!(HeaderValue::from_bytes(&wrong).is_ok());
            let headers: [(&str, &[u8]); 1] = [("x-webhook-token", &wrong)];
            prop_assert_eq!(answer(&by_header(&[OLD]), delivery(None, &headers, b"")), Err(NotAuthentic::Wrong));
            let segment = String::from_utf8(wrong.clone()).unwrap();
            prop_assert_eq!(answer(&by_url(&[OLD]), delivery(Some(&segment), &[], b"")), Err(NotAuthentic::Wrong));
        }

        #[test]
        fn no_url_segment_panics(segment in any::<String>()) {
            prop_assert_eq!(answer(&by_url(&[OLD]), delivery(Some(&segment), &[], b"")), Err(NotAuthentic::Wrong));
        }
    }
}
