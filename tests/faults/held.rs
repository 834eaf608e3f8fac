//! Profiles that another transaction holds locked for a long time, like an operator's open transaction, a backfill or a
//! frozen replica: only deliveries for these profiles are refused, whatever the transaction has done to them.
//!
//! A rival transaction locks, updates, deletes or inserts profiles on a real Postgres while 200 webhooks a second
//! arrive.

use std::time::{Duration, Instant};

use esim_status::config::SpoolSettings;
use esim_status_testing::{Database, TestApp};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::history::assert_straight;
use super::iccid;
use super::turn::{alone, from_environment, measured};

/// One webhook every 5 ms: 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// How many other profiles the webhooks report on.
const OTHERS: usize = 50;

/// One in ten webhooks is for a held profile.
const SHARE: usize = 10;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// What the other transaction has done to a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Lock,
    Update,
    Delete,
    Insert,
}

impl Hold {
    fn sql(self) -> &'static str {
        match self {
            Self::Lock => "SELECT FROM profiles WHERE iccid = $1 FOR UPDATE",
            Self::Update => "UPDATE profiles SET uid = 'backfilled' WHERE iccid = $1",
            Self::Delete => "DELETE FROM profiles WHERE iccid = $1",
            Self::Insert => {
                "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                 VALUES ($1, 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now())"
            }
        }
    }
}

/// One of the held profiles.
fn held(number: usize) -> String {
    iccid(OTHERS + number)
}

#[derive(Debug)]
struct Answered {
    is_held: bool,
    status: u16,
    took: Duration,
}

/// Sends webhooks for all profiles for some seconds, and returns the answers.
async fn send(app: &TestApp, held_count: usize, seconds: u64) -> Vec<Answered> {
    let (mut sending, mut tick) = (JoinSet::new(), interval(PAUSE));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        tick.tick().await;
        let is_held = number % SHARE == 0;
        let whose =
            if is_held { held(number / SHARE % held_count) } else { iccid(number % OTHERS) };
        let state = STATES[number / OTHERS % STATES.len()];
        let body = json!({ "iccid": whose, "profileState": state }).to_string();
        let (anybody, path) = (app.anybody.clone(), TestApp::hook_path());
        sending.spawn(async move {
            let sent = Instant::now();
            let answer = anybody.post(&path, body).await;
            Answered { is_held, status: answer.status.as_u16(), took: sent.elapsed() }
        });
        number += 1;
    }
    sending.join_all().await
}

async fn hold(connection: &mut PgConnection, how: &[Hold]) {
    for (number, how) in how.iter().enumerate() {
        sqlx::query(how.sql()).bind(held(number)).execute(&mut *connection).await.unwrap();
    }
}

/// How many deliveries the services of this process have put into a spool.
async fn spooled(app: &TestApp) -> u64 {
    let metrics = app.admin.get("/metrics").await.text;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("esim_status_spooled_total "));
    value.unwrap().parse().unwrap()
}

/// Deliveries for other profiles must be accepted without delay. Deliveries for held profiles are refused, and accepted
/// as soon as the profiles are released.
async fn nobody_else_notices(what: &str, how: &[Hold], with_spool: bool) {
    let turn = alone().await;
    let folder = TempDir::new().unwrap();
    let app = TestApp::start_on(Database::migrated().await, |settings| {
        settings.spool = with_spool
            .then(|| SpoolSettings { folder: folder.path().to_owned(), max_bytes: 64 << 20 });
    })
    .await;
    let spooled_before = spooled(&app).await;
    // The writers connect and prepare their statements with their first batches; this is not to be measured.
    for number in 0..OTHERS {
        assert_eq!(app.report(&iccid(number), "ERROR").await, "moved");
    }
    for number in (0..how.len()).filter(|number| how[*number] != Hold::Insert) {
        assert_eq!(app.report(&held(number), "RELEASED").await, "moved");
    }
    let mut operator = app.database.connect().await;
    let mut transaction = operator.begin().await.unwrap();
    hold(&mut transaction, how).await;

    let seconds = from_environment("ESIM_STATUS_HELD_SECONDS", 4);
    let answered = send(&app, how.len(), seconds).await;
    let (of_held, others): (Vec<_>, Vec<_>) = answered.into_iter().partition(|it| it.is_held);
    let refused: Vec<_> = others.iter().filter(|it| it.status != 200).collect();
    assert!(refused.is_empty(), "{} of {}: {refused:?}", refused.len(), others.len());
    assert!(of_held.iter().all(|it| it.status == 503), "{of_held:?}");
    let late = of_held.iter().map(|it| it.took).max().unwrap_or_default();
    assert!(late < turn.budget(), "{late:?}");
    let mut times: Vec<_> = others.iter().map(|it| it.took).collect();
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    measured(
        &format!("{what}, {}", if with_spool { "with a spool" } else { "without a spool" }),
        format!(
            "{seconds} s at 200/s: {} others, all 200, median {median:.1?}, p99 {p99:.1?}, worst {:.1?}; {} of the held, all 503",
            times.len(),
            times[times.len() - 1],
            of_held.len(),
        ),
    );
    // Far less than a statement may wait for a lock.
    assert!(p99 < Duration::from_millis(500) + turn.slack(), "{p99:?}");
    if let Some(spool) = &app.service.app().spool {
        assert_eq!(spool.figures().deliveries, 0);
        assert_eq!(spooled(&app).await, spooled_before);
    }

    transaction.rollback().await.unwrap();
    for number in 0..how.len() {
        // A refused delivery may have been written nevertheless, once the profile was released.
        assert!(["moved", "repeated"].contains(&&*app.report(&held(number), "ERROR").await));
    }
    assert_straight(&app.database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_being_updated_delays_nobody_else() {
    nobody_else_notices("a profile held by UPDATE", &[Hold::Update], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_being_deleted_delays_nobody_else() {
    nobody_else_notices("a profile held by DELETE", &[Hold::Delete], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_is_being_created_delays_nobody_else() {
    nobody_else_notices("a profile held by INSERT", &[Hold::Insert], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_profiles_held_together_delay_nobody_else() {
    use Hold::{Delete, Insert, Lock, Update};
    let how = [Update, Delete, Insert, Lock, Insert, Lock, Update, Delete];
    nobody_else_notices("eight profiles held", &how, true).await;
    nobody_else_notices("eight profiles held", &how, false).await;
}
