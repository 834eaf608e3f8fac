//! What a body becomes, in the keys of a sample: for comparing it with what the sample says, and for showing it.

use std::fmt;

use serde::Deserialize;

use super::super::{Content, Malformed, Reading};
use crate::delivery::EventId;
use crate::domain::{Claim, Eid, Iccid, Imsi, Timestamp};

/// What a body may become, other than a report of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoState {
    Ignored,
    Unrecognised,
    Malformed,
    Connected,
}

impl fmt::Display for NoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "ignored",
            Self::Unrecognised => "unrecognised",
            Self::Malformed => "malformed",
            Self::Connected => "connected",
        })
    }
}

/// What a body becomes. Its `Display` is lines of TOML, as a sample has them, with the reasons as comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub(super) outcome: Result<Claim, NoState>,
    pub(super) iccid: Option<String>,
    pub(super) eid: Option<String>,
    pub(super) imsi: Option<String>,
    pub(super) event_id: Option<String>,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) reasons: Vec<String>,
}

impl Summary {
    /// Of what an adapter has read.
    pub fn of(reading: &Result<Reading, Malformed>) -> Self {
        let nothing = |outcome, iccid: Option<&Iccid>, reason: &str| Self {
            outcome: Err(outcome),
            iccid: iccid.map(|it| it.as_str().to_owned()),
            eid: None,
            imsi: None,
            event_id: None,
            occurred_at: None,
            reasons: vec![reason.to_owned()],
        };
        let Reading { content, event_id } = match reading {
            Err(Malformed { reason, iccid }) => {
                return nothing(NoState::Malformed, iccid.as_ref(), reason);
            }
            Ok(reading) => reading,
        };
        let summary = match content {
            Content::Ignored { iccid, reason, .. } => {
                nothing(NoState::Ignored, iccid.as_ref(), reason)
            }
            Content::Connection(connection) => nothing(
                NoState::Connected,
                Some(&connection.iccid),
                "evidence that the profile is connected, which is no state",
            ),
            Content::Report(report) => Self {
                outcome: report.claim.ok_or(NoState::Unrecognised),
                iccid: Some(report.iccid.as_str().to_owned()),
                eid: report.eid.as_ref().map(Eid::as_str).map(str::to_owned),
                imsi: report.imsi.as_ref().map(Imsi::as_str).map(str::to_owned),
                event_id: None,
                occurred_at: report.occurred_at,
                reasons: report.remarks.clone(),
            },
        };
        let event_id = event_id.as_ref().map(EventId::as_str).map(str::to_owned);
        Self { event_id, ..summary }
    }

    /// Whether the body was malformed.
    pub fn is_malformed(&self) -> bool {
        self.outcome == Err(NoState::Malformed)
    }

    /// How it differs from what a sample says. Identifiers are named, but not shown. Of a body that reports no state only what the sample
    /// names counts.
    pub(super) fn differences(&self, said: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.outcome != said.outcome {
            let text = |outcome: &Result<Claim, NoState>| match outcome {
                Ok(Claim { state, enabled: None }) => state.to_string(),
                Ok(Claim { state, enabled: Some(true) }) => format!("{state} and enabled"),
                Ok(Claim { state, enabled: Some(false) }) => format!("{state} and not enabled"),
                Err(outcome) => outcome.to_string(),
            };
            let (is, should) = (text(&self.outcome), text(&said.outcome));
            differences.push(format!("the body becomes {is}, not {should}"));
        }
        let is_report = said.outcome.is_ok();
        let mut compare = |name, is: Option<String>, should: Option<String>, is_shown: bool| {
            if is == should || (!is_report && should.is_none()) {
                return;
            }
            differences.push(match (is, should) {
                (Some(is), Some(should)) if is_shown => format!("{name} is {is}, not {should}"),
                (Some(_), Some(_)) => format!("{name} is another one"),
                (Some(is), None) if is_shown => {
                    format!("{name} is {is}, which the sample does not say")
                }
                (Some(_), None) => format!("{name} was found, which the sample does not say"),
                (None, _) => format!("{name} was not found"),
            });
        };
        compare("iccid", self.iccid.clone(), said.iccid.clone(), false);
        compare("eid", self.eid.clone(), said.eid.clone(), false);
        compare("imsi", self.imsi.clone(), said.imsi.clone(), false);
        compare("event_id", self.event_id.clone(), said.event_id.clone(), true);
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        compare("occurred_at", time(self.occurred_at), time(said.occurred_at), true);
        if !differences.is_empty() {
            differences.extend(self.reasons.iter().cloned());
        }
        differences
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Ok(Claim { state, enabled }) => {
                writeln!(f, "state = \"{state}\"")?;
                if let Some(enabled) = enabled {
                    writeln!(f, "enabled = {enabled}")?;
                }
            }
            Err(outcome) => writeln!(f, "outcome = \"{outcome}\"")?,
        }
        let time = self.occurred_at.map(|at| at.to_string());
        let lines = [
            ("iccid", &self.iccid),
            ("eid", &self.eid),
            ("imsi", &self.imsi),
            ("event_id", &self.event_id),
            ("occurred_at", &time),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                // Each is ASCII without control characters, so the escapes are those of TOML.
                writeln!(f, "{name} = {value:?}")?;
            }
        }
        self.reasons.iter().try_for_each(|reason| writeln!(f, "# {reason}"))
    }
}
