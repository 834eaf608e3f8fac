//! Slow-loris: hundreds of clients that send one byte every five seconds, or nothing. They are disconnected, and other
//! clients are not affected.
//!
//! 600 raw TCP connections dawdle at three stages of a request to the real binary while other senders deliver.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::history::{assert_moved_once_each, assert_straight, lost};
use super::postgres::Postgres;
use super::senders::{Senders, refusals};
use super::service::Service;
use super::turn::{beside_others, measured, median_and_worst};
use super::wire::delivery;

/// What a slow client has sent before it begins to dawdle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Nothing,
    Head,
    Body,
}

/// Sends one byte every five seconds until the service closes the connection; returns how long that took.
async fn dawdle(service: &Service, stage: Stage) -> impl Future<Output = Duration> + use<> {
    let request = delivery(r#"{"iccid":"89972123300991848961","profileState":"INSTALLED"}"#);
    let sent = match stage {
        Stage::Nothing => 0,
        Stage::Head => 30,
        Stage::Body => request.len() - 20,
    };
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(&request[..sent]).await.unwrap();
    let begun = Instant::now();
    async move {
        let (mut read, mut write) = stream.into_split();
        let dribbling = async {
            for byte in &request[sent..] {
                tokio::time::sleep(Duration::from_secs(5)).await;
                if stage == Stage::Nothing || write.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
            // The reading side notices the close.
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = dribbling => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{stage:?}: {answer}");
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_slow_clients_are_disconnected_and_delay_nobody() {
    const EACH: usize = 200;
    let turn = beside_others().await;
    let postgres = Postgres::start();
    let service = Service::start(&postgres.url()).await;
    let mut senders = Senders::new(4, 5, &[&service]);
    senders.start();
    let mut slow = JoinSet::new();
    for stage in [Stage::Nothing, Stage::Head, Stage::Body] {
        for _ in 0..EACH {
            let dawdling = dawdle(&service, stage).await;
            slow.spawn(async move { (stage, dawdling.await) });
        }
    }
    let closed = slow.join_all().await;
    senders.stop().await;

    let attempts = senders.take_attempts();
    let (refused, _) = refusals(&attempts);
    let unanswered = attempts.iter().filter(|attempt| attempt.status.is_none()).count();
    let times: Vec<_> = attempts.iter().map(|attempt| attempt.took).collect();
    let (median, worst) = median_and_worst(&times);
    for stage in [Stage::Nothing, Stage::Head, Stage::Body] {
        let times: Vec<_> = closed.iter().filter(|it| it.0 == stage).map(|it| it.1).collect();
        let (median, worst) = median_and_worst(&times);
        measured(
            "slow-loris",
            format!("{EACH} that dawdle after {stage:?}: closed after {median:.1?}, {worst:.1?}"),
        );
        assert!(worst < Duration::from_secs(10) + turn.slack(), "{worst:?}");
    }
    let database = postgres.database();
    let lost = lost(&database, &senders.take_acknowledged()).await;
    measured(
        "slow-loris",
        format!(
            "meanwhile {} deliveries, {refused} refused, {median:.2?} (median), {worst:.2?} (worst), {lost} lost",
            times.len()
        ),
    );
    assert_eq!((refused, unanswered), (0, 0));
    assert_straight(&database).await;
    assert_moved_once_each(&database, &senders).await;
}
