//! Limits how many live streams and long polls follow profiles at the same time.
//!
//! Each of them holds a connection for a long time. The limit for the users of one profile is small, so that one leaked
//! access token cannot use up the streams of all users. The limit for all together is smaller than the number of
//! connections, so that a webhook always gets one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::callers::Subject;
use super::problem::{Code, Problem};
use crate::access::Caller;
use crate::domain::Iccid;
use crate::telemetry;

/// Max concurrent streams and long polls of the users of one profile, on one replica.
const MAX_OF_A_PROFILE: usize = 8;

/// Max concurrent calls that follow all profiles or export them, on one replica: each change wakes all of them.
const MAX_OF_ALL_PROFILES: usize = 32;

/// The limits on streams and long polls; cheap to clone.
#[derive(Debug, Clone)]
pub struct Followers {
    all: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    of_all_profiles: Arc<Semaphore>,
    of_users: Arc<Mutex<HashMap<Iccid, usize>>>,
}

/// The place of one stream or long poll. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    /// `None` for a long poll.
    stream: Option<OwnedSemaphorePermit>,
    /// The profile whose users' limit it counts towards; `None` for a backend.
    user: Option<Iccid>,
    of_users: Arc<Mutex<HashMap<Iccid, usize>>>,
}

impl Followers {
    /// Allows `max_streams` live streams. Streams and long polls together get three quarters of the connections.
    pub fn new(max_streams: usize, max_connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(max_connections - max_connections / 4)),
            streams: Arc::new(Semaphore::new(max_streams)),
            of_all_profiles: Arc::new(Semaphore::new(MAX_OF_ALL_PROFILES)),
            of_users: Arc::default(),
        }
    }

    /// Takes a place for a live stream.
    ///
    /// # Errors
    /// `unavailable` if a limit is reached.
    pub(super) fn stream(&self, subject: &Subject) -> Result<Place, Problem> {
        let full = "too many streams are open; use long polling (GET …?wait=30) instead";
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::because(Code::Unavailable, full))?;
        let place = self.place(user(subject), Some(permit))?;
        telemetry::count_stream(1.0);
        Ok(place)
    }

    /// Takes a place for a long poll.
    ///
    /// # Errors
    /// `unavailable` if a limit is reached.
    pub(super) fn poll(&self, subject: &Subject) -> Result<Place, Problem> {
        self.place(user(subject), None)
    }

    /// Takes a place for a backend that follows all profiles, or exports them.
    ///
    /// # Errors
    /// `unavailable` if a limit is reached.
    pub(super) fn follow_all(&self) -> Result<(Place, OwnedSemaphorePermit), Problem> {
        let full = "too many calls follow all changes or export; retry in a moment";
        let permit = Arc::clone(&self.of_all_profiles).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::because(Code::Unavailable, full))?;
        Ok((self.place(None, None)?, permit))
    }

    fn place(
        &self,
        user: Option<Iccid>,
        stream: Option<OwnedSemaphorePermit>,
    ) -> Result<Place, Problem> {
        let full = "too many requests wait for changes; retry without wait";
        let all = Arc::clone(&self.all).try_acquire_owned();
        let all = all.map_err(|_| Problem::because(Code::Unavailable, full))?;
        if let Some(iccid) = &user {
            let mut of_users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
            let open = of_users.entry(iccid.clone()).or_default();
            if *open >= MAX_OF_A_PROFILE {
                let full = "too many streams and long polls of this profile are open; close one, or read without wait";
                return Err(Problem::because(Code::Unavailable, full));
            }
            *open += 1;
        }
        Ok(Place { _all: all, stream, user, of_users: Arc::clone(&self.of_users) })
    }
}

/// The profile towards whose users' limit this caller counts.
fn user(subject: &Subject) -> Option<Iccid> {
    match &subject.caller {
        Caller::Backend => None,
        Caller::User { iccid, .. } => Some(iccid.clone()),
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
