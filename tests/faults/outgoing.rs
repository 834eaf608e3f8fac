//! Outgoing webhooks while replicas and Postgres are killed under load, and the receiver fails too: every change is delivered, and
//! those of a profile arrive in their order.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use esim_status_testing::receiver::{Receiver, Reply};
use esim_status_testing::wait_until;
use serde_json::{Value, json};
use sqlx::Connection;

use super::postgres::Postgres;
use super::senders::Senders;
use super::service::Service;
use super::turn::{alone, from_environment, measured};

/// The position of the change of an event, by its id.
fn position(id: &str) -> i64 {
    id.split('_').nth(1).unwrap().parse().unwrap()
}

/// `ESIM_STATUS_KILL_ROUNDS` sets the number of rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_delivered_in_the_order_of_its_profile_whatever_is_killed() {
    let _turn = alone().await;
    let rounds = from_environment("ESIM_STATUS_KILL_ROUNDS", 6);
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let networks = [("ESIM_STATUS_ENDPOINT_NETWORKS", "127.0.0.0/8")];
    let mut services = [
        Service::start_with(&postgres.url(), &networks).await,
        Service::start_with(&postgres.url(), &networks).await,
    ];
    let receiver = Receiver::start().await;
    let body = json!({ "url": receiver.url() }).to_string();
    let created = services[0].backend().post("/v1/endpoints", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let path = format!("/v1/endpoints/{}", created.json()["id"].as_str().unwrap());
    // One request in twenty fails, and one in twenty takes longer.
    receiver.answers(|_| match rand::random_range(0..20) {
        0 => Reply::status(500),
        1 => Reply::status(200).after(Duration::from_millis(30)),
        _ => Reply::status(200),
    });
    let mut senders = Senders::new(16, 10, &[&services[0], &services[1]]);
    for round in 0..rounds {
        senders.start();
        tokio::time::sleep(Duration::from_millis(rand::random_range(500..2_500))).await;
        let service = usize::try_from(round % 2).unwrap();
        if round % 3 == 2 {
            postgres.kill();
            postgres.start_again();
        } else {
            services[service].kill();
            services[service].start_again().await;
        }
        services[service].ready().await;
        senders.stop().await;
    }
    receiver.answers(|_| Reply::status(200));
    let show = async || services[0].backend().get(&path).await.json();
    wait_until("everything is delivered", async || {
        let shown = show().await;
        shown["behind"] == 0 && shown["heldProfiles"] == 0
    })
    .await;
    let shown = show().await;
    assert_eq!((&shown["givenUp"], &shown["disabledBecause"]), (&json!(0), &Value::Null));

    let mut connection = database.connect().await;
    let changes: Vec<(i64,)> =
        sqlx::query_as("SELECT position FROM changes").fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let wanted: HashSet<i64> = changes.into_iter().map(|(position,)| position).collect();
    let accepted = receiver.accepted();
    let (mut got, mut last, mut twice) = (HashSet::new(), HashMap::new(), 0);
    for request in &accepted {
        let position = position(request.id());
        if !got.insert(position) {
            twice += 1;
            continue;
        }
        let before = last.insert(request.iccid().to_owned(), position);
        assert!(before.is_none_or(|before| before < position), "{} out of order", request.id());
    }
    let missing = wanted.difference(&got).count();
    assert_eq!((missing, got.difference(&wanted).count()), (0, 0));
    measured(
        "outgoing webhooks",
        format!(
            "{rounds} kills of replicas and Postgres, one request in twenty failed: {} changes delivered, 0 missing, 0 out of order, {twice} twice",
            wanted.len()
        ),
    );
}
