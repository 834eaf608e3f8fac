//! The connection that listens for changes is lost silently: after the network is back, followers get changes within a
//! second.
//!
//! A relay drops the packets of listening connections for eight seconds, while a real long poll waits.

use std::time::{Duration, Instant};

use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::wire::Wire;
use esim_status_testing::{Answer, Database};
use reqwest::Method;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::iccid;
use super::relay::{Habit, Relay};

/// How long the network is silent: longer than the service needs to notice.
const SILENT: Duration = Duration::from_secs(8);

/// How soon after that a change must arrive.
const ARRIVES: Duration = Duration::from_secs(1);

async fn report(service: &Service, state: &str) {
    let body = json!({ "iccid": iccid(0), "profileState": state }).to_string();
    let reply = Wire::new(service.public()).deliver(&body).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Waits for the change after this one; returns when it arrived.
async fn followed(service: &Service, seq: u32) -> Instant {
    let path = format!("/v1/profiles/{}?wait=60", iccid(0));
    let request = service.backend().request(Method::GET, &path);
    let answer = Answer::of(request.header("if-none-match", format!("\"{seq}\""))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_arrive_within_a_second_after_a_silent_loss_ends() {
    let turn = beside_others().await;
    let database = Database::empty().await;
    let relay = Relay::start(&database, Habit::SilencesListeners).await;
    let service = Service::start(&relay.url()).await;
    report(&service, "RELEASED").await;
    let ((), heard) =
        tokio::join!(report(&service, "INSTALLED"), timeout(turn.healing(), followed(&service, 1)));
    assert!(heard.is_ok(), "the change did not arrive");

    relay.silence();
    // Webhooks are not affected.
    for state in ["DISABLED", "ERROR", "RELEASED"] {
        report(&service, state).await;
    }
    let following = followed(&service, 5);
    let (healed, arrived) = tokio::join!(
        async {
            sleep(SILENT).await;
            relay.heal();
            let healed = Instant::now();
            report(&service, "INSTALLED").await;
            healed
        },
        following
    );
    let took = arrived - healed;
    measured(
        "the connection that listens is silent",
        format!(
            "a change arrives {took:.2?} after {SILENT:?} of silence; {} connections died meanwhile, webhooks 200",
            relay.died()
        ),
    );
    assert!(relay.died() > 0, "nothing was silenced");
    assert!(took < ARRIVES + turn.slack(), "{took:?}");
}
