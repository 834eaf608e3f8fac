//! The connection to the database is cut at every point of a write, also after the commit was sent: the service looks
//! up whether it was committed, the sender gets a 200, and each change is one transition.
//!
//! A proxy between a real service and a real Postgres counts the protocol messages of one change, then cuts before and
//! after each of them in turn.

use std::time::{Duration, Instant};

use esim_status_testing::{Answer, Database, TestApp};
use serde_json::json;

use super::history::assert_straight;
use super::iccid;
use super::numbered::{deliver, with_hook};
use super::postgres::Postgres;
use super::proxy::{Counts, Cut, Point, Proxy};
use super::turn::{Turn, alone, from_environment, measured, median_and_worst};

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// The messages of one round trip: bind, execute, close, sync.
const ROUND_TRIP: usize = 4;

/// What the interrupted write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Changes the state of an existing profile.
    Change,
    /// Creates a profile.
    Creation,
    /// Changes the state, in an event with an id.
    Event,
}

/// A service behind a proxy, and what it was sent.
struct Scene {
    turn: Turn,
    _postgres: Postgres,
    direct: Database,
    proxy: Proxy,
    app: TestApp,
    work: Work,
    changes: usize,
    acknowledged: usize,
    took: Vec<Duration>,
    looked_up_before: u64,
}

impl Scene {
    async fn start(turn: Turn, work: Work) -> Self {
        let postgres = Postgres::start();
        let options = postgres.database().options;
        Self::start_as(options.get_username(), postgres, turn, work).await
    }

    /// Starts a service that uses this role of the server.
    async fn start_as(role: &str, postgres: Postgres, turn: Turn, work: Work) -> Self {
        let direct = postgres.database();
        // No machine crashes here, so there is no need to wait for the disk.
        let hurry = "ALTER DATABASE postgres SET synchronous_commit = off";
        sqlx::query(hurry).execute(&mut direct.connect().await).await.unwrap();
        let proxy = Proxy::start(&direct.options).await;
        let behind = Database { options: proxy.options(&direct.options).username(role) };
        let app = TestApp::start_on(behind, with_hook).await;
        let mut this = Self {
            turn,
            _postgres: postgres,
            direct,
            proxy,
            app,
            work,
            changes: 0,
            acknowledged: 0,
            took: Vec::new(),
            looked_up_before: 0,
        };
        this.warm().await;
        this.looked_up_before = this.looked_up().await;
        this
    }

    /// Delivers the change with this number.
    async fn deliver(&self, change: usize) -> Answer {
        let whose = if self.work == Work::Creation { change } else { 0 };
        let state = STATES[change % STATES.len()];
        let body = json!({ "iccid": iccid(whose), "profileState": state }).to_string();
        if self.work != Work::Event {
            return self.app.deliver(body).await;
        }
        deliver(&self.app, &format!("msg_{change}"), body).await
    }

    /// Makes a change without a cut, so that the writer holds a connection with prepared statements.
    async fn warm(&mut self) {
        let change = self.changes;
        self.changes += 1;
        self.acknowledged += 1;
        assert_eq!(self.deliver(change).await.outcome(), "moved");
    }

    /// Counts the messages of one change.
    async fn count(&mut self, cold: bool) -> Counts {
        self.prepare(cold).await;
        self.proxy.arm(None);
        self.warm().await;
        self.proxy.disarm()
    }

    /// Counts the messages of one change whose connection is not pinged first. On a busy machine, so much time may pass
    /// between two changes that the writer does that.
    async fn count_without_ping(&mut self) -> Counts {
        let begun = Instant::now();
        loop {
            let counts = self.count(false).await;
            if counts.client == 2 * ROUND_TRIP {
                return counts;
            }
            assert!(begun.elapsed() < self.turn.healing(), "{counts:?}");
        }
    }

    /// If `cold`, cuts the writer's connection unnoticed, so that the next change needs a new one.
    async fn prepare(&mut self, cold: bool) {
        if cold {
            self.proxy.cut_all();
        } else {
            self.warm().await;
        }
    }

    /// How many unconfirmed commits the service has found in the database so far.
    async fn looked_up(&self) -> u64 {
        let metrics = self.app.admin.get("/metrics").await.text;
        let line = metrics.lines().find(|it| it.starts_with("esim_status_commits_looked_up_total"));
        line.and_then(|line| line.split_once(' ')?.1.parse().ok()).unwrap_or(0)
    }

    /// Cuts one change at this point, and then delivers the same change again.
    async fn cut(&mut self, cut: Cut, cold: bool) {
        self.prepare(cold).await;
        self.proxy.arm(Some(cut));
        let change = self.changes;
        self.changes += 1;
        let begun = Instant::now();
        let answer = self.deliver(change).await;
        let took = begun.elapsed();
        let counts = self.proxy.disarm();
        assert!(counts.is_cut, "{cut:?} was not reached: {counts:?}");
        assert!(took < self.turn.budget(), "{cut:?}: {took:?}");
        assert_eq!(answer.outcome(), "moved", "{cut:?}");
        self.took.push(took);
        let repeat = self.deliver(change).await.outcome();
        let again = if self.work == Work::Event { "duplicate" } else { "repeated" };
        assert_eq!(repeat, again, "{cut:?}");
        self.acknowledged += 2;
    }

