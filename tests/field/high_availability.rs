//! The recipe of `deploy/ha`: Patroni and etcd on three nodes. Whatever happens to a node, no webhook that was answered 2xx is
//! missing afterwards, and the service finds the new primary by itself.
//!
//! Two services run on the cluster, each on a separate database: one without a spool and one with. Both receive webhooks at a
//! steady rate while the fault happens, and nothing is sent again. `docs/high-availability.md` has a table of what was measured.

use std::cell::Cell;
use std::time::{Duration, Instant};

use esim_status_testing::service::Service;
use esim_status_testing::turn::{Turn, alone, from_environment, measured};
use esim_status_testing::wire::Wire;
use esim_status_testing::{Database, wait_until};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::cluster::{Cluster, Role};
use super::iccid;
use super::load::{Load, Sent, assert_kept_once, longest_without, statuses};

/// Webhooks a second, for each of the two services.
const A_SECOND: usize = 100;

/// What a database has received before the fault, and again after it.
const ENOUGH: i64 = 100;

/// How long a fault lasts that does not end by itself.
const LASTS: Duration = Duration::from_secs(30);

/// The number of a profile that no load uses.
const PROBED: usize = 9_999;

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// An operator moves the primary to its synchronous standby.
    Switchover,
    /// Everything on the primary's node dies: etcd, Patroni, PostgreSQL.
    NodeKilled,
    /// PostgreSQL dies on the primary's node, and Patroni lives.
    PostgresKilled,
    /// The primary's node answers nothing, and keeps its connections.
    NodeFrozen,
    /// The same, of the synchronous standby's node.
    StandbyFrozen,
    /// Two of three etcd are away for a while, so it has no majority.
    EtcdAway,
}

/// The first two are tried in each run, the others if `ESIM_STATUS_HA_FAULTS` asks for them.
const FAULTS: [Fault; 6] = [
    Fault::Switchover,
    Fault::NodeKilled,
    Fault::PostgresKilled,
    Fault::NodeFrozen,
    Fault::StandbyFrozen,
    Fault::EtcdAway,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover by patronictl",
            Self::NodeKilled => "kill -9 of all on the primary's node",
            Self::PostgresKilled => "kill -9 of the primary's PostgreSQL",
            Self::NodeFrozen => "SIGSTOP of all on the primary's node",
            Self::StandbyFrozen => "SIGSTOP of all on the synchronous standby's node",
            Self::EtcdAway => "etcd without a majority for 30 s",
        }
    }

    /// How long the service may be without a 200. A lock that is not renewed ends after 20 s.
    fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Switchover | Self::PostgresKilled => 20,
            Self::NodeKilled | Self::NodeFrozen => 40,
            Self::StandbyFrozen => 25,
            Self::EtcdAway => 5,
        })
    }

    /// Causes it. Returns the node that has to be repaired.
    async fn happens(self, cluster: &mut Cluster) -> usize {
        let primary = cluster.find(Role::Primary).await;
        match self {
            Self::Switchover => cluster.switch_over().await,
            Self::NodeKilled => cluster.kill(primary),
            Self::PostgresKilled => cluster.kill_postgres(primary),
            Self::NodeFrozen => cluster.freeze(primary),
            Self::StandbyFrozen => {
                let standby = cluster.find(Role::SynchronousStandby).await;
                cluster.freeze(standby);
                return standby;
            }
            Self::EtcdAway => {
                let others = [(primary + 1) % 3, (primary + 2) % 3];
                for other in others {
                    cluster.kill_etcd(other);
                }
                sleep(LASTS).await;
                for other in others {
                    cluster.start_again(other);
                }
            }
        }
        primary
    }
}

/// One of the two services, and what is sent to it.
struct Side {
    database: String,
    service: Service,
    load: Load,
    spool: Option<TempDir>,
}

