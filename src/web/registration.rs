//! A backend registers a profile, or has it erased.

use std::mem;

use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use utoipa::ToSchema;

use super::AppState;
use super::callers::BackendSubject;
use super::extract::{Params, read_body};
use super::problem::{Code, Problem, ProblemDocument};
use super::views::{ProfileView, RegisteredView};
use crate::providers;
use crate::registry::{self, Registered};

/// Whose object it is where the call does not say.
const USUAL_PROVIDER: &str = "gigastore";

/// The eSIM object of a provider's API. It is read by the provider's adapter; this only describes it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which an adapter reads")]
struct EsimObject {
    /// The same as in the path.
    #[schema(pattern = "^[0-9]{18,22}$", example = "89972123300991848961")]
    iccid: String,
    /// The provider's word for the state.
    #[schema(example = "RELEASED")]
    state: String,
    /// What a QR code holds. `LPA:` may be missing; what cannot be read is left out, and `remarks` of the answer says so.
    #[schema(example = "LPA:1$domain.tld$1234567890ABCDEF123456")]
    activation_code: Option<String>,
    /// The provider's own link for iPhones; a template that still holds `<` is left out.
    apple_universal_link: Option<String>,
    /// The provider's own install page.
    installation_url: Option<String>,
    /// The subscription, a string; what is none is left out, but a number is refused: it may have lost digits.
    #[schema(value_type = Option<serde_json::Value>)]
    imsi: Option<String>,
    /// The customer at the provider.
    uid: Option<String>,
    /// When the data package was activated.
    activated_at: Option<String>,
    /// When the provider last saw the profile.
    last_seen: Option<String>,
}

/// Registers a profile: the body is the provider's eSIM object exactly as its API returned it. Idempotent, and possible before
/// and after the first webhook; a state that a webhook reported is never overwritten.
#[utoipa::path(
    put, path = "/v1/profiles/{iccid}", tag = "profiles",
    security(("apiKey" = [])),
    params(
        ("iccid" = String, Path, pattern = "^[0-9]{18,22}$"),
        ("provider" = Option<String>, Query, description = "Whose object it is; `gigastore` where it is absent"),
    ),
    request_body(content = EsimObject, description = "The provider's eSIM object; members that are not named here are fine"),
    responses(
        (status = 200, body = RegisteredView, description = "The profile was known"),
        (status = 201, body = RegisteredView, description = "The profile is new"),
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 401, body = ProblemDocument, description = "`unauthenticated`"),
        (status = 403, body = ProblemDocument, description = "`forbidden`"),
        (status = 413, body = ProblemDocument, description = "`too-large`"),
        (status = 503, body = ProblemDocument, description = "`unavailable`"),
    )
)]
pub async fn register(
    State(app): State<AppState>,
    subject: BackendSubject,
    mut params: Params,
    request: Request,
) -> Result<(StatusCode, Json<RegisteredView>), Problem> {
    let iccid = subject.iccid;
    let provider = params.take("provider", |slug| {
        providers::find(slug)
            .ok_or_else(|| format!("must be one of: {}", providers::slugs().join(", ")))
    })?;
    params.finish()?;
    let provider = provider.or_else(|| providers::find(USUAL_PROVIDER));
    let provider = provider.ok_or_else(|| Problem::new(Code::Internal))?;
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    let mut registration = provider
        .parse_esim_object(&body, subject.received_at)
        .map_err(|malformed| Problem::because(Code::InvalidBody, malformed.reason))?;
    if registration.report.iccid != iccid {
        let reason = "iccid is another one than that in the path; send each object to its own path";
        return Err(Problem::because(Code::InvalidBody, reason));
    }
    let remarks = mem::take(&mut registration.report.remarks);
    let done =
        registry::register(&app.registrations, &app.vault, &app.erasure_key, &registration).await?;
    let stored = app.reader.find(&iccid).await?;
    // Erased again in the same moment.
    let stored = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
    let status = if done == Registered::New { StatusCode::CREATED } else { StatusCode::OK };
    let profile = ProfileView::with_twin(stored, &app.reader).await;
    Ok((status, Json(RegisteredView::of(profile, remarks))))
}

/// Erases all that is kept of a profile. A late webhook does not bring it back; a new registration does.
#[utoipa::path(
    delete, path = "/v1/profiles/{iccid}", tag = "profiles",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    responses(
        (status = 204, description = "Erased"),
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`"),
        (status = 401, body = ProblemDocument, description = "`unauthenticated`"),
        (status = 403, body = ProblemDocument, description = "`forbidden`"),
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
        (status = 503, body = ProblemDocument, description = "`unavailable`"),
    )
)]
pub async fn erase(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
) -> Result<StatusCode, Problem> {
    let iccid = subject.iccid;
    params.finish()?;
    let (pool, spool, key) = (&app.registrations, app.spool.as_ref(), &app.erasure_key);
    if registry::erase(pool, spool, key, &iccid, subject.received_at).await? {
        tracing::info!(?iccid, "a profile was erased on request");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::new(Code::UnknownProfile))
    }
}
