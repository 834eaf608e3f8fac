//! What a pass of the drainer leaves in the spool.

use std::collections::HashSet;

use uuid::Uuid;

use super::Submission;
use crate::domain::Iccid;

/// What this pass leaves in the spool, because another transaction holds it, or the database fails at it.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Profiles, with all of their deliveries.
    pub profiles: HashSet<Iccid>,
    /// Deliveries without a profile, such as those that wait for their event id.
    deliveries: HashSet<Uuid>,
    /// Whether the database fails at some of them.
    pub is_failing: bool,
}

impl Held {
    pub(super) fn has(&self, submission: &Submission) -> bool {
        match submission.iccid() {
            Some(iccid) => self.profiles.contains(iccid),
            None => self.deliveries.contains(&submission.delivery.id()),
        }
    }

    pub(super) fn add(&mut self, submission: &Submission) {
        match submission.iccid() {
            Some(iccid) => self.profiles.insert(iccid.clone()),
            None => self.deliveries.insert(submission.delivery.id()),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.profiles.is_empty() && self.deliveries.is_empty()
    }
}
