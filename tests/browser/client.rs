//! The TypeScript client, `clients/typescript`: its own tests in Node.js, and its example shop in Chromium, both with the
//! real binary.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use esim_status_testing::service::Service;
use esim_status_testing::{API_KEY, Client, Database, TestApp, server, wait_until};
use reqwest::Method;
use serde_json::json;

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP};
use super::live::now;
use super::profile::{ICCID, esim_object};

/// The client's folder. On the first call, installs its packages if its lock file has changed, and builds everything.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/typescript");
        let (lock, installed) =
            (folder.join("package-lock.json"), folder.join("node_modules/.installed"));
        let wanted = std::fs::read(lock).expect("the lock file is readable");
        if std::fs::read(&installed).ok().as_ref() != Some(&wanted) {
            npm(&folder, &["ci", "--no-audit", "--no-fund"]);
            std::fs::write(installed, wanted).expect("the folder of the packages is writable");
        }
        npm(&folder, &["run", "pretest"]);
        folder
    })
}

fn npm(folder: &Path, arguments: &[&str]) {
    let output = Command::new("npm").args(arguments).current_dir(folder).output();
    let output = output.expect("npm runs: see scripts/test");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(
        output.status.success(),
        "npm {arguments:?} fails:\n{}",
        String::from_utf8_lossy(&said)
    );
}

/// The URL of a fresh database.
async fn new_database() -> String {
    let database = Database::migrated().await;
    server().url(database.options.get_database().unwrap_or_default())
}

/// How the shop's page reaches the service.
enum Way {
    /// Through the shop's own server, as with `esim-status dev`.
    ThroughTheShop,
    /// Directly. The service allows the shop's origin.
    Directly,
}

/// The service, and the backend of the example shop.
struct Shop {
    service: Service,
    anybody: Client,
    /// The address of its page.
    page: String,
    process: Child,
}

