//! The checks of what is part of a URL: the public one, origins, and secrets in paths.

use http::HeaderValue;
use url::{Origin, Url};

use crate::delivery::Secret;

/// Whether a part of this secret is lost if it is pasted into a URL unencoded. A `/` is lost only at the end.
pub(super) fn is_cut_in_a_url(secret: &Secret) -> bool {
    let secret = secret.expose();
    secret.ends_with(b"/") || secret.iter().any(|b| !b.is_ascii_graphic() || b"?#%\\".contains(b))
}

/// Checks the public URL, and returns it without a slash at its end.
pub(super) fn check_public_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = url.ok_or(
        "ESIM_STATUS_PUBLIC_URL must be the address under which callers reach the service, such as https://esim.example.org",
    )?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Checks the origins whose pages may call the API.
pub(super) fn check_origins(origins: &[String]) -> Result<Vec<HeaderValue>, String> {
    let mut checked = Vec::new();
    for origin in origins.iter().map(|origin| origin.trim()).filter(|origin| !origin.is_empty()) {
        let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin));
        checked.push(value.ok_or_else(|| {
            format!(
                "ESIM_STATUS_ALLOWED_ORIGINS: `{}` is not an origin; write scheme, host and port only, such as https://shop.example.org",
                origin.escape_debug()
            )
        })?);
    }
    Ok(checked)
}

/// Whether a browser could send this `Origin`. Web views of apps use private schemes, such as `capacitor://localhost`,
/// for which the URL standard defines no origin: we compare scheme, host and port as written.
fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.origin() {
        origin @ Origin::Tuple(..) => origin.ascii_serialization() == text,
        Origin::Opaque(_) => url.host().is_some_and(|host| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            text == format!("{}://{host}{port}", url.scheme())
        }),
    }
}
