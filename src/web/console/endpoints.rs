//! The endpoints: how each does, what it holds back, and what can be done about it. Looking needs the scope of the console only;
//! what is sent to a backend is changed by those who could change it over the API too.

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::Uri;
use http::request::Parts;

use super::super::AppState;
use super::super::endpoints::{self, EndpointView, Status};
use super::super::problem::{Code, Problem};
use super::form::Form;
use super::session::Session;
use super::shell::{Shell, When, base_path, grouped, lasting, page, see_other};
use crate::domain::{DisabledBecause, Timestamp};
use crate::store::backlogs::{self, Backlog};

/// The max number of profiles that are held back that a page lists.
const HELD_SHOWN: i64 = 50;

/// The endpoint that the path names, for somebody who has signed in.
#[derive(Debug)]
pub(super) struct Named {
    session: Session,
    pub id: String,
}

impl FromRequestParts<AppState> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let session = Session::from_request_parts(parts, app).await?;
        Ok(Self { session, id: endpoints::id_of(parts).await? })
    }
}

/// How an endpoint does, in words.
struct Health {
    is_ill: bool,
    text: &'static str,
}

impl Health {
    fn of(endpoint: &EndpointView) -> Self {
        let text = match (&endpoint.status, endpoint.disabled_because) {
            (Status::Active, _) => "Active",
            (Status::Failing, _) => "Failing: it accepts nothing at present",
            (Status::NotConfigured, _) => "No longer in the configuration file",
            (Status::Disabled, Some(DisabledBecause::Gone)) => "Off: it answered that it is gone",
            (Status::Disabled, Some(DisabledBecause::Failing)) => {
                "Off: it accepted nothing for five days"
            }
            (Status::Disabled, Some(DisabledBecause::LostPlace)) => {
                "Off: a part of the database was restored or changed by hand"
            }
            (Status::Disabled, Some(DisabledBecause::Request) | None) => {
                "Off: somebody asked for it"
            }
        };
        Self { is_ill: !matches!(endpoint.status, Status::Active), text }
    }
}

/// What an endpoint is behind with: how much, and for how long.
fn lag(endpoint: &EndpointView, now: Timestamp) -> String {
    match endpoint.behind_since {
        Some(since) if endpoint.behind > 0 => {
            let waits = now.unix_seconds().saturating_sub(since.unix_seconds());
            let waits = lasting(u64::try_from(waits).unwrap_or_default());
            format!("{} for {waits}", grouped(endpoint.behind))
        }
        _ => grouped(endpoint.behind),
    }
}

#[derive(Template)]
#[template(path = "console/endpoints.html")]
struct ListPage {
    shell: Shell,
    endpoints: Vec<Row>,
}

struct Row {
    id: String,
    url: String,
    description: String,
    health: Health,
    lag: String,
    delivered: String,
    held: String,
    last_error: String,
}

impl Row {
    fn of(endpoint: EndpointView, now: Timestamp) -> Self {
        Self {
            health: Health::of(&endpoint),
            lag: lag(&endpoint, now),
            id: endpoint.id,
            url: endpoint.url,
            description: endpoint.description.unwrap_or_default(),
            delivered: grouped(endpoint.delivered),
            held: grouped(endpoint.held_profiles),
            last_error: endpoint.last_error.unwrap_or_default(),
        }
    }
}

/// `GET /console/endpoints`.
pub(super) async fn list(
    State(app): State<AppState>,
    session: Session,
) -> Result<Response, Problem> {
    let found = endpoints::read(&app).await?.into_iter();
    let endpoints = found.map(|endpoint| Row::of(endpoint, session.received_at)).collect();
    page(&ListPage { shell: Shell::of(&app, &session, "/endpoints"), endpoints })
}

