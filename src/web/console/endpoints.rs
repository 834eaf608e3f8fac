//! The endpoints: how each does, what it holds back, and what can be done about it. Looking needs the scope of the console only;
//! what is sent to a backend is changed by those who could change it over the API too.

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use http::{StatusCode, Uri};
use url::Url;

use super::super::AppState;
use super::super::changes::{After, cursor_of, read_after};
use super::super::endpoints::{self, EndpointView, Status};
use super::super::problem::{Code, Problem};
use super::form::Form;
use super::session::Session;
use super::shell::{Shell, When, base_path, grouped, lasting, page, see_other};
use crate::domain::{DisabledBecause, Timestamp};
use crate::store::backlogs::{self, Backlog};
use crate::store::changes::Place;
use crate::store::endpoints::Replay;

/// The max number of profiles that are held back that a page lists.
const HELD_SHOWN: i64 = 50;

/// The endpoint that the path names, for somebody who has signed in.
#[derive(Debug)]
pub(super) struct Named {
    session: Session,
    id: String,
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
fn may_write(form: &Form) -> Result<&Session, Problem> {
    let refused = "This key may look at endpoints, and not change them: sign in with one that has the scopes “support” and “write”.";
    let session = &form.session;
    session.may_write.then_some(session).ok_or_else(|| Problem::because(Code::Forbidden, refused))
}

#[derive(Template)]
#[template(path = "console/replay.html")]
struct ReplayPage {
    shell: Shell,
    id: String,
    url: String,
    /// What has to be typed.
    host: String,
    /// Where it continues, as the form has it: `now`, or `cursor` with the cursor.
    choice: &'static str,
    after: String,
    /// From when on, if a time was given.
    from: String,
    effect: Effect,
    /// How many profiles' changes are held back, and left out too; empty if that does not apply.
    held: String,
    is_off: bool,
    wrong: &'static str,
}

/// What a replay does.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    /// At most so many changes are delivered once more.
    Again(String),
    /// At most so many changes are never delivered.
    LeftOut(String),
    /// It is where it continues already.
    Nothing,
}

impl Effect {
    /// `held` is the number of profiles whose changes are held back and left out with the rest.
    fn of(from: Place, to: Place, held: i64) -> Self {
        match from.position - to.position {
            0 if held == 0 => Self::Nothing,
            n @ 1.. => Self::Again(grouped(n)),
            n => Self::LeftOut(grouped(-n)),
        }
    }
}

/// `POST /console/endpoints/{id}/replay`: shows what a replay would do, and does it once the host of the endpoint was typed.
pub(super) async fn replay(
    State(app): State<AppState>,
    Named { id, .. }: Named,
    form: Form,
) -> Result<Response, Problem> {
    let session = may_write(&form)?;
    let endpoint = endpoints::find(&app, &id).await?;
    let (after, from) = wanted(&form)?;
    let place = endpoints::place(&app, &after).await?;
    // `now` stays `now`: the endpoint may come further before this is confirmed.
    let is_end = after == "now";
    let host = Url::parse(&endpoint.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_else(|| endpoint.id.clone());
    let typed = form.get("host");
    if typed.eq_ignore_ascii_case(&host) {
        let replay = if is_end { Replay::AtTheEnd(place) } else { Replay::Behind(place) };
        endpoints::continue_with(&app, &id, replay, session.received_at).await?;
        let after = cursor_of(place);
        tracing::info!(key = session.name, endpoint = id, after, "support replayed an endpoint");
        return Ok(see_other(&format!("{}/endpoints/{id}?replayed", base_path(&app))));
    }
    let is_first_look = form.get("confirmed").is_empty();
    let here = match read_after(&endpoint.cursor) {
        Ok(After::Place(here)) => here,
        _ => Place::BEGINNING,
    };
    let leaves_out = is_end || place.position > here.position;
    let held = if leaves_out { endpoint.held_profiles } else { 0 };
    let wrong = "Nothing was changed: this is not the host of the endpoint.";
    let mut response = page(&ReplayPage {
        shell: Shell::of(&app, session, "/endpoints"),
        choice: if is_end { "now" } else { "cursor" },
        after: cursor_of(place),
        from,
        effect: Effect::of(here, place, held),
        held: if held == 0 { String::new() } else { grouped(held) },
        is_off: endpoint.disabled_because == Some(DisabledBecause::Request),
        id: endpoint.id,
        url: endpoint.url,
        host,
        wrong: if is_first_look { "" } else { wrong },
    })?;
    if !is_first_look {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

/// Where the form wants an endpoint to continue, in the words of the API, and the time if one was chosen.
fn wanted(form: &Form) -> Result<(String, String), Problem> {
    match form.get("from") {
        "time" => {
            let at = moment(form.get("time")).ok_or_else(|| {
                Problem::parameter(
                    "time",
                    "must be a day and a time in UTC, such as 2026-11-27T14:00",
                )
            })?;
            Ok((at.to_string(), When::from(at).text))
        }
        "cursor" => Ok((form.get("after").to_owned(), String::new())),
        word @ ("beginning" | "now") => Ok((word.to_owned(), String::new())),
        _ => Err(Problem::parameter("from", "choose where the endpoint is to continue")),
    }
}

/// A moment as the field of a form has it: in UTC, with or without seconds.
fn moment(text: &str) -> Option<Timestamp> {
    let zone = [format!("{text}:00Z"), format!("{text}Z")];
    zone.iter().find_map(|text| Timestamp::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_in_utc_with_or_without_seconds() {
        let at = |text| moment(text).map(|at| at.to_string());
        let expected = Timestamp::parse("2026-11-27T14:05:00Z").unwrap().to_string();
        assert_eq!(at("2026-11-27T14:05").as_ref(), Some(&expected));
        assert_eq!(at("2026-11-27T14:05:00").as_ref(), Some(&expected));
        for wrong in ["", "now", "2026-11-27", "2026-11-27T14:05+02:00", "2026-13-27T14:05"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_replay_repeats_what_is_behind_and_leaves_out_what_is_ahead() {
        let place = |position| Place { position, mark: None };
        assert_eq!(Effect::of(place(2_000), place(500), 0), Effect::Again("1,500".to_owned()));
        assert_eq!(Effect::of(place(5), place(7), 0), Effect::LeftOut("2".to_owned()));
        assert_eq!(Effect::of(place(7), place(7), 0), Effect::Nothing);
        assert_eq!(Effect::of(place(7), place(7), 3), Effect::LeftOut("0".to_owned()));
    }
}
