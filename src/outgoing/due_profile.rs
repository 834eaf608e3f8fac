//! The changes of one profile that are due at an endpoint, and what is left of them after a round.

use std::collections::HashMap;

use super::client::Failure;
use crate::domain::{Iccid, MIN_ATTEMPTS, PERSISTENCE, Timestamp, profile_pause};
use crate::store::backlogs::Backlog;
use crate::web::endpoint_event::Message;

/// The changes of one profile that are due, in their order.
#[derive(Debug)]
pub(super) struct DueProfile {
    pub iccid: Iccid,
    /// The backlog that they are from; `None`: they come after the endpoint's place.
    pub backlog: Option<Backlog>,
    /// The messages, with the positions of their changes.
    pub messages: Vec<(i64, Message)>,
    /// The position from which more may follow, if not all that is due was read.
    pub more_from: Option<i64>,
    /// How many messages were accepted.
    pub accepted: usize,
    /// Why the next one was not.
    pub failure: Option<Failure>,
}

/// What is left of a profile's changes after a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    /// Nothing: all was accepted.
    Nothing,
    /// This backlog.
    Backlog(Backlog),
    /// This backlog. The change at the position before its own was given up.
    GaveUpOne(Backlog),
}

impl DueProfile {
    /// A profile of which nothing was sent yet.
    pub(super) fn new(iccid: Iccid, backlog: Option<Backlog>) -> Self {
        let messages = Vec::new();
        Self { iccid, backlog, messages, more_from: None, accepted: 0, failure: None }
    }

