//! Gigastore (DENT): the eSIM Status webhook, `{"iccid","imsi","profileState","eid"?}`.
//!
//! The body has no event id, time, type or signature. `claim` defines the meaning of its words: the four that are
//! documented (<https://docs.giga.store/webhooks/esim-status>) and eleven more that the vendor's own SDK decodes.

mod esim_object;

use serde_json::json;

use super::json::{Object, Value};
use super::members::{iccid, iccid_first, malformed, names_none_of, optional_of, text, word};
use super::{Malformed, Provider, Reading, Registrar, Sample, Simulator};
use crate::delivery::AuthenticDelivery;
use crate::domain::{
    Claim, Connection, Country, Eid, Iccid, Imsi, ProfileState, Registration, Report, Timestamp,
};

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct Gigastore;

/// Its name in paths, settings, rows and metric labels.
const SLUG: &str = "gigastore";

/// The max length of a `uid`, in bytes.
const LONGEST_UID: usize = 256;

/// The member that only a Country Change event has (<https://docs.giga.store/webhooks/country-change>). A first connection is
/// one whose `previousCountry` is null.
const NEW_COUNTRY: &str = "newCountry";

/// Members that only the vendor's other webhooks have. A body is understood on whichever hook it arrives.
const OTHER_EVENTS: [(&str, &str); 2] = [
    ("balanceAmountInByte", "a Balance Alert event"),
    ("activatedItem", "a Balance Activation event"),
];

impl Provider for Gigastore {
    fn slug(&self) -> &'static str {
        SLUG
    }

    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        let body = Object::parse(delivery.body()).map_err(|reason| malformed(None, reason))?;
        let iccid = iccid(body.member("iccid"));
        let known = iccid.as_ref().ok().cloned();
        let Some(state) = body.member("profileState") else {
            match (body.member(NEW_COUNTRY), &known) {
                (Some(Value::Null), _) => {
                    let reason = "a Country Change event without a country";
                    return Ok(Reading::ignored(known, reason));
                }
                (Some(country), Some(iccid)) => {
                    return connection(&body, iccid, country, delivery);
                }
                _ => {}
            }
            let other = OTHER_EVENTS.iter().find(|(member, _)| body.member(member).is_some());
            return match other {
                Some((_, event)) => {
                    let reason = format!("{event}, which says nothing about the profile's state");
                    Ok(match known {
                        Some(iccid) => Reading::ignored(Some(iccid), reason),
                        None => Reading::of_customer(customer(&body), reason),
                    })
                }
                None => Err(malformed(known, iccid_first(iccid, "profileState is missing"))),
            };
        };
        let text = if let Value::Text(text) = state { text } else { "" };
        let Some(raw_state) = word(text) else {
            let reason = "profileState must be a string that is not empty";
            return Err(malformed(known, iccid_first(iccid, reason)));
        };
        let iccid = iccid.map_err(|reason| malformed(None, reason))?;

        let mut remarks = Vec::new();
        let eid = optional_of(&iccid, "eid", body.member("eid"), Eid::parse, &mut remarks)?;
        let imsi = optional_of(&iccid, "imsi", body.member("imsi"), Imsi::parse, &mut remarks)?;
        let claim = claim(&raw_state);
        if claim.is_none() {
            remarks.push("profileState is a word that this service does not know".to_owned());
        }
        let report = Report::new(iccid, SLUG, raw_state, claim, delivery.received_at());
        Ok(Reading::of(Report { eid, imsi, remarks, ..report }))
    }

    fn is_test(&self, delivery: &AuthenticDelivery) -> bool {
        let others = OTHER_EVENTS.iter().map(|(member, _)| *member);
        let names = ["iccid", "profileState", NEW_COUNTRY].into_iter().chain(others);
        names_none_of(delivery.body(), names)
    }

    fn other_hooks(&self) -> &'static [&'static str] {
        &["country-change", "balance-alert", "balance-activation"]
    }

    fn install_limit(&self) -> Option<i32> {
        // By the vendor's documentation. The webhook does not contain it.
        Some(5)
    }

    fn registrar(&self) -> Option<&dyn Registrar> {
        Some(self)
    }

    fn simulator(&self) -> Option<&dyn Simulator> {
        Some(self)
    }
}

/// The customer whom a Balance event names. One that a registration could not have is none.
fn customer(body: &Object) -> Option<String> {
    text(body, "uid").filter(|uid| uid.len() <= LONGEST_UID).map(str::to_owned)
}

/// Reads a Country Change event.
fn connection(
    body: &Object,
    iccid: &Iccid,
    country: &Value,
    delivery: &AuthenticDelivery,
) -> Result<Reading, Malformed> {
    let mut remarks = Vec::new();
    let country = match country {
        Value::Text(text) => Country::parse(text.trim()),
        _ => None,
    };
    if country.is_none() {
        remarks.push("newCountry was left out: it must be the two letters of a country".to_owned());
    }
    let imsi = optional_of(iccid, "imsi", body.member("imsi"), Imsi::parse, &mut remarks)?;
    Ok(Reading::connected(Connection {
        iccid: iccid.clone(),
        provider: SLUG,
        imsi,
        country,
        received_at: delivery.received_at(),
        remarks,
    }))
}

impl Registrar for Gigastore {
    fn parse_esim_object(&self, body: &[u8], now: Timestamp) -> Result<Registration, Malformed> {
        esim_object::parse(body, now)
    }
}

impl Simulator for Gigastore {
    fn compose(&self, sample: &Sample<'_>) -> String {
        let mut body = json!({ "iccid": sample.iccid, "profileState": sample.raw_state });
        if let Some(eid) = sample.eid {
            body["eid"] = json!(eid);
        }
        if let Some(imsi) = sample.imsi {
            body["imsi"] = json!(imsi);
        }
        body.to_string()
    }

    fn lifecycle(&self) -> Vec<&str> {
        vec!["RELEASED", "INSTALLED", "DISABLED", "INSTALLED", "RELEASED"]
    }

    fn compose_connection(&self, iccid: &str, imsi: Option<&str>, country: &str) -> Option<String> {
        let mut body = json!({ "iccid": iccid, "previousCountry": null, NEW_COUNTRY: country });
        if let Some(imsi) = imsi {
            body["imsi"] = json!(imsi);
        }
        Some(body.to_string())
    }
}

/// The meaning of the vendor's word; `None` for UNKNOWN and for any unknown word.
fn claim(word: &str) -> Option<Claim> {
    let (state, enabled) = match word.trim().to_ascii_uppercase().as_str() {
        "CREATED" | "AVAILABLE" | "ALLOCATED" | "LINKED" | "CONFIRMED" => {
            (ProfileState::Preparing, None)
        }
        "RELEASED" => (ProfileState::Released, None),
        "DOWNLOADED" => (ProfileState::Downloaded, None),
        // The vendor's table: "Installed and enabled".
        "INSTALLED" | "ENABLED" => (ProfileState::Installed, Some(true)),
        "DISABLED" => (ProfileState::Disabled, Some(false)),
        "DELETED" => (ProfileState::Deleted, None),
        "ERROR" => (ProfileState::Error, None),
        "UNAVAILABLE" | "QUARANTINE" => (ProfileState::Unavailable, None),
        _ => return None,
    };
    Some(Claim { state, enabled })
}
