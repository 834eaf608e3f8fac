//! Ten times more load than the service can handle: the service sheds load with quick 503s, and reads continue.
//!
//! A trigger slows Postgres down, so that a small load is too much and the load generator does not compete for the CPU.
//! Requests arrive at a fixed rate, whatever is answered, over as many connections as that takes.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::history::{assert_straight, lost};
use super::iccid;
use super::postgres::Postgres;
use super::senders::{Acknowledged, acknowledged};
use super::service::Service;
use super::turn::{alone, from_environment, measured, median_and_worst};
use super::wire::Wire;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// Makes each stored delivery take the database eight milliseconds more.
const SLOW: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.008); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION slow()";

/// The number of the next delivery.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// The answers to the requests.
#[derive(Debug, Default)]
struct Seen {
    taken: Mutex<Vec<Duration>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    refused: Mutex<Vec<Duration>>,
    unanswered: AtomicUsize,
}

/// Where the requests go, and the idle connections.
struct Clients {
    service: tokio::sync::watch::Receiver<std::net::SocketAddr>,
    /// Each with the time since which it is idle; the service closes idle connections after some seconds.
    idle: Mutex<Vec<(Instant, Wire)>>,
    made: AtomicUsize,
    seen: Seen,
}

impl Clients {
    fn new(service: &Service) -> Arc<Self> {
        Arc::new(Self {
            service: service.public(),
            idle: Mutex::default(),
            made: AtomicUsize::new(0),
            seen: Seen::default(),
        })
    }

