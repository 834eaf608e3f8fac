//! What a form of the console posts. A form is accepted only from a page of ours: by what the browser says of its origin, and by a
//! token in the form that only pages of the session contain.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, header};
use url::{Url, form_urlencoded};

use super::super::AppState;
use super::super::extract::read_body;
use super::super::problem::{Code, Problem};
use super::session::Session;

/// The name of the field that has the token of the session.
pub(super) const TOKEN_FIELD: &str = "form";

/// The fields of a form that was posted from a page of this service. The person need not have signed in.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

/// The fields of a form of a session.
#[derive(Debug)]
pub(super) struct Form {
    /// Whose it is.
    pub session: Session,
    fields: Fields,
}

impl Fields {
    /// The trimmed value of a field; empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(it, _)| it == name);
        field.map_or("", |(_, value)| value.trim())
    }
}

impl Form {
    /// The trimmed value of a field; empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name)
    }
}

impl FromRequest<AppState> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_from_here(&parts.headers, &app.public_url) {
            return Err(refused());
        }
        let body = read_body(&parts.headers, body).await?;
        Ok(Self(form_urlencoded::parse(&body).into_owned().collect()))
    }
}

impl FromRequest<AppState> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let session = Session::from_request_parts(&mut parts, app).await?;
        let fields = Fields::from_request(Request::from_parts(parts, body), app).await?;
        if !session.has_made(fields.get(TOKEN_FIELD)) {
            return Err(refused());
        }
        Ok(Self { session, fields })
    }
}

fn refused() -> Problem {
    Problem::because(
        Code::Forbidden,
        "The form was not sent from a page of this session: open the page again, and send it from there.",
    )
}

/// Whether the browser says that a page of this service made the request. Every browser sends `Origin` with a form; a newer one
/// also sends `Sec-Fetch-Site`, to addresses with TLS and to this machine (<https://www.w3.org/TR/fetch-metadata/>). Behind a
/// proxy, the address that the browser knows is the public URL or the `Host`.
fn is_from_here(headers: &HeaderMap, public_url: &str) -> bool {
    let text =
        |name| headers.get(name).map(|it: &http::HeaderValue| it.to_str().unwrap_or_default());
    let site = text(http::HeaderName::from_static("sec-fetch-site"));
    let Some(origin) = text(header::ORIGIN) else { return site == Some("same-origin") };
    let of_public_url = Url::parse(public_url)
        .is_ok_and(|url| Url::parse(origin).is_ok_and(|origin| origin.origin() == url.origin()));
    let host = origin.split_once("://").map(|(_, host)| host);
    let is_ours = of_public_url || (host.is_some() && host == text(header::HOST));
    is_ours && site.is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_accepted_only_from_a_page_of_this_service() {
        for (origin, site, expected) in [
            ("https://esim.example", "same-origin", true),
            ("https://esim.example", "", true),
            ("http://10.0.0.7:8080", "", true),
            ("", "same-origin", true),
            ("", "", false),
            ("null", "same-origin", false),
            ("null", "", false),
            ("https://evil.example", "", false),
            ("https://evil.example", "same-origin", false),
            ("http://esim.example", "", false),
            ("https://esim.example", "cross-site", false),
            ("https://esim.example", "same-site", false),
            ("https://esim.example", "none", false),
            ("https://esim.example.evil.example", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "10.0.0.7:8080".parse().unwrap());
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let found = is_from_here(&headers, "https://esim.example/base");
            assert_eq!(found, expected, "{origin} {site}");
        }
    }
}
