//! One profile, its history, and the list of profiles.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::callers::{Backend, Subject};
use super::extract::{Params, cursor, timestamp};
use super::middleware::Waited;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use super::views::{Page, ProfileView, TransitionView};
use super::{AppState, etag};
use crate::access::Caller;
use crate::domain::{Eid, Iccid, Imsi, ProfileState, Reference};
use crate::store::profiles::{Filter, Listed};
use crate::store::{StoredProfile, profiles, transitions};
use crate::telemetry::Span;

/// Returns the profile as it is now.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("If-None-Match" = Option<String>, Header, description = "An ETag from an earlier answer"),
        ("wait" = Option<u32>, Query, maximum = 60, description = "With If-None-Match: how many seconds to wait for a change before answering 304"),
    ),
    responses(
        (status = 200, body = ProfileView, headers(("ETag" = String, description = "An opaque name of this state of the profile's history"))),
        (status = 304, description = "Nothing has changed since the answer with that ETag"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    subject: Subject,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = params.take_wait()?;
    params.finish()?;
    let (stored, has_waited) = read(&app, &subject, &headers, wait.unwrap_or_default()).await?;
    let tag = etag::of(&stored, &subject.caller);
    let view = match subject.caller {
        Caller::Backend if wait.is_none() => ProfileView::with_twin(stored, &app.reader).await,
        _ => ProfileView::of(stored, &subject.caller),
    };
    // A twin can appear or disappear without a change of this profile, and so without a change of its tag.
    let mut response = if etag::names(&headers, &tag) && !view.has_twin() {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(view).into_response()
    };
    if has_waited {
        // The caller asked for this delay, so it is not counted as the duration of the request.
        response.extensions_mut().insert(Waited);
    }
    for (name, value) in [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        // `self` is the same URL for the users of all profiles, and backends see more than users do.
        (header::VARY, HeaderValue::from_static("authorization")),
    ] {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Reads a profile. If the caller has its current state already, waits for a change, at most `wait` long. Also returns
/// whether it has waited.
async fn read(
    app: &AppState,
    subject: &Subject,
    headers: &HeaderMap,
    wait: Duration,
) -> Result<(StoredProfile, bool), Problem> {
    let deadline = Instant::now() + wait;
    // Subscribe before reading, so that a change between the two is a wake-up.
    let mut subscription = (!wait.is_zero()).then(|| app.feed.subscribe(&subject.iccid));
    let mut place = None;
    loop {
        let stored = subject.read(app).await?;
        let Some(subscription) = &mut subscription else { return Ok((stored, false)) };
        if !etag::names(headers, &etag::of(&stored, &subject.caller)) {
            return Ok((stored, place.is_some()));
        }
        if place.is_none() {
            place = Some(app.followers.poll(subject)?);
        }
        let mut waiting = Span::long_poll();
        tokio::select! {
            wake_up = subscription.woken() => waiting.link(wake_up.as_ref()),
            () = tokio::time::sleep_until(deadline) => return Ok((stored, true)),
            () = app.draining.begun() => return Ok((stored, true)),
        }
    }
}

/// Lists the transitions of a profile, oldest first.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/transitions", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only transitions with a larger `seq`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Max number of items; default 50"),
    ),
    responses(
        (status = 200, body = Page<TransitionView>),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn history(
    State(app): State<AppState>,
    subject: Subject,
    mut params: Params,
) -> Result<Json<Page<TransitionView>>, Problem> {
    let after = params.take("after", |text| match text.parse() {
        Ok(seq @ 0..) => Ok(seq),
        _ => Err("must be the seq of a transition, or 0"),
    })?;
    let limit = params.take_limit()?;
    params.finish()?;
    let after = after.unwrap_or_default();
    let rows = app.reads.run(async |connection| {
        transitions::list(connection, &subject.iccid, after, limit + 1).await
    });
    let rows = rows.await?;
    // Every profile has a first transition. So if there is none after 0, the profile does not exist.
    if rows.is_empty() && (after == 0 || app.reader.find(&subject.iccid).await?.is_none()) {
        return Err(Problem::new(Code::UnknownProfile));
    }
    Ok(Json(Page::of(rows, limit, |last| last.seq.to_string())))
}

/// The filters of the list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `list` takes by name")]
pub struct ListParams {
    /// The canonical state.
    state: Option<ProfileState>,
    /// The provider's slug.
    provider: Option<String>,
    /// The customer's id at the provider.
    uid: Option<String>,
    /// The IMSI of the subscription.
    imsi: Option<String>,
    /// The EID of the device's eUICC.
    eid: Option<String>,
    /// Your own number of the order.
    reference: Option<String>,
    /// `true`: only profiles to which something should have happened by now that did not.
    overdue: Option<bool>,
    /// Only profiles that changed, or that a webhook reported, at or after this time (RFC 3339).
    #[param(rename = "updatedSince", value_type = Option<String>, format = DateTime)]
    updated_since: Option<String>,
    /// The `nextCursor` of an earlier page.
    cursor: Option<String>,
    /// Max number of items, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists the profiles that match all given filters, in the order of their ICCIDs.
///
/// A page that would take too long to fill has fewer items than `limit`, perhaps none: the list ends where `nextCursor`
/// is null.
#[utoipa::path(
    get, path = "/v1/profiles", tag = "profiles",
    security(("apiKey" = [])),
    params(ListParams),
    responses(
        (status = 200, body = Page<ProfileView>),
        Refusals,
    )
)]
pub async fn list(
    State(app): State<AppState>,
    _: Backend,
    mut params: Params,
) -> Result<Json<Page<ProfileView>>, Problem> {
    let filter = Filter {
        state: params.take("state", |text| text.to_ascii_uppercase().parse::<ProfileState>())?,
        provider: params.take("provider", plain_text)?,
        uid: params.take("uid", plain_text)?,
        imsi: params.take("imsi", Imsi::parse)?,
        eid: params.take("eid", Eid::parse)?,
        reference: params.take("reference", Reference::parse)?,
        overdue: params.take("overdue", yes)?.is_some(),
        updated_since: params.take("updatedSince", timestamp)?,
    };
    let after = params.take_cursor(Iccid::parse)?;
    let limit = params.take_limit()?;
    params.finish()?;
    let list =
        async |connection: &mut _| profiles::list(connection, &filter, after.as_ref(), limit).await;
    let listed =
        if filter.is_indexed() { app.reads.run(list).await? } else { app.scan(list).await? };
    let Listed { profiles, next } = listed;
    Ok(Json(Page::until(profiles, next.map(|last| cursor(last.as_str())))))
}

/// Parses a flag that can only be given, not denied.
fn yes(text: &str) -> Result<(), &'static str> {
    if text == "true" { Ok(()) } else { Err("must be true, or left out") }
}

/// Parses a text that Postgres can compare.
pub fn plain_text(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains('\0') || text.len() > 256 {
        return Err("must be a text of 1 to 256 bytes without NUL");
    }
    Ok(text.to_owned())
}
