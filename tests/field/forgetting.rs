//! A firewall between the service and its database forgets idle connections: no webhook and no read fails.
//!
//! A relay drops all packets of a connection after three seconds of silence. The real binary gets bursts of webhooks
//! and reads, with pauses that are shorter and longer than that.

use std::time::{Duration, Instant};

use esim_status_testing::Database;
use esim_status_testing::history::assert_straight;
use esim_status_testing::service::Service;
use esim_status_testing::turn::{
    Turn, beside_others, from_environment, measured, median_and_worst,
};
use esim_status_testing::wire::{Reply, Wire};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::iccid;
use super::relay::{Habit, Relay};

/// After how long without a packet the firewall forgets a connection.
const FORGETS: Duration = Duration::from_secs(3);

/// How many profiles are reported on and read at the same moment: enough to keep every writer busy.
const PROFILES: usize = 8;

/// The pauses of the short form, in seconds: longer than the firewall remembers, shorter, and the longest.
const PAUSES: [u64; 3] = [4, 1, 12];

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// The answers to webhooks, or to reads.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    wrong: Vec<String>,
    spooled: usize,
}

impl Seen {
    fn add(&mut self, what: &str, (reply, took): (Reply, Duration)) {
        self.times.push(took);
        self.spooled += usize::from(reply.status == 202);
        if !matches!(reply.status, 200 | 202) {
            self.wrong.push(format!("{what}: {} after {took:.2?}: {}", reply.status, reply.body));
        }
    }
}

/// Uses a new connection to the service, so that only connections to the database can be lost.
async fn answer(
    service: &Service,
    exchange: impl AsyncFnOnce(&mut Wire) -> std::io::Result<Reply>,
) -> (Reply, Duration) {
    let (mut wire, begun) = (Wire::new(service.public()), Instant::now());
    (exchange(&mut wire).await.expect("an answer"), begun.elapsed())
}

/// Sends every kind of request that uses the database, all at the same moment.
async fn round(service: &Service, number: usize, webhooks: &mut Seen, reads: &mut Seen) {
    let report = |profile: usize| {
        let body =
            json!({ "iccid": iccid(profile), "profileState": STATES[number % STATES.len()] });
        answer(service, async move |wire| wire.deliver(&body.to_string()).await)
    };
    let own = iccid(0);
    let mut paths: Vec<_> = (0..PROFILES).map(|it| format!("/v1/profiles/{}", iccid(it))).collect();
    paths.extend(["transitions", "deliveries"].map(|it| format!("/v1/profiles/{own}/{it}")));
    paths.extend(["/v1/profiles", "/v1/deliveries", "/v1/summary"].map(str::to_owned));
    let read = |path: &String| {
        let path = path.clone();
        answer(service, async move |wire| wire.get(&path).await)
    };
    if number == 0 {
        // So that there is a profile to read.
        webhooks.add("the first", report(0).await);
    }
    let all = (join_all((0..PROFILES).map(report)), join_all(paths.iter().map(read)));
    let (reported, answered) = tokio::join!(all.0, all.1);
    for it in reported {
        webhooks.add("webhook", it);
    }
    for (path, it) in paths.iter().zip(answered) {
        // In the first round, a profile may not exist yet.
        if number > 0 || it.0.status != 404 {
            reads.add(path, it);
        }
    }
}

async fn nobody_notices(turn: &Turn, what: &str, more: &[(&str, &str)]) {
    let database = Database::empty().await;
    let relay = Relay::start(&database, Habit::Forgets(FORGETS)).await;
    let service = Service::start_with(&relay.url(), more).await;
    let seconds = from_environment("ESIM_STATUS_NAT_SECONDS", PAUSES.iter().sum());
    let pauses = PAUSES.into_iter().chain(std::iter::repeat_with(|| rand::random_range(1..=12)));
    let (mut webhooks, mut reads) = (Seen::default(), Seen::default());
    let begun = Instant::now();
    for (number, pause) in pauses.enumerate() {
        round(&service, number, &mut webhooks, &mut reads).await;
        if begun.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        sleep(Duration::from_secs(pause)).await;
    }
    let (median, worst) = median_and_worst(&webhooks.times);
    let (median_read, worst_read) = median_and_worst(&reads.times);
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    measured(
        &format!("a firewall that forgets after {FORGETS:?}, {what}"),
        format!(
            "{} webhooks after {median:.2?} (median), {worst:.2?} (worst), {} of them spooled, {} not accepted; \
             {} reads after {median_read:.2?}, {worst_read:.2?}, {} not answered; {} of {} connections forgotten, {} open at the end",
            webhooks.times.len(),
            webhooks.spooled,
            webhooks.wrong.len(),
            reads.times.len(),
            reads.wrong.len(),
            relay.died(),
            relay.accepted(),
            database.scalar::<i64>(held).await,
        ),
    );
    assert!(relay.died() > 0, "nothing was forgotten");
    assert!(webhooks.wrong.is_empty(), "{:#?}", webhooks.wrong);
    assert!(reads.wrong.is_empty(), "{:#?}", reads.wrong);
    assert!(worst.max(worst_read) < turn.budget(), "{worst:?}, {worst_read:?}");
    assert_straight(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firewall_that_forgets_idle_connections_costs_no_webhook_and_no_read() {
    let turn = beside_others().await;
    let spool = tempfile::tempdir().unwrap();
    let with_spool = [("ESIM_STATUS_SPOOL_DIR", spool.path().to_str().unwrap())];
    // Both run at the same time because they mostly wait.
    tokio::join!(
        nobody_notices(&turn, "without a spool", &[]),
        nobody_notices(&turn, "with a spool", &with_spool),
    );
}
