//! Senders that never give up: each sends one delivery at a time, and retries it until it is accepted.
//!
//! A profile has one sender, which reports another state each time. So the history of a profile must have exactly one
//! transition for each accepted report, whatever was cut, refused and retried in the meantime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use esim_status_testing::wait_until;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::iccid;
use super::service::Service;
use super::wire::Wire;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// How long to wait before a retry. After a failed connection, half of it.
const PAUSE: Duration = Duration::from_millis(20);

/// For how long one delivery is retried.
const PATIENCE: Duration = Duration::from_mins(1);

static NEXT: AtomicI64 = AtomicI64::new(1);

/// A delivery that the service has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    /// The number in its body.
    pub number: i64,
    /// The delivery id in the answer.
    pub delivery_id: String,
    /// The outcome in the answer.
    pub outcome: String,
}

/// One attempt to deliver.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// When it ended.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// The answer's status; `None` if there was no answer.
    pub status: Option<u16>,
}

/// One sender with its profiles.
#[derive(Debug)]
struct Sender {
    wire: Wire,
    /// Each with the number of accepted reports.
    profiles: Vec<(String, usize)>,
    acknowledged: Vec<Acknowledged>,
    attempts: Vec<Attempt>,
    /// How many deliveries of all senders were accepted so far.
    accepted: Arc<AtomicUsize>,
}

/// All senders.
#[derive(Debug)]
pub(crate) struct Senders {
    idle: Vec<Sender>,
    running: JoinSet<Sender>,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Senders {
    /// Creates `count` senders, each with its own `profiles`, distributed over these services.
    pub(crate) fn new(count: usize, profiles: usize, services: &[&Service]) -> Self {
        let accepted = Arc::<AtomicUsize>::default();
        let sender = |number: usize| Sender {
            wire: Wire::new(services[number % services.len()].public()),
            profiles: (0..profiles).map(|it| (iccid(number * profiles + it), 0)).collect(),
            acknowledged: Vec::new(),
            attempts: Vec::new(),
            accepted: accepted.clone(),
        };
        let idle = (0..count).map(sender).collect();
        Self { idle, running: JoinSet::new(), stop: Arc::default(), accepted }
    }

    /// Starts all senders; they send until [`Self::stop`].
    pub(crate) fn start(&mut self) {
        self.stop = Arc::default();
        for mut sender in self.idle.drain(..) {
            let stop = self.stop.clone();
            self.running.spawn(async move {
                sender.run(&stop).await;
                sender
            });
        }
    }

    /// Waits until the service has accepted this many more deliveries, so that it is under load by then.
    pub(crate) async fn until_accepted(&self, count: usize) {
        let wanted = self.accepted.load(Ordering::Relaxed) + count;
        let is_reached = async || self.accepted.load(Ordering::Relaxed) >= wanted;
        wait_until("further deliveries are accepted", is_reached).await;
    }

    /// Stops all senders, after each has delivered its last delivery.
    pub(crate) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(sender) = self.running.join_next().await {
            self.idle.push(sender.expect("a sender does not panic"));
        }
    }

    /// Takes what was acknowledged since the last call.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<Acknowledged> {
        self.idle.iter_mut().flat_map(|sender| std::mem::take(&mut sender.acknowledged)).collect()
    }

    /// Takes the attempts since the last call.
    pub(crate) fn take_attempts(&mut self) -> Vec<Attempt> {
        self.idle.iter_mut().flat_map(|sender| std::mem::take(&mut sender.attempts)).collect()
    }

    /// How often each profile was moved.
    pub(crate) fn moved(&self) -> Vec<(String, i64)> {
        let profiles = self.idle.iter().flat_map(|sender| &sender.profiles);
        let moved = profiles.filter(|(_, count)| *count > 0);
        moved.map(|(iccid, count)| (iccid.clone(), i64::try_from(*count).unwrap())).collect()
    }
}

impl Sender {
    async fn run(&mut self, stop: &AtomicBool) {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let profile = turn % self.profiles.len();
            let (iccid, reports) = self.profiles[profile].clone();
            let state = STATES[reports % STATES.len()];
            let body = |n: i64| json!({ "iccid": iccid, "profileState": state, "n": n });
            self.repeat_until(200, body).await;
            self.profiles[profile].1 += 1;
            turn += 1;
            // An authentic but malformed delivery is stored as well.
            if turn % 16 == 0 {
                self.repeat_until(400, |n| json!({ "iccid": 1, "n": n })).await;
            }
        }
    }

    /// Every retry has a new number, because each is a separate delivery.
    async fn repeat_until(&mut self, wanted: u16, body: impl Fn(i64) -> Value) {
        let begun = Instant::now();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let sent = Instant::now();
            let reply = self.wire.deliver(&body(number).to_string()).await;
            let at = Instant::now();
            let status = reply.as_ref().ok().map(|reply| reply.status);
            self.attempts.push(Attempt { at, took: at - sent, status });
            match reply {
                Ok(reply) if reply.status == wanted => {
                    self.acknowledged.push(acknowledged(number, &reply.body));
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(reply) => {
                    assert_eq!(reply.status, 503, "{reply:?}");
                    assert_eq!(reply.field("retry-after"), Some("1"), "{reply:?}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => tokio::time::sleep(PAUSE / 2).await,
            }
            assert!(begun.elapsed() < PATIENCE, "not accepted for a minute");
        }
    }
}

/// What an answer acknowledges of the delivery with this number.
pub(crate) fn acknowledged(number: i64, body: &str) -> Acknowledged {
    let body: Value = serde_json::from_str(body).unwrap();
    let text = |member: &str| body[member].as_str().map(str::to_owned);
    Acknowledged {
        number,
        delivery_id: text("deliveryId").expect("the answer has a deliveryId"),
        outcome: text("outcome").unwrap_or_else(|| "malformed".to_owned()),
    }
}

/// How many attempts were refused, and how long the slowest refusal took.
pub(crate) fn refusals(attempts: &[Attempt]) -> (usize, Duration) {
    let refused = attempts.iter().filter(|attempt| attempt.status == Some(503));
    let times: Vec<_> = refused.map(|attempt| attempt.took).collect();
    (times.len(), times.into_iter().max().unwrap_or_default())
}

/// How long after `since` the first delivery was accepted after which no attempt failed.
pub(crate) fn healed(attempts: &[Attempt], since: Instant) -> Duration {
    let is_taken = |attempt: &&Attempt| matches!(attempt.status, Some(200 | 400));
    let failed = attempts.iter().filter(|attempt| !is_taken(attempt)).map(|attempt| attempt.at);
    let from = failed.max().map_or(since, |last| last.max(since));
    let taken = attempts.iter().filter(is_taken).map(|attempt| attempt.at);
    let first = taken.filter(|at| *at > from).min();
    first.expect("deliveries are accepted again") - since
}

/// The longest time after `since` in which no delivery was accepted.
pub(crate) fn longest_pause(attempts: &[Attempt], since: Instant) -> Duration {
    let taken = attempts.iter().filter(|it| matches!(it.status, Some(200 | 400)));
    let mut taken: Vec<_> = taken.map(|it| it.at).filter(|at| *at > since).collect();
    taken.push(since);
    taken.sort_unstable();
    taken.windows(2).map(|two| two[1] - two[0]).max().expect("deliveries are accepted again")
}
