//! Helper: Chromium, driven through `chromedriver`. Each test has its own of both, with a temporary profile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities;
use thirtyfour::{DesiredCapabilities, WebDriver};
use tokio::sync::{Semaphore, SemaphorePermit};

use esim_status_testing::wait_until;

/// The device that the browser emulates.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    pub width: u32,
    pub height: u32,
    /// Empty for the browser's own.
    pub user_agent: &'static str,
    /// The model that the browser tells if it is asked; empty if it tells none.
    pub model: &'static str,
}

pub const DESKTOP: Device = Device { width: 1000, height: 900, user_agent: "", model: "" };
pub const SMALL: Device = Device { width: 320, height: 640, user_agent: "", model: "" };
pub const IPHONE: Device = Device {
    width: 390,
    height: 844,
    user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
    model: "",
};
pub const OLD_IPHONE: Device = Device {
    user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 16_7 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
    ..IPHONE
};
pub const ANDROID: Device = Device {
    width: 360,
    height: 780,
    user_agent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/140.0.0.0 Mobile Safari/537.36",
    model: "",
};

/// There is no sandbox for root, and animations would change colours during a check. The remaining flags prevent
/// requests to other servers.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--force-prefers-reduced-motion",
    "--hide-scrollbars",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // A page that was left gives its stream back, but not always soon enough, and a browser has only six connections to a server.
    "--disable-back-forward-cache",
    // A host name that is not `localhost`, which browsers and pages treat specially.
    "--host-resolver-rules=MAP esim.test 127.0.0.1",
];

/// Records every error in a page from its first moment.
const WATCH: &str = "
    self.wrongs = [];
    addEventListener('error', (event) => wrongs.push(event.message ?? 'not loaded'), true);
    addEventListener('unhandledrejection', (event) => wrongs.push(String(event.reason)));
    addEventListener('securitypolicyviolation', (event) => wrongs.push(event.violatedDirective + event.blockedURI));";

/// Shorthands to find elements in the install element.
const FIND: &str = "
    const root = document.querySelector('esim-install')?.shadowRoot;
    const all = (selector) => [...(root?.querySelectorAll(selector) ?? [])];
    const find = (selector) => root?.querySelector(selector);";

/// How often to try to start chromedriver before the test fails.
const STARTS: usize = 5;

/// How many browsers run concurrently. Each takes a core while it starts, so more of them would only delay each other.
static ROOM: Semaphore = Semaphore::const_new(3);

pub struct Browser {
    driver: WebDriver,
    _chromedriver: Chromedriver,
    _room: SemaphorePermit<'static>,
}

impl Browser {
    pub async fn start(device: Device) -> Self {
        // A test without a service has nothing else that chooses it.
        esim_status::http_client::use_ring();
        let room = ROOM.acquire().await.expect("the room is never closed");
        let chromedriver = Chromedriver::start();
        let mut capabilities = DesiredCapabilities::chrome();
        for flag in FLAGS {
            capabilities.add_arg(flag).expect("a flag can be added");
        }
        let metrics = json!({ "width": device.width, "height": device.height, "pixelRatio": 1.0, "mobile": false });
        let mut emulation = json!({ "deviceMetrics": metrics });
        if !device.user_agent.is_empty() {
            emulation["userAgent"] = device.user_agent.into();
        }
        if !device.model.is_empty() {
            let hints = json!({ "platform": "Android", "mobile": true, "model": device.model });
            emulation["clientHints"] = hints;
        }
        capabilities
            .add_experimental_option("mobileEmulation", emulation)
            .expect("an option can be added");
        let address = format!("http://127.0.0.1:{}", chromedriver.port);
        let driver = WebDriver::new(address, capabilities).await.expect("Chromium starts");
        let browser = Self { driver, _chromedriver: chromedriver, _room: room };
        browser.before_each_page(WATCH).await;
        browser
    }

    /// Runs a script in each page before any script of the page.
    pub async fn before_each_page(&self, script: &str) {
        self.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.expect("the page is opened");
    }

