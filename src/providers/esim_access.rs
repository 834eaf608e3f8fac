//! eSIM Access: one URL for all events, `{"notifyType","notifyId","content"{…}}` (<https://docs.esimaccess.com>).
//!
//! `SMDP_EVENT` tells what a phone and the SM-DP+ did, with a time; `ESIM_STATUS` repeats the same fact under another id, without a time.
//! A step counts only once its `notifyStatus` says that it was executed: a failed deletion deletes nothing. No signature is
//! documented, only source addresses.

use serde_json::json;

use super::json::{Object, Value};
use super::members::{contains_identifier, iccid, iccid_first, malformed, optional_of, text, word};
use super::{Malformed, Provider, Reading, Sample, Simulator};
use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{Claim, Eid, ProfileState, Report, Timestamp};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct EsimAccess;

/// Its name in paths, settings, rows and metric labels.
const SLUG: &str = "esim-access";

/// What the SM-DP+ says of a step that was done. Null is an intermediate step.
const EXECUTED: &str = "EXECUTED-SUCCESS";

/// The words of `esimStatus` after which the profile can no longer be installed. It speaks of the service: a profile that is on a phone
/// stays there.
const ENDED: [&str; 2] = ["REVOKED", "CANCEL"];

impl Provider for EsimAccess {
    fn slug(&self) -> &'static str {
        SLUG
    }

    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        let body = Object::parse(delivery.body()).map_err(|reason| malformed(None, reason))?;
        let Some(kind) = text(&body, "notifyType") else {
            return Err(malformed(None, "notifyType must be a string that is not empty"));
        };
        let empty = Object::default();
        let content = body.nested("content").unwrap_or(&empty);
        let read = match kind {
            "SMDP_EVENT" => event(content, delivery.received_at()),
            "ESIM_STATUS" => status(content, delivery.received_at()),
            "CHECK_HEALTH" => Ok(Reading::ignored(None, "the portal's test of the URL")),
            _ => Ok(ignored(content, "an event of another kind")),
        }?;
        let event_id = event_id(&body, content);
        Ok(read.with_event_id(event_id))
    }

    fn simulator(&self) -> Option<&dyn Simulator> {
        Some(self)
    }
}

/// What `notifyStatus` says of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    /// Under way.
    Intermediate,
    /// Anything else, such as a failure. Which words there are is not documented.
    Other,
}

/// Reads an `SMDP_EVENT`.
fn event(content: &Object, received_at: Timestamp) -> Result<Reading, Malformed> {
    let step = match content.member("notifyStatus") {
        None | Some(Value::Null) => Step::Intermediate,
        Some(Value::Text(text)) if text.trim().eq_ignore_ascii_case(EXECUTED) => Step::Done,
        Some(_) => Step::Other,
    };
    let Some(raw_state) = text(content, "smdpStatus").and_then(word) else {
        let known = iccid(content.member("iccid"));
        let id = known.as_ref().ok().cloned();
        return Err(malformed(
            id,
            iccid_first(known, "smdpStatus must be a string that is not empty"),
        ));
    };
    let mut remarks = Vec::new();
    let claim = match (claim(&raw_state), step) {
        (Some(claim), Step::Done) => Some(claim),
        (Some(claim), Step::Intermediate) => match claim.state {
            ProfileState::Installed if claim.enabled.is_none() => {
                // The phone has it, and has not finished.
                Some(Claim { state: ProfileState::Downloaded, enabled: None })
            }
            ProfileState::Released | ProfileState::Downloaded => Some(claim),
            _ => return Ok(ignored(content, "a step that is under way")),
        },
        (Some(_), Step::Other) => {
            remarks.push("notifyStatus does not say that the step was executed".to_owned());
            None
        }
        (None, _) => {
            remarks.push("smdpStatus is a word that this service does not know".to_owned());
            None
        }
    };
    let occurred_at = content.member("timestamp").and_then(|value| match value {
        Value::Text(text) => Timestamp::parse(text).ok(),
        _ => None,
    });
    if occurred_at.is_none() {
        remarks.push("timestamp was left out: it is missing, or no time by RFC 3339".to_owned());
    }
    report(content, raw_state, claim, occurred_at, received_at, remarks)
}