    async fn end(self, what: &str, points: usize) {
        let transitions = self.direct.scalar::<i64>("SELECT count(*) FROM transitions").await;
        assert_eq!(
            usize::try_from(transitions),
            Ok(self.changes),
            "there must be one transition for each change"
        );
        assert_straight(&self.direct).await;
        let kept = self.direct.scalar::<i64>("SELECT count(*) FROM deliveries").await;
        assert_eq!(
            usize::try_from(kept),
            Ok(self.acknowledged),
            "each delivery must be stored once"
        );
        let looked_up = self.looked_up().await - self.looked_up_before;
        let (median, worst) = median_and_worst(&self.took);
        measured(
            &format!("connection cut, {what}"),
            format!(
                "{points} points, each answered 200 after {median:.2?} (median), {worst:.2?} (worst), {looked_up} by looking up a \
                 commit that was not confirmed; one transition each"
            ),
        );
        assert!(looked_up > 0, "no cut came after the commit");
    }
}

/// Every point of one change: before and right after each message of the service, and before each message of the
/// server.
fn every_point(counts: &Counts) -> Vec<Point> {
    let around = |number| [Point::BeforeClient(number), Point::AfterClient(number)];
    let service = (1..=counts.client).flat_map(around);
    service.chain((1..=counts.server).map(Point::BeforeServer)).collect()
}

async fn cut_at(points: impl FnOnce(&Counts) -> Vec<Point>, work: Work, cold: bool, what: &str) {
    let mut scene = Scene::start(alone().await, work).await;
    let counts = scene.count(cold).await;
    let points = points(&counts);
    for point in &points {
        scene.cut(Cut { point: *point, silent: false }, cold).await;
    }
    scene.end(what, points.len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_applied_once_wherever_the_connection_is_cut() {
    cut_at(every_point, Work::Change, false, "change of a profile").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_created_once_wherever_the_connection_is_cut() {
    cut_at(every_point, Work::Creation, false, "creation of a profile").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_with_an_id_is_applied_once_wherever_the_connection_is_cut() {
    cut_at(every_point, Work::Event, false, "event with an id").await;
}

/// A change takes two round trips, one that reads and one that writes and commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_takes_two_round_trips() {
    let mut scene = Scene::start(alone().await, Work::Change).await;
    scene.count_without_ping().await;
    assert_straight(&scene.direct).await;
}

/// A new connection takes a hundred messages more. This test cuts at every third point, or at every point with
/// `ESIM_STATUS_CUT_EVERYWHERE=1`, and always after the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_over_a_new_connection_is_applied_once_wherever_it_is_cut() {
    let step = if from_environment("ESIM_STATUS_CUT_EVERYWHERE", 0) == 1 { 1 } else { 3 };
    let points = |counts: &Counts| {
        let commit = Point::AfterClient(counts.commit());
        let mut points = every_point(counts);
        points.retain(|point| *point != commit);
        let first = rand::random_range(0..step);
        points.into_iter().skip(first).step_by(step).chain([commit]).collect()
    };
    cut_at(points, Work::Change, true, "over a new connection").await;
}

/// The network drops all packets silently: neither end learns that the connection is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_goes_silent_around_the_commit_is_replaced_in_time() {
    let mut scene = Scene::start(alone().await, Work::Change).await;
    let counts = scene.count(false).await;
    let commit = counts.commit();
    for point in [Point::BeforeClient(commit), Point::AfterClient(commit)] {
        scene.cut(Cut { point, silent: true }, false).await;
    }
    scene.end("silent around COMMIT", 2).await;
}

/// No commit is in doubt, and there is no spool: the sender may never send again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_waits_while_the_database_refuses_connections_for_a_moment() {
    const REFUSED: usize = 8;

    let mut scene = Scene::start(alone().await, Work::Change).await;
    scene.proxy.refuse(REFUSED);
    scene.warm().await;
    assert_eq!(scene.proxy.refusing(), 0);
    let profile = scene.app.profile(&iccid(0)).await;
    assert_eq!(profile["seq"], scene.changes);
}

/// The statement reaches the server after the service has looked its commit up in vain, and just before the service
/// writes the change again. The service would end the server process of the lost connection first, but this server does
/// not allow that.
async fn commit_late(work: Work, what: &str) {
    let turn = alone().await;
    let postgres = Postgres::start();
    let mut operator = postgres.database().connect().await;
    let role = "CREATE ROLE plain LOGIN;
                ALTER DATABASE postgres OWNER TO plain;
                REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC";
    sqlx::raw_sql(role).execute(&mut operator).await.unwrap();
    let mut scene = Scene::start_as("plain", postgres, turn, work).await;
    let counts = scene.count_without_ping().await;
    let point = Point::Late(counts.commit() - (ROUND_TRIP - 1));
    scene.cut(Cut { point, silent: false }, false).await;
    scene.end(what, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_committed_after_it_was_looked_up_is_applied_once() {
    commit_late(Work::Change, "commit after the lookup").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_whose_creation_is_committed_after_it_was_looked_up_is_created_once() {
    commit_late(Work::Creation, "commit of a creation after the lookup").await;
}
