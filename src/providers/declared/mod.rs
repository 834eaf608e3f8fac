//! A declared provider: one that is described in TOML instead of code, by where its members are and what its words mean.
//!
//! `docs/providers.md` explains the keys. There are no conditions and no scripts: a provider that needs them needs an adapter in code.
//! A declaration carries samples, bodies with what they must become. Only [`Draft::finish`] hands out
//! a [`Declared`], and only if they hold, so a declaration that contradicts its samples never reads a webhook.

mod declaration;

mod summary;

mod simulator;

mod pointer;

mod one_or_many;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use declaration::{Declaration, Draft, Flaw};
pub use summary::Summary;

use pointer::{Contradiction, Places, Pointer};

use super::json::{Object, Value};
use super::members::{self, contains_identifier, iccid_first, malformed, optional_of, word};
use super::unit::Unit;
use super::{Malformed, Provider, Reading, Simulator};
use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{Claim, Eid, Iccid, Imsi, Report, Timestamp};

/// A provider whose declaration was checked, and whose samples have become what it says.
#[derive(Debug)]
pub struct Declared {
    slug: &'static str,
    iccid: Places,
    state: Places,
    eid: Option<Places>,
    imsi: Option<Places>,
    event_id: Option<Places>,
    occurred_at: Option<(Places, Unit)>,
    /// Members that an event about the state has, each with the texts that it may have.
    only_if: BTreeMap<Pointer, Vec<String>>,
    /// The words for states, by their [`plain`] form.
    words: BTreeMap<String, Word>,
    samples: usize,
    /// The body of a sample that reports a state.
    template: serde_json::Value,
}

/// A word for a state.
#[derive(Debug)]
struct Word {
    /// As it is declared.
    text: String,
    /// What it means; `None`: nothing about where the profile is.
    claim: Option<Claim>,
}

impl Provider for Declared {
    fn slug(&self) -> &'static str {
        self.slug
    }

    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        self.read(delivery.body(), delivery.received_at())
    }

    fn is_test(&self, delivery: &AuthenticDelivery) -> bool {
        let body = delivery.body();
        let says = |body: &Object| {
            let names = [&self.iccid, &self.state].into_iter();
            names.chain(self.identifiers()).any(|places| places.find(body).is_some())
        };
        body.trim_ascii().is_empty() || Object::parse(body).is_ok_and(|body| !says(&body))
    }

    fn simulator(&self) -> Option<&dyn Simulator> {
        Some(self)
    }
}

impl Declared {
    /// The number of its samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    fn read(&self, body: &[u8], received_at: Timestamp) -> Result<Reading, Malformed> {
        let body = Object::parse(body).map_err(|reason| malformed(None, reason))?;
        let iccid = self.iccid(&body);
        let known = iccid.as_ref().ok().cloned();
        let mut remarks = Vec::new();
        let event_id = self.event_id(&body, &mut remarks);
        let ignored = |reason: String| {
            Ok(Reading::ignored(known.clone(), reason).with_event_id(event_id.clone()))
        };

        if let Some((pointer, _)) = self.only_if.iter().find(|(at, texts)| !has(&body, at, texts)) {
            return ignored(format!("an event of another kind, by its member {pointer}"));
        }
        let state = match self.state.find_agreed(&body) {
            Ok(Some(Value::Text(text) | Value::Number(text))) => word(text),
            Ok(Some(_)) => None,
            Ok(None) => {
                let reason = format!("the state is missing: it should be at {}", self.state);
                return Err(malformed(known, iccid_first(iccid, reason)));
            }
            Err(Contradiction) => {
                let reason = format!("two different states are at {}; send one", self.state);
                return Err(malformed(known, iccid_first(iccid, reason)));
            }
        };
        let Some(raw_state) = state else {
            let reason = format!("the state at {} must be a text or a number", self.state);
            return Err(malformed(known, iccid_first(iccid, reason)));
        };
        let claim = match self.words.get(&plain(&raw_state)).map(|word| word.claim) {
            Some(None) => {
                return ignored("a word that says nothing about where the profile is".to_owned());
            }
            Some(Some(claim)) => Some(claim),
            None => {
                remarks.push("the state is a word that the declaration does not know".to_owned());
                None
            }
        };
        let iccid = iccid.map_err(|reason| malformed(None, reason))?;

        let find = |places: &Option<Places>| places.as_ref().and_then(|it| it.find(&body));
        let eid = optional_of(&iccid, "eid", find(&self.eid), Eid::parse, &mut remarks)?;
        let imsi = optional_of(&iccid, "imsi", find(&self.imsi), Imsi::parse, &mut remarks)?;
        let occurred_at = self.occurred_at(&body, &mut remarks);
        let report = Report::new(iccid, self.slug, raw_state, claim, received_at);
        let report = Report { eid, imsi, occurred_at, remarks, ..report };
        Ok(Reading::of(report).with_event_id(event_id))
    }

    fn iccid(&self, body: &Object) -> Result<Iccid, String> {
        match self.iccid.find_agreed(body) {
            Ok(None) => Err(format!(
                "iccid is missing: it should be at {}, a string of 18 to 22 digits",
                self.iccid
            )),
            Ok(found) => members::iccid(found),
            Err(Contradiction) => {
                Err(format!("two different iccids are at {}; send one", self.iccid))
            }
        }
    }

    /// Where the members are that identify a device or a subscription.
    fn identifiers(&self) -> impl Iterator<Item = &Places> {
        self.eid.iter().chain(&self.imsi)
    }

    /// An id of another shape, or one that contains an identifier, is left out: an erasure leaves event ids.
    fn event_id(&self, body: &Object, remarks: &mut Vec<String>) -> Option<EventId> {
        let value = self.event_id.as_ref()?.find(body)?;
        let (Value::Text(text) | Value::Number(text)) = value else {
            remarks.push("event_id was left out: it is neither a text nor a number".to_owned());
            return None;
        };
        let mut identifiers = [&self.iccid].into_iter().chain(self.identifiers());
        if identifiers.any(|places| places.all(body).any(|it| contains_identifier(text, it))) {
            remarks.push("event_id was left out: it contains an identifier".to_owned());
            return None;
        }
        let event_id = EventId::parse(text);
        if event_id.is_none() {
            remarks.push(
                "event_id was left out: it must be 1 to 256 visible ASCII characters".to_owned(),
            );
        }
        event_id
    }

    /// A time that cannot be read costs the event its place in the order, and not the event.
    fn occurred_at(&self, body: &Object, remarks: &mut Vec<String>) -> Option<Timestamp> {
        let (places, unit) = self.occurred_at.as_ref()?;
        let read = unit.read(places.find(body)?);
        read.map_err(|flaw| remarks.push(format!("occurred_at was left out: it {flaw}"))).ok()
    }
}

/// Whether the member is one of these texts, without regard to case and to the space around it.
fn has(body: &Object, at: &Pointer, texts: &[String]) -> bool {
    let is = |found: &str| texts.iter().any(|text| plain(text) == plain(found));
    match at.find(body) {
        Some(Value::Text(found) | Value::Number(found)) => is(found),
        Some(Value::Bool(found)) => is(if *found { "true" } else { "false" }),
        _ => false,
    }
}

/// The form in which words are compared: providers change their case.
fn plain(word: &str) -> String {
    word.trim().to_lowercase()
}