impl Shop {
    /// Starts both, with one profile that is ready to be installed.
    async fn open(way: Way) -> Self {
        let folder = built();
        // The service must know the shop's origin before it starts, and the shop the service's.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port is free").port();
        let page = format!("http://127.0.0.1:{port}");
        let database_url = new_database().await;
        let origin = [("ESIM_STATUS_ALLOWED_ORIGINS", page.as_str())];
        let allowed = if matches!(way, Way::Directly) { &origin[..] } else { &[] };
        let service = Service::start_with(&database_url, allowed).await;
        let request = service.backend().request(Method::PUT, &format!("/v1/profiles/{ICCID}"));
        let answer = request.json(&esim_object()).send().await.expect("the service answers");
        assert!(answer.status().is_success(), "{answer:?}");
        let base = format!("http://{}", service.address());
        let mut node = Command::new("node");
        if matches!(way, Way::Directly) {
            node.env("ESIM_STATUS_BROWSER_URL", &base);
        }
        let mut process = node
            .arg(folder.join("example/server.js"))
            .env("PORT", port.to_string())
            .env("ESIM_STATUS_URL", &base)
            .env("ESIM_STATUS_API_KEY", API_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js runs: see scripts/test");
        let mut output = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the shop says where it listens");
        assert_eq!(line.trim_end(), page);
        Self { service, anybody: Client::new(base), page, process }
    }

    /// Sends a webhook that moves the profile.
    async fn report(&self, state: &str) {
        let body = json!({ "iccid": ICCID, "profileState": state }).to_string();
        assert_eq!(self.anybody.post(&TestApp::hook_path(), body).await.outcome(), "moved");
    }

    /// Opens the page, and waits until it follows the profile.
    async fn visit(&self) -> Browser {
        let browser = Browser::start(DESKTOP).await;
        browser.open(&self.page).await;
        wait_for(&browser, ".status", "Live").await;
        wait_for(&browser, "h1", "Install your eSIM").await;
        browser
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until an element of the shop's page has this text.
async fn wait_for(browser: &Browser, selector: &str, text: &str) {
    browser
        .wait_for(&format!("return document.querySelector('{selector}')?.textContent === '{text}'"))
        .await;
}

#[tokio::test]
async fn the_clients_own_tests_pass() {
    let folder = built();
    // The server to which the tests have changes delivered is on this machine.
    let networks = [("ESIM_STATUS_ENDPOINT_NETWORKS", "127.0.0.0/8")];
    let service = Service::start_with(&new_database().await, &networks).await;
    let base = format!("http://{}", service.address());
    let tests = Command::new("node")
        .arg("scripts/test.js")
        .current_dir(folder)
        .env("ESIM_STATUS_URL", &base)
        .env("ESIM_STATUS_API_KEY", API_KEY)
        .env("ESIM_STATUS_WEBHOOK_URL", format!("{base}{}", TestApp::hook_path()))
        .output();
    let tests = tests.expect("Node.js runs: see scripts/test");
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stdout));
}

#[tokio::test]
async fn the_install_screen_of_the_example_shop_follows_each_webhook() {
    let shop = Shop::open(Way::ThroughTheShop).await;
    let browser = shop.visit().await;
    browser.wait_for("return document.querySelector('img')?.naturalWidth > 0").await;
    assert_accessible(&browser, "the example shop").await;
    // StrictMode mounts each component twice: the first mount's stream must have been closed.
    wait_until("one stream is open", async || {
        shop.service.metric("esim_status_streams").await == Some(1.0)
    })
    .await;
    browser.run("self.isSamePage = true").await;
    for (state, title) in
        [("INSTALLED", "Your eSIM is installed"), ("DISABLED", "Turn your eSIM on")]
    {
        shop.report(state).await;
        wait_for(&browser, "h1", title).await;
    }
    assert_eq!(browser.run("return self.isSamePage").await, true);
    assert_eq!(browser.run("return document.querySelector('img')").await, json!(null));
    let tokens = format!("/v1/profiles/{ICCID}/tokens");
    let ended = shop.service.backend().request(Method::DELETE, &tokens).send().await;
    assert!(ended.is_ok_and(|answer| answer.status().is_success()));
    wait_for(&browser, ".status + button", "Go on").await;
    assert_eq!(browser.run("return self.wrongs").await, json!([]));
    browser.open("about:blank").await;
    wait_until("no stream is open", async || {
        shop.service.metric("esim_status_streams").await == Some(0.0)
    })
    .await;
}

/// Also prints how long each change took: `cargo test --test browser hundred -- --nocapture`.
#[tokio::test]
async fn a_hundred_webhooks_reach_reacts_page_one_by_one() {
    let shop = Shop::open(Way::Directly).await;
    let browser = shop.visit().await;
    browser
        .run(
            "self.changes = [];
             const title = document.querySelector('h1');
             new MutationObserver(() => changes.push([Date.now(), title.textContent]))
                 .observe(title, { childList: true, characterData: true, subtree: true });",
        )
        .await;
    let (mut from_sending, mut from_answer) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let (state, title) = match number % 2 {
            0 => ("INSTALLED", "Your eSIM is installed"),
            _ => ("DISABLED", "Turn your eSIM on"),
        };
        let sent = now();
        shop.report(state).await;
        let answered = now();
        let look = format!(
            "const look = () => changes.length > {number} ? done(changes.at(-1)) : setTimeout(look, 5);
             look();"
        );
        let change = browser.run_async(&look).await;
        assert_eq!(change[1], title);
        let seen = change[0].as_f64().expect("a change has its time");
        from_sending.push(seen - sent);
        from_answer.push((seen - answered).max(0.0));
    }
    assert_eq!(browser.run("return changes.length").await, 100);
    for (from, mut times) in [("sending it", from_sending), ("its answer", from_answer)] {
        times.sort_by(f64::total_cmp);
        println!(
            "webhook to React's DOM, from {from}: median {:.0} ms, worst {:.0} ms",
            times[50], times[99]
        );
    }
}
