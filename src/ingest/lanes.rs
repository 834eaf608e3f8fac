//! Lanes: queues for the deliveries of profiles that another transaction holds, so that only those deliveries wait.
//! Each profile has its own lane, which keeps the order of arrival.
//!
//! Lanes wait on separate connections, a few that all writers share. So however many profiles are locked, the writers
//! keep their own connections. If the wait of a lane times out, the lane stays open for a while: later deliveries of
//! the profile go into it directly, instead of holding up a batch first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::task::JoinMap;

use super::batch::Role;
use super::connection::IngestConnection;
use super::settle::{is_in_time, settle};
use super::{IngestContext, LANE_CONNECTIONS, Queued};
use crate::domain::Iccid;
use crate::store::{Connector, Session};

/// How long a lane stays open after its wait has timed out: the profile is likely to be still locked.
const STAYS_LOCKED: Duration = Duration::from_secs(10);

/// The connections of the lanes, shared by all writers.
#[derive(Debug)]
pub(super) struct LaneConnections {
    connector: Connector,
    permits: Semaphore,
    idle: Mutex<Vec<IngestConnection>>,
}

impl LaneConnections {
    pub(super) fn new(connector: &Connector) -> Self {
        let permits = Semaphore::new(LANE_CONNECTIONS);
        Self { connector: connector.clone(), permits, idle: Mutex::default() }
    }

    async fn take(&self) -> Option<(SemaphorePermit<'_>, IngestConnection)> {
        // The semaphore is never closed.
        let permit = self.permits.acquire().await.ok()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // A lane that panicked has taken its connection with it.
        let new = || IngestConnection::new(self.connector.clone(), Session::Lane);
        Some((permit, idle.unwrap_or_else(new)))
    }

    fn give_back(&self, connection: IngestConnection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// The lanes of one writer.
pub(super) struct Lanes {
    context: IngestContext,
    connections: Arc<LaneConnections>,
    open: HashMap<Iccid, Lane>,
    running: JoinMap<Iccid, End>,
}

#[derive(Default)]
struct Lane {
    /// The deliveries that arrived while the lane was running.
    queue: Vec<Queued>,
    is_running: bool,
    locked_until: Option<Instant>,
}

/// How the wait in a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At least one delivery was settled.
    Done,
    StillLocked,
    /// The deliveries expired before there was a connection for them, so nothing is known of the profile.
    Expired,
}

impl Lanes {
    pub(super) fn new(context: IngestContext, connections: Arc<LaneConnections>) -> Self {
        Self { context, connections, open: HashMap::new(), running: JoinMap::new() }
    }

    /// Moves deliveries whose profile has an open lane into that lane, and returns the rest.
    pub(super) fn divert(&mut self, batch: Vec<Queued>) -> Vec<Queued> {
        if self.open.is_empty() {
            return batch;
        }
        let now = Instant::now();
        self.open.retain(|_, lane| lane.is_running || lane.locked_until.is_some_and(|at| at > now));
        let mut rest = Vec::with_capacity(batch.len());
        for mut queued in batch {
            match queued.submission.iccid().and_then(|iccid| self.open.get_mut(iccid)) {
                Some(lane) => {
                    if let Some(trace) = queued.trace.as_deref_mut() {
                        trace.waits_for_lock();
                    }
                    lane.queue.push(queued);
                }
                None => rest.push(queued),
            }
        }
        self.start_waiting();
        rest
    }

    /// Opens a lane for each profile of these deliveries, and starts it.
    pub(super) fn open(&mut self, locked: Vec<Queued>) {
        for queued in locked {
            if let Some(iccid) = queued.submission.iccid().cloned() {
                self.open.entry(iccid).or_default().queue.push(queued);
            }
        }
        self.start_waiting();
    }

    /// Waits until a lane ends, and restarts it if more deliveries have queued in it. Returns `None` if no lane is
    /// running.
    pub(super) async fn advance(&mut self) -> Option<()> {
        let (iccid, end) = self.running.join_next().await?;
        if let Some(lane) = self.open.get_mut(&iccid) {
            lane.is_running = false;
            let was_locked = lane.locked_until.is_some();
            match end {
                Ok(End::StillLocked) => {
                    if !was_locked {
                        tracing::warn!(
                            ?iccid,
                            "another transaction holds a profile for longer than a delivery may wait: who has a transaction open? Its deliveries are answered 503"
                        );
                    }
                    lane.locked_until = Some(Instant::now() + STAYS_LOCKED);
                }
                Ok(End::Done) => {
                    if was_locked {
                        tracing::info!(?iccid, "a profile that was held takes deliveries again");
                    }
                    lane.locked_until = None;
                }
                Ok(End::Expired) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        ?iccid,
                        error,
                        "the lane of a profile has died, which is a bug: its deliveries are answered 503, and later ones are written"
                    );
                    lane.locked_until = None;
                }
            }
            if lane.queue.is_empty() && lane.locked_until.is_none() {
                self.open.remove(&iccid);
            }
        }
        self.start_waiting();
        Some(())
    }

    fn start_waiting(&mut self) {
        for (iccid, lane) in &mut self.open {
            if lane.is_running || lane.queue.is_empty() {
                continue;
            }
            lane.is_running = true;
            let batch = std::mem::take(&mut lane.queue);
            let (context, connections, iccid) =
                (self.context.clone(), self.connections.clone(), iccid.clone());
            self.running.spawn(iccid, async move { wait(context, &connections, batch).await });
        }
    }
}