/// Reads an `ESIM_STATUS`.
fn status(content: &Object, received_at: Timestamp) -> Result<Reading, Malformed> {
    let smdp = text(content, "smdpStatus").and_then(word);
    let of_smdp = smdp.as_deref().and_then(claim);
    let is_on_device = of_smdp.is_some_and(|claim| claim.state.is_on_device());
    let service = text(content, "esimStatus").and_then(word);
    let ended = service.filter(|word| ENDED.contains(&word.trim().to_ascii_uppercase().as_str()));
    let (raw_state, claim) = match (ended, smdp) {
        // A body without an `smdpStatus` is of a profile that no phone has fetched.
        (Some(word), _) if !is_on_device => {
            (word, Some(Claim { state: ProfileState::Unavailable, enabled: None }))
        }
        (_, None) => {
            return Ok(ignored(content, "an ESIM_STATUS that says nothing about the install"));
        }
        // Whether an install was executed is said only by SMDP_EVENT.
        (_, Some(_)) if of_smdp.is_some_and(|it| is_on_device && it.enabled.is_none()) => {
            return Ok(ignored(
                content,
                "an ESIM_STATUS that does not say whether it is installed",
            ));
        }
        (_, Some(word)) => (word, of_smdp),
    };
    let mut remarks = Vec::new();
    if claim.is_none() {
        remarks.push("smdpStatus is a word that this service does not know".to_owned());
    }
    report(content, raw_state, claim, None, received_at, remarks)
}

fn report(
    content: &Object,
    raw_state: String,
    claim: Option<Claim>,
    occurred_at: Option<Timestamp>,
    received_at: Timestamp,
    mut remarks: Vec<String>,
) -> Result<Reading, Malformed> {
    let iccid = iccid(content.member("iccid")).map_err(|reason| malformed(None, reason))?;
    let eid = optional_of(&iccid, "eid", content.member("eid"), Eid::parse, &mut remarks)?;
    let report = Report::new(iccid, SLUG, raw_state, claim, received_at);
    Ok(Reading::of(Report { eid, occurred_at, remarks, ..report }))
}

/// The meaning of a word of `smdpStatus`, once the step is executed; `None` for an unknown word. Usual are DOWNLOAD, INSTALLATION, ENABLED.
fn claim(word: &str) -> Option<Claim> {
    let (state, enabled) = match word.trim().to_ascii_uppercase().as_str() {
        "RELEASED" => (ProfileState::Released, None),
        "DOWNLOAD" => (ProfileState::Downloaded, None),
        "INSTALLATION" => (ProfileState::Installed, None),
        "ENABLED" => (ProfileState::Installed, Some(true)),
        "DISABLED" => (ProfileState::Disabled, Some(false)),
        "DELETED" => (ProfileState::Deleted, None),
        _ => return None,
    };
    Some(Claim { state, enabled })
}

/// The id of the event. An erasure leaves event ids, so one that contains an identifier is left out.
fn event_id(body: &Object, content: &Object) -> Option<EventId> {
    let id = text(body, "notifyId")?;
    let mut identifiers = ["iccid", "eid"].into_iter().filter_map(|name| content.member(name));
    if identifiers.any(|it| contains_identifier(id, it)) { None } else { EventId::parse(id) }
}

fn ignored(content: &Object, reason: &str) -> Reading {
    Reading::ignored(iccid(content.member("iccid")).ok(), reason)
}

impl Simulator for EsimAccess {
    fn compose(&self, sample: &Sample<'_>) -> String {
        // No other event of the same run has this id.
        let microseconds = sample.at.as_datetime().unix_timestamp_nanos() / 1_000;
        let at = sample.at.to_string();
        json!({
            "notifyType": "SMDP_EVENT",
            "notifyId": microseconds.to_string(),
            "eventGenerateTime": at,
            "content": {
                "iccid": sample.iccid, "eid": sample.eid, "smdpStatus": sample.raw_state,
                "notifyStatus": "Executed-Success", "timestamp": at,
            },
        })
        .to_string()
    }

    fn lifecycle(&self) -> Vec<&str> {
        vec!["RELEASED", "DOWNLOAD", "INSTALLATION", "ENABLED", "DISABLED", "ENABLED", "DELETED"]
    }
}
