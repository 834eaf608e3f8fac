//! The page of one profile, and what support can do there.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use tokio::time::Instant;

use super::super::callers::Subject;
use super::super::evidence::Sheet;
use super::super::extract::Params;
use super::super::middleware::Waited;
use super::super::problem::{Code, Problem};
use super::super::{AppState, inquiry, journey, registration, tokens};
use super::form::Form;
use super::question;
use super::session::Viewed;
use super::shell::{Shell, When, base_path, note, page, see_other};
use super::timeline::{self, Entry};
use super::words;
use crate::access::Caller;
use crate::domain::{Country, Device, Eid, Iccid, Imsi, Reference};
use crate::store::{StoredProfile, customer_deliveries, evidence, funnel, inquiries};
use crate::telemetry::Span;
use crate::texts::Language;

/// How many digits at the end of the ICCID confirm an erasure.
const CONFIRMING: usize = 6;

/// How long a page waits for a change before it asks again.
const WAIT: Duration = Duration::from_secs(25);

#[derive(Template)]
#[template(path = "console/profile.html")]
struct ProfilePage {
    shell: Shell,
    handle: String,
    iccid: String,
    state: &'static str,
    since: When,
    overdue: &'static str,
    question: &'static str,
    /// What the install page tells its user.
    told: &'static str,
    facts: Vec<(&'static str, String)>,
    entries: Vec<Entry>,
    is_cut: bool,
    can_ask: bool,
    place: String,
    said: ActionResult,
}

/// What an action has to say on the page that answers it.
#[derive(Default)]
struct ActionResult {
    notice: &'static str,
    wrong: &'static str,
    link: Option<(String, When)>,
}

/// `GET /console/profiles/{profile}`.
pub(super) async fn show(
    State(app): State<AppState>,
    viewed: Viewed,
    uri: Uri,
) -> Result<Response, Problem> {
    let notice = match uri.query() {
        Some("asked") => {
            "The provider is asked as soon as the budget of calls allows. What it answers appears here."
        }
        _ => "",
    };
    render(&app, &viewed, "profile", ActionResult { notice, ..ActionResult::default() }).await
}

async fn render(
    app: &AppState,
    viewed: &Viewed,
    what: &'static str,
    said: ActionResult,
) -> Result<Response, Problem> {
    let Viewed { session, iccid } = viewed;
    let read = app.reads.run(async |connection| {
        let Some(found) = evidence::read(connection, iccid).await? else { return Ok(None) };
        let most = i64::try_from(timeline::SHOWN).unwrap_or(i64::MAX);
        let of_customer =
            customer_deliveries::list_of_profile(connection, iccid, None, most).await?;
        let intents = funnel::list_intents(connection, iccid).await?;
        let pending = inquiries::find(connection, iccid).await?;
        let profile = &found.stored.profile;
        let journey = journey::read(app, connection, profile, session.received_at).await?;
        Ok(Some((found, of_customer, intents, pending, journey)))
    });
    let (found, of_customer, intents, pending, journey) =
        read.await?.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
    note(session, iccid, what);
    let (entries, is_cut) = timeline::of(&found, &of_customer, &intents, pending.as_ref());
    let stored = &found.stored;
    let profile = &stored.profile;
    page(&ProfilePage {
        shell: Shell::of(app, session, "/profiles"),
        handle: session.handle(iccid),
        iccid: iccid.as_str().to_owned(),
        state: profile.state.as_str(),
        since: profile.since.into(),
        overdue: stored.overdue.map_or("", words::overdue),
        question: question::next(&journey.advice, stored.overdue),
        told: Language::English.texts().advice(&journey.advice).0,
        facts: facts(stored, journey::install_limit(app, profile)),
        entries,
        is_cut,
        can_ask: app.askable.contains(&profile.provider.as_str()),
        place: place(stored),
        said,
    })
}

/// What is known of the profile, with a name for each.
fn facts(stored: &StoredProfile, install_limit: Option<i32>) -> Vec<(&'static str, String)> {
    let StoredProfile { profile, registration, order, replaced_by, .. } = stored;
    let time = |at| When::from(at).text;
    let device = |device: &Device| {
        [device.make(), device.model()].into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let known = &profile.connections;
    let on = profile.enabled.map(|on| if on { "yes" } else { "no" }.to_owned());
    let text = |iccid: &Iccid| iccid.as_str().to_owned();
    let installs = match install_limit {
        Some(limit) => format!("{} of {limit} that the provider allows", profile.installs_seen),
        None => profile.installs_seen.to_string(),
    };
    let facts = [
        ("Provider", Some(profile.provider.clone())),
        ("The provider's word", Some(profile.raw_state.clone())),
        ("Switched on", Some(on.unwrap_or_else(|| "not reported".to_owned()))),
        (
            "Last heard from the provider",
            Some(profile.last_delivery_at.map_or("never: no webhook has come".to_owned(), time)),
        ),
        ("Installs seen", Some(installs)),
        (
            "First connected",
            Some(known.first_connected_at.map_or("never reported".to_owned(), time)),
        ),
        ("Last connected", known.last_connected_at.map(time)),
        ("Country then", known.country.as_ref().map(|it| Country::as_str(it).to_owned())),
        ("Device", profile.device.as_ref().map(device)),
        ("IMSI", profile.imsi.as_ref().map(|it| Imsi::as_str(it).to_owned())),
        ("EID", profile.eid.as_ref().map(|it| Eid::as_str(it).to_owned())),
        ("Order", order.reference.as_ref().map(|it| Reference::as_str(it).to_owned())),
        ("Day of travel", order.expected_from.map(|day| day.to_string())),
        ("Customer at the provider", registration.as_ref().and_then(|it| it.uid.clone())),
        ("Registered", Some(registration.as_ref().map_or("never".to_owned(), |it| time(it.at)))),
        ("Given out for", order.replaces.as_ref().map(text)),
        ("Replaced by", replaced_by.as_ref().map(text)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Changes with everything that a page shows of the past.
fn place(stored: &StoredProfile) -> String {
    format!("{}-{}", stored.profile.seq, stored.profile.deliveries)
}

/// `GET /console/profiles/{profile}/changes?after=`: answers 200 once the profile has changed, or 204 after a while.
pub(super) async fn changes(
    State(app): State<AppState>,
    viewed: Viewed,
    mut params: Params,
) -> Result<Response, Problem> {
    let known = params.take("after", |text| Ok::<_, String>(text.to_owned()))?;
    params.finish()?;
    let (iccid, received_at) = (viewed.iccid, viewed.session.received_at);
    let deadline = Instant::now() + WAIT;
    // Subscribe before reading, so that a change between the two is a wake-up.
    let mut subscription = app.feed.subscribe(&iccid);
    let subject = Subject { iccid, caller: Caller::Backend, received_at };
    let _place = app.followers.poll(&subject)?;
    let mut status = StatusCode::NO_CONTENT;
    loop {
        let stored = app.reader.find(&subject.iccid).await?;
        if stored.as_ref().map(place) != known {
            status = StatusCode::OK;
            break;
        }
        let mut waiting = Span::long_poll();
        tokio::select! {
            wake_up = subscription.woken() => waiting.link(wake_up.as_ref()),
            () = tokio::time::sleep_until(deadline) => break,
            () = app.draining.begun() => break,
        }
    }
    let mut response = status.into_response();
    response.extensions_mut().insert(Waited);
    Ok(response)
}

/// `GET /console/profiles/{profile}/evidence`: the evidence sheet.
pub(super) async fn evidence(
    State(app): State<AppState>,
    viewed: Viewed,
) -> Result<Response, Problem> {
    let sheet = Sheet::read(&app, &viewed.iccid, viewed.session.received_at).await?;
    note(&viewed.session, &viewed.iccid, "evidence sheet");
    Ok(sheet.page(&app))
}

/// `POST /console/profiles/{profile}/link`: issues an access token, and shows its link this once.
pub(super) async fn link(
    State(app): State<AppState>,
    viewed: Viewed,
    form: Form,
) -> Result<Response, Problem> {
    note(&viewed.session, &viewed.iccid, "fresh install link");
    let now = form.session.received_at;
    let issued = tokens::issue(&app, &viewed.iccid, tokens::LONGEST_TTL, now).await?;
    let link = Some((issued.install_url, issued.expires_at.into()));
    render(&app, &viewed, "profile", ActionResult { link, ..ActionResult::default() }).await
}

/// `POST /console/profiles/{profile}/ask`: has the provider asked.
pub(super) async fn ask(
    State(app): State<AppState>,
    viewed: Viewed,
    form: Form,
) -> Result<Response, Problem> {
    note(&viewed.session, &viewed.iccid, "question to the provider");
    inquiry::want(&app, &viewed.iccid, form.session.received_at).await?;
    let handle = viewed.session.handle(&viewed.iccid);
    Ok(see_other(&format!("{}/profiles/{handle}?asked", base_path(&app))))
}

/// `POST /console/profiles/{profile}/erase`: erases the profile, if its last digits were typed.
pub(super) async fn erase(
    State(app): State<AppState>,
    viewed: Viewed,
    form: Form,
) -> Result<Response, Problem> {
    let typed = form.get("digits");
    if typed.len() != CONFIRMING || !viewed.iccid.as_str().ends_with(typed) {
        let wrong = "Nothing was erased: these are not the last six digits of the ICCID.";
        let said = ActionResult { wrong, ..ActionResult::default() };
        let mut response = render(&app, &viewed, "profile", said).await?;
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    // First: an erasure that fails half-way has begun.
    note(&viewed.session, &viewed.iccid, "erasure");
    registration::erase_profile(&app, &viewed.iccid, form.session.received_at).await?;
    Ok(see_other(&format!("{}?erased", base_path(&app))))
}
