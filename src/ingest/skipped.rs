//! What a pass of the drainer skips, and so leaves in the spool.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Submission;
use crate::domain::Iccid;

/// The pause before the deliveries of locked profiles are tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(200);

/// The pause before deliveries at which the database fails are tried again.
const FAILING_PAUSE: Duration = Duration::from_secs(1);

/// What this pass skips, because another transaction has locked it, or the database fails at it.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    /// Profiles, with all of their deliveries.
    profiles: HashSet<Iccid>,
    /// Deliveries without a profile, such as those that wait for their event id.
    deliveries: HashSet<Uuid>,
    /// Whether the database fails at some of them.
    pub is_failing: bool,
    /// When the first was skipped.
    since: Option<Instant>,
    /// How many deliveries stayed in the spool since then, and how many were removed from it.
    stayed: usize,
    drained: usize,
}

impl Skipped {
    pub(super) fn has(&self, submission: &Submission) -> bool {
        match submission.iccid() {
            Some(iccid) => self.profiles.contains(iccid),
            None => self.deliveries.contains(&submission.delivery.id()),
        }
    }

    pub(super) fn add(&mut self, submission: &Submission) {
        self.since.get_or_insert_with(Instant::now);
        match submission.iccid() {
            Some(iccid) => self.profiles.insert(iccid.clone()),
            None => self.deliveries.insert(submission.delivery.id()),
        };
    }

    pub(super) fn add_profiles(&mut self, iccids: impl IntoIterator<Item = Iccid>) {
        self.since.get_or_insert_with(Instant::now);
        self.profiles.extend(iccids);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.profiles.is_empty() && self.deliveries.is_empty()
    }

    /// Notes how many deliveries of a batch stay in the spool, and how many were removed from it.
    pub(super) fn note(&mut self, stayed: usize, drained: usize) {
        self.stayed += stayed;
        self.drained += drained;
    }

    /// How long to wait before what was skipped is tried again.
    pub(super) fn pause(&self) -> Duration {
        if self.is_failing { FAILING_PAUSE } else { LOCKED_PAUSE }
    }

    /// Whether the pass should begin again before its end, which it may never reach while deliveries keep coming. Not before it has
    /// drained as many entries as the next pass has to skip again.
    pub(super) fn is_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > self.pause())
            && self.drained >= self.stayed
    }
}
