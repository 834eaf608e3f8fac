//! Bytes on the wire that no HTTP client would send.
//!
//! The tests write raw requests to a TCP socket. Each request has a valid secret and a valid report, so it would create
//! a profile if it were not refused.

use std::net::SocketAddr;
use std::time::Duration;

use esim_status_testing::{Answer, TestApp, wait_until};
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::ICCID;

/// Longer than any timeout of the service.
const PATIENCE: Duration = Duration::from_secs(20);

fn body() -> String {
    json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string()
}

/// A request with these header lines and a valid body.
fn post(fields: &str) -> Vec<u8> {
    let (path, body) = (TestApp::hook_path(), body());
    format!("POST {path} HTTP/1.1\r\n{fields}\r\n{body}").into_bytes()
}

/// A valid request with `Connection: close` and one more header.
fn with_field(field: &str) -> Vec<u8> {
    post(&format!(
        "Host: a\r\nConnection: close\r\nContent-Length: {}\r\n{field}\r\n",
        body().len()
    ))
}

/// A valid request to another target.
fn to(target: &[u8]) -> Vec<u8> {
    let fields =
        format!(" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}", body().len());
    [b"POST ", target, fields.as_bytes(), b"\r\n\r\n", body().as_bytes()].concat()
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the service listens")
}

/// Everything that the service sends until it closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer also counts as closed.
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address).await;
    // The service may answer and close before it has read everything.
    drop(stream.write_all(request).await);
    rest(&mut stream).await
}

/// The statuses of all answers on one connection.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect()
}

async fn assert_nothing_happened(app: &TestApp) {
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 0);
}

#[tokio::test]
async fn heads_that_are_too_large_invalid_or_ambiguous_are_refused_and_change_nothing() {
    let app = TestApp::start().await;
    let length = body().len();
    let fields = |count: usize| "X: y\r\n".repeat(count).trim_end().to_owned();
    let hook = TestApp::hook_path();
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        // The request has three headers already.
        ("101 headers", with_field(&fields(98)), "431"),
        ("a header of 1 MB", with_field(&format!("X: {}", "y".repeat(1 << 20))), "431"),
        (
            "5,000 full signatures",
            with_field(&format!(
                "Webhook-Signature: {}",
                format!("v1,{} ", "A".repeat(44)).repeat(5_000)
            )),
            "431",
        ),
        ("a URI of 70 kB", to(format!("{hook}?{}", "x".repeat(70_000)).as_bytes()), "431"),
        ("two slashes", to(format!("/{hook}").as_bytes()), "404"),
        ("dots encoded", to(b"/webhooks/%2e%2e/livez"), "404"),
        ("dots encoded before the hook", to(format!("/x/%2e%2e{hook}").as_bytes()), "404"),
        ("dots", to(format!("/x/..{hook}").as_bytes()), "404"),
        ("a backslash", to(hook.replacen('/', "\\", 1).as_bytes()), "400"),
        ("NUL in the path", to(format!("{hook}\0").as_bytes()), "400"),
        ("NUL encoded", to(format!("{hook}%00").as_bytes()), "401"),
        ("a space in the path", to(format!("{hook} x").as_bytes()), "400"),
        ("length and encoding", with_field("Transfer-Encoding: chunked"), "400"),
        ("two lengths", with_field(&format!("Content-Length: {}", length + 1)), "400"),
        ("the same length twice", with_field(&format!("Content-Length: {length}")), "400"),
        (
            "a list of lengths",
            post(&format!("Host: a\r\nContent-Length: {length}, {length}\r\n")),
            "400",
        ),
        ("a signed length", post(&format!("Host: a\r\nContent-Length: +{length}\r\n")), "400"),
        ("a negative length", post("Host: a\r\nContent-Length: -1\r\n"), "400"),
        (
            "a length of 30 digits",
            post(&format!("Host: a\r\nContent-Length: {}\r\n", "9".repeat(30))),
            "400",
        ),
        ("gzip and chunked", post("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), "400"),
        ("chunked, misspelt", post("Host: a\r\nTransfer-Encoding: xchunked\r\n"), "400"),
        ("no host", post(&format!("Content-Length: {length}\r\n")), "400"),
        ("two hosts", with_field("Host: b"), "400"),
        (
            "bare line feeds",
            String::from_utf8(with_field("X: y")).unwrap().replace("\r\n", "\n").into_bytes(),
            "400",
        ),
        ("one bare line feed", with_field("X: y\nZ: z"), "400"),
        ("a folded line", with_field("X: y\r\n z"), "400"),
        ("a space before the colon", with_field("X : y"), "400"),
        ("a line without a colon", with_field("X"), "400"),
        ("NUL in a header", with_field("X: \0"), "400"),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "400"),
    ];
    for (name, request, status) in rows {
        let answer = exchange(app.service.public, &request).await;
        assert_eq!(statuses(&answer), [status], "{name}: {answer}");
    }
    assert_nothing_happened(&app).await;
    let answer = exchange(app.service.public, &with_field(&fields(90))).await;
    assert_eq!(statuses(&answer), ["200"], "the same request without an error: {answer}");
}

