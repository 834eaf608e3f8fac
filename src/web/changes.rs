//! `GET /v1/changes`: all changes of all profiles in one order, for backends that keep a copy or act on each change.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::callers::Backend;
use super::extract::{Params, cursor, read_cursor, timestamp};
use super::middleware::Waited;
use super::problem::{Problem, Refusals};
use super::views::{ProfileView, TransitionView};
use crate::domain::{ChangeKind, Timestamp};
use crate::feed::SAFETY_NET;
use crate::store::changes::{self, Change, Changes, Place};
use crate::telemetry::Span;

/// One change of one profile.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// Where this change is in the order: send it as `after` to continue behind it.
    cursor: String,
    /// The profile's number.
    #[schema(example = "89972123300991848961")]
    iccid: String,
    /// What changed. `transition`: its history has a new transition, which may be `late`. `overdue`: something should have
    /// happened by now and did not. `evidence`: a provider said where it is connected. `registered`: a backend registered it, or
    /// something new about it. `erased`: it was erased, with all earlier changes of it.
    kind: ChangeKind,
    /// When, by the service's clock.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The transition, with the kinds `transition` and `overdue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    transition: Option<TransitionView>,
    /// The profile as it is now: after this change, or after later ones. Absent with the kind `erased`.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileView>,
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            cursor: cursor_of(change.place()),
            iccid: change.iccid.as_str().to_owned(),
            kind: change.kind,
            at: change.at,
            transition: change.transition.map(TransitionView::from),
            profile: change.profile.map(ProfileView::from),
        }
    }
}

/// Some changes, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangePage)]
#[serde(rename_all = "camelCase")]
pub struct ChangesView {
    /// The changes, oldest first; none if nothing has changed.
    items: Vec<ChangeView>,
    /// Send this as `after` to get what comes next. It does not expire.
    next_cursor: String,
}

/// Lists all changes of all profiles, oldest first, in an order that never changes: no change is ever inserted before one that was
/// answered. For one profile it is the order of its history.
///
/// Keep `nextCursor` with what you have done about the items, and send it as `after`. With `wait` the call is a long poll: it is
/// answered as soon as there are changes. A report that moves nothing is no change, even if it brings an IMSI or EID that was not
/// known. What happened before the release with this call is added after the upgrade, and can be recognised by `at`.
#[utoipa::path(
    get, path = "/v1/changes", tag = "changes",
    security(("apiKey" = [])),
    params(
        ("after" = Option<String>, Query, description = "A `nextCursor` or `cursor`; a time, before which all changes are left out; `now` for the present end; or `beginning`, which is the default"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Max number of items; default 50"),
        ("wait" = Option<i64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait for a change if there is none"),
    ),
    responses(
        (status = 200, body = ChangesView),
        Refusals,
    )
)]
pub async fn list(
    State(app): State<AppState>,
    _: Backend,
    mut params: Params,
) -> Result<Response, Problem> {
    let after = params.take("after", read_after)?;
    let limit = params.take_limit()?;
    let wait = params.take_wait()?;
    params.finish()?;
    let after = after.unwrap_or(After::Place(Place::BEGINNING));
    let mut read_from = place_of(&app, after).await?;
    if after == After::Now {
        let none = Changes { items: Vec::new(), read_to: read_from };
        return Ok(Json(ChangesView::from(none)).into_response());
    }
    let deadline = Instant::now() + wait.unwrap_or_default();
    // Subscribe before reading, so that a change between the two is a wake-up.
    let mut subscription = app.feed.subscribe_to_all();
    let mut place = None;
    loop {
        let is_over = deadline <= Instant::now() || app.draining.has_begun();
        let read = app.changes_after(&app.reads, read_from, limit).await?;
        let (changes, are_more) = read.ok_or_else(not_given_out)?;
        if changes.items.is_empty() && (are_more || read_from != changes.read_to) {
            // All changes of the page are of profiles that are being erased.
            read_from = changes.read_to;
            continue;
        }
        if !changes.items.is_empty() || is_over {
            let mut response = Json(ChangesView::from(changes)).into_response();
            if place.is_some() {
                // The caller asked for this delay, so it is not counted as the duration of the request.
                response.extensions_mut().insert(Waited);
            }
            return Ok(response);
        }
        if place.is_none() {
            place = Some(app.followers.follow_all()?);
        }
        let mut waiting = Span::long_poll();
        tokio::select! {
            wake_up = subscription.woken() => waiting.link(wake_up.as_ref()),
            // If a wake-up was lost.
            () = tokio::time::sleep(SAFETY_NET) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = app.draining.begun() => {}
        }
    }
}

/// Behind what a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// All that exists now.
    Now,
    /// This place.
    Place(Place),
    /// All that happened before this time.
    Time(Timestamp),
}

/// Reads `after`: a cursor, a time, `now` or `beginning`.
pub(super) fn read_after(text: &str) -> Result<After, &'static str> {
    let wanted = "must be a cursor of an earlier answer, a time such as 2026-11-27T14:00:00Z, now, or beginning";
    match text {
        "now" => Ok(After::Now),
        "beginning" => Ok(After::Place(Place::BEGINNING)),
        _ => {
            let place = read_cursor(text, parse_place).map(After::Place);
            place.or_else(|| timestamp(text).ok().map(After::Time)).ok_or(wanted)
        }
    }
}

/// The place of a reader who begins there.
///
/// # Errors
/// Those of a read.
pub(super) async fn place_of(app: &AppState, after: After) -> Result<Place, Problem> {
    match after {
        After::Place(place) => Ok(place),
        After::Now => Ok(app.end_of_changes().await?),
        After::Time(at) => {
            // All that is committed now has a position then.
            let end = app.end_of_changes().await?;
            let found = app.scan(async |connection| changes::before(connection, at).await).await?;
            Ok(found.unwrap_or(end))
        }
    }
}

/// The cursor of a place.
pub(super) fn cursor_of(place: Place) -> String {
    match place.mark {
        Some(mark) => cursor(&format!("{}.{mark:08x}", place.position)),
        None => cursor(&place.position.to_string()),
    }
}

fn parse_place(text: &str) -> Result<Place, ()> {
    let (position, mark) = match text.split_once('.') {
        Some((position, mark)) => (position, Some(u32::from_str_radix(mark, 16).map_err(drop)?)),
        None => (text, None),
    };
    match position.parse() {
        Ok(position @ 0..) => Ok(Place { position, mark }),
        _ => Err(()),
    }
}

/// The answer to a cursor that this database has not given out.
pub(super) fn not_given_out() -> Problem {
    Problem::parameter(
        "after",
        "this database has not given out that cursor: it is of another one, or this one was restored from a backup that is older; read on from a cursor from before the backup, or from the beginning",
    )
}

impl From<Changes> for ChangesView {
    fn from(changes: Changes) -> Self {
        let next_cursor = cursor_of(changes.read_to);
        Self { items: changes.items.into_iter().map(ChangeView::from).collect(), next_cursor }
    }
}