impl Side {
    async fn start(cluster: &Cluster, database: String, spool: Option<TempDir>) -> Self {
        let url = cluster.create(&database).await;
        let folder = spool.as_ref().map(|spool| spool.path().to_str().unwrap());
        let more = folder.map(|folder| ("ESIM_STATUS_SPOOL_DIR", folder));
        let service = Service::start_with(&url, more.as_slice()).await;
        let load = Load::start(&service, A_SECOND);
        Self { database, service, load, spool }
    }

    /// Waits until this many more webhooks are in the database.
    async fn receives(&self, cluster: &Cluster, more: i64) {
        let database = cluster.database(&self.database).await;
        let before = count(&database).await;
        wait_until("webhooks arrive", async || count(&database).await >= before + more).await;
    }

    /// Waits until a webhook is committed again.
    async fn commits(&self, cluster: &Cluster) {
        // The numbers of the load are not negative.
        let number = Cell::new(0);
        cluster
            .wait("a webhook is committed", async || {
                number.set(number.get() - 1);
                let probe = json!({ "iccid": iccid(PROBED), "profileState": "RELEASED", "n": number.get() });
                let reply = Wire::new(self.service.public()).deliver(&probe.to_string()).await;
                reply.is_ok_and(|reply| reply.status == 200).then_some(())
            })
            .await;
    }

    /// Stops the load, waits until the spool is empty, and compares the answers with the database.
    async fn ends(self, cluster: &Cluster) -> (Vec<Sent>, usize) {
        let sent = self.load.stop().await;
        if self.spool.is_some() {
            wait_until("the spool is drained", async || {
                self.service.metric("esim_status_spool_deliveries").await == Some(0.0)
            })
            .await;
        }
        let kept = assert_kept_once(&cluster.database(&self.database).await, &sent).await;
        (sent, kept)
    }
}

async fn count(database: &Database) -> i64 {
    database.scalar("SELECT count(*) FROM deliveries").await
}

async fn survives(cluster: &mut Cluster, turn: &Turn, fault: Fault, number: u64) {
    // A former primary that has just been repaired says for a moment that it still is one.
    cluster.is_whole().await;
    let direct = Side::start(cluster, format!("direct_{number}"), None).await;
    let spool = Some(tempfile::tempdir().unwrap());
    let spooling = Side::start(cluster, format!("spooling_{number}"), spool).await;
    direct.receives(cluster, ENOUGH).await;
    spooling.receives(cluster, ENOUGH).await;

    let begun = Instant::now();
    let broken = fault.happens(cluster).await;
    direct.commits(cluster).await;
    spooling.commits(cluster).await;
    direct.receives(cluster, ENOUGH).await;
    spooling.receives(cluster, ENOUGH).await;

    let (sent, kept) = direct.ends(cluster).await;
    let pause = longest_without(&sent, &[200], begun);
    let answers = statuses(&sent);
    let (spooled, kept_spooling) = spooling.ends(cluster).await;
    let pause_spooling = longest_without(&spooled, &[200, 202], begun);
    let answers_spooling = statuses(&spooled);
    measured(
        fault.name(),
        format!(
            "without a spool {answers:?}, no 2xx for {pause:.2?}, {kept} acknowledged, 0 missing; \
             with one {answers_spooling:?}, no 2xx for {pause_spooling:.2?}, {kept_spooling} acknowledged, 0 missing"
        ),
    );
    assert!(pause < fault.patience() + turn.slack(), "{pause:?}");
    assert!(pause_spooling < turn.budget(), "{pause_spooling:?}");
    assert!(answers.keys().all(|it| [200, 503].contains(it)), "{answers:?}");
    assert!(answers_spooling.keys().all(|it| [200, 202].contains(it)), "{answers_spooling:?}");

    cluster.thaw(broken);
    cluster.start_again(broken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_webhook_is_lost_whatever_happens_to_a_node() {
    let turn = alone().await;
    let mut cluster = Cluster::start().await;
    let count = from_environment("ESIM_STATUS_HA_FAULTS", 2);
    for (fault, number) in FAULTS.into_iter().zip(0..count) {
        survives(&mut cluster, &turn, fault, number).await;
    }
}
