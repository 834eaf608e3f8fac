//! The lists to work through: what was refused and not understood, and what is overdue.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::AppState;
use super::super::extract::{Params, timestamp};
use super::super::problem::Problem;
use super::session::Session;
use super::shell::{Shell, When, grouped, page};
use super::words;
use crate::domain::{Iccid, Outcome, OverdueReason};
use crate::store::causes::{self, Cause};
use crate::store::overdue::{self, OverdueProfile};

/// How many profiles a page of what is overdue has.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "console/refused.html")]
struct RefusedPage {
    shell: Shell,
    causes: Vec<CauseRow>,
    looked_at: String,
}

struct CauseRow {
    outcome: Outcome,
    meaning: &'static str,
    reason: String,
    hook: String,
    deliveries: String,
    last: When,
    example: String,
}

impl From<Cause> for CauseRow {
    fn from(cause: Cause) -> Self {
        Self {
            outcome: cause.outcome,
            meaning: words::outcome(cause.outcome),
            reason: cause.reason.unwrap_or_default(),
            hook: cause.hook,
            deliveries: grouped(cause.deliveries),
            last: cause.last_at.into(),
            example: cause.last_id.to_string(),
        }
    }
}

/// `GET /console/refused`: the deliveries that were not applied, by their cause.
pub(super) async fn refused(
    State(app): State<AppState>,
    session: Session,
) -> Result<Response, Problem> {
    let read = app.scan(async |connection| causes::list(connection).await);
    let mut causes = read.await?;
    // Within each half the most frequent stays first.
    causes.sort_by_key(|cause| !words::needs_somebody(cause.outcome));
    let causes = causes.into_iter().map(CauseRow::from).collect();
    tracing::info!(key = session.name, page = "refused", "support looked at a list");
    let shell = Shell::of(&app, &session, "/refused");
    page(&RefusedPage { shell, causes, looked_at: grouped(causes::GROUPED) })
}

#[derive(Template)]
#[template(path = "console/overdue.html")]
struct OverduePage {
    shell: Shell,
    reasons: Vec<(OverdueReason, &'static str, String)>,
    reason: OverdueReason,
    title: &'static str,
    meaning: &'static str,
    rows: Vec<LateRow>,
    next: Option<String>,
}

struct LateRow {
    handle: String,
    iccid: String,
    provider: String,
    state: &'static str,
    since: When,
}

impl LateRow {
    fn of(session: &Session, late: &OverdueProfile) -> Self {
        Self {
            handle: session.handle(&late.iccid),
            iccid: late.iccid.as_str().to_owned(),
            provider: late.provider.clone(),
            state: late.state.as_str(),
            since: late.since.into(),
        }
    }
}

/// `GET /console/overdue?reason=&since=&after=`: the profiles that are overdue, those first that have waited longest. `since` and
/// `after` are the last profile of the page before, without its number.
pub(super) async fn overdue(
    State(app): State<AppState>,
    session: Session,
    mut params: Params,
) -> Result<Response, Problem> {
    let reason = params.take("reason", str::parse::<OverdueReason>)?;
    let since = params.take("since", timestamp)?;
    let gone = "is of another session: begin with the first page";
    let iccid = params.take("after", |handle| session.profile(handle).ok_or(gone))?;
    params.finish()?;
    let read = app.scan(async |connection| {
        let counts = overdue::count(connection).await?;
        // Without a choice: what most are waiting for.
        let most = counts.iter().max_by_key(|(_, profiles)| *profiles).map(|(it, _)| *it);
        let reason = reason.or(most).unwrap_or(OverdueReason::NotInstalled);
        let after: Option<(_, &Iccid)> = since.zip(iccid.as_ref());
        let found = overdue::list(connection, reason, after, PAGE + 1).await?;
        Ok((counts, reason, found))
    });
    let (counts, reason, mut found) = read.await?;
    tracing::info!(key = session.name, page = "overdue", "support looked at a list");
    let shown = usize::try_from(PAGE).unwrap_or_default();
    let has_more = found.len() > shown;
    found.truncate(shown);
    let last = found.last().filter(|_| has_more);
    let next = last.map(|last| {
        format!("reason={reason}&since={}&after={}", last.since, session.handle(&last.iccid))
    });
    let count = |reason| counts.iter().find(|(it, _)| *it == reason).map_or(0, |(_, n)| *n);
    page(&OverduePage {
        shell: Shell::of(&app, &session, "/overdue"),
        reasons: OverdueReason::ALL.map(|it| (it, words::overdue(it), grouped(count(it)))).to_vec(),
        reason,
        title: words::overdue(reason),
        meaning: words::overdue_at_length(reason),
        rows: found.iter().map(|late| LateRow::of(&session, late)).collect(),
        next,
    })
}
