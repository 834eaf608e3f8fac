//! The TOML of a declaration, and what must hold of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::super::members::LONGEST_WORD;
use super::super::unit::Unit;
use super::one_or_many::OneOrMany;
use super::pointer::{Places, Pointer};
use super::summary::{NoState, Summary};
use super::{Declared, Word, plain};
use crate::domain::{Claim, ProfileState, Timestamp};

/// One declaration, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    slug: Spanned<String>,
    iccid: Places,
    state: Places,
    eid: Option<Places>,
    imsi: Option<Places>,
    event_id: Option<Places>,
    occurred_at: Option<Time>,
    #[serde(default)]
    only_if: BTreeMap<Pointer, OneOrMany<String>>,
    states: Spanned<BTreeMap<String, Meaning>>,
    #[serde(default)]
    ignored_words: Vec<Spanned<String>>,
    #[serde(default)]
    samples: Vec<Spanned<Sample>>,
}

/// What is wrong with a declaration.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Flaw {
    /// Where it is in the text; `None`: in the declaration as a whole.
    pub at: Option<Range<usize>>,
    /// What is wrong, and what to do.
    pub why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    pointer: Places,
    unit: Unit,
}

/// What a word means: a state, or a table of a state and whether the profile is switched on.
#[derive(Debug, Clone, Copy)]
struct Meaning(Claim);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateAndSwitch {
    state: ProfileState,
    enabled: Option<bool>,
}

/// A body, and what it must become.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    body: String,
    state: Option<ProfileState>,
    enabled: Option<bool>,
    outcome: Option<NoState>,
    iccid: Option<String>,
    eid: Option<String>,
    imsi: Option<String>,
    event_id: Option<String>,
    occurred_at: Option<String>,
}

/// DISABLED always means that the profile is switched off, and INSTALLED may say that it is on. No other state has a switch.
fn claim(state: ProfileState, enabled: Option<bool>) -> Result<Claim, &'static str> {
    let enabled = match (state, enabled) {
        (ProfileState::Disabled, None | Some(false)) => Some(false),
        (ProfileState::Installed, Some(true)) => Some(true),
        (_, None) => None,
        (ProfileState::Installed, Some(false)) => {
            return Err("a profile that is installed and switched off is DISABLED");
        }
        _ => return Err("`enabled` goes with INSTALLED (true) and with DISABLED (false) only"),
    };
    Ok(Claim { state, enabled })
}

impl Declaration {
    /// Checks that the declaration makes sense, and that each of its samples becomes what it says.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn check(self) -> Result<Declared, Flaw> {
        self.draft()?.finish()
    }

    /// Checks that the declaration makes sense. Its samples need not hold yet.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn draft(self) -> Result<Draft, Flaw> {
        let at = Some(self.slug.span());
        let slug = self.slug.into_inner();
        let is_kebab = !slug.is_empty()
            && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_kebab {
            let why = "slug must be a word of a-z, 0-9 and -, such as acme".to_owned();
            return Err(Flaw { at, why });
        }
        let template = self.samples.iter().find(|sample| sample.as_ref().state.is_some());
        // A body that is no JSON becomes no state, so that its sample does not hold.
        let template =
            template.map(|it| serde_json::from_str(&it.as_ref().body).unwrap_or_default());
        let only_if = self.only_if.into_iter().map(|(at, OneOrMany(texts))| (at, texts));
        let declared = Declared {
            // Metrics, reports and hooks have the slug for as long as the process lives.
            slug: slug.leak(),
            iccid: self.iccid,
            state: self.state,
            eid: self.eid,
            imsi: self.imsi,
            event_id: self.event_id,
            occurred_at: self.occurred_at.map(|time| (time.pointer, time.unit)),
            only_if: only_if.collect(),
            words: words(self.states, self.ignored_words)?,
            samples: self.samples.len(),
            template: template.unwrap_or_default(),
        };
        let flaw = check_samples(&declared, self.samples).err();
        Ok(Draft { declared, flaw })
    }
}

/// A declaration whose samples may not hold yet. It shows what bodies become, and reads no webhooks.
#[derive(Debug)]
pub struct Draft {
    declared: Declared,
    flaw: Option<Flaw>,
}

impl Draft {
    /// The provider's slug.
    pub fn slug(&self) -> &'static str {
        self.declared.slug
    }

    /// Why it is not finished: a sample is missing, or does not hold.
    pub fn flaw(&self) -> Option<&Flaw> {
        self.flaw.as_ref()
    }

    /// What a body becomes.
    pub fn read(&self, body: &[u8]) -> Summary {
        // When it was received has no influence on what it becomes.
        let received_at = Timestamp::from_datetime(time::OffsetDateTime::UNIX_EPOCH);
        Summary::of(&self.declared.read(body, received_at))
    }

    /// The provider that it declares.
    ///
    /// # Errors
    /// The [`Flaw`] because of which it is not finished.
    pub fn finish(self) -> Result<Declared, Flaw> {
        self.flaw.map_or(Ok(self.declared), Err)
    }
}

