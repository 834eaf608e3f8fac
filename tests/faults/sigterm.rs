//! SIGTERM under load and with open streams: every accepted webhook is answered, and no stream is cut without a retry
//! hint.
//!
//! The real binary gets SIGTERM while 32 senders deliver and 100 clients follow profiles, and is then started again.

use std::time::{Duration, Instant};

use esim_status_testing::{API_KEY, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::history::{assert_moved_once_each, assert_straight, lost};
use super::iccid;
use super::postgres::Postgres;
use super::senders::Senders;
use super::service::Service;
use super::turn::{alone, measured};

/// Opens a stream; the returned future reads it to its end and returns all of it.
async fn follow(service: &Service, iccid: &str) -> impl Future<Output = String> + use<> {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let request = format!(
        "GET /v1/profiles/{iccid}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("event: profile") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the stream opens");
    }
    async move {
        stream.read_to_end(&mut read).await.expect("the stream is ended, not cut");
        String::from_utf8_lossy(&read).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_webhook_and_ends_every_stream_with_a_retry_hint() {
    const STREAMS: usize = 100;
    let turn = alone().await;
    let postgres = Postgres::start();
    let mut service = Service::start(&postgres.url()).await;
    let mut senders = Senders::new(32, 5, &[&service]);
    senders.start();
    let database = postgres.database();
    // A sender reports on its five profiles in turn, so the first of each is among them.
    let firsts: Vec<_> = (0..32).map(|sender| iccid(sender * 5)).collect();
    wait_until("the first profile of each sender exists", async || {
        let existing = "SELECT count(*) FROM profiles WHERE iccid = ANY($1)";
        let existing = sqlx::query_scalar::<_, i64>(existing).bind(&firsts);
        existing.fetch_one(&mut database.connect().await).await.unwrap() == 32
    })
    .await;
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        streams.spawn(follow(&service, &firsts[number % 32]).await);
    }

    let told = Instant::now();
    service.terminate();
    let status = service.ended().await;
    let took = told.elapsed();
    assert!(status.success(), "{status}:\n{}", service.log());
    assert!(took < Duration::from_secs(10) + turn.slack(), "{took:?}");
    let ends = timeout(Duration::from_secs(5), streams.join_all()).await;
    let ends = ends.expect("all streams have ended");
    let hinted = ends.iter().filter(|end| {
        let last = end.trim_end_matches("0\r\n\r\n").trim_end();
        last.lines().last().is_some_and(|line| line.starts_with("retry: "))
    });
    assert_eq!(hinted.count(), STREAMS);

    // Every accepted delivery was answered: none is stored that its sender does not know of.
    let kept: i64 = database.scalar("SELECT count(*) FROM deliveries").await;
    service.start_again().await;
    senders.stop().await;
    let acknowledged = senders.take_acknowledged();
    let attempts = senders.take_attempts();
    let answered = attempts.iter().filter(|it| it.status.is_some_and(|status| status != 503));
    let later: i64 = database.scalar("SELECT count(*) FROM deliveries").await;
    assert_eq!(usize::try_from(later), Ok(answered.count()), "stored but not answered");
    let lost = lost(&database, &acknowledged).await;
    assert_straight(&database).await;
    assert_moved_once_each(&database, &senders).await;
    let refused = attempts.iter().filter(|it| it.status == Some(503)).count();
    measured(
        "SIGTERM under load",
        format!(
            "ended with 0 after {took:.2?}; {kept} deliveries stored by then, {refused} answers 503, \
             {STREAMS} streams ended with a retry hint, {lost} lost"
        ),
    );
}
