//! nginx and haproxy in front of the service, with pools of kept-alive connections: no webhook is lost because the
//! service closes an idle connection at the moment when the proxy uses it.
//!
//! 125 clients deliver through real proxies to the real binary, with pauses spread around every timeout in steps of 0.1
//! ms.

use std::time::Duration;

use esim_status_testing::front::Front;
use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, from_environment, measured};
use esim_status_testing::{Client, Database, TestApp, server};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::iccid;

/// How many clients send concurrently, each with a slightly different pause.
const CLIENTS: usize = 125;

/// The pauses in seconds: around the service's timeouts for a body, a head and a client that reads nothing, then around
/// the proxies' timeouts and the one for idle connections.
const PAUSES: [u64; 7] = [8, 5, 8, 15, 60, 75, 8];

/// How many of the pauses are tried by default.
const USUAL: u64 = 2;

/// Every client delivers, pauses for about this long, and delivers again. Returns how many deliveries there were, and
/// those that were not answered 200.
async fn deliver_with_pauses(front: &Front, pauses: &[u64]) -> (usize, Vec<String>) {
    let sending = (0..CLIENTS).map(async |number| {
        let client = Client::new(front.url.as_str());
        let mut wrong = Vec::new();
        for (round, pause) in [&0].into_iter().chain(pauses).enumerate() {
            // The clients' pauses range from 5 ms less to 7.4 ms more than the given time.
            let offset = Duration::from_micros(100 * number as u64);
            sleep((Duration::from_secs(*pause) + offset).saturating_sub(OFF)).await;
            let body = json!({ "iccid": iccid(number), "profileState": STATES[round % 2] });
            let request = client.request(reqwest::Method::POST, &TestApp::hook_path());
            // Connections between client and proxy are not kept alive: their timeout is the proxy's.
            let request = request.header("connection", "close").body(body.to_string());
            match request.send().await {
                Ok(answer) if answer.status() == 200 => {}
                other => wrong.push(format!("after {pause} s: {other:?}")),
            }
        }
        wrong
    });
    let wrong = join_all(sending).await.concat();
    (CLIENTS * (pauses.len() + 1), wrong)
}

const OFF: Duration = Duration::from_millis(5);
const STATES: [&str; 2] = ["INSTALLED", "DISABLED"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_webhook_is_lost_by_proxies_that_keep_connections_alive() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let service = Service::start(&url).await;
    let fronts =
        [Front::nginx(service.address(), "/", "").await, Front::haproxy(service.address()).await];
    let count = from_environment("ESIM_STATUS_PROXY_PAUSES", USUAL);
    let pauses = &PAUSES[..usize::try_from(count).unwrap().min(PAUSES.len())];
    let delivered = join_all(fronts.iter().map(|front| deliver_with_pauses(front, pauses))).await;
    for ((count, wrong), name) in delivered.iter().zip(["nginx", "haproxy"]) {
        measured(
            &format!("{name} with kept connections"),
            format!("{count} webhooks with pauses of {pauses:?} s, {} not 200", wrong.len()),
        );
    }
    for (front, (_, wrong)) in fronts.into_iter().zip(delivered) {
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", front.errors());
    }
}
