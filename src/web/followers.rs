//! How many may follow profiles at once, by live streams and by long polls.
//!
//! Each holds its connection for long. Those of one user's profile are few, so that one leaked access token cannot take the
//! streams of everybody; all together they are fewer than the connections, so that a webhook always finds one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::callers::Subject;
use super::problem::{Code, Problem};
use crate::access::Caller;
use crate::domain::Iccid;
use crate::telemetry;

/// Streams and long polls at once of the users of one profile, on one replica.
const MAX_OF_A_PROFILE: usize = 8;

/// The places for those who follow; cheap to clone.
#[derive(Debug, Clone)]
pub struct Followers {
    all: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    of_users: Arc<Mutex<HashMap<Iccid, usize>>>,
}

/// The place of one stream or long poll. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    /// `None` for a long poll.
    stream: Option<OwnedSemaphorePermit>,
    /// Whose profile it counts for; `None` for a backend.
    user: Option<Iccid>,
    of_users: Arc<Mutex<HashMap<Iccid, usize>>>,
}

impl Followers {
    /// At most `max_streams` live streams, and with the long polls at most three quarters of the connections.
    pub fn new(max_streams: usize, max_connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(max_connections - max_connections / 4)),
            streams: Arc::new(Semaphore::new(max_streams)),
            of_users: Arc::default(),
        }
    }

    /// A place for a live stream.
    ///
    /// # Errors
    /// `unavailable` where there is none.
    pub(super) fn stream(&self, subject: &Subject) -> Result<Place, Problem> {
        let full = "too many streams are open; follow by GET …?wait=30 instead";
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::because(Code::Unavailable, full))?;
        let place = self.place(subject, Some(permit))?;
        telemetry::count_stream(1.0);
        Ok(place)
    }

    /// A place for a long poll.
    ///
    /// # Errors
    /// `unavailable` where there is none.
    pub(super) fn poll(&self, subject: &Subject) -> Result<Place, Problem> {
        self.place(subject, None)
    }

    fn place(
        &self,
        subject: &Subject,
        stream: Option<OwnedSemaphorePermit>,
    ) -> Result<Place, Problem> {
        let full = "too many wait for changes; ask again without wait";
        let all = Arc::clone(&self.all).try_acquire_owned();
        let all = all.map_err(|_| Problem::because(Code::Unavailable, full))?;
        let user = match &subject.caller {
            Caller::Backend => None,
            Caller::User { iccid, .. } => Some(iccid.clone()),
        };
        if let Some(iccid) = &user {
            let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
            let open = of_users.entry(iccid.clone()).or_default();
            if *open >= MAX_OF_A_PROFILE {
                let full = "too many streams and long polls of this profile are open";
                return Err(Problem::because(Code::Unavailable, full));
            }
            *open += 1;
        }
        Ok(Place { _all: all, stream, user, of_users: Arc::clone(&self.of_users) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.stream.is_some() {
            telemetry::count_stream(-1.0);
        }
        let Some(iccid) = &self.user else { return };
        let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = of_users.get_mut(iccid) {
            *open -= 1;
            if *open == 0 {
                of_users.remove(iccid);
            }
        }
    }
}