#[derive(Template)]
#[template(path = "console/endpoint.html")]
struct EndpointPage {
    shell: Shell,
    id: String,
    url: String,
    health: Health,
    facts: Vec<(&'static str, String)>,
    held: Vec<HeldRow>,
    held_in_all: String,
    is_cut: bool,
    may_write: bool,
    is_off: bool,
    waiting: String,
    notice: &'static str,
}

/// A profile whose changes an endpoint does not accept.
struct HeldRow {
    handle: String,
    iccid: String,
    since: When,
    failures: u32,
    retry: When,
}

impl HeldRow {
    fn of(session: &Session, backlog: &Backlog) -> Self {
        Self {
            handle: session.handle(&backlog.iccid),
            iccid: backlog.iccid.as_str().to_owned(),
            since: backlog.since.into(),
            failures: backlog.failures,
            retry: backlog.retry_at.into(),
        }
    }
}

/// `GET /console/endpoints/{id}`.
pub(super) async fn show(
    State(app): State<AppState>,
    Named { session, id }: Named,
    uri: Uri,
) -> Result<Response, Problem> {
    let endpoint = endpoints::find(&app, &id).await?;
    let held = app.reads.run(async |connection| backlogs::list(connection, &id, HELD_SHOWN).await);
    let held = held.await?;
    tracing::info!(key = session.name, endpoint = id, "support looked at an endpoint");
    let notice = match uri.query() {
        Some("on") => "It is switched on. What waits is delivered now.",
        Some("off") => "It is switched off. What comes from now on waits.",
        Some("replayed") => "Its place was set. It continues from there.",
        _ => "",
    };
    page(&EndpointPage {
        shell: Shell::of(&app, &session, "/endpoints"),
        facts: facts(&endpoint, session.received_at),
        health: Health::of(&endpoint),
        held: held.iter().map(|backlog| HeldRow::of(&session, backlog)).collect(),
        held_in_all: grouped(endpoint.held_profiles),
        is_cut: endpoint.held_profiles > HELD_SHOWN,
        may_write: session.may_write,
        is_off: matches!(endpoint.status, Status::Disabled),
        waiting: if endpoint.behind > 0 { grouped(endpoint.behind) } else { String::new() },
        id: endpoint.id,
        url: endpoint.url,
        notice,
    })
}

/// What is known of an endpoint, with a name for each.
fn facts(endpoint: &EndpointView, now: Timestamp) -> Vec<(&'static str, String)> {
    let time = |at: Timestamp| When::from(at).text;
    let words =
        |words: Vec<String>| if words.is_empty() { "all".to_owned() } else { words.join(", ") };
    let kinds = words(endpoint.kinds.iter().map(ToString::to_string).collect());
    let delivered = grouped(endpoint.delivered);
    let (failures, given_up) = (endpoint.failures, endpoint.given_up);
    let facts = [
        ("For", endpoint.description.clone()),
        ("Changes that wait", Some(lag(endpoint, now))),
        ("The first of them", endpoint.behind_since.map(time)),
        (
            "Accepted",
            Some(match endpoint.delivered_at {
                Some(at) => format!("{delivered}, last at {}", time(at)),
                None => delivered,
            }),
        ),
        ("Last error", endpoint.last_error.clone()),
        (
            "Failing since",
            endpoint.failing_since.map(|at| format!("{}, {failures} times in a row", time(at))),
        ),
        ("Next attempt", endpoint.retry_at.filter(|at| *at > now).map(time)),
        ("Off since", endpoint.disabled_at.map(time)),
        ("Given up after five days", (given_up > 0).then(|| grouped(given_up))),
        ("Wants these changes", Some(kinds)),
        ("Of these providers", Some(words(endpoint.providers.clone()))),
        ("The secret before also signs until", endpoint.previous_secret_until.map(time)),
        (
            "Created",
            Some(if endpoint.configured {
                format!("{}, by the operator's configuration file", time(endpoint.created_at))
            } else {
                format!("{}, over the API", time(endpoint.created_at))
            }),
        ),
        ("Name in the API", Some(endpoint.id.clone())),
        ("Cursor", Some(endpoint.cursor.clone())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// `POST /console/endpoints/{id}/on`: begins the deliveries again, where they ended.
pub(super) async fn switch_on(
    State(app): State<AppState>,
    named: Named,
    form: Form,
) -> Result<Response, Problem> {
    switch(&app, named, &form, true).await
}

/// `POST /console/endpoints/{id}/off`: ends the deliveries.
pub(super) async fn switch_off(
    State(app): State<AppState>,
    named: Named,
    form: Form,
) -> Result<Response, Problem> {
    switch(&app, named, &form, false).await
}

async fn switch(
    app: &AppState,
    Named { id, .. }: Named,
    form: &Form,
    enabled: bool,
) -> Result<Response, Problem> {
    let session = may_write(form)?;
    endpoints::enable(app, &id, enabled, session.received_at).await?;
    tracing::info!(key = session.name, endpoint = id, enabled, "support switched an endpoint");
    let said = if enabled { "on" } else { "off" };
    Ok(see_other(&format!("{}/endpoints/{id}?{said}", base_path(app))))
}

/// The session of a form, if it may change what is sent to backends.
pub(super) fn may_write(form: &Form) -> Result<&Session, Problem> {
    let refused = "This key may look at endpoints, and not change them: sign in with one that has the scopes “support” and “write”.";
    let session = &form.session;
    session.may_write.then_some(session).ok_or_else(|| Problem::because(Code::Forbidden, refused))
}