/// Writes a lane's deliveries as soon as their profile is free. Their senders are answered in time in any case, by
/// [`super::Ingest::submit`].
async fn wait(context: IngestContext, connections: &LaneConnections, batch: Vec<Queued>) -> End {
    let Some((_permit, mut connection)) = connections.take().await else { return End::StillLocked };
    let mut locked = batch;
    let mut end = End::Expired;
    loop {
        let batch: Vec<_> = locked.drain(..).filter(is_in_time).collect();
        if batch.is_empty() {
            break;
        }
        let count = batch.len();
        let settled = settle(&context, &mut connection, batch, Role::Lane).await;
        if settled.timed_out {
            end = End::StillLocked;
        } else if end == End::Expired && settled.locked.len() < count {
            end = End::Done;
        }
        locked = settled.locked;
    }
    connections.give_back(connection);
    end
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;
    use tokio::sync::oneshot;

    use super::super::submission::of_gigastore;
    use super::*;
    use crate::store::ErasureKey;

    const ICCID: &str = "89972123300991848961";

    /// A delivery whose sender has been answered already.
    fn expired() -> Queued {
        let submission =
            of_gigastore(&format!(r#"{{"iccid":"{ICCID}","profileState":"INSTALLED"}}"#));
        Queued { submission, deadline: Instant::now(), answer: oneshot::channel().0, trace: None }
    }

    fn lanes() -> Lanes {
        // Nothing connects to the database, because nothing is written.
        let connector = Connector::from(PgConnectOptions::new_without_pgpass());
        let context = IngestContext {
            erasure_key: ErasureKey::default(),
            spooling: None,
            success: Arc::default(),
            outage: Arc::default(),
        };
        Lanes::new(context, Arc::new(LaneConnections::new(&connector)))
    }

    /// The profiles that a writer does not write itself are those of open lanes.
    #[tokio::test]
    async fn a_lane_that_panics_gives_its_profile_and_the_other_lanes_free() {
        let iccid = Iccid::parse(ICCID).unwrap();
        for has_more in [false, true] {
            let mut lanes = lanes();
            lanes.open.insert(iccid.clone(), Lane { is_running: true, ..Lane::default() });
            let (answer, answered) = oneshot::channel();
            let taken = Queued { answer, ..expired() };
            lanes.running.spawn(iccid.clone(), async move {
                let _taken = taken;
                panic!("on purpose")
            });
            if has_more {
                assert!(lanes.divert(vec![expired()]).is_empty());
            }
            assert_eq!(lanes.advance().await, Some(()));
            // The sender of what the lane had taken waits no longer.
            assert!(answered.await.is_err());
            // What came meanwhile has its own turn.
            assert_eq!(lanes.advance().await, has_more.then_some(()));
            assert!(lanes.open.is_empty());
            assert_eq!(lanes.divert(vec![expired()]).len(), 1);
        }
    }

    #[tokio::test]
    async fn a_connection_that_a_lane_took_with_it_is_replaced() {
        let lanes = lanes();
        for _ in 0..=LANE_CONNECTIONS {
            let (permit, connection) = lanes.connections.take().await.unwrap();
            drop((permit, connection));
        }
    }

    #[tokio::test]
    async fn deliveries_that_expire_before_their_turn_say_nothing_of_their_profile() {
        let mut lanes = lanes();
        let locked_until = Some(Instant::now() + STAYS_LOCKED);
        let iccid = Iccid::parse(ICCID).unwrap();
        lanes.open.insert(iccid.clone(), Lane { locked_until, ..Lane::default() });
        assert!(lanes.divert(vec![expired()]).is_empty());
        lanes.advance().await.unwrap();
        assert_eq!(lanes.open.get(&iccid).map(|lane| lane.locked_until), Some(locked_until));
    }
}
