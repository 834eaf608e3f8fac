//! The function `follow` behind every kind of faulty proxy: it falls back to polling, and does not send requests in a
//! rush.
//!
//! `follow.mjs` runs the real module in Node.js, because a browser opens only six connections to one host. A proxy in
//! front of a real service breaks the streams.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esim_status_testing::{TestApp, wait_until};
use serde_json::Value;

use super::profile::{ICCID, start, token};
use super::proxy::{Asked, Proxy};

const EVENTS: &str = "v1/profiles/self/events";

/// The ways in which streams fail.
const FAULTS: [&str; 9] =
    ["empty", "comments", "silent", "broken", "html", "refused", "cut", "closed", "tags"];

/// A Node.js process that follows the profile at several base URLs.
struct Followers {
    process: Child,
    said: Arc<Mutex<Vec<Value>>>,
    _module: tempfile::TempDir,
}

impl Followers {
    async fn start(app: &TestApp, bases: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder is created");
        let module = folder.path().join("esim-status.mjs");
        std::fs::write(&module, app.anybody.get("/assets/esim-status.js").await.text)
            .expect("the module is written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/follow.mjs");
        let mut process = Command::new("node")
            .args([script.as_path(), &module])
            .arg(token(600))
            .args(bases)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js runs: see scripts/test");
        let output = BufReader::new(process.stdout.take().expect("its output is piped"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let saying = said.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("a line of JSON");
                saying.lock().expect("nobody panicked with it").push(line);
            }
        });
        Self { process, said, _module: folder }
    }

    /// Everything that the follower of this base URL has printed as `what`, in order.
    fn said(&self, base: &str, what: &str) -> Vec<String> {
        let said = self.said.lock().expect("nobody panicked with it");
        let of_base = said.iter().filter(|line| line["base"] == base);
        of_base.filter_map(|line| Some(line[what].as_str()?.to_owned())).collect()
    }

    async fn wait_for_state(&self, base: &str, state: &str) {
        let what = format!("{base} is seen to be {state}");
        wait_until(&what, async || self.said(base, "state").last().is_some_and(|s| s == state))
            .await;
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_stream_that_fails_in_any_way_is_replaced_by_polls_without_a_rush() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let bases = FAULTS.map(|fault| proxy.base(fault));
    let followers = Followers::start(&app, &bases).await;
    for base in &bases {
        followers.wait_for_state(base, "RELEASED").await;
    }
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    for base in &bases {
        followers.wait_for_state(base, "INSTALLED").await;
    }
    for fault in FAULTS {
        let since_first = |asked: &Asked| asked.at - proxy.asked(fault, "")[0].at;
        wait_until("20 s have passed", async || since_first_to_now(&proxy, fault) > 20.0).await;
        let asked: Vec<_> =
            proxy.asked(fault, "").iter().map(|a| (since_first(a), a.path.clone())).collect();
        let poll = asked.iter().find(|(_, path)| path != EVENTS);
        // A refusal demands pauses of 3 s, and `follow` polls only after the second refusal.
        let limit = Duration::from_secs(if fault == "refused" { 15 } else { 10 });
        assert!(poll.is_some_and(|(after, _)| *after < limit), "{fault}: {asked:#?}");
        let at_first = asked.iter().filter(|(after, _)| after.as_secs() < 20).count();
        // Pauses are random within bounds: up to 13 requests were seen. A rush would be one a second or more.
        assert!(at_first <= 16, "{fault}: {asked:#?}");
        let statuses = followers.said(&proxy.base(fault), "status");
        assert!(statuses.iter().any(|status| status == "polling"), "{fault}: {statuses:?}");
    }
    // `Retry-After` is the minimum pause.
    let refused = proxy.asked("refused", EVENTS);
    assert!(
        refused.windows(2).all(|two| two[1].at - two[0].at >= Duration::from_secs(3)),
        "{refused:#?}"
    );
}

fn since_first_to_now(proxy: &Proxy, fault: &str) -> f32 {
    proxy.asked(fault, "").first().map_or(0.0, |asked| asked.at.elapsed().as_secs_f32())
}

#[tokio::test]
async fn streams_that_worked_are_reopened_soon_however_often_they_are_cut() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let base = proxy.base("short");
    let followers = Followers::start(&app, std::slice::from_ref(&base)).await;
    // Each stream lives for 12 s. The fourth is opened after three pauses, which must not double.
    for number in 1..=4 {
        wait_until("another stream is opened", async || {
            proxy.asked("short", EVENTS).len() == number
        })
        .await;
        if let [.., before, last] = &proxy.asked("short", EVENTS)[..] {
            let pause = (last.at - before.at).saturating_sub(Duration::from_secs(12));
            assert!(pause < Duration::from_millis(2_500), "pause {number}: {pause:?}");
        }
    }
    assert_eq!(proxy.asked("short", "").len(), 4, "the follower must send no polls");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    followers.wait_for_state(&base, "INSTALLED").await;
}

#[tokio::test]
async fn without_a_fault_changes_arrive_by_the_stream() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let base = proxy.base("esim");
    let followers = Followers::start(&app, std::slice::from_ref(&base)).await;
    followers.wait_for_state(&base, "RELEASED").await;
    for state in ["INSTALLED", "DISABLED"] {
        assert_eq!(app.report(ICCID, state).await, "moved");
        followers.wait_for_state(&base, state).await;
    }
    assert_eq!(followers.said(&base, "status"), ["live"]);
    assert_eq!(followers.said(&base, "state"), ["RELEASED", "INSTALLED", "DISABLED"]);
}
