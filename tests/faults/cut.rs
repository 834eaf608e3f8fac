//! The connection to the database cut at every point of the write transaction, after COMMIT was sent too: the service looks up what
//! became of it, and the sender notices nothing. There is one transition for each change.

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
/// What the cut transaction is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Another state of a profile that is there.
    Change,
    /// A profile that is not there yet.
    Creation,
    /// Another state, in an event with an id.
    Event,
}

/// A service behind a proxy, and how many changes it was told of.
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
        let direct = postgres.database();
        // No machine dies here, so nothing is gained by waiting for the disk.
        let hurry = "ALTER DATABASE postgres SET synchronous_commit = off";
        sqlx::query(hurry).execute(&mut direct.connect().await).await.unwrap();
        let proxy = Proxy::start(&direct.options).await;
        let behind = Database { options: proxy.options(&direct.options) };
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

    /// Delivers the change of this number.
    async fn deliver(&self, change: usize) -> Answer {
        let whose = if self.work == Work::Creation { change } else { 0 };
        let state = STATES[change % STATES.len()];
        let body = json!({ "iccid": iccid(whose), "profileState": state }).to_string();
        if self.work != Work::Event {
            return self.app.deliver(body).await;
        }
        deliver(&self.app, &format!("msg_{change}"), body).await
    }

    /// Makes a change through to the end, so that the writer holds a connection that knows its statements.
    async fn warm(&mut self) {
        let change = self.changes;
        self.changes += 1;
        self.acknowledged += 1;
        assert_eq!(self.deliver(change).await.outcome(), "moved");
    }

    /// How many messages one change takes.
    async fn count(&mut self, cold: bool) -> Counts {
        self.prepare(cold).await;
        self.proxy.arm(None);
        self.warm().await;
        self.proxy.disarm()
    }

    /// Cold: the writer's connection has died unnoticed, and the next change needs a new one.
    async fn prepare(&mut self, cold: bool) {
        if cold {
            self.proxy.cut_all();
        } else {
            self.warm().await;
        }
    }

    /// How many unconfirmed commits the service has found in the database.
    async fn looked_up(&self) -> u64 {
        let metrics = self.app.admin.get("/metrics").await.text;
        let line = metrics.lines().find(|it| it.starts_with("esim_status_commits_looked_up_total"));
        line.and_then(|line| line.split_once(' ')?.1.parse().ok()).unwrap_or(0)
    }

    /// Cuts one change at this point, and reports the same once more.
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
        assert_eq!(usize::try_from(transitions), Ok(self.changes), "one transition a change");
        assert_straight(&self.direct).await;
        let kept = self.direct.scalar::<i64>("SELECT count(*) FROM deliveries").await;
        assert_eq!(usize::try_from(kept), Ok(self.acknowledged), "each delivery once");
        let looked_up = self.looked_up().await - self.looked_up_before;
        let (median, worst) = median_and_worst(&self.took);
        measured(
            &format!("connection cut, {what}"),
            format!(
                "{points} points, each answered 200 after {median:.2?} (median), {worst:.2?} (worst), {looked_up} by looking up a \
                 commit that was not confirmed; one transition each"
            ),
        );
        assert!(looked_up > 0, "no cut fell behind the commit");
    }
}

/// Every point of one change: before and straight after each message of the service, and before each of the server's.
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
async fn a_change_cut_anywhere_is_made_once() {
    cut_at(every_point, Work::Change, false, "change of a profile").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_cut_anywhere_is_made_once() {
    cut_at(every_point, Work::Creation, false, "creation of a profile").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_with_an_id_cut_anywhere_is_applied_once() {
    cut_at(every_point, Work::Event, false, "event with an id").await;
}

/// Nothing is read of a profile that was written a moment ago: bind, execute, close, sync, and the answers to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_soon_after_another_is_one_round_trip() {
    let mut scene = Scene::start(alone().await, Work::Change).await;
    let begun = Instant::now();
    // A busy machine may take so long from one to the next that the connection is asked first whether it lives.
    loop {
        let counts = scene.count(false).await;
        if counts.client == 4 {
            break;
        }
        assert!(begun.elapsed() < scene.turn.healing(), "{counts:?}");
    }
    assert_straight(&scene.direct).await;
}

/// A new connection has a hundred messages more: one point in three, or with `ESIM_STATUS_CUT_EVERYWHERE=1` each; the commit's
/// in any case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_over_a_new_connection_cut_anywhere_is_made_once() {
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

/// A network that swallows everything: nothing says that the connection is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_around_the_commit_is_replaced_in_time() {
    let mut scene = Scene::start(alone().await, Work::Change).await;
    let counts = scene.count(false).await;
    let commit = counts.commit();
    for point in [Point::BeforeClient(commit), Point::AfterClient(commit)] {
        scene.cut(Cut { point, silent: true }, false).await;
    }
    scene.end("silent around COMMIT", 2).await;
}
