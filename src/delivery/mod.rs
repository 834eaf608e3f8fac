//! One webhook request, and the authentication of its sender.
//!
//! A [`Delivery`] is a request as it arrived. [`Authenticator::check`] refuses it, or makes an [`AuthenticDelivery`] of
//! it. Nothing else makes one from a request; it is only made again from a row of the spool or of the database. Nothing
//! else gives access to a body, so a body that was not checked cannot be parsed:
//!
//! ```
//! use bytes::Bytes;
//! use esim_status::delivery::{AuthenticDelivery, Authenticator, Delivery, NotAuthentic};
//!
//! fn body_of(
//!     delivery: Delivery,
//!     authenticator: &Authenticator,
//! ) -> Result<Bytes, NotAuthentic> {
//!     let authentic: AuthenticDelivery = authenticator.check(delivery)?;
//!     Ok(authentic.body().clone())
//! }
//! ```
//!
//! Without authentication, the same does not compile:
//!
//! ```compile_fail,E0599
//! use bytes::Bytes;
//! use esim_status::delivery::Delivery;
//!
//! fn body_of(delivery: Delivery) -> Bytes {
//!     delivery.body().clone()
//! }
//! ```
//!
//! ```compile_fail,E0616
//! use bytes::Bytes;
//! use esim_status::delivery::Delivery;
//!
//! fn body_of(delivery: Delivery) -> Bytes {
//!     delivery.body
//! }
//! ```
//!
//! Nor can a body be swapped after it was authenticated:
//!
//! ```compile_fail,E0451
//! use bytes::Bytes;
//! use esim_status::delivery::AuthenticDelivery;
//!
//! fn swap(body: Bytes, authentic: AuthenticDelivery) -> AuthenticDelivery {
//!     AuthenticDelivery { body, ..authentic }
//! }
//! ```

mod authenticate;

mod hmac_sha256;

mod standard_webhooks;

mod simlessly;

mod event_id;

mod sent_credentials;

mod secret;

mod weakness;

#[cfg(test)]
mod oracle;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::Serializer;
use uuid::Uuid;

use crate::domain::Timestamp;

pub use authenticate::{Authenticator, NotAuthentic, Scheme};
pub use event_id::EventId;
pub use hmac_sha256::Encoding;
pub use secret::{Secret, Secrets, WeakSecret};
pub use sent_credentials::SentCredentials;
pub use simlessly::AccessKey;
pub use standard_webhooks::StandardSecrets;

/// The headers that are stored with every delivery. None of them authenticates anyone.
const KEPT_HEADERS: [&str; 7] = [
    "content-type",
    "user-agent",
    "x-request-id",
    "webhook-id",
    "webhook-timestamp",
    "svix-id",
    "svix-timestamp",
];

/// Parts of the names of headers that may hold credentials. Such a header is never stored, even if an adapter asks for
/// it, because a hook may not check it and so would not drop it.
const CREDENTIALS: [&str; 7] =
    ["authorization", "cookie", "signature", "secret", "token", "password", "api-key"];

/// The max number of characters that are stored of a header.
const KEPT_CHARS: usize = 256;

/// One webhook request as it arrived. Its sender is not authenticated yet, so its content cannot be read.
pub struct Delivery {
    id: Uuid,
    received_at: Timestamp,
    hook_path: Arc<str>,
    url_secret: Option<SecretString>,
    headers: HeaderMap,
    adapter_headers: &'static [&'static str],
    body: Bytes,
}

/// A delivery that the hook's [`Authenticator`] has accepted. Only [`Authenticator::check`] makes one from a request;
/// `restored` makes one again from a stored row. A test that needs one checks against [`Scheme::None`].
pub struct AuthenticDelivery {
    id: Uuid,
    received_at: Timestamp,
    hook_path: Arc<str>,
    event_id: Option<String>,
    kept_headers: String,
    body: Bytes,
}

impl Delivery {
    /// Takes the parts of a request. `hook_path` is what stands between `/webhooks/` and the secret. `url_secret` is the
    /// last segment of the request's path, percent-decoded, if that path is longer than the hook's.
    pub fn new(
        id: Uuid,
        received_at: Timestamp,
        hook_path: Arc<str>,
        url_secret: Option<String>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        let url_secret = url_secret.map(SecretString::from);
        Self { id, received_at, hook_path, url_secret, headers, adapter_headers: &[], body }
    }

