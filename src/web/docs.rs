//! The documentation for callers: the OpenAPI document and the catalogue of problems.

use axum::response::Html;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::CATALOGUE;

/// The parts of the OpenAPI document that are not about one handler.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "esim-status",
        description = "Receives eSIM status webhooks and serves the state and history of each eSIM profile. Times are RFC 3339 in UTC. \
                       Identifiers are strings. Errors are problem documents (RFC 9457). Every answer has the header `X-Request-Id`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "webhooks", description = "For providers. Each hook authenticates its sender by a secret in the URL or in a header, or by a signature."),
        (name = "profiles", description = "For backends, and for a user's browser, which can only read that user's profile."),
        (name = "changes", description = "For backends: all changes of all profiles, in one order."),
        (name = "endpoints", description = "For backends: where changes are delivered to, as signed webhooks of this service."),
        (name = "deliveries", description = "For support: which webhooks were received, and with which outcome."),
        (name = "evidence", description = "For a dispute: what was recorded about a profile, signed, and the keys to check the signature with."),
        (name = "summary", description = "For the operators of the service."),
    ),
    // The answers of webhooks are one type, so utoipa does not find the schemas itself; and no call has an event as its answer.
    components(schemas(
        super::webhooks::WebhookAnswer,
        super::webhooks::SpooledAnswer,
        super::endpoint_event::ProfileChanged,
    )),
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
        let token = "An access token of one user: a JWT with HS256, `aud` = `esim-status`, `sub` = the ICCID, and an `exp`";
        components.add_security_scheme("accessToken", bearer(token));
    }
}

/// Sets the media type of all problem answers, which annotations could only set on each answer.
pub fn name_problem_type(openapi: &mut utoipa::openapi::OpenApi) {
    let items = openapi.paths.paths.values_mut();
    let operations = items.flat_map(|item| {
        let item =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        item.into_iter().flatten()
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

/// `GET /problems`: the catalogue that the `type` of every problem links to.
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
