//! The credential of a request to the API.

use http::{HeaderMap, header};

use super::AppState;

/// The credential of a request, if it has exactly one.
pub(super) fn credential(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => only.to_str().ok().and_then(bearer),
        _ => None,
    }
}

/// Whether a request has an API key, whatever that may be used for.
pub(super) fn is_backend(app: &AppState, headers: &HeaderMap) -> bool {
    credential(headers).is_some_and(|key| app.access.api_keys.find(key.as_bytes()).is_some())
}

/// The credential of `Bearer <credential>`. The name of the scheme is case-insensitive.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}
