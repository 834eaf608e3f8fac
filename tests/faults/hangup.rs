//! Clients that disconnect or half-close at each stage of a request: a complete request is committed, an incomplete one
//! changes nothing, and no socket is leaked.
//!
//! Hundreds of raw TCP clients close, reset or half-close their connections to the real binary; then the test compares
//! the stored deliveries and the binary's open sockets.

use std::fs;

use esim_status_testing::wait_until;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::history::assert_straight;
use super::iccid;
use super::postgres::Postgres;
use super::service::Service;
use super::turn::{beside_others, measured};
use super::wire::delivery;

/// How far a client gets before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connected,
    InTheHead,
    AfterTheHead,
    InTheBody,
    AfterTheBody,
    BeforeReadingTheAnswer,
}

/// How it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It closes both directions in order.
    Close,
    /// It resets the connection, as a crashed process or a middlebox does.
    Reset,
    /// It closes its sending side, and reads the answer.
    HalfClose,
}

const STAGES: [Stage; 6] = [
    Stage::Connected,
    Stage::InTheHead,
    Stage::AfterTheHead,
    Stage::InTheBody,
    Stage::AfterTheBody,
    Stage::BeforeReadingTheAnswer,
];

/// One client, whose report would create the profile with this number.
async fn leave(service: &Service, number: usize, stage: Stage, how: Leave) {
    let body = json!({ "iccid": iccid(number), "profileState": "INSTALLED" }).to_string();
    let request = delivery(&body);
    let head = request.len() - body.len();
    let sent = match stage {
        Stage::Connected => 0,
        Stage::InTheHead => head / 2,
        Stage::AfterTheHead => head,
        Stage::InTheBody => head + body.len() / 2,
        Stage::AfterTheBody | Stage::BeforeReadingTheAnswer => request.len(),
    };
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(&request[..sent]).await.unwrap();
    if stage == Stage::BeforeReadingTheAnswer {
        stream.readable().await.unwrap();
    }
    match how {
        Leave::Close => drop(stream),
        Leave::Reset => {
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
        Leave::HalfClose => {
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            let answer = String::from_utf8_lossy(&answer);
            let wanted = if sent == request.len() { "HTTP/1.1 200" } else { "HTTP/1.1 400" };
            assert!(
                answer.starts_with(wanted) || (answer.is_empty() && sent < request.len()),
                "{stage:?}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_that_sent_the_whole_request_have_delivered() {
    const EACH: usize = 30;
    let _turn = beside_others().await;
    let postgres = Postgres::start();
    let service = std::sync::Arc::new(Service::start(&postgres.url()).await);
    let sockets = || {
        let open = fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap();
        let is_socket =
            |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
        open.flatten().filter(|it| fs::read_link(it.path()).is_ok_and(is_socket)).count()
    };
    // The connections to the database are open by now, and some more may be opened.
    leave(&service, 0, Stage::AfterTheBody, Leave::HalfClose).await;
    let before = sockets();

    let mut clients = JoinSet::new();
    let (mut number, mut whole, mut perhaps) = (1, 1, 0);
    for stage in STAGES {
        for how in [Leave::Close, Leave::Reset, Leave::HalfClose] {
            for _ in 0..EACH {
                let service = service.clone();
                clients.spawn(async move { leave(&service, number, stage, how).await });
                number += 1;
                match (stage, how) {
                    // A reset discards what the service has not read yet.
                    (Stage::AfterTheBody, Leave::Reset) => perhaps += 1,
                    (Stage::AfterTheBody | Stage::BeforeReadingTheAnswer, _) => whole += 1,
                    _ => {}
                }
            }
        }
    }
    clients.join_all().await;
    let database = postgres.database();
    wait_until("every complete request is committed", async || {
        database.scalar::<i64>("SELECT count(*) FROM deliveries").await >= whole
    })
    .await;
    wait_until("the clients' connections are closed", async || sockets() <= before + 5).await;
    let kept: i64 = database.scalar("SELECT count(*) FROM deliveries").await;
    assert!((whole..=whole + perhaps).contains(&kept), "{whole} + {perhaps}: {kept}");
    assert_eq!(database.scalar::<i64>("SELECT count(*) FROM profiles").await, kept);
    assert_straight(&database).await;
    measured(
        "clients that disconnect",
        format!(
            "{} at six stages in three ways, {whole} of them with the whole body read, {perhaps} with a reset after it: \
             {kept} committed, 0 lost",
            number - 1
        ),
    );
}
