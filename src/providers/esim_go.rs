//! eSIM Go, version 3: one URL for all events (<https://docs.esim-go.com>).
//!
//! The documentation describes the event of a profile's status in words: the literal names of its type, its status and its time are not
//! there. **A recorded body is wanted.** Until then this adapter reads the names that their other events have: `alertType` or `event`,
//! `timestamp` or `date`, and `profileStatus`. An event with a `profileStatus` whose type has another name is kept and warned about, and
//! moves nothing; once the name is known, `esim-status reread` applies it.
//!
//! "Released" is *deleted from the device* here. `esim.deleted` is for good.

use serde_json::json;

use super::json::{Object, Value};
use super::members::{
    iccid, iccid_first, malformed, names_none_of, optional_of, renamed, text, word,
};
use super::unit::Unit;
use super::{Malformed, Provider, Reading, Sample, Simulator};
use crate::delivery::AuthenticDelivery;
use crate::domain::{Claim, Connection, Country, Device, Eid, ProfileState, Report, Timestamp};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct EsimGo;

/// Its name in paths, settings, rows and metric labels.
const SLUG: &str = "esim-go";

/// The names of the event's type.
const TYPE: [&str; 2] = ["alertType", "event"];

/// The name of the status.
const STATUS: &str = "profileStatus";

/// The event that a profile is gone for good.
const DELETED: &str = "esim.deleted";

impl Provider for EsimGo {
    fn slug(&self) -> &'static str {
        SLUG
    }

    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        let body = Object::parse(delivery.body()).map_err(|reason| malformed(None, reason))?;
        read(&body, delivery.received_at())
    }

    fn is_test(&self, delivery: &AuthenticDelivery) -> bool {
        names_none_of(delivery.body(), ["iccid", "alertType", STATUS])
    }

    fn simulator(&self) -> Option<&dyn Simulator> {
        Some(self)
    }
}

fn read(body: &Object, received_at: Timestamp) -> Result<Reading, Malformed> {
    let known = iccid(body.member("iccid"));
    let refused = |why: &str| {
        let known = iccid(body.member("iccid"));
        malformed(known.clone().ok(), iccid_first(known, why))
    };
    let kind = renamed(body, TYPE).map_err(|why| refused(&why))?;
    let status = text(body, STATUS).and_then(word);
    let plain: String = kind.unwrap_or_default().chars().filter(|c| c.is_alphanumeric()).collect();
    let mut remarks = Vec::new();
    let (raw_state, claim) = match (plain.to_ascii_lowercase().as_str(), kind, status) {
        ("profilestatuschange", _, Some(status)) => {
            let claim = claim(&status);
            if claim.is_none() {
                remarks.push("profileStatus is a word that this service does not know".to_owned());
            }
            (status, claim)
        }
        ("profilestatuschange", Some(kind), None) if body.member(STATUS).is_none() => {
            remarks.push("profileStatus is missing: the status may have another name".to_owned());
            (word(kind).unwrap_or_default(), None)
        }
        ("profilestatuschange", _, None) => {
            return Err(refused("profileStatus must be a string that is not empty"));
        }
        (_, Some(kind), _) if kind.trim().eq_ignore_ascii_case(DELETED) => (
            word(kind).unwrap_or_default(),
            Some(Claim { state: ProfileState::Unavailable, enabled: None }),
        ),
        ("firstattachment" | "countrychange", _, _) => return connected(body, received_at),
        (_, _, Some(status)) => {
            remarks.push("the event's type is not one that reports a profileStatus".to_owned());
            (status, None)
        }
        (_, Some(_), None) => return Ok(Reading::ignored(known.ok(), "an event of another kind")),
        (_, None, None) => return Err(refused("alertType or event must name the kind of event")),
    };
    let iccid = known.map_err(|reason| malformed(None, reason))?;
    let occurred_at = occurred_at(body);
    if occurred_at.is_none() {
        remarks.push("the time was left out: timestamp or date is missing, or no time".to_owned());
    }
    let empty = Object::default();
    let device = body.nested("device").unwrap_or(&empty);
    let eid = first(device, ["EID", "eid"]).or_else(|| body.member("eid"));
    let eid = optional_of(&iccid, "eid", eid, Eid::parse, &mut remarks)?;
    let report = Report::new(iccid, SLUG, raw_state, claim, received_at);
    Ok(Reading::of(Report { eid, device: kind_of(device), occurred_at, remarks, ..report }))
}

/// Make, model and TAC. The IMEI is not read.
fn kind_of(device: &Object) -> Option<Device> {
    let tac = match first(device, ["TAC", "tac"]) {
        Some(Value::Text(tac) | Value::Number(tac)) => Some(tac.as_str()),
        _ => None,
    };
    Device::new(text(device, "make"), text(device, "model"), tac)
}

/// The meaning of a status; `None` for an unknown word. There is none for the switch.
fn claim(word: &str) -> Option<Claim> {
    let state = match word.trim().to_ascii_uppercase().as_str() {
        "DOWNLOADED" => ProfileState::Downloaded,
        "INSTALLED" => ProfileState::Installed,
        "RELEASED" => ProfileState::Deleted,
        _ => return None,
    };
    Some(Claim { state, enabled: None })
}

/// Reads a `FirstAttachment` or a `CountryChange`, which comes again every 24 hours.
fn connected(body: &Object, received_at: Timestamp) -> Result<Reading, Malformed> {
    let iccid = iccid(body.member("iccid")).map_err(|reason| malformed(None, reason))?;
    let code = body.nested("country").and_then(|country| text(country, "code"));
    let country = code.and_then(|code| Country::parse(code.trim()));
    let mut remarks = Vec::new();
    if country.is_none() && first(body, ["country"]).is_some() {
        let remark = "country was left out: its code must be the two letters of a country";
        remarks.push(remark.to_owned());
    }
    Ok(Reading::connected(Connection {
        iccid,
        provider: SLUG,
        imsi: None,
        country,
        received_at,
        remarks,
    }))
}

/// The time of the event. In which form it is sent is not documented, and no time can be read in two of these.
fn occurred_at(body: &Object) -> Option<Timestamp> {
    let units = [Unit::Rfc3339, Unit::Seconds, Unit::Milliseconds];
    let mut values = ["timestamp", "date"].into_iter().filter_map(|name| body.member(name));
    values.find_map(|value| units.into_iter().find_map(|unit| unit.read(value).ok()))
}

/// The first of these members that is not null.
fn first<'a, const N: usize>(object: &'a Object, names: [&str; N]) -> Option<&'a Value> {
    let mut values = names.into_iter().filter_map(|name| object.member(name));
    values.find(|value| **value != Value::Null)
}

impl Simulator for EsimGo {
    fn compose(&self, sample: &Sample<'_>) -> String {
        let (at, word) = (sample.at.to_string(), sample.raw_state);
        let body = if word == DELETED {
            json!({ "date": at, "event": word, "iccid": sample.iccid })
        } else {
            json!({
                "alertType": "ProfileStatusChange", "timestamp": at, "iccid": sample.iccid,
                STATUS: word,
                "device": { "EID": sample.eid, "TAC": "35328510", "make": "Apple", "model": "iPhone 15" },
            })
        };
        body.to_string()
    }

    fn lifecycle(&self) -> Vec<&str> {
        vec!["Downloaded", "Installed", "Released", "Downloaded", "Installed", "Released", DELETED]
    }
}
