//! Wake-ups for the followers of profiles. A wake-up carries no data: the follower reads the stored history after its
//! own `seq`.
//!
//! Wake-ups can be lost, because a `NOTIFY` while the listening connection is down is gone. So every reconnect wakes
//! all followers, and followers also read again every [`SAFETY_NET`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::domain::Iccid;
use crate::store::notify::{self, CHANNEL, wake_key};
use crate::store::{Connector, StoreError};
use crate::telemetry::{Span, TraceContext};

/// How often a follower reads without a wake-up, in case one was lost.
pub const SAFETY_NET: Duration = Duration::from_secs(30);

/// After this time without a notification the connection is checked with a query, because a broken connection is silent
/// too.
const SILENCE: Duration = Duration::from_secs(5);

/// How long that query may take.
const QUESTION: Duration = Duration::from_secs(1);

/// How long to wait after a failed attempt to listen.
const PAUSE: Duration = Duration::from_millis(200);

/// The time limits of the two concurrent kinds of attempts: one is given up soon, the other waits for a slow server.
const BRISK: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(10);

/// The span of the last wake-up, if it is recorded.
type WakeUp = Option<TraceContext>;

type Followers = Arc<Mutex<HashMap<u32, watch::Sender<WakeUp>>>>;

/// A handle to the wake-ups; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    followers: Followers,
    all: Arc<watch::Sender<WakeUp>>,
}

/// A follower of all profiles.
#[derive(Debug)]
pub struct SubscriptionToAll(watch::Receiver<WakeUp>);

/// One follower of one profile.
#[derive(Debug)]
pub struct Subscription {
    key: u32,
    followers: Followers,
    woken: watch::Receiver<WakeUp>,
}

impl Feed {
    /// Listens until the task is aborted.
    pub async fn listen(self, connector: Connector) {
        // Logged once for each loss of the connection, not for each attempt.
        let is_told = AtomicBool::new(false);
        loop {
            // Brisk attempts connect soon after the network is back. A patient attempt beside them reaches a slow
            // server.
            let mut listener = tokio::select! {
                listener = persist(&connector, BRISK, &is_told) => listener,
                listener = async {
                    sleep(BRISK).await;
                    persist(&connector, PATIENT, &is_told).await
                } => listener,
            };
            if is_told.swap(false, Ordering::Relaxed) {
                tracing::info!("listening for changes again");
            }
            // Changes before this moment were not notified.
            self.wake_all();
            if let Err(error) = self.hear(&mut listener).await {
                tell(&is_told, &error);
            }
        }
    }

    /// Wakes followers until the connection is lost.
    async fn hear(&self, listener: &mut PgListener) -> Result<(), StoreError> {
        loop {
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.wake(&notification),
                // The connection was lost.
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    let asked = sqlx::query("SELECT 1").execute(&mut *listener);
                    timeout(QUESTION, asked).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }

    /// Subscribes to the changes of a profile from now on.
    pub fn subscribe(&self, iccid: &Iccid) -> Subscription {
        let key = wake_key(iccid);
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = followers.entry(key).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Subscription { key, followers: self.followers.clone(), woken }
    }

    /// Subscribes to the changes of all profiles from now on.
    pub fn subscribe_to_all(&self) -> SubscriptionToAll {
        SubscriptionToAll(self.all.subscribe())
    }

    fn wake(&self, notification: &PgNotification) {
        let (keys, traceparent) = notify::read(notification.payload());
        let mut span = Span::wake_up(traceparent);
        let wake_up = span.context();
        self.all.send_replace(wake_up.clone());
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = self.all.receiver_count();
        let mut wake = |sender: &watch::Sender<WakeUp>| {
            sender.send_replace(wake_up.clone());
            woken += sender.receiver_count();
        };
        match keys {
            Some(keys) => keys.iter().filter_map(|key| followers.get(key)).for_each(&mut wake),
            None => followers.values().for_each(&mut wake),
        }
        span.woke(woken);
    }

    fn wake_all(&self) {
        self.all.send_replace(None);
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in followers.values() {
            sender.send_replace(None);
        }
    }
}

/// Tries until it listens. An attempt that takes longer than `limit` is replaced by a new one.
async fn persist(connector: &Connector, limit: Duration, is_told: &AtomicBool) -> PgListener {
    loop {
        match timeout(limit, attempt(connector)).await {
            Ok(Ok(listener)) => return listener,
            Ok(Err(error)) => {
                tell(is_told, &error);
                sleep(PAUSE).await;
            }
            Err(_) => {}
        }
    }
}

/// Connects and listens once. Each attempt has its own pool, so that it does not wait for an operation that hangs in
/// another pool, such as closing a connection to a server that is gone.
async fn attempt(connector: &Connector) -> Result<PgListener, StoreError> {
    let mut listener = PgListener::connect_with(&connector.listening().await?).await?;
    // `Feed::listen` replaces a lost connection itself, because the right server may be another one by then.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn tell(is_told: &AtomicBool, error: &StoreError) {
    if !is_told.swap(true, Ordering::Relaxed) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "not listening for changes; retrying until it works");
    }
}

impl Subscription {
    /// Waits for a wake-up after the last one that this returned for. A wake-up does not always mean a change. Returns its
    /// span, if it is recorded.
    pub async fn woken(&mut self) -> Option<TraceContext> {
        changed(&mut self.woken).await
    }
}

impl SubscriptionToAll {
    /// Takes note of a wake-up that has come already, before the follower reads. Returns its span, if it is recorded.
    pub fn note(&mut self) -> Option<TraceContext> {
        let has_come = self.0.has_changed().unwrap_or_default();
        if has_come { self.0.borrow_and_update().clone() } else { None }
    }

    /// As [`Subscription::woken`].
    pub async fn woken(&mut self) -> Option<TraceContext> {
        changed(&mut self.0).await
    }
}

async fn changed(woken: &mut watch::Receiver<WakeUp>) -> WakeUp {
    if woken.changed().await.is_err() {
        // The sender exists as long as there are followers, so this does not happen.
        std::future::pending::<()>().await;
    }
    woken.borrow_and_update().clone()
}

impl Drop for Subscription {
    /// Removes the sender with the last follower of a profile.
    fn drop(&mut self) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = followers.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1);
        if last {
            followers.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_not_lost_and_the_last_follower_cleans_up() {
        let feed = Feed::default();
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let (mut one, two) = (feed.subscribe(&iccid), feed.subscribe(&iccid));
        feed.wake_all();
        one.woken().await;
        drop(one);
        assert_eq!(feed.followers.lock().unwrap().len(), 1);
        drop(two);
        assert_eq!(feed.followers.lock().unwrap().len(), 0);
    }
}