fn check_samples(declared: &Declared, samples: Vec<Spanned<Sample>>) -> Result<(), Flaw> {
    if samples.iter().all(|sample| sample.as_ref().state.is_none()) {
        let why = format!(
            "the provider {} needs a sample of a body that reports a state: add [[providers.samples]] with body, iccid and state (`esim-status doctor --try-body FILE` prints them)",
            declared.slug
        );
        return Err(Flaw { at: None, why });
    }
    samples.into_iter().try_for_each(|sample| {
        let at = Some(sample.span());
        sample.into_inner().run(declared).map_err(|why| Flaw { at, why })
    })
}

/// The words, by their plain form.
fn words(
    states: Spanned<BTreeMap<String, Meaning>>,
    ignored: Vec<Spanned<String>>,
) -> Result<BTreeMap<String, Word>, Flaw> {
    let at = states.span();
    if states.as_ref().is_empty() {
        let why = "states is empty: say what each of the provider's words means, such as states = { Installed = \"INSTALLED\" }";
        return Err(Flaw { at: Some(at), why: why.to_owned() });
    }
    let states = states.into_inner().into_iter();
    let states = states.map(|(word, Meaning(claim))| (at.clone(), word, Some(claim)));
    let ignored = ignored.into_iter().map(|word| (word.span(), word.into_inner(), None));
    let mut words = BTreeMap::new();
    for (at, text, claim) in states.chain(ignored) {
        let plain = plain(&text);
        let flaw = |why: String| Flaw { at: Some(at), why };
        if plain.is_empty() || text.len() > LONGEST_WORD {
            return Err(flaw(format!("a word for a state has 1 to {LONGEST_WORD} bytes")));
        }
        if words.contains_key(&plain) {
            return Err(flaw(format!(
                "the word {text:?} has two meanings: words are compared without regard to case, and one is either in states or in ignored_words"
            )));
        }
        words.insert(plain, Word { text, claim });
    }
    Ok(words)
}

impl Sample {
    /// Reads the body as the declaration says.
    fn run(self, declared: &Declared) -> Result<(), String> {
        let body = self.body.clone();
        let said = self.said()?;
        // When it was received has no influence on what it becomes.
        let received_at = Timestamp::from_datetime(time::OffsetDateTime::UNIX_EPOCH);
        let becomes = Summary::of(&declared.read(body.as_bytes(), received_at));
        let differences = becomes.differences(&said);
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!(
            "this sample of the provider {} does not hold: {}; correct the declaration or the sample (`esim-status doctor --try-body FILE` shows what a body becomes)",
            declared.slug,
            differences.join("; ")
        ))
    }

    fn said(self) -> Result<Summary, String> {
        let outcome = match (self.outcome, self.state) {
            (None, Some(state)) => Ok(claim(state, self.enabled)?),
            (Some(outcome), None) if self.enabled.is_none() => Err(outcome),
            (None, None) => {
                return Err("a sample says what its body becomes: a state, or an outcome (ignored, unrecognised or malformed)".to_owned());
            }
            _ => return Err("a sample has either a state or an outcome: a body with one of these outcomes reports no state".to_owned()),
        };
        if outcome.is_ok() && self.iccid.is_none() {
            return Err("a sample with a state says the iccid too".to_owned());
        }
        let time = self.occurred_at.as_deref().map(Timestamp::parse).transpose();
        let occurred_at = time.map_err(|error| format!("occurred_at of a sample is {error}"))?;
        let Self { iccid, eid, imsi, event_id, .. } = self;
        Ok(Summary { outcome, iccid, eid, imsi, event_id, occurred_at, reasons: Vec::new() })
    }
}

impl<'de> Deserialize<'de> for Meaning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StateOrTable)
    }
}

struct StateOrTable;

impl<'de> Visitor<'de> for StateOrTable {
    type Value = Meaning;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state, or a table such as { state = \"INSTALLED\", enabled = true }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Meaning, E> {
        let state = text.parse().map_err(|error| E::custom(format_args!("a state {error}")))?;
        claim(state, None).map(Meaning).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Meaning, A::Error> {
        let StateAndSwitch { state, enabled } =
            StateAndSwitch::deserialize(MapAccessDeserializer::new(map))?;
        claim(state, enabled).map(Meaning).map_err(A::Error::custom)
    }
}
