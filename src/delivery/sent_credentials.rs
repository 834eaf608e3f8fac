//! The sending side: the credentials that a request needs, for `send`, `doctor` and tests.

use std::fmt;

use http::{HeaderName, HeaderValue};

/// The credentials that a sender adds to a request.
#[derive(Default)]
pub struct SentCredentials {
    /// The last segment of the path, not percent-encoded: `Url::path_segments_mut` does that.
    pub url_segment: Option<String>,
    /// Headers. Values with a secret or a signature are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl SentCredentials {
    /// Adds a header, if a header can carry the value.
    pub(super) fn with(mut self, name: &HeaderName, value: &[u8]) -> Self {
        self.headers.extend(HeaderValue::from_bytes(value).map(|value| (name.clone(), value)));
        self
    }

    /// The same, for a value that `Debug` must not show.
    pub(super) fn with_sensitive(mut self, name: &HeaderName, value: &[u8]) -> Self {
        self.headers.extend(HeaderValue::from_bytes(value).map(|mut value| {
            value.set_sensitive(true);
            (name.clone(), value)
        }));
        self
    }
}

impl fmt::Debug for SentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentCredentials")
            .field("url_segment", &self.url_segment.as_ref().map(|_| "[REDACTED]"))
            .field("headers", &self.headers)
            .finish()
    }
}
