//! One round of requests to an endpoint: the changes of each profile in their order, those of several profiles concurrently.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep};

use super::client::{Client, Failure, Target};
use super::due_profile::DueProfile;
use crate::telemetry::{self, Span};
use crate::web::Draining;

/// How many profiles are served concurrently.
const CONCURRENT: usize = 16;

/// After this many failures without anything accepted in between, nothing more is sent in this round.
const MAX_FAILURES: u32 = 5;

/// How many profiles are tried if the endpoint has accepted nothing before: more than one, because the change of one may be what it
/// does not accept.
const TRIED: usize = 3;

/// After this time no further request begins: what was accepted is saved at the end of a round.
const LONGEST: Duration = Duration::from_secs(10);

/// How long requests under way may take when the service drains.
const AT_DRAIN: Duration = Duration::from_secs(2);

/// What a round came to.
#[derive(Debug)]
pub(super) struct Sent {
    pub profiles: Vec<DueProfile>,
    /// How many changes were accepted.
    pub accepted: usize,
    /// How the last request failed that was not accepted.
    pub error: Option<String>,
    /// Whether the endpoint exists no longer.
    pub is_gone: bool,
    /// How long the endpoint asks not to be called.
    pub wait: Option<Duration>,
    /// Whether the endpoint as a whole seems to accept nothing.
    pub is_down: bool,
}

/// Whether to send on.
struct Gate<'a> {
    draining: &'a Draining,
    is_outdated: &'a (dyn Fn() -> bool + Sync),
    closes_at: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    has_stopped: bool,
    last_error: Option<String>,
}

impl Gate<'_> {
    fn is_closed(&self) -> bool {
        self.draining.has_begun()
            || Instant::now() >= self.closes_at
            || (self.is_outdated)()
            || self.with_state(|state| state.has_stopped || state.failures >= MAX_FAILURES)
    }

    /// Waits until the service no longer waits for requests under way.
    async fn drained(&self) {
        self.draining.begun().await;
        sleep(AT_DRAIN).await;
    }

    fn accepted(&self) {
        self.with_state(|state| state.failures = 0);
    }

    /// Counts a failure, unless it only says that what was refused before is refused again.
    fn failed(&self, failure: &Failure, is_backlog: bool) {
        self.with_state(|state| {
            state.failures += u32::from(!is_backlog || failure.is_away());
            state.last_error = Some(failure.to_string());
            state.has_stopped |= failure.wait().is_some() || matches!(failure, Failure::Gone);
        });
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends what is in these profiles. If the endpoint was failing before, tries a few first, and stops if it accepts none of them. Stops too
/// when the service drains, and when a backend has changed the endpoint (`is_outdated`).
pub(super) async fn send(
    client: &Client,
    target: &Target,
    mut profiles: Vec<DueProfile>,
    span: &Span,
    was_failing: bool,
    draining: &Draining,
    is_outdated: &(dyn Fn() -> bool + Sync),
) -> Sent {
    let (closes_at, state) = (Instant::now() + LONGEST, Mutex::default());
    let gate = Gate { draining, is_outdated, closes_at, state };
    // Shuffled, so that an attempt does not always try the same profiles. Those come first that were not refused before: otherwise an
    // attempt would mostly try what the endpoint cannot digest.
    profiles.shuffle(&mut rand::rng());
    profiles.sort_by_key(|profile| {
        profile.backlog.as_ref().is_some_and(|backlog| backlog.failures > 0)
    });
    let mut may_send = true;
    if was_failing {
        let tried = profiles.iter_mut().filter(|profile| !profile.messages.is_empty()).take(TRIED);
        for_each(tried, |profile| send_profile((client, target, span), profile, 1, &gate)).await;
        may_send = profiles.iter().any(|profile| profile.accepted > 0);
    }
    if may_send {
        let left = profiles.iter_mut().filter(|profile| profile.failure.is_none());
        for_each(left, |profile| send_profile((client, target, span), profile, usize::MAX, &gate))
            .await;
    }
    let accepted = profiles.iter().map(|profile| profile.accepted).sum();
    let failures = profiles.iter().filter_map(|profile| profile.failure.as_ref());
    telemetry::count_outgoing("accepted", accepted);
    telemetry::count_outgoing("failed", failures.clone().count());
    let is_gone = failures.clone().any(|failure| matches!(failure, Failure::Gone));
    let wait = failures.filter_map(Failure::wait).max();
    // Backlogs alone say nothing about the endpoint, unless many say that it is away.
    let has_failed = |profile: &DueProfile| profile.backlog.is_none() && profile.failure.is_some();
    let is_down = accepted == 0
        && (was_failing
            || profiles.iter().any(has_failed)
            || gate.with_state(|state| state.failures >= MAX_FAILURES));
    let error = gate.with_state(|state| state.last_error.take());
    Sent { profiles, accepted, error, is_gone, wait, is_down }
}

/// Sends up to `max` messages of a profile, until one fails.
async fn send_profile(
    (client, target, span): (&Client, &Target, &Span),
    profile: &mut DueProfile,
    max: usize,
    gate: &Gate<'_>,
) {
    for (_, message) in profile.messages.iter().skip(profile.accepted).take(max) {
        if gate.is_closed() {
            return;
        }
        let sent = tokio::select! {
            sent = client.send(target, message, span) => sent,
            // It may arrive all the same, and then comes twice.
            () = gate.drained() => return,
        };
        match sent {
            Ok(()) => {
                gate.accepted();
                profile.accepted += 1;
            }
            Err(failure) => {
                gate.failed(&failure, profile.backlog.is_some());
                profile.failure = Some(failure);
                return;
            }
        }
    }
}

async fn for_each<'a, F: Future<Output = ()>>(
    profiles: impl Iterator<Item = &'a mut DueProfile>,
    work: impl Fn(&'a mut DueProfile) -> F,
) {
    stream::iter(profiles).for_each_concurrent(CONCURRENT, work).await;
}
