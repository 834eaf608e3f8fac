//! The call by which the install page reports what its user does.

use axum::extract::{FromRequestParts, State};
use http::StatusCode;
use http::request::Parts;

use super::AppState;
use super::callers::Subject;
use super::extract::{Params, path_segment};
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::domain::Intent;
use crate::store::funnel::{self, Noted};
use crate::telemetry;

/// Notes that the user has opened the page (`opened`), tapped the link that opens the phone's own setup (`link-tapped`), or was
/// shown the QR code (`qr-shown`). Only the first report of each is kept, for the funnel of `/v1/summary`; it is erased with the
/// profile. The install page and the browser module report by themselves.
#[utoipa::path(
    put, path = "/v1/profiles/{iccid}/intents/{intent}", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("intent" = inline(Intent), Path),
    ),
    responses(
        (status = 204, description = "Noted, now or before"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn note(
    State(app): State<AppState>,
    subject: Subject,
    intent: Intent,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    let now = subject.received_at;
    let note = app
        .reads
        .run(async |connection| funnel::note_intent(connection, &subject.iccid, intent, now).await);
    match note.await?.ok_or_else(|| Problem::new(Code::UnknownProfile))? {
        Noted::Counted(provider) => telemetry::count_milestone(&provider, intent.milestone(), 1),
        Noted::NotCounted => {}
    }
    Ok(StatusCode::NO_CONTENT)
}

impl FromRequestParts<AppState> for Intent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let segment = path_segment(parts, "intent").await.unwrap_or_default();
        segment.parse().map_err(|error| {
            Problem::because(Code::InvalidParameter, format!("the intent {error}, in the path"))
        })
    }
}