    /// Also stores the headers with these names, in lower case, which the provider's adapter reads. One that may hold
    /// credentials is not stored.
    #[must_use]
    pub fn also_storing(self, adapter_headers: &'static [&'static str]) -> Self {
        Self { adapter_headers, ..self }
    }

    /// The single value of a header that authenticates the sender. With two values, we would have to guess which one
    /// the sender meant, and which one a proxy has checked.
    fn only_header(&self, name: &HeaderName) -> Result<&HeaderValue, NotAuthentic> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (Some(_), Some(_)) => Err(NotAuthentic::Ambiguous),
            (None, _) => Err(NotAuthentic::Missing),
        }
    }

    /// Makes the delivery authentic, and drops the header that authenticated it. The rest is copied: the request shares
    /// its memory with everything that its connection has read, which would stay allocated for as long as the delivery
    /// waits.
    fn authenticated(
        mut self,
        by: Option<&HeaderName>,
        event_id: Option<String>,
    ) -> AuthenticDelivery {
        if let Some(name) = by {
            self.headers.remove(name);
        }
        AuthenticDelivery {
            id: self.id,
            received_at: self.received_at,
            hook_path: self.hook_path,
            event_id,
            kept_headers: kept_headers(&self.headers, self.adapter_headers),
            body: Bytes::copy_from_slice(&self.body),
        }
    }
}

impl AuthenticDelivery {
    /// Makes a delivery again that was checked when it arrived, from its row in the spool or in the database. It cannot
    /// be checked once more: its signature is not stored, and would be stale by now. `tests/architecture.rs` checks that
    /// only what reads such rows calls this.
    pub(crate) fn restored(
        id: Uuid,
        received_at: Timestamp,
        hook_path: Arc<str>,
        event_id: Option<String>,
        kept_headers: String,
        body: Bytes,
    ) -> Self {
        Self { id, received_at, hook_path, event_id, kept_headers, body }
    }

    /// Our identifier of this request.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// When we received it.
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// The path of the hook that received it, such as `gigastore/esim-status`.
    pub fn hook_path(&self) -> &Arc<str> {
        &self.hook_path
    }

    /// The raw bytes, exactly as they were authenticated.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The event id in the sender's headers, if the signature covers one. An unsigned `webhook-id` does not count:
    /// anyone who replays a request could change it.
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// A stored header: its first value, or as much of it as is stored. Stored are a few headers of every delivery, and
    /// those that [`Delivery::also_storing`] names. It is the same after waiting in the spool.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut kept: BTreeMap<String, String> = serde_json::from_str(&self.kept_headers).ok()?;
        kept.remove(name)
    }

    /// The headers that are stored with the delivery, as a JSON object: few, bounded, and valid text for the database.
    /// They never contain a secret or a signature, even if the hook expects its secret in one of these headers.
    pub fn kept_headers(&self) -> &str {
        &self.kept_headers
    }
}

/// Whether a header with this name may be stored because an adapter reads it.
pub(crate) fn may_be_stored(name: &str) -> bool {
    !CREDENTIALS.iter().any(|part| name.contains(part))
}

