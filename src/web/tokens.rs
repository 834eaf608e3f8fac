//! Access tokens, by which a backend lets one user read one profile.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::callers::BackendSubject;
use super::extract::{Params, read_json};
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::access;
use crate::domain::{Iccid, Timestamp};
use crate::registry;

/// How long a token is valid by default: 15 minutes.
pub const USUAL_TTL: i64 = 900;

/// How long a token may be valid: 24 hours.
pub const LONGEST_TTL: i64 = 86_400;

/// A request for an access token.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenRequest {
    /// How many seconds the token is valid: 1 to 86,400; default 900.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl_seconds: Option<i64>,
}

/// An access token for one profile.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// The token, a JWT.
    token: String,
    /// When the token expires.
    #[schema(value_type = String, format = DateTime)]
    pub(super) expires_at: Timestamp,
    /// The URL of this profile's install page, with the token in its fragment.
    pub(super) install_url: String,
}

/// Creates an access token for this profile.
#[utoipa::path(
    post, path = "/v1/profiles/{iccid}/tokens", tag = "profiles",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    request_body(content = Option<TokenRequest>, description = "The body may be empty"),
    responses(
        (status = 200, body = TokenView),
        Refusals,
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn create(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let iccid = subject.iccid;
    params.finish()?;
    let now = subject.received_at;
    let TokenRequest { ttl_seconds } = read_json(request).await?;
    let ttl = ttl_seconds.unwrap_or(USUAL_TTL);
    if !(1..=LONGEST_TTL).contains(&ttl) {
        let wanted = format!("must be a number of seconds from 1 to {LONGEST_TTL}");
        return Err(Problem::parameter("ttlSeconds", wanted));
    }
    let view = issue(&app, &iccid, ttl, now).await?;
    let mut response = Json(view).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Issues an access token that is valid for `ttl` seconds.
///
/// # Errors
/// `unknown-profile`, and those of a read.
pub(super) async fn issue(
    app: &AppState,
    iccid: &Iccid,
    ttl: i64,
    now: Timestamp,
) -> Result<TokenView, Problem> {
    let stored = app.reader.find(iccid).await?;
    let stored = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
    // If tokens have just been revoked, the new token must not count as one of them.
    let issued_at = stored.tokens_from.map_or(now, |from| now.max(from));
    let expires_at = now.plus_seconds(ttl);
    let token =
        access::sign(&app.access.token_secrets, iccid, issued_at, expires_at).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a token could not be signed"
            );
            Problem::new(Code::Internal)
        })?;
    let install_url = format!("{}/install#{token}", app.public_url);
    Ok(TokenView { token, expires_at, install_url })
}

/// Revokes all access tokens of this profile that have been issued so far.
#[utoipa::path(
    delete, path = "/v1/profiles/{iccid}/tokens", tag = "profiles",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    responses(
        (status = 204, description = "The tokens are revoked"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn end(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
) -> Result<StatusCode, Problem> {
    let iccid = subject.iccid;
    params.finish()?;
    if !registry::end_tokens(&app.registrations, &iccid, subject.received_at).await? {
        return Err(Problem::new(Code::UnknownProfile));
    }
    Ok(StatusCode::NO_CONTENT)
}