    pub async fn reload(&self) {
        self.driver.refresh().await.expect("the page is loaded again");
    }

    /// Runs a script that may `return` something; it can use `root`, `find` and `all`.
    pub async fn run(&self, script: &str) -> Value {
        let script = format!("{FIND}{script}");
        self.driver.execute(script, Vec::new()).await.expect("the script runs").json().clone()
    }

    /// The same for a script that calls `done` later.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!("{FIND}const done = arguments[0];{script}");
        self.driver.execute_async(script, Vec::new()).await.expect("the script runs").json().clone()
    }

    /// Sends a command of the `DevTools` protocol.
    pub async fn cdp(&self, method: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(method, parameters).await.expect("the browser obeys")
    }

    /// Presses a key in the focused element.
    pub async fn press(&self, key: thirtyfour::Key) {
        self.driver.action_chain().send_keys(key).perform().await.expect("the key is pressed");
    }

    /// The text of the first element in the install element that matches the selector.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return find('{selector}')?.textContent ?? ''")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    pub async fn wait_for_text(&self, selector: &str, expected: &str) {
        let what = format!("`{selector}` says {expected:?}");
        wait_until(&what, async || self.text(selector).await == expected).await;
    }

    /// Waits until a script returns true.
    pub async fn wait_for(&self, script: &str) {
        wait_until(script, async || self.run(script).await == true).await;
    }

    pub async fn prefer_dark(&self) {
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.cdp("Emulation.setEmulatedMedia", dark).await;
    }

    /// Asserts that the page had no errors, sent requests only to its own origin, and does not scroll sideways.
    pub async fn assert_clean(&self) {
        assert_eq!(self.run("return self.wrongs").await, json!([]));
        let foreign = "return performance.getEntriesByType('resource').map(({ name }) => name)
            .filter((name) => !name.startsWith(location.origin) && !/^(blob|data):/.test(name))";
        assert_eq!(self.run(foreign).await, json!([]));
        let excess = "return document.documentElement.scrollWidth - innerWidth";
        assert!(self.run(excess).await.as_i64() <= Some(0), "the page scrolls sideways");
    }

    /// A picture of the page in its whole height.
    pub async fn whole_page(&self) -> Vec<u8> {
        let taken = json!({ "captureBeyondViewport": true });
        let taken = self.cdp("Page.captureScreenshot", taken).await;
        let data = taken["data"].as_str().expect("a screenshot is taken");
        STANDARD.decode(data).expect("the screenshot is base64")
    }

    pub async fn screenshot(&self) -> Vec<u8> {
        self.driver.screenshot_as_png().await.expect("a screenshot is taken")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // chromedriver ends the session; the session itself must not block here.
        let _ = self.driver.clone().leak();
    }
}

/// A chromedriver on its own port. It stops its Chromium when it is dropped, also if a test fails.
struct Chromedriver {
    process: Child,
    port: u16,
}

impl Chromedriver {
    /// Starts a chromedriver. Retries, because it sometimes ends without a port: twice in 120 starts beside others, and
    /// never in 240 starts alone.
    fn start() -> Self {
        let mut said = Vec::new();
        for _ in 0..STARTS {
            match Self::try_start() {
                Ok(started) => return started,
                Err(lines) => said.extend(lines),
            }
        }
        panic!("chromedriver printed no port: {said:#?}");
    }

    /// Tries to start a chromedriver. If it fails, returns its output.
    fn try_start() -> Result<Self, Vec<String>> {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut process =
            started.expect("the tests of the page need chromedriver: see scripts/test");
        let output = process.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(output).lines();
        let mut said = Vec::new();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.split_once("successfully on port ");
            let port = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            said.push(line);
            port
        });
        let Some(port) = port else {
            let _ = process.kill();
            let _ = process.wait();
            return Err(said);
        };
        // Keep reading, so that its output never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, port })
    }

    fn shut_down(&self) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream
            .write_all(b"GET /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        if self.shut_down().is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
