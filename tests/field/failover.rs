//! The primary crashes and its synchronous standby is promoted: the service, which has both in `DATABASE_URL`, finds
//! the new primary by itself and loses no acknowledged delivery.
//!
//! Two real PostgreSQL servers replicate synchronously. The test kills the primary under load and promotes the standby.

use std::time::{Duration, Instant};

use esim_status_testing::service::Service;
use esim_status_testing::turn::{alone, from_environment, measured, median_and_worst};
use esim_status_testing::wait_until;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::load::{Load, Sent, assert_kept_once, longest_without, statuses};
use super::server::{SUPERUSER, Server};

/// Webhooks a second. They are not retried.
const A_SECOND: usize = 300;

/// The time until an operator or a failover tool notices that the primary is dead.
const NOTICED: Duration = Duration::from_millis(1_200);

/// The promoted standby after a failover, and what was answered during it.
struct Failover {
    standby: Server,
    service: Service,
    sent: Vec<Sent>,
    died: Instant,
    promoted: Instant,
}

/// The standby is listed first, so the service must skip a read-only host from the beginning.
fn url(primary: &Server, standby: &Server) -> String {
    let (first, second) = (standby.port, primary.port);
    format!(
        "postgres://{SUPERUSER}@127.0.0.1:{first},127.0.0.1:{second}/postgres?target_session_attrs=read-write"
    )
}

async fn fail_over(more: &[(&str, &str)]) -> Failover {
    let (mut primary, standby) = Server::pair().await;
    let service = Service::start_with(&url(&primary, &standby), more).await;
    let load = Load::start(&service, A_SECOND);
    sleep(Duration::from_secs(1)).await;
    let died = Instant::now();
    primary.kill();
    sleep(NOTICED).await;
    let standby = spawn_blocking(move || {
        standby.promote();
        standby
    });
    let standby = standby.await.unwrap();
    let promoted = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let sent = load.stop().await;
    Failover { standby, service, sent, died, promoted }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_found_and_no_acknowledged_delivery_is_lost() {
    let turn = alone().await;
    for _ in 0..from_environment("ESIM_STATUS_FAILOVER_ROUNDS", 1) {
        let it = fail_over(&[]).await;
        let statuses = statuses(&it.sent);
        let pause = longest_without(&it.sent, &[200], it.died);
        let after = longest_without(&it.sent, &[200], it.promoted);
        let times: Vec<_> = it.sent.iter().map(|sent| sent.took).collect();
        let (_, slowest) = median_and_worst(&times);
        let kept = assert_kept_once(&it.standby.database("postgres"), &it.sent).await;
        measured(
            "the primary killed, its synchronous standby promoted",
            format!(
                "answers {statuses:?}; without service {pause:.2?}, {after:.2?} of it after the promotion; \
                 slowest answer {slowest:.2?}; {kept} acknowledged, 0 missing, 0 twice"
            ),
        );
        assert!(statuses.keys().all(|it| [200, 503].contains(it)), "{statuses:?}");
        assert!(after < turn.healing(), "{after:?}");
        assert!(slowest < turn.budget(), "{slowest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_spool_no_webhook_is_refused_during_a_failover() {
    let turn = alone().await;
    for _ in 0..from_environment("ESIM_STATUS_FAILOVER_ROUNDS", 1) {
        let spool = tempfile::tempdir().unwrap();
        let with_spool = [("ESIM_STATUS_SPOOL_DIR", spool.path().to_str().unwrap())];
        let it = fail_over(&with_spool).await;
        wait_until("the spool is drained", async || {
            it.service.metric("esim_status_spool_deliveries").await == Some(0.0)
        })
        .await;
        let statuses = statuses(&it.sent);
        let pause = longest_without(&it.sent, &[200, 202], it.died);
        let direct = longest_without(&it.sent, &[200], it.died);
        let times: Vec<_> = it.sent.iter().map(|sent| sent.took).collect();
        let (_, slowest) = median_and_worst(&times);
        let kept = assert_kept_once(&it.standby.database("postgres"), &it.sent).await;
        measured(
            "the primary killed, its synchronous standby promoted, with a spool",
            format!(
                "answers {statuses:?}; without an acknowledgement {pause:.2?}, without a 200 {direct:.2?}; \
                 slowest answer {slowest:.2?}; {kept} acknowledged, 0 missing, 0 twice"
            ),
        );
        assert!(statuses.keys().all(|it| [200, 202].contains(it)), "{statuses:?}");
        assert!(statuses.contains_key(&202), "nothing was spooled");
        assert!(slowest < turn.budget(), "{slowest:?}");
    }
}
