//! What describes the service to its callers: the OpenAPI document, its page, and the catalogue of problems.

use axum::response::Html;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::CATALOGUE;

/// What the handlers' own annotations do not say.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "esim-status",
        description = "Receives eSIM Status webhooks and tells what became of each eSIM profile. Times are RFC 3339 in UTC, \
                       identifiers are strings, errors are problem documents (RFC 9457); every answer bears `X-Request-Id`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "webhooks", description = "For providers. Each hook has its own proof: a secret in the URL or in a header, or a signature."),
        (name = "profiles", description = "For backends, and for a user's browser about its one profile."),
        (name = "deliveries", description = "For support: what came in and what became of it."),
        (name = "summary", description = "For whoever runs the service."),
    ),
    // Those that only the answers of webhooks name, which are one type.
    components(schemas(super::webhooks::Answer, super::webhooks::SpooledAnswer)),
    modifiers(&Credentials),
)]
pub struct ApiDoc;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = |description: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
            SecurityScheme::Http(scheme.description(Some(description)).build())
        };
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("apiKey", bearer("An API key of a backend"));
        let token = "An access token of one user: a JWT, HS256, aud `esim-status`, sub the ICCID, exp required";
        components.add_security_scheme("accessToken", bearer(token));
    }
}

/// Problems have a media type of their own, which annotations cannot say once for all.
pub fn name_problem_type(openapi: &mut utoipa::openapi::OpenApi) {
    let items = openapi.paths.paths.values_mut();
    let operations = items.flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
    });
    for (status, response) in operations.flat_map(|op| op.responses.responses.iter_mut()) {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

/// `GET /problems`: the catalogue that every problem's `type` points to.
pub async fn problems() -> Html<String> {
    use std::fmt::Write;

    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Problems of esim-status</title><h1>Problems</h1><dl>",
    );
    for entry in &CATALOGUE {
        let (name, status) = (entry.name, entry.status.as_u16());
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<dt id={name}><code>{name}</code> ({status})<dd>{}. {}",
            entry.title, entry.remedy
        );
    }
    page.push_str("</dl></html>");
    Html(page)
}
