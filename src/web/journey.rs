//! The user's next step towards an installed eSIM, with the install credentials if they are needed now.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::callers::Subject;
use super::extract::Params;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use super::{AppState, language};
use crate::access::Caller;
use crate::domain::{
    Credentials, Iccid, Journey, Profile, ProfileState, Progress, Step, Timestamp,
};
use crate::providers::Provider;
use crate::store::inquiries::{self, Urgency};
use crate::store::{StoreError, Vault, deliveries, install_credentials, transitions};

/// How long nothing must have come, and a user must have looked, before the provider is asked; in seconds.
const ASKED_AFTER: i64 = 60;

/// How many transitions the progress is computed from. The current life of a profile has far fewer.
const HISTORY: i64 = 100;

/// The user's next step towards an installed eSIM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Journey)]
#[serde(rename_all = "camelCase")]
pub struct JourneyView {
    /// The profile's number.
    iccid: String,
    /// The profile's canonical state.
    state: ProfileState,
    /// The next step. Build your own interface on this member.
    step: Step,
    /// The step in a few words, in the language of the answer.
    title: &'static str,
    /// The step in a sentence or two, in the language of the answer.
    detail: String,
    /// When the profile entered this state, by the service's clock.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When the last webhook about the profile was received, or the provider last answered a question about it. It tells
    /// how old this knowledge is.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<Timestamp>,
    /// The progress so far.
    steps: Vec<Progress>,
    /// The install credentials. Only present if the profile can be installed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    install: Option<InstallView>,
    /// How many installs onto a device were observed.
    installs_seen: i32,
    /// How many installs the provider allows; null if the provider does not say.
    install_limit: Option<i32>,
}

/// The install credentials. Anyone who has them can install the profile.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InstallView {
    /// The activation code, which is the content of the QR code.
    #[schema(example = "LPA:1$domain.tld$1234567890ABCDEF123456")]
    activation_code: String,
    /// The SM-DP+ address, for entering by hand.
    smdp_address: String,
    /// The matching id of the profile, for entering by hand.
    matching_id: String,
    /// Whether the user must enter a confirmation code.
    confirmation_code_required: bool,
    links: LinksView,
    /// The path of the QR code as SVG. The same path with `.png` gives a PNG.
    #[schema(example = "/v1/profiles/self/qr.svg")]
    qr: String,
}

/// Links that open the phone's own eSIM setup.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinksView {
    /// For iOS 17.4 or newer.
    apple: String,
    /// For Android 10 or newer; not supported by every device.
    android: String,
    /// The provider's own install page.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
}

/// Returns the user's next step towards an installed eSIM, with the install credentials if they are needed now.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/journey", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("lang" = Option<String>, Query, example = "de", description = "The language of `title` and `detail`, such as `de` or `zh-Hant`. By default `Accept-Language` decides, and English stands in for a language that the service does not have. `Content-Language` of the answer names it."),
    ),
    responses(
        (status = 200, body = JourneyView),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    subject: Subject,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let language = language::take(&mut params, &headers)?;
    params.finish()?;
    let stored = app.reader.find(&subject.iccid).await?;
    let profile = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?.profile;
    let read = app.reads.run(async |connection| {
        let journey = read(&app, connection, &profile, subject.received_at).await?;
        let credentials = if journey.can_install {
            Some(credentials(&app.vault, connection, &subject.iccid).await?)
        } else {
            None
        };
        if is_waited_for(&app, &subject, &profile) {
            let (now, soon) = (subject.received_at, subject.received_at.plus_seconds(ASKED_AFTER));
            inquiries::want(connection, &profile, Urgency::Soon, soon, now).await?;
        }
        Ok((journey, credentials))
    });
    let (journey, credentials) = read.await?;
    let install = credentials.and_then(|credentials| install(credentials, &subject));
    let (title, detail) = language.texts().advice(&journey.advice);
    let view = JourneyView {
        iccid: profile.iccid.as_str().to_owned(),
        state: profile.state,
        step: journey.step,
        title,
        detail,
        since: profile.since,
        last_delivery_at: profile.last_delivery_at,
        steps: journey.progress,
        install,
        installs_seen: profile.installs_seen,
        install_limit: install_limit(&app, &profile),
    };
    let mut response = Json(view).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    language::label(response.headers_mut(), language);
    Ok(response)
}

/// Reads what the user of a profile should do at this moment.
pub(super) async fn read(
    app: &AppState,
    connection: &mut PgConnection,
    profile: &Profile,
    now: Timestamp,
) -> Result<Journey, StoreError> {
    let history = transitions::list_last(connection, &profile.iccid, HISTORY).await?;
    let tells = deliveries::tells_of_connections(connection, &profile.provider).await?;
    Ok(Journey::of(profile, &history, install_limit(app, profile), tells, now))
}

/// How many installs of a profile its provider allows; `None` if it does not say.
pub(super) fn install_limit(app: &AppState, profile: &Profile) -> Option<i32> {
    app.providers.find(&profile.provider).and_then(Provider::install_limit)
}

/// Whether a user looks at a profile of which a webhook may have been lost, and its provider can be asked.
fn is_waited_for(app: &AppState, subject: &Subject, profile: &Profile) -> bool {
    let quiet_since = subject.received_at.plus_seconds(-ASKED_AFTER);
    matches!(subject.caller, Caller::User { .. })
        && app.askable.contains(&profile.provider.as_str())
        && profile.is_under_way()
        && profile.last_delivery_at.is_none_or(|at| at < quiet_since)
}

/// Reads and decrypts the install credentials of a profile; empty if none were registered.
pub(super) async fn credentials(
    vault: &Vault,
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Credentials, StoreError> {
    match install_credentials::find(connection, iccid).await? {
        Some(sealed) => vault.open(iccid, &sealed).inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::error!(?iccid, error, "the credentials of this profile cannot be opened");
        }),
        None => Ok(Credentials::default()),
    }
}

fn install(credentials: Credentials, subject: &Subject) -> Option<InstallView> {
    let code = credentials.activation_code?;
    let whose = match &subject.caller {
        Caller::Backend => subject.iccid.as_str(),
        Caller::User { .. } => "self",
    };
    Some(InstallView {
        smdp_address: code.smdp_address().to_owned(),
        matching_id: code.matching_id().to_owned(),
        confirmation_code_required: code.confirmation_code_required(),
        links: LinksView {
            apple: credentials.apple_link.unwrap_or_else(|| code.apple_link()),
            android: code.android_link(),
            provider: credentials.installation_url,
        },
        qr: format!("/v1/profiles/{whose}/qr.svg"),
        activation_code: code.as_str().to_owned(),
    })
}
