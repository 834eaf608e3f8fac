//! Simlessly RSP: one URL for all events of profiles (<https://docs.simlessly.com>).
//!
//! Each event has a type, a status and a time in milliseconds, in an older and a newer spelling. A type alone says nothing: a failed
//! `DELETE` is no deletion. The id of an event is in its headers, which the hook's scheme `simlessly` authenticates, and so not in this
//! file.
//!
//! Not documented: whether `timestamp` is the time of the step or of the message (it is taken for the time of the step), whether there
//! are other words for a status (such an event is kept and moves nothing), and what `deviceName` contains (it is not read, because it
//! may be a person's name for a phone).

use serde_json::json;

use super::json::{Object, Value};
use super::members::{
    iccid, iccid_first, malformed, names_none_of, optional_of, renamed, text, word,
};
use super::unit::Unit;
use super::{Malformed, Provider, Reading, Sample, Simulator};
use crate::delivery::AuthenticDelivery;
use crate::domain::{Claim, Eid, ProfileState, Report, Timestamp};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct Simlessly;

/// Its name in paths, settings, rows and metric labels.
const SLUG: &str = "simlessly";

/// The newer and the older name of the event's type.
const TYPE: [&str; 2] = ["notificationType", "NotificationType"];

/// The `type` of newer bodies about a profile. Older bodies have none.
const PROFILE_EVENT: &str = "PROFILE_EVENT_NOTIFICATION";

impl Provider for Simlessly {
    fn slug(&self) -> &'static str {
        SLUG
    }

    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        let body = Object::parse(delivery.body()).map_err(|reason| malformed(None, reason))?;
        read(&body, delivery.received_at())
    }

    fn is_test(&self, delivery: &AuthenticDelivery) -> bool {
        names_none_of(delivery.body(), TYPE.into_iter().chain(["iccid"]))
    }

    fn simulator(&self) -> Option<&dyn Simulator> {
        Some(self)
    }
}

/// What `notificationStatus` says of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Success,
    Failed,
    /// It is missing, or another word.
    Other,
}

fn read(body: &Object, received_at: Timestamp) -> Result<Reading, Malformed> {
    let known = iccid(body.member("iccid"));
    let is_of_profile = match body.member("type") {
        None | Some(Value::Null) => true,
        Some(Value::Text(kind)) => is(kind, PROFILE_EVENT),
        Some(_) => false,
    };
    if !is_of_profile {
        return Ok(Reading::ignored(known.ok(), "an event of another kind"));
    }
    let raw_state = match renamed(body, TYPE).map(|text| text.and_then(word)) {
        Ok(Some(raw_state)) => raw_state,
        wrong => {
            let why = wrong.err().unwrap_or_else(|| "notificationType is missing".to_owned());
            return Err(malformed(known.clone().ok(), iccid_first(known, why)));
        }
    };
    let iccid = known.map_err(|reason| malformed(None, reason))?;
    let mut remarks = Vec::new();
    let claim = match (claim(&raw_state), status(body)) {
        (Some(claim), Status::Success) => Some(claim),
        (Some(claim), Status::Failed) => match claim.state {
            ProfileState::Downloaded => Some(failed()),
            ProfileState::Installed if claim.enabled.is_none() => Some(failed()),
            _ => {
                return Ok(Reading::ignored(
                    Some(iccid),
                    "a step that failed, and changes nothing",
                ));
            }
        },
        (Some(_), Status::Other) => {
            remarks.push("notificationStatus says neither success nor failure".to_owned());
            None
        }
        (None, _) => {
            remarks.push("notificationType is a word that this service does not know".to_owned());
            None
        }
    };
    let occurred_at = match body.member("timestamp").map(|value| Unit::Milliseconds.read(value)) {
        Some(Ok(at)) => Some(at),
        Some(Err(why)) => {
            remarks.push(format!("timestamp was left out: it {why}"));
            None
        }
        None => {
            remarks.push("timestamp is missing".to_owned());
            None
        }
    };
    let eid = optional_of(&iccid, "eid", body.member("eid"), Eid::parse, &mut remarks)?;
    let report = Report::new(iccid, SLUG, raw_state, claim, received_at);
    Ok(Reading::of(Report { eid, occurred_at, remarks, ..report }))
}

/// The meaning of a type whose step succeeded; `None` for an unknown one.
fn claim(word: &str) -> Option<Claim> {
    let (state, enabled) = match word.trim().to_ascii_uppercase().as_str() {
        "DOWNLOADED" => (ProfileState::Downloaded, None),
        // Installed, and not yet switched on.
        "INSTALLED" => (ProfileState::Installed, None),
        "ENABLE" => (ProfileState::Installed, Some(true)),
        "DISABLE" => (ProfileState::Disabled, Some(false)),
        "DELETE" => (ProfileState::Deleted, None),
        _ => return None,
    };
    Some(Claim { state, enabled })
}

/// The meaning of a download or an install that failed.
fn failed() -> Claim {
    Claim { state: ProfileState::Error, enabled: None }
}

fn status(body: &Object) -> Status {
    match body.nested("notificationStatus").and_then(|status| text(status, "status")) {
        Some(word) if is(word, "SUCCESS") => Status::Success,
        Some(word) if is(word, "FAILED") => Status::Failed,
        _ => Status::Other,
    }
}

fn is(text: &str, word: &str) -> bool {
    text.trim().eq_ignore_ascii_case(word)
}

impl Simulator for Simlessly {
    fn compose(&self, sample: &Sample<'_>) -> String {
        json!({
            "type": PROFILE_EVENT, "notificationType": sample.raw_state,
            "notificationStatus": { "status": "SUCCESS" },
            "iccid": sample.iccid, "eid": sample.eid, "timestamp": Unit::Milliseconds.write(sample.at),
        })
        .to_string()
    }

    fn lifecycle(&self) -> Vec<&str> {
        vec!["DOWNLOADED", "INSTALLED", "ENABLE", "DISABLE", "ENABLE", "DELETE"]
    }
}
