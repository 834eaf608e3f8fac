//! The calls by which a backend registers or erases a profile.

use std::mem;

use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use utoipa::ToSchema;

use super::AppState;
use super::callers::BackendSubject;
use super::extract::{Params, read_body};
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use super::views::{ProfileView, RegisteredView};
use crate::domain::{Iccid, Timestamp};
use crate::providers::{self, Providers, Registrar};
use crate::registry::{self, RegisterError, Registered};

/// The provider of the eSIM object if the call does not name one.
const USUAL_PROVIDER: &str = "gigastore";

/// The eSIM object of a provider's API. The provider's adapter reads it; this type only documents it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which an adapter reads")]
struct EsimObject {
    /// The profile's number. It must be the same as in the path.
    #[schema(pattern = "^[0-9]{18,22}$", example = "89972123300991848961")]
    iccid: String,
    /// The provider's own word for the state.
    #[schema(example = "RELEASED")]
    state: String,
    /// The activation code, which is the content of the QR code. `LPA:` may be missing. A code that cannot be read is
    /// ignored and listed in the answer's `remarks`.
    #[schema(example = "LPA:1$domain.tld$1234567890ABCDEF123456")]
    activation_code: Option<String>,
    /// The provider's own install link for iPhones. A template that still contains `<` is ignored.
    apple_universal_link: Option<String>,
    /// The provider's own install page.
    installation_url: Option<String>,
    /// The IMSI of the subscription, a string. A string that is not an IMSI is ignored. A JSON number is refused,
    /// because it may have lost digits.
    #[schema(value_type = Option<serde_json::Value>)]
    imsi: Option<String>,
    /// The customer's id at the provider.
    uid: Option<String>,
    /// When the data package was activated.
    activated_at: Option<String>,
    /// When the provider last saw the profile.
    last_seen: Option<String>,
    /// Your own number of the order: 1 to 64 characters. Lists find the profile by it. Add this member and the next two to
    /// the provider's object; left out, they keep their value.
    #[schema(min_length = 1, max_length = 64, example = "A-4711")]
    reference: Option<String>,
    /// The day of travel: the first on which the profile is expected to be used.
    #[schema(format = Date, example = "2026-12-24")]
    expected_from: Option<String>,
    /// The ICCID of the profile that this one was given out for. Its users' access tokens show this profile from now on, until
    /// either is erased or this one is registered with null. Erase a profile before you give its ICCID to somebody else.
    #[schema(pattern = "^[0-9]{18,22}$")]
    replaces: Option<String>,
}

/// Registers a profile. The body is the provider's eSIM object, exactly as the provider's API returned it, with
/// `reference`, `expectedFrom` and `replaces` added if you like. The call is idempotent, and works before and after the first webhook. It never overwrites a state that a webhook has reported.
#[utoipa::path(
    put, path = "/v1/profiles/{iccid}", tag = "profiles",
    security(("apiKey" = [])),
    params(
        ("iccid" = String, Path, pattern = "^[0-9]{18,22}$"),
        ("provider" = Option<String>, Query, description = "The provider that the object comes from; default `gigastore`"),
    ),
    request_body(content = EsimObject, description = "The provider's eSIM object. Other members than these are ignored"),
    responses(
        (status = 200, body = RegisteredView, description = "The profile existed already"),
        (status = 201, body = RegisteredView, description = "The profile is new"),
        Refusals,
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 413, body = ProblemDocument, description = "`too-large`"),
    )
)]
pub async fn register(
    State(app): State<AppState>,
    subject: BackendSubject,
    mut params: Params,
    request: Request,
) -> Result<(StatusCode, Json<RegisteredView>), Problem> {
    let iccid = subject.iccid;
    let registrar = match params.take("provider", |slug| registrar_of(&app.providers, slug))? {
        Some(named) => named,
        None => registrar_of(&app.providers, USUAL_PROVIDER)
            .map_err(|_| Problem::new(Code::Internal))?,
    };
    params.finish()?;
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    let mut registration = registrar
        .parse_esim_object(&body, subject.received_at)
        .map_err(|malformed| Problem::because(Code::InvalidBody, malformed.reason))?;
    (registration.order, registration.replaces_none) = providers::parse_order(&body)
        .map_err(|malformed| Problem::because(Code::InvalidBody, malformed.reason))?;
    if registration.report.iccid != iccid {
        let reason = "iccid differs from the ICCID in the path; send each object to its own path";
        return Err(Problem::because(Code::InvalidBody, reason));
    }
    let remarks = mem::take(&mut registration.report.remarks);
    let done =
        registry::register(&app.registrations, &app.vault, &app.erasure_key, &registration).await;
    let done = done.map_err(|error| match error {
        RegisterError::Store(error) => error.into(),
        RegisterError::Circle => {
            let reason = "replaces names this profile, or one that has replaced it; name the profile that this one was given out for";
            Problem::because(Code::InvalidBody, reason)
        }
    })?;
    let stored = app.reader.find(&iccid).await?;
    // Another call may have erased the profile in the meantime.
    let stored = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
    let status = if done == Registered::New { StatusCode::CREATED } else { StatusCode::OK };
    let profile = ProfileView::with_twin(stored, &app.reader).await;
    Ok((status, Json(RegisteredView::of(profile, remarks))))
}

/// Finds what reads the eSIM object of the provider with this slug. Returns what is wrong with the slug if there is none.
fn registrar_of(providers: &Providers, slug: &str) -> Result<&'static dyn Registrar, String> {
    let provider = providers
        .find(slug)
        .ok_or_else(|| format!("must be one of: {}", providers.slugs().join(", ")))?;
    provider.registrar().ok_or_else(|| {
        format!("must be a provider whose eSIM object is known here; {} is not", provider.slug())
    })
}

/// Erases everything that is stored about a profile. A later webhook does not create the profile again; a new
/// registration does.
#[utoipa::path(
    delete, path = "/v1/profiles/{iccid}", tag = "profiles",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    responses(
        (status = 204, description = "Erased"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn erase(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
) -> Result<StatusCode, Problem> {
    let iccid = subject.iccid;
    params.finish()?;
    erase_profile(&app, &iccid, subject.received_at).await?;
    tracing::info!(?iccid, "a profile was erased on request");
    Ok(StatusCode::NO_CONTENT)
}

/// Erases everything that is stored about a profile.
///
/// # Errors
/// `unknown-profile`, and those of an erasure, which can be retried.
pub(super) async fn erase_profile(
    app: &AppState,
    iccid: &Iccid,
    now: Timestamp,
) -> Result<(), Problem> {
    let (pool, spool, key) = (&app.registrations, app.spool.as_ref(), &app.erasure_key);
    let erased = registry::erase(pool, spool, key, iccid, now).await?;
    erased.then_some(()).ok_or_else(|| Problem::new(Code::UnknownProfile))
}
