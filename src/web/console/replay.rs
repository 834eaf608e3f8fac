//! The replay of an endpoint: from where it is to continue, what that does, and the confirmation.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use url::Url;

use super::super::AppState;
use super::super::changes::{After, cursor_of, read_after};
use super::super::endpoints;
use super::super::problem::Problem;
use super::endpoints::{Named, may_write};
use super::form::Form;
use super::shell::{Shell, When, base_path, grouped, page, see_other};
use crate::domain::{DisabledBecause, Timestamp};
use crate::store::changes::Place;
use crate::store::endpoints::Replay;

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