    /// Sends one delivery over an idle connection, or over a new one.
    async fn deliver(&self) {
        let idle = self.idle.lock().unwrap().pop();
        let fresh = idle.filter(|(since, _)| since.elapsed() < Duration::from_secs(4));
        let mut wire = fresh.map_or_else(
            || {
                self.made.fetch_add(1, Ordering::Relaxed);
                Wire::new(self.service.clone())
            },
            |(_, wire)| wire,
        );
        let (profile, state) = (rand::random_range(0..1_000), rand::random_range(0..4));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "iccid": iccid(profile), "profileState": STATES[state], "n": number });
        let (body, sent) = (body.to_string(), Instant::now());
        match wire.deliver(&body).await {
            Ok(reply) => {
                let took = sent.elapsed();
                let seen = match reply.status {
                    200 => {
                        let acknowledged = acknowledged(number, &reply.body);
                        self.seen.acknowledged.lock().unwrap().push(acknowledged);
                        &self.seen.taken
                    }
                    503 => &self.seen.refused,
                    status => panic!("{status}: {reply:?}"),
                };
                seen.lock().unwrap().push(took);
                self.idle.lock().unwrap().push((Instant::now(), wire));
            }
            Err(_) => drop(self.seen.unanswered.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// How many deliveries a second the service accepts from 64 clients that wait for each answer.
async fn capacity(service: &Service) -> usize {
    let clients = Clients::new(service);
    let until = Instant::now() + Duration::from_secs(2);
    let mut running = JoinSet::new();
    for _ in 0..64 {
        let clients = clients.clone();
        running.spawn(async move {
            while Instant::now() < until {
                clients.deliver().await;
            }
        });
    }
    running.join_all().await;
    clients.seen.taken.lock().unwrap().len() / 2
}

/// The time within which 99 of 100 were.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_too_much_load_is_shed_in_time_and_reads_continue() {
    let turn = alone().await;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let length = Duration::from_secs(from_environment("ESIM_STATUS_OVERLOAD_SECONDS", 8));
    let postgres = Postgres::start();
    let service = Service::start(&postgres.url()).await;
    let database = postgres.database();
    sqlx::raw_sql(SLOW).execute(&mut database.connect().await).await.unwrap();
    let capacity = capacity(&service).await;
    let offered_a_second = capacity * 10;

    let clients = Clients::new(&service);
    let begun = Instant::now();
    let mut tick = interval(Duration::from_millis(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut running = JoinSet::new();
    let mut offered = 0;
    let mut reader = Wire::new(service.public());
    let (mut reads, mut refused_reads) = (Vec::new(), 0);
    let mut memory = Vec::new();
    // If builds use the machine, opening thousands of connections may take all of the time.
    let is_over = || {
        let is_any_taken = !clients.seen.taken.lock().unwrap().is_empty();
        let time = begun.elapsed();
        time >= length && is_any_taken || time >= length + Duration::from_mins(1)
    };
    let reading = async {
        while !is_over() {
            let sent = Instant::now();
            let reply = reader.get(&format!("/v1/profiles/{}", iccid(0))).await.unwrap();
            // In the first seconds, thousands of connections are opened on a machine that is busy with that. A query may
            // then take longer than the service waits for one.
            match reply.status {
                200 | 404 => reads.push(sent.elapsed()),
                503 => refused_reads += 1,
                _ => panic!("{reply:?}"),
            }
            memory.push(service.resident_kib());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let offering = async {
        while !is_over() {
            tick.tick().await;
            let due = usize::try_from(begun.elapsed().as_micros()).unwrap() * offered_a_second
                / 1_000_000;
            for _ in offered..due {
                let clients = clients.clone();
                running.spawn(async move { clients.deliver().await });
            }
            offered = offered.max(due);
            while running.try_join_next().is_some() {}
        }
    };
    tokio::join!(reading, offering);
    let lasted = begun.elapsed();
    running.join_all().await;

    let over = Instant::now();
    let patient = Clients::new(&service);
    while patient.seen.taken.lock().unwrap().is_empty() {
        patient.deliver().await;
    }
    let healed = over.elapsed();
    let seen = &clients.seen;
    let taken = std::mem::take(&mut *seen.taken.lock().unwrap());
    let refused = std::mem::take(&mut *seen.refused.lock().unwrap());
    let (median, worst) = median_and_worst(&taken);
    let p99 = p99(taken.clone());
    let (median_refused, worst_refused) = median_and_worst(&refused);
    let (median_read, worst_read) = median_and_worst(&reads);
    let acknowledged = std::mem::take(&mut *seen.acknowledged.lock().unwrap());
    let lost = lost(&database, &acknowledged).await;
    let half = memory.len() / 2;
    let (early, late) = (memory[..half].iter().max(), memory[half..].iter().max());
    let (early, late) = (early.unwrap() / 1024, late.unwrap() / 1024);
    measured(
        "ten times too much load",
        format!(
            "accepts {capacity}/s, offered {offered_a_second}/s for {lasted:.1?} over {} connections: {} accepted ({}/s) after \
             {median:.2?} (median), {p99:.2?} (p99), {worst:.2?} (worst), {lost} lost; {} answers 503 after {median_refused:.2?}, {worst_refused:.2?}; \
             {} without an answer; reads {median_read:.2?}, {worst_read:.2?}, {refused_reads} refused; RSS {early} MiB in the first half, {late} MiB in \
             the second; accepted again {healed:.2?} after the end",
            clients.made.load(Ordering::Relaxed),
            taken.len(),
            taken.len() / usize::try_from(lasted.as_secs()).unwrap().max(1),
            refused.len(),
            seen.unanswered.load(Ordering::Relaxed),
        ),
    );
    assert!(refused.len() > taken.len() && !taken.is_empty(), "the service was not overloaded");
    assert!(seen.unanswered.load(Ordering::Relaxed) * 20 <= offered, "answers are missing");
    assert!(p99 < turn.budget(), "{p99:?} after {:?}", turn.budget());
    // On a busy machine, most of the time passes before a request reaches the service at all.
    let limit = turn.budget() + Duration::from_secs(10);
    assert!(median.max(median_refused).max(median_read) < limit, "{median:?}, {median_refused:?}");
    assert!(refused_reads * 20 <= reads.len(), "{refused_reads} of {} reads", reads.len());
    assert!(late < early + 64, "{late} MiB after {early} MiB");
    assert_straight(&database).await;
}
