//! Helper: senders that send each webhook once, whatever the answer, and the comparison of the answers with the
//! database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use esim_status_testing::Database;
use esim_status_testing::history::assert_straight;
use esim_status_testing::service::Service;
use esim_status_testing::wire::Wire;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::iccid;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// How many clients there are, each with its own profiles.
const CLIENTS: usize = 30;
const PROFILES: usize = 4;

/// One delivery and its answer.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The number in its body.
    number: i64,
    /// When the answer arrived.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// The status; 0 if there was no answer.
    pub status: u16,
    /// The delivery id in the answer.
    id: Option<String>,
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Load {
    stopping: CancellationToken,
    clients: JoinSet<Vec<Sent>>,
}

impl Load {
    /// Sends this many webhooks a second, or fewer while all clients wait for an answer.
    pub(crate) fn start(service: &Service, a_second: usize) -> Self {
        let (stopping, mut clients) = (CancellationToken::new(), JoinSet::new());
        let pause = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap()
            / u32::try_from(a_second).unwrap();
        for client in 0..CLIENTS {
            let (mut wire, stopping) = (Wire::new(service.public()), stopping.clone());
            clients.spawn(async move {
                let mut sent = Vec::new();
                let mut tick = interval(pause);
                tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
                while !stopping.is_cancelled() {
                    tick.tick().await;
                    sent.push(send(&mut wire, client, sent.len()).await);
                }
                sent
            });
        }
        Self { stopping, clients }
    }

    /// Stops the clients, and returns everything that was sent.
    pub(crate) async fn stop(self) -> Vec<Sent> {
        self.stopping.cancel();
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn send(wire: &mut Wire, client: usize, count: usize) -> Sent {
    let profile = iccid(client * PROFILES + count % PROFILES);
    let state = STATES[count / PROFILES % STATES.len()];
    let number = i64::try_from(count * CLIENTS + client).unwrap();
    let body = json!({ "iccid": profile, "profileState": state, "n": number });
    let begun = Instant::now();
    let reply = wire.deliver(&body.to_string()).await;
    let (at, took) = (Instant::now(), begun.elapsed());
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    let id = reply.ok().and_then(|reply| {
        let body: Value = serde_json::from_str(&reply.body).ok()?;
        body["deliveryId"].as_str().map(str::to_owned)
    });
    assert_eq!(id.is_some(), matches!(status, 200 | 202), "{status}");
    Sent { number, at, took, status, id }
}

/// How often each status was answered; 0 stands for no answer.
pub(crate) fn statuses(sent: &[Sent]) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for sent in sent {
        *statuses.entry(sent.status).or_default() += 1;
    }
    statuses
}

/// The longest time after `since` in which nothing was answered with one of these statuses.
pub(crate) fn longest_without(sent: &[Sent], wanted: &[u16], since: Instant) -> Duration {
    let wanted = sent.iter().filter(|sent| wanted.contains(&sent.status));
    let mut times: Vec<_> = wanted.map(|sent| sent.at).filter(|at| *at > since).collect();
    times.push(since);
    times.sort_unstable();
    times.windows(2).map(|two| two[1] - two[0]).max().expect("no such answer came after `since`")
}

/// Asserts that every acknowledged delivery is stored, none is stored twice, and every history is consistent. Returns
/// how many were acknowledged.
pub(crate) async fn assert_kept_once(database: &Database, sent: &[Sent]) -> usize {
    let acknowledged: Vec<_> =
        sent.iter().filter_map(|sent| Some((sent.number, sent.id.clone()?))).collect();
    let (numbers, ids): (Vec<_>, Vec<_>) = acknowledged.into_iter().unzip();
    let query = "SELECT a.number FROM UNNEST($1::bigint[], $2::text[]) AS a (number, id)
                 LEFT JOIN deliveries d ON d.id = a.id::uuid
                       AND (convert_from(d.body, 'UTF8')::jsonb ->> 'n')::bigint = a.number
                 WHERE d.id IS NULL";
    let missing = sqlx::query_scalar::<_, i64>(query).bind(&numbers).bind(ids);
    let missing = missing.fetch_all(&mut database.connect().await).await.unwrap();
    assert!(missing.is_empty(), "acknowledged but not stored: {missing:?}");
    let twice = "SELECT coalesce(string_agg(copies, '; '), '') FROM (
                     SELECT string_agg(concat_ws(' ', id, received_at, outcome), ', ') AS copies FROM deliveries
                     GROUP BY convert_from(body, 'UTF8')::jsonb ->> 'n' HAVING count(*) > 1) t";
    assert_eq!(database.scalar::<String>(twice).await, "", "stored twice");
    assert_straight(database).await;
    numbers.len()
}
