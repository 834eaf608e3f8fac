//! Wake-ups for those who follow a profile. It only wakes: who is woken reads the stored history from behind its own `seq`.
//!
//! Wake-ups get lost (a `NOTIFY` while the listening connection is down is gone), so every reconnect wakes everybody, and
//! followers look again on a slow timer of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::domain::Iccid;
use crate::store::notify::{CHANNEL, read_keys, wake_key};
use crate::store::{Connector, StoreError};

/// How long nothing may be heard before the connection is asked whether it lives: a cut one is silent too.
const SILENCE: Duration = Duration::from_secs(5);

/// How long it may take to answer then.
const QUESTION: Duration = Duration::from_secs(1);

/// How long to wait after an attempt to listen that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an attempt may take: one that is given up soon, and one that waits for a slow server.
const BRISK: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(10);

type Followers = Arc<Mutex<HashMap<u32, watch::Sender<()>>>>;

/// The handle; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    followers: Followers,
}

/// One follower of one profile.
#[derive(Debug)]
pub struct Subscription {
    key: u32,
    followers: Followers,
    woken: watch::Receiver<()>,
}

impl Feed {
    /// Listens until the task is aborted.
    pub async fn listen(self, connector: Connector) {
        // Told once for each loss, not for each attempt.
        let is_told = AtomicBool::new(false);
        loop {
            // Brisk attempts are there soon after the network is; a patient one beside them gets through to a slow server.
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
            // Whatever moved before this moment was not heard.
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

    /// Subscribes to the changes of a profile, from now on.
    pub fn subscribe(&self, iccid: &Iccid) -> Subscription {
        let key = wake_key(iccid);
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = followers.entry(key).or_insert_with(|| watch::Sender::new(())).subscribe();
        Subscription { key, followers: self.followers.clone(), woken }
    }

    fn wake(&self, notification: &PgNotification) {
        let Some(keys) = read_keys(notification.payload()) else { return self.wake_all() };
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in keys.iter().filter_map(|key| followers.get(key)) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in followers.values() {
            sender.send_replace(());
        }
    }
}

/// Tries until it listens. An attempt that takes longer than `limit` is given up for a new one.
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

/// Each with a pool of its own: what hangs in another one, such as a farewell to a server that is gone, keeps nobody waiting.
async fn attempt(connector: &Connector) -> Result<PgListener, StoreError> {
    let mut listener = PgListener::connect_with(&connector.listening().await?).await?;
    // A connection that is lost is replaced here, by one to the server that is right then.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn tell(is_told: &AtomicBool, error: &StoreError) {
    if !is_told.swap(true, Ordering::Relaxed) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "not listening for changes; trying again until it works");
    }
}

impl Subscription {
    /// Waits for the next wake-up since the last one that was waited for. It may be in vain.
    pub async fn woken(&mut self) {
        if self.woken.changed().await.is_err() {
            // The sender is kept for as long as there are followers, so this does not happen.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    /// The last follower of a profile takes the sender with it.
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