#[tokio::test]
async fn bodies_that_are_framed_wrongly_or_truncated_change_nothing() {
    let app = TestApp::start().await;
    let chunked = |chunks: &str| {
        let mut request = post("Host: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n");
        request.truncate(request.len() - body().len());
        request.extend_from_slice(chunks.as_bytes());
        request
    };
    let (body, size) = (body(), format!("{:x}", body().len()));
    for (name, request) in [
        ("a size that is not a number", chunked(&format!("zz\r\n{body}\r\n0\r\n\r\n"))),
        ("a signed size", chunked(&format!("+{size}\r\n{body}\r\n0\r\n\r\n"))),
        ("a size of 2^64", chunked(&format!("1{}\r\n{body}\r\n0\r\n\r\n", "0".repeat(16)))),
        ("a chunk longer than its size", chunked(&format!("{size}\r\n{body}x\r\n0\r\n\r\n"))),
        ("a bare line feed", chunked(&format!("{size}\n{body}\n0\n\n"))),
    ] {
        let answer = exchange(app.service.public, &request).await;
        let refused = statuses(&answer).iter().all(|status| *status == "400");
        assert!(refused, "{name}: {answer}");
    }
    for (name, request) in [
        ("a chunked body without its last chunk", chunked(&format!("{size}\r\n{body}\r\n"))),
        ("a body shorter than its length", {
            let whole = String::from_utf8(with_field("X: y")).unwrap();
            whole.as_bytes()[..whole.len() - 1].to_vec()
        }),
    ] {
        let mut stream = connect(app.service.public).await;
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        let refused = statuses(&answer).iter().all(|status| *status == "400");
        assert!(refused, "{name}: {answer}");
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_refused_before_it_is_sent() {
    let app = TestApp::start().await;
    let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 65537\r\n";
    let head = format!("POST {} HTTP/1.1\r\n{fields}\r\n", TestApp::hook_path());
    let answer = exchange(app.service.public, head.as_bytes()).await;
    assert_eq!(statuses(&answer), ["413"], "{answer}");

    let length = body().len();
    let fields = format!(
        "Host: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n"
    );
    let answer = exchange(app.service.public, &post(&fields)).await;
    assert_eq!(statuses(&answer).last(), Some(&"200"), "{answer}");
}

#[tokio::test]
async fn an_endless_chunked_body_is_refused_as_soon_as_it_is_too_large() {
    let app = TestApp::start().await;
    let mut request = post("Host: a\r\nTransfer-Encoding: chunked\r\n");
    request.truncate(request.len() - body().len());
    for _ in 0..5 {
        request.extend_from_slice(format!("4000\r\n{}\r\n", " ".repeat(0x4000)).as_bytes());
    }
    let answer = exchange(app.service.public, &request).await;
    assert_eq!(statuses(&answer), ["413"], "{answer}");
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_sender_that_disconnects_right_after_the_body_has_delivered() {
    let app = TestApp::start().await;
    let address = app.service.public;
    let request = |state: &str| {
        let body = body().replace("INSTALLED", state);
        let (path, length) = (TestApp::hook_path(), body.len());
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let mut half_closed = connect(address).await;
    half_closed.write_all(request("INSTALLED").as_bytes()).await.unwrap();
    half_closed.shutdown().await.unwrap();
    let answer = rest(&mut half_closed).await;
    assert_eq!(statuses(&answer), ["200"], "{answer}");

    let mut closed = connect(address).await;
    closed.write_all(request("DISABLED").as_bytes()).await.unwrap();
    drop(closed);
    wait_until("the delivery of the disconnected sender is committed", async || {
        app.profile(ICCID).await["state"] == "DISABLED"
    })
    .await;
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn pipelined_deliveries_are_applied_in_their_order() {
    let app = TestApp::start().await;
    let mut requests = Vec::new();
    for (number, state) in ["RELEASED", "INSTALLED", "DISABLED", "INSTALLED"].iter().enumerate() {
        let body = body().replace("INSTALLED", state);
        let close = if number == 3 { "Connection: close\r\n" } else { "" };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {}\r\n\r\n",
            TestApp::hook_path(),
            body.len()
        );
        requests.extend_from_slice(format!("{head}{body}").as_bytes());
    }
    let answers = exchange(app.service.public, &requests).await;
    assert_eq!(statuses(&answers), ["200"; 4], "{answers}");
    assert_eq!(app.profile(ICCID).await["seq"], 4);
    app.assert_straight(ICCID).await;
}

/// The only test here that takes as long as the timeouts that it checks.
#[tokio::test]
async fn a_stalled_sender_is_disconnected_within_ten_seconds_and_delays_nobody() {
    let app = TestApp::start().await;
    let timeouts = async || {
        let metrics = app.admin.get("/metrics").await.text;
        let series = r#"esim_status_problems_total{code="timeout"} "#;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
        value.expect("the series begins with 0")
    };
    let timeouts_before = timeouts().await;
    let address = app.service.public;
    let begun = Instant::now();
    let stalls = |sent: &'static str| async move {
        let mut stream = connect(address).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        (rest(&mut stream).await, begun.elapsed())
    };
    let slow_body = async {
        let mut stream = connect(address).await;
        let whole = String::from_utf8(with_field("X: y")).unwrap();
        stream.write_all(&whole.as_bytes()[..whole.len() - 5]).await.unwrap();
        (rest(&mut stream).await, begun.elapsed())
    };
    let dribbles = async {
        let mut stream = connect(address).await;
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let dribble = async {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            while write.write_all(b"y").await.is_ok() {
                tick.tick().await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = dribble => {}
        }
        (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
    };
    let others = async {
        assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
        begun.elapsed()
    };
    let (head, idle, trickle, body, served) =
        tokio::join!(stalls("POST / HTTP/1.1\r\nHost:"), stalls(""), dribbles, slow_body, others);
    let limit = Duration::from_secs(10);
    assert!(served < Duration::from_secs(5), "{served:?}");
    for (name, (answer, took)) in [("head", head), ("idle", idle), ("dribble", trickle)] {
        assert!(
            took < limit && statuses(&answer).iter().all(|s| *s == "408"),
            "{name}: {took:?}, {answer}"
        );
    }
    assert!(body.1 < limit && statuses(&body.0) == ["408"], "{body:?}");
    // No other test of this process has a body time out.
    assert_eq!(timeouts().await - timeouts_before, 1);
    assert_eq!(app.profile(ICCID).await["deliveries"], 1);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_gets_a_503_and_is_served_later() {
    let app = TestApp::start_with(|settings| settings.max_connections = 2).await;
    let held = [connect(app.service.public).await, connect(app.service.public).await];
    let refused = exchange(app.service.public, &with_field("X: y")).await;
    assert_eq!(statuses(&refused), ["503"], "{refused}");
    assert!(refused.to_ascii_lowercase().contains("retry-after: 1"), "{refused}");
    drop(held);
    wait_until("a connection is accepted again", async || {
        statuses(&exchange(app.service.public, &with_field("X: y")).await) == ["200"]
    })
    .await;
    let answer = Answer::of(app.backend.request(reqwest::Method::GET, "/v1/profiles")).await;
    assert_eq!(answer.status, StatusCode::OK);
}
