//! One round of requests to an endpoint: the changes of each profile in their order, those of several profiles concurrently.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::client::{Client, Failure, Target};
use crate::clock;
use crate::domain::{Iccid, PERSISTENCE, Timestamp, profile_pause};
use crate::store::backlogs::Backlog;
use crate::telemetry;
use crate::web::Draining;
use crate::web::endpoint_event::Message;

/// How many profiles are served concurrently.
const CONCURRENT: usize = 16;

/// After this many failures without anything accepted in between, nothing more is sent in this round.
const MAX_FAILURES: u32 = 5;

/// How many profiles are tried if the endpoint has accepted nothing before: more than one, because the change of one may be what it
/// does not accept.
const TRIED: usize = 3;

/// The changes of one profile that are due, in their order.
#[derive(Debug)]
pub(super) struct Lane {
    pub iccid: Iccid,
    /// The backlog that they are from; `None`: they come after the endpoint's place.
    pub backlog: Option<Backlog>,
    /// The messages, with the positions of their changes.
    pub messages: Vec<(i64, Message)>,
    /// The position from which more may follow, if not all that is due was read.
    pub more_from: Option<i64>,
    accepted: usize,
    failure: Option<Failure>,
}

/// What a round came to, as it is saved.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many changes were accepted.
    pub accepted: usize,
    /// How many were given up.
    pub given_up: i64,
    /// The backlogs that there are now.
    pub kept: Vec<Backlog>,
    /// The profiles that have none any more.
    pub done: Vec<String>,
    /// How the last request failed that was not accepted.
    pub error: Option<String>,
    /// Whether the endpoint exists no longer.
    pub is_gone: bool,
    /// How long the endpoint asks not to be called.
    pub wait: Option<Duration>,
    /// Whether a change failed that comes after the endpoint's place.
    pub has_failed: bool,
}

/// Whether to send on.
#[derive(Debug)]
struct Gate<'a> {
    draining: &'a Draining,
    passed: Mutex<Passed>,
}

#[derive(Debug, Default)]
struct Passed {
    failures: u32,
    is_closed: bool,
    last_error: Option<String>,
}

impl Lane {
    /// A lane of which nothing was sent yet.
    pub(super) fn new(iccid: Iccid, backlog: Option<Backlog>) -> Self {
        let messages = Vec::new();
        Self { iccid, backlog, messages, more_from: None, accepted: 0, failure: None }
    }

    /// Sends up to `max` messages, until one fails.
    async fn send(&mut self, client: &Client, target: &Target, gate: &Gate<'_>, max: usize) {
        for (_, message) in self.messages.iter().skip(self.accepted).take(max) {
            if gate.is_closed() {
                return;
            }
            match client.send(target, message).await {
                Ok(()) => {
                    gate.accepted();
                    self.accepted += 1;
                }
                Err(failure) => {
                    gate.failed(&failure);
                    self.failure = Some(failure);
                    return;
                }
            }
        }
    }

    /// What is left of it after a round at this time.
    fn end(self, skipped: &HashMap<Iccid, i64>, now: Timestamp, outcome: &mut Outcome) {
        let failed = self.failure.is_some();
        let next = self.messages.get(self.accepted).map(|(position, _)| *position);
        let next = next
            .or(self.more_from)
            .or_else(|| self.backlog.as_ref().and_then(|_| skipped.get(&self.iccid).copied()));
        let Some(position) = next else {
            outcome.done.extend(self.backlog.map(|backlog| backlog.iccid.as_str().to_owned()));
            return;
        };
        let before = self.backlog.filter(|_| self.accepted == 0);
        let (since, failures) = before.map_or((now, 0), |it| (it.since, it.failures));
        let failures = failures + u32::from(failed);
        let is_long = failed && now.seconds_since(since) > PERSISTENCE.as_secs_f64();
        if is_long {
            outcome.given_up += 1;
            let iccid = &self.iccid;
            tracing::warn!(
                ?iccid,
                position,
                "a change was given up: the endpoint did not accept it for days; it can be replayed"
            );
        }
        let wait = self.failure.as_ref().and_then(Failure::wait).unwrap_or_default();
        outcome.kept.push(if is_long || failures == 0 {
            let position = position + i64::from(is_long);
            Backlog { iccid: self.iccid, position, since: now, failures: 0, retry_at: now }
        } else {
            let pause = profile_pause(failures, rand::random()).max(wait);
            Backlog { iccid: self.iccid, position, since, failures, retry_at: now.plus(pause) }
        });
    }
}

impl Gate<'_> {
    fn is_closed(&self) -> bool {
        self.draining.has_begun() || self.passed(|passed| passed.is_closed)
    }

    fn accepted(&self) {
        self.passed(|passed| passed.failures = 0);
    }

    fn failed(&self, failure: &Failure) {
        self.passed(|passed| {
            passed.failures += 1;
            passed.last_error = Some(failure.to_string());
            passed.is_closed |= passed.failures >= MAX_FAILURES
                || failure.wait().is_some()
                || matches!(failure, Failure::Gone);
        });
    }

    fn passed<T>(&self, work: impl FnOnce(&mut Passed) -> T) -> T {
        work(&mut self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends what is in these lanes. If the endpoint was failing before, tries a few first and stops if it accepts none of them. `skipped`
/// are the first positions after the endpoint's place of profiles that have a backlog.
pub(super) async fn send(
    client: &Client,
    target: &Target,
    mut lanes: Vec<Lane>,
    was_failing: bool,
    skipped: &HashMap<Iccid, i64>,
    draining: &Draining,
) -> Outcome {
    let gate = Gate { draining, passed: Mutex::default() };
    let mut may_send = true;
    if was_failing {
        let tried = lanes.iter_mut().take(TRIED);
        for_each(tried, |lane| lane.send(client, target, &gate, 1)).await;
        may_send = lanes.iter().any(|lane| lane.accepted > 0);
    }
    if may_send {
        let left = lanes.iter_mut().filter(|lane| lane.failure.is_none());
        for_each(left, |lane| lane.send(client, target, &gate, usize::MAX)).await;
    }
    let failures = lanes.iter().filter_map(|lane| lane.failure.as_ref());
    let mut outcome = Outcome {
        accepted: lanes.iter().map(|lane| lane.accepted).sum(),
        error: gate.passed(|passed| passed.last_error.take()),
        is_gone: failures.clone().any(|failure| matches!(failure, Failure::Gone)),
        wait: failures.clone().filter_map(Failure::wait).max(),
        has_failed: lanes.iter().any(|lane| lane.backlog.is_none() && lane.failure.is_some()),
        ..Outcome::default()
    };
    telemetry::count_outgoing("accepted", outcome.accepted);
    telemetry::count_outgoing("failed", failures.count());
    let now = clock::now();
    for lane in lanes {
        lane.end(skipped, now, &mut outcome);
    }
    outcome
}

async fn for_each<'a, F: Future<Output = ()>>(
    lanes: impl Iterator<Item = &'a mut Lane>,
    work: impl Fn(&'a mut Lane) -> F,
) {
    stream::iter(lanes).for_each_concurrent(CONCURRENT, work).await;
}
