//! The call by which support has the provider asked about a profile.

use axum::extract::State;
use http::StatusCode;

use super::AppState;
use super::callers::BackendSubject;
use super::extract::Params;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::domain::{Iccid, Timestamp};
use crate::store::inquiries::{self, Urgency};

/// Asks the provider's API about the profile, as soon as the budget of calls allows. If the answer differs from what is known,
/// it is a transition with the source `provider-api`.
#[utoipa::path(
    post, path = "/v1/profiles/{iccid}/inquiry", tag = "profiles",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    responses(
        (status = 202, description = "The provider will be asked"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
        (status = 409, body = ProblemDocument, description = "`cannot-ask`"),
    )
)]
pub async fn ask(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    want(&app, &subject.iccid, subject.received_at).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Has the provider asked about a profile.
///
/// # Errors
/// `unknown-profile`, `cannot-ask`, and those of a write.
pub(super) async fn want(app: &AppState, iccid: &Iccid, now: Timestamp) -> Result<(), Problem> {
    let stored = app.reader.find(iccid).await?;
    let profile = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?.profile;
    if !app.askable.contains(&profile.provider.as_str()) {
        return Err(Problem::new(Code::CannotAsk));
    }
    let want = app.registrations.run(async |connection| {
        inquiries::want(connection, &profile, Urgency::AtOnce, now, now).await
    });
    want.await?;
    Ok(())
}