fn kept_headers(headers: &HeaderMap, adapter_headers: &[&'static str]) -> String {
    let mut json = Vec::with_capacity(128);
    let others = adapter_headers.iter().copied();
    let others = others.filter(|name| !KEPT_HEADERS.contains(name) && may_be_stored(name));
    let kept = KEPT_HEADERS.into_iter().chain(others);
    let kept = kept.filter_map(|name| Some((name, kept_text(headers.get(name)?))));
    // Neither serializing text nor writing to memory can fail.
    let _ = serde_json::Serializer::new(&mut json).collect_map(kept);
    String::from_utf8(json).unwrap_or_else(|_| "{}".to_owned())
}

/// Postgres accepts neither invalid UTF-8 nor NUL in text.
fn kept_text(value: &HeaderValue) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.len() <= KEPT_CHARS && !text.contains('\0') {
        return text;
    }
    Cow::Owned(text.chars().filter(|&c| c != '\0').take(KEPT_CHARS).collect())
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("received_at", &self.received_at)
            .field("hook_path", &self.hook_path)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthenticDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Show only whether there is an event id: the sender chooses its text, which may contain anything.
        f.debug_struct("AuthenticDelivery")
            .field("id", &self.id)
            .field("received_at", &self.received_at)
            .field("hook_path", &self.hook_path)
            .field("has_event_id", &self.event_id.is_some())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of the published example of Standard Webhooks, which the tests of this module use.
    pub(super) fn noon() -> Timestamp {
        Timestamp::parse("2021-02-25T15:02:10Z").unwrap()
    }

    /// A delivery with these headers; a name may occur twice.
    pub(super) fn delivery(
        url_secret: Option<&str>,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Delivery {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let (hook, body) = (Arc::from("gigastore/esim-status"), Bytes::copy_from_slice(body));
        Delivery::new(Uuid::nil(), noon(), hook, url_secret.map(str::to_owned), map, body)
    }

    fn open() -> Authenticator {
        Authenticator::new(Scheme::None)
    }

    #[test]
    fn a_proved_delivery_shows_what_arrived() {
        let authentic = open().check(delivery(None, &[], b"{}")).unwrap();
        assert_eq!(authentic.id(), Uuid::nil());
        assert_eq!(authentic.received_at(), noon());
        assert_eq!(&**authentic.hook_path(), "gigastore/esim-status");
        assert_eq!(&authentic.body()[..], b"{}");
    }

    #[test]
    fn few_headers_are_kept_bounded_and_in_valid_text() {
        let (long, accents) = ([b'a'; 1_000], "é".repeat(300));
        let headers: [(&str, &[u8]); 8] = [
            ("content-type", b"application/json"),
            ("user-agent", b"caf\xe9 \xff"),
            ("x-request-id", &long),
            ("webhook-id", accents.as_bytes()),
            ("authorization", b"Bearer 0123456789"),
            ("cookie", b"a=b"),
            ("webhook-signature", b"v1,abc"),
            ("x-signature", b"sha256=abc"),
        ];
        let authentic = open().check(delivery(None, &headers, b"")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(authentic.kept_headers()).unwrap();
        let wanted = serde_json::json!({
            "content-type": "application/json",
            "user-agent": "caf\u{fffd} \u{fffd}",
            "x-request-id": "a".repeat(256),
            "webhook-id": "é".repeat(256),
        });
        assert_eq!(kept, wanted);
    }

    #[test]
    fn a_header_of_the_adapter_is_kept_and_is_read_back_after_the_spool() {
        let headers: [(&str, &[u8]); 3] =
            [("x-webhook-type", b"esim.status"), ("user-agent", b"a"), ("x-other", b"b")];
        let sent =
            delivery(None, &headers, b"").also_storing(&["x-webhook-type", "user-agent", "x-no"]);
        let authentic = open().check(sent).unwrap();
        let kept = authentic.kept_headers().to_owned();
        assert_eq!(kept, r#"{"user-agent":"a","x-webhook-type":"esim.status"}"#);
        let hook = authentic.hook_path().clone();
        let restored =
            AuthenticDelivery::restored(Uuid::nil(), noon(), hook, None, kept, Bytes::new());
        for delivery in [authentic, restored] {
            let read = ["x-webhook-type", "user-agent", "x-no", "x-other"];
            let read = read.map(|name| delivery.header(name));
            let wanted = [Some("esim.status"), Some("a"), None, None];
            assert_eq!(read, wanted.map(|text| text.map(str::to_owned)));
        }
    }

    #[test]
    fn a_header_of_the_adapter_that_holds_credentials_is_not_kept() {
        const NAMES: [&str; 5] =
            ["authorization", "x-signature", "x-api-key", "x-plain", "webhook-signature"];
        let sent = || {
            let headers = NAMES.map(|name| (name, &b"kx81-vq02-mz77-ra40"[..]));
            delivery(None, &headers, b"").also_storing(&NAMES)
        };
        let authentic = open().check(sent()).unwrap();
        assert_eq!(authentic.kept_headers(), r#"{"x-plain":"kx81-vq02-mz77-ra40"}"#);

        let secrets = Secrets::parse("test", ["kx81-vq02-mz77-ra40"]).unwrap();
        let scheme = Scheme::Header { name: HeaderName::from_static("x-plain"), secrets };
        let authentic = Authenticator::new(scheme).check(sent()).unwrap();
        assert_eq!(authentic.kept_headers(), "{}");
    }

    #[test]
    fn a_secret_in_a_header_that_is_otherwise_kept_is_not_kept() {
        let secrets = Secrets::parse("test", ["kx81-vq02-mz77-ra40"]).unwrap();
        let scheme = Scheme::Header { name: http::header::USER_AGENT, secrets };
        let headers: [(&str, &[u8]); 1] = [("user-agent", b"kx81-vq02-mz77-ra40")];
        let authentic = Authenticator::new(scheme).check(delivery(None, &headers, b"")).unwrap();
        assert_eq!(authentic.kept_headers(), "{}");
    }

    #[test]
    fn an_unsigned_webhook_id_is_no_event_id() {
        let authentic = open().check(delivery(None, &[("webhook-id", b"msg_1")], b"")).unwrap();
        assert_eq!(authentic.event_id(), None);
    }

    #[test]
    fn debug_shows_neither_body_nor_secret_nor_header() {
        let headers: [(&str, &[u8]); 1] = [("x-signature", b"HEADER")];
        let text = format!("{:?}", delivery(Some("SECRET"), &headers, b"BODY"));
        assert!(text.contains("gigastore/esim-status") && text.contains("body_bytes: 4"), "{text}");
        let authentic = open().check(delivery(None, &headers, b"BODY")).unwrap();
        for text in [text, format!("{authentic:?}")] {
            for hidden in ["SECRET", "HEADER", "BODY"] {
                assert!(!text.contains(hidden), "{text}");
            }
        }
    }
}