    /// What is left after a round at this time, from the first of: the first message that was not accepted; where the next page of the
    /// backlog begins; the first change that was passed by because of the backlog (`skipped`, by profile). A change is given up only at
    /// an endpoint that accepts others (`is_alive`), and after some attempts: time in which nobody tried proves nothing.
    pub(super) fn remainder(
        &self,
        skipped: &HashMap<Iccid, i64>,
        is_alive: bool,
        now: Timestamp,
    ) -> Remainder {
        let first_unsent = self.messages.get(self.accepted).map(|(position, _)| *position);
        let first_unsent = first_unsent.or(self.more_from);
        let first_passed_by = self.backlog.as_ref().and_then(|_| skipped.get(&self.iccid).copied());
        let Some(position) = first_unsent.or(first_passed_by) else { return Remainder::Nothing };
        // The time that an earlier change of the profile has waited does not count for this one.
        let same = self.backlog.as_ref().filter(|backlog| backlog.position == position);
        let (since, failures) = same.map_or((now, 0), |it| (it.since, it.failures));
        let iccid = self.iccid.clone();
        let Some(failure) = &self.failure else {
            return Remainder::Backlog(Backlog { iccid, position, since, failures, retry_at: now });
        };
        let failures = failures + 1;
        let is_long = now.seconds_since(since) > PERSISTENCE.as_secs_f64();
        if is_alive && is_long && failures >= MIN_ATTEMPTS {
            let position = position + 1;
            return Remainder::GaveUpOne(Backlog {
                iccid,
                position,
                since: now,
                failures: 0,
                retry_at: now,
            });
        }
        let pause = profile_pause(failures, rand::random()).max(failure.wait().unwrap_or_default());
        Remainder::Backlog(Backlog { iccid, position, since, failures, retry_at: now.plus(pause) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;

    fn iccid() -> Iccid {
        Iccid::parse("89972123300991848961").unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-27T10:00:00Z").unwrap()
    }

    fn message(position: i64) -> (i64, Message) {
        (position, Message { id: format!("chg_{position}"), body: Bytes::new() })
    }

    fn backlog(position: i64, days: i64, failures: u32) -> Backlog {
        let since = now().plus_seconds(-days * 86_400);
        Backlog { iccid: iccid(), position, since, failures, retry_at: now() }
    }

    /// A failure that asks for this many seconds; 0: for none.
    fn refused(seconds: u64) -> Failure {
        let wait = (seconds > 0).then(|| Duration::from_secs(seconds));
        Failure::Answered(StatusCode::SERVICE_UNAVAILABLE, wait)
    }

    fn profile(backlog: Option<Backlog>, accepted: usize, failure: Option<Failure>) -> DueProfile {
        let messages = [5, 7, 9].map(message).into();
        DueProfile { messages, accepted, failure, ..DueProfile::new(iccid(), backlog) }
    }

    fn left(profile: &DueProfile, skipped: Option<i64>, is_alive: bool) -> Remainder {
        let skipped = skipped.map(|position| (iccid(), position)).into_iter().collect();
        profile.remainder(&skipped, is_alive, now())
    }

    #[test]
    fn what_was_accepted_leaves_nothing_unless_more_follows() {
        assert_eq!(left(&profile(None, 3, None), None, true), Remainder::Nothing);
        assert_eq!(left(&profile(Some(backlog(5, 1, 2)), 3, None), None, true), Remainder::Nothing);
        // Changes after the endpoint's place that were passed by because of this backlog.
        let Remainder::Backlog(after) =
            left(&profile(Some(backlog(5, 1, 2)), 3, None), Some(12), true)
        else {
            panic!("a backlog is left");
        };
        assert_eq!(
            (after.position, after.failures, after.since, after.retry_at),
            (12, 0, now(), now())
        );
        let cut = DueProfile { more_from: Some(10), ..profile(Some(backlog(5, 1, 2)), 3, None) };
        let Remainder::Backlog(more) = left(&cut, Some(12), true) else {
            panic!("a backlog is left")
        };
        assert_eq!(more.position, 10);
    }

    #[test]
    fn what_was_not_tried_is_due_at_once_and_keeps_its_time() {
        let Remainder::Backlog(untried) =
            left(&profile(Some(backlog(5, 4, 7)), 0, None), None, true)
        else {
            panic!("a backlog is left");
        };
        assert_eq!(untried, Backlog { retry_at: now(), ..backlog(5, 4, 7) });
        let Remainder::Backlog(new) = left(&profile(None, 1, None), None, true) else {
            panic!("a backlog is left");
        };
        assert_eq!((new.position, new.failures, new.retry_at), (7, 0, now()));
    }

    #[test]
    fn a_failure_counts_for_the_change_that_failed_and_waits_as_asked() {
        let Remainder::Backlog(again) =
            left(&profile(Some(backlog(5, 4, 7)), 0, Some(refused(0))), None, true)
        else {
            panic!("a backlog is left");
        };
        assert_eq!((again.position, again.failures, again.since), (5, 8, backlog(5, 4, 7).since));
        assert!(again.retry_at.seconds_since(now()) > 3_600.0);
        // Another change than before: its time begins now.
        let Remainder::Backlog(other) =
            left(&profile(Some(backlog(5, 4, 7)), 1, Some(refused(600))), None, true)
        else {
            panic!("a backlog is left");
        };
        assert_eq!((other.position, other.failures, other.since), (7, 1, now()));
        assert!(other.retry_at.seconds_since(now()) >= 600.0);
    }

    #[test]
    fn a_change_is_given_up_after_five_days_at_an_endpoint_that_accepts_others() {
        let old = profile(Some(backlog(5, 6, 40)), 0, Some(refused(0)));
        let Remainder::GaveUpOne(next) = left(&old, None, true) else { panic!("one is given up") };
        assert_eq!((next.position, next.failures, next.since), (6, 0, now()));
        assert!(matches!(left(&old, None, false), Remainder::Backlog(_)), "the endpoint is down");
        let accepted = profile(Some(backlog(5, 6, 40)), 1, Some(refused(0)));
        assert!(
            matches!(left(&accepted, None, true), Remainder::Backlog(_)),
            "the next one is new"
        );
    }
}
