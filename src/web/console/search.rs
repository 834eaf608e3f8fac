//! The search: one box for whatever a customer can read out.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::Uri;

use super::super::AppState;
use super::super::problem::Problem;
use super::super::profiles::plain_text;
use super::form::Form;
use super::session::Session;
use super::shell::{Shell, When, base_path, page, see_other};
use super::words;
use crate::domain::{Eid, Iccid, Imsi, Reference};
use crate::store::profiles::{Filter, Listed};
use crate::store::{StoreError, StoredProfile, profiles};

/// From how many digits on a number may be the end of an ICCID. Six lead to three of three million profiles.
const LONG_END: usize = 6;

/// From how many on it may be one if it is nothing else: a short number is rather that of an order.
const MIN_END: usize = 4;

/// The max number of profiles that are shown.
const SHOWN: i64 = 50;

#[derive(Template)]
#[template(path = "console/search.html")]
struct SearchPage {
    shell: Shell,
    wanted: String,
    notice: &'static str,
    found: Option<Vec<Row>>,
    /// Whether there may be more than are shown.
    is_cut: bool,
    /// Whether the last digits could not be looked for.
    no_ends: bool,
}

/// A profile in a list.
struct Row {
    handle: String,
    iccid: String,
    state: &'static str,
    provider: String,
    since: When,
    reference: String,
    overdue: &'static str,
}

impl Row {
    fn of(session: &Session, stored: &StoredProfile) -> Self {
        let profile = &stored.profile;
        Self {
            handle: session.handle(&profile.iccid),
            iccid: profile.iccid.as_str().to_owned(),
            state: profile.state.as_str(),
            provider: profile.provider.clone(),
            since: profile.since.into(),
            reference: stored.order.reference.as_ref().map_or("", Reference::as_str).to_owned(),
            overdue: stored.overdue.map_or("", words::overdue),
        }
    }
}

/// What was found.
struct Found {
    profiles: BTreeMap<Iccid, StoredProfile>,
    is_cut: bool,
    no_ends: bool,
}

/// `GET /console`: the box.
pub(super) async fn show(
    State(app): State<AppState>,
    session: Session,
    uri: Uri,
) -> Result<Response, Problem> {
    let notice = if uri.query() == Some("erased") { "The profile was erased." } else { "" };
    page(&SearchPage {
        shell: Shell::of(&app, &session, ""),
        wanted: String::new(),
        notice,
        found: None,
        is_cut: false,
        no_ends: false,
    })
}

/// `POST /console`: the profiles. What was searched for is not part of the address.
pub(super) async fn search(State(app): State<AppState>, form: Form) -> Result<Response, Problem> {
    let session = &form.session;
    let wanted = form.get("wanted");
    let found = find(&app, wanted).await?;
    tracing::info!(key = session.name, found = found.profiles.len(), "support searched");
    // Of several, somebody has to choose.
    if let (1, Some(only)) = (found.profiles.len(), found.profiles.keys().next()) {
        let handle = session.handle(only);
        return Ok(see_other(&format!("{}/profiles/{handle}", base_path(&app))));
    }
    page(&SearchPage {
        shell: Shell::of(&app, session, ""),
        wanted: wanted.to_owned(),
        notice: "",
        found: Some(found.profiles.values().map(|it| Row::of(session, it)).collect()),
        is_cut: found.is_cut,
        no_ends: found.no_ends,
    })
}

/// Finds the profiles that any of the numbers may mean.
async fn find(app: &AppState, wanted: &str) -> Result<Found, Problem> {
    // People write long numbers in groups.
    let plain: String = wanted.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let filters = filters(wanted, &plain);
    let is_end = (MIN_END..18).contains(&plain.len()) && plain.bytes().all(|b| b.is_ascii_digit());
    let is_short = plain.len() < LONG_END;
    let iccid = Iccid::parse(&plain).ok();
    let read = app.reads.run(async |connection| {
        let mut found = Found { profiles: BTreeMap::new(), is_cut: false, no_ends: false };
        let twins = iccid.iter().flat_map(|it| [Some(it.clone()), it.twin()]).flatten();
        found.add(profiles::find(connection, &texts(twins)).await?);
        for filter in &filters {
            let Listed { profiles, .. } =
                profiles::list(connection, filter, None, SHOWN + 1).await?;
            found.add(profiles);
        }
        if is_end && (!is_short || found.profiles.is_empty()) {
            let ending = profiles::list_ending(connection, &plain, SHOWN + 1).await?;
            found.no_ends = ending.is_none();
            let ending = texts(ending.unwrap_or_default());
            found.add(profiles::find(connection, &ending).await?);
        }
        Ok::<_, StoreError>(found)
    });
    let mut found = read.await?;
    found.cut();
    Ok(found)
}

fn texts(iccids: impl IntoIterator<Item = Iccid>) -> Vec<String> {
    iccids.into_iter().map(|it| it.as_str().to_owned()).collect()
}

impl Found {
    fn add(&mut self, more: Vec<StoredProfile>) {
        self.profiles.extend(more.into_iter().map(|it| (it.profile.iccid.clone(), it)));
    }

    fn cut(&mut self) {
        let shown = usize::try_from(SHOWN).unwrap_or_default();
        if let Some(surplus) = self.profiles.keys().nth(shown).cloned() {
            self.profiles.split_off(&surplus);
            self.is_cut = true;
        }
    }
}

/// The filters whose number this may be. An index finds each.
fn filters(wanted: &str, plain: &str) -> Vec<Filter> {
    let none = Filter::default;
    let imsi = Imsi::parse(plain).ok().map(|imsi| Filter { imsi: Some(imsi), ..none() });
    let eid = Eid::parse(plain).ok().map(|eid| Filter { eid: Some(eid), ..none() });
    let uid = plain_text(wanted).ok().map(|uid| Filter { uid: Some(uid), ..none() });
    let reference = Reference::parse(wanted).ok();
    let reference = reference.map(|it| Filter { reference: Some(it), ..none() });
    [imsi, eid, uid, reference].into_iter().flatten().collect()
}
