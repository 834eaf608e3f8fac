//! Where deliveries wait while the database is down: one SQLite file on a disk of this replica.
//!
//! A delivery is in the spool only after an fsync; deliveries that arrive together share one. Each delivery has a
//! checksum. The order is that of arrival, and what has been written to the database is removed. All SQL for SQLite is
//! here.
//!
//! Deliveries are personal data: only the owner can read the files, and removed rows are overwritten.

mod ballast;

mod file;

mod figures;

mod lock;

mod record;

mod salvage;

mod tail;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use crate::delivery::AuthenticDelivery;

use ballast::Ballast;
use figures::Condition;
pub use figures::Figures;
use lock::Lock;
use record::Record;

/// The max number of bytes of deliveries that are read together, so that large bodies do not fill the memory.
const BYTES_AT_ONCE: u64 = 4 << 20;

/// A spool that was full accepts again once it has room for this many bytes, or for a quarter of its limit if that is less.
const PROBED_ROOM: u64 = 1 << 20;

/// Why a spool operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder or a file in it cannot be used.
    #[error(
        "the spool directory {} cannot be used: create it as a folder on a persistent disk that this user may write to",
        path.display()
    )]
    Folder {
        /// What cannot be used.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error(
        "another process uses the spool directory {}: give each replica its own spool directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// A newer version of the service wrote it.
    #[error("a newer version wrote {}: start that version, which drains it", .0.display())]
    Newer(PathBuf),
    /// There is no space for more, by the limit or on the disk.
    #[error(
        "the spool is full: raise ESIM_STATUS_SPOOL_MAX_MB, enlarge its disk, or bring the database back"
    )]
    Full,
    /// SQLite failed.
    #[error("the spool failed: check that its disk has space and is intact")]
    Sqlite(#[from] sqlx::Error),
}

/// An open spool; cheap to clone. No other process can open it while a clone lives.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Mutex<SqliteConnection>,
    condition: Condition,
    max_bytes: u64,
    folder: PathBuf,
    ballast: Ballast,
    _lock: Lock,
}

/// A delivery in the spool.
#[derive(Debug)]
pub enum Entry {
    /// As it was written.
    Intact {
        /// Its place in the spool.
        place: i64,
        /// The request. Its sender was authenticated when it arrived.
        delivery: AuthenticDelivery,
        /// The slug of its provider.
        provider: String,
    },
    /// Its bytes differ from those that were written.
    Damaged {
        /// Its place in the spool.
        place: i64,
    },
}

impl SpoolError {
    /// Whether the content of the file is damaged. Opening it again copies what can be read to a new file.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Sqlite(error) if file::is_damage(error))
    }
}

impl Spool {
    /// Opens the spool in `folder`, or creates one, with at most `max_bytes` of deliveries. A damaged file is set
    /// aside, and its readable rows are copied to a new one.
    ///
    /// # Errors
    /// [`SpoolError`]; the message says what to do.
    pub async fn open(folder: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let lock = lock::lock(folder)?;
        let ballast = Ballast::of(folder);
        ballast.release_if_full();
        let mut connection = salvage::open(folder).await?;
        ballast.lay();
        let condition = Condition::default();
        condition.set(file::figures(&mut connection).await?);
        let connection = Mutex::new(connection);
        Ok(Self(Arc::new(Inner {
            connection,
            condition,
            max_bytes,
            folder: folder.to_owned(),
            ballast,
            _lock: lock,
        })))
    }

    /// Appends deliveries, each with the slug of its provider, all or none. They are on the disk when this returns.
    ///
    /// # Errors
    /// [`SpoolError::Full`] if they do not fit, or a failure of SQLite. Then none of them is in the spool.
    pub async fn append(
        &self,
        deliveries: &[(&AuthenticDelivery, &'static str)],
    ) -> Result<(), SpoolError> {
        let records: Vec<_> = deliveries.iter().map(|(it, slug)| Record::of(it, slug)).collect();
        let Some(oldest) = records.first().map(Record::received_at) else { return Ok(()) };
        let (count, bytes) = (records.len() as u64, records.iter().map(Record::size).sum());
        let records = records.into_iter().map(|record| (None, record)).collect();
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let is_beyond_bound = spool.condition.figures().bytes + bytes > spool.max_bytes;
            if is_beyond_bound || !spool.ballast.leaves_room_for(bytes, spool.log_bytes()) {
                spool.condition.note_attempt(false);
                return Err(SpoolError::Full);
            }
            let appended = file::append(&mut connection, records).await;
            spool.condition.note_attempt(appended.is_ok());
            match appended {
                Err(error) if file::is_full(&error) => return Err(SpoolError::Full),
                Err(error) => {
                    if error.is_damage() {
                        spool.condition.note_damage();
                    }
                    return Err(error);
                }
                Ok(()) => {}
            }
            spool.condition.add(count, bytes, oldest);
            Ok(())
        })
        .await
    }

    /// Runs work that must not be left half done if the caller goes away: SQLite completes a statement whose caller is
    /// gone, and the figures would miss it.
    async fn uncancelled<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T, SpoolError>
    where
        F: Future<Output = Result<T, SpoolError>> + Send + 'static,
    {
        let done = tokio::spawn(work(self.0.clone())).await;
        // The task does not panic.
        done.unwrap_or(Err(SpoolError::Sqlite(sqlx::Error::WorkerCrashed)))
    }

    /// At most `max` deliveries after this place, in the order of arrival; 0 is before the first.
    ///
    /// # Errors
    /// A failure of SQLite.
    pub async fn next_after(&self, place: i64, max: usize) -> Result<Vec<Entry>, SpoolError> {
        let mut connection = self.0.connection.lock().await;
        file::next_after(&mut connection, place, max, BYTES_AT_ONCE).await
    }

    /// Removes the deliveries at these places. On a full disk, uses the space that is reserved for it.
    ///
    /// # Errors
    /// A failure of SQLite; none is removed then.
    pub async fn remove(&self, places: &[i64]) -> Result<(), SpoolError> {
        let places = places.to_vec();
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let mut removed = file::remove(&mut connection, &places).await;
            if removed.is_err() && spool.release_reserve(&mut connection).await {
                removed = file::remove(&mut connection, &places).await;
            }
            let removed = removed?;
            spool.note_removed(&mut connection, &removed).await;
            Ok(())
        })
        .await
    }

    /// Moves a delivery to the table `refused`, with the reason. There it delays no other.
    ///
    /// # Errors
    /// A failure of SQLite; the delivery stays where it was.
    pub async fn refuse(&self, place: i64, reason: &str) -> Result<(), SpoolError> {
        let reason = reason.to_owned();
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let mut removed = file::refuse(&mut connection, place, &reason).await;
            if removed.is_err() && spool.release_reserve(&mut connection).await {
                removed = file::refuse(&mut connection, place, &reason).await;
            }
            let removed = removed?;
            spool.note_removed(&mut connection, &removed).await;
            spool.condition.add_refused(removed.len() as u64);
            Ok(())
        })
        .await
    }

    /// Moves refused deliveries back to their places, to be tried again, and returns how many. They fill at most half of
    /// the spool, oldest first: an outage that begins now needs the rest.
    ///
    /// # Errors
    /// A failure of SQLite; they stay refused then.
    pub async fn retry_refused(&self) -> Result<u64, SpoolError> {
        if self.figures().refused == 0 {
            return Ok(0);
        }
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let room = (spool.max_bytes / 2).saturating_sub(spool.condition.figures().bytes);
            let moved = file::retry_refused(&mut connection, room).await?;
            spool.condition.set(file::figures(&mut connection).await?);
            Ok(moved)
        })
        .await
    }

    /// Deletes refused deliveries that contain this ICCID. Returns whether there were any.
    ///
    /// # Errors
    /// A failure of SQLite; nothing is deleted then.
    pub async fn erase_refused(&self, iccid: &str) -> Result<bool, SpoolError> {
        let iccid = iccid.to_owned();
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let erased = file::erase_refused(&mut connection, &iccid).await?;
            spool.condition.set(file::figures(&mut connection).await?);
            Ok(erased > 0)
        })
        .await
    }

    /// The damaged files that were set aside. Nothing can be erased from them.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        salvage::set_aside(&self.0.folder)
    }

    /// Returns space to the disk once no delivery waits. Does nothing otherwise.
    ///
    /// # Errors
    /// A failure of SQLite; nothing is lost.
    pub async fn tidy(&self) -> Result<(), SpoolError> {
        let mut connection = self.0.connection.lock().await;
        if self.0.condition.figures().deliveries > 0 {
            return Ok(());
        }
        file::tidy(&mut connection).await?;
        // The cause of a failed append, such as a full disk, may have passed. Until this is reset, no delivery gets as far
        // as another append.
        self.0.condition.note_renewal();
        self.0.ballast.lay();
        Ok(())
    }

    /// Whether nothing could be appended because the file is damaged. The next start copies what can be read to a new one.
    pub fn is_damaged(&self) -> bool {
        self.0.condition.is_damaged()
    }

    /// If the last append failed, tries to write something that changes nothing: a service that is not ready gets no deliveries, and so
    /// would not learn that its disk works again.
    ///
    /// # Errors
    /// A failure of SQLite.
    pub async fn probe(&self) -> Result<(), SpoolError> {
        if !self.0.condition.is_failing() {
            return Ok(());
        }
        self.uncancelled(async move |spool| {
            let mut connection = spool.connection.lock().await;
            let room = PROBED_ROOM.min(spool.max_bytes / 4);
            if spool.condition.figures().bytes + room <= spool.max_bytes
                && spool.ballast.leaves_room_for(room, spool.log_bytes())
            {
                file::touch(&mut connection).await?;
                spool.condition.note_attempt(true);
            }
            Ok(())
        })
        .await
    }

    /// The max number of bytes of deliveries in the spool.
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes
    }

    /// How much waits in the spool.
    pub fn figures(&self) -> Figures {
        self.0.condition.figures()
    }

    /// Whether it would accept more: the last attempt did not fail, and there is space.
    pub fn accepts(&self) -> bool {
        self.0.condition.accepts(self.0.max_bytes)
    }
}

impl Inner {
    fn log_bytes(&self) -> u64 {
        fs::metadata(file::log_path(&self.folder)).map_or(0, |log| log.len())
    }

    /// Frees the disk space that is reserved for draining, and empties the log. Returns whether any space was reserved.
    async fn release_reserve(&self, connection: &mut SqliteConnection) -> bool {
        let is_released = self.ballast.release();
        // Whether that fails does not matter: the work that has failed is retried.
        drop(file::empty_log(connection).await);
        is_released
    }

    /// Removed rows are no longer counted, even if the oldest that is left cannot be read.
    async fn note_removed(&self, connection: &mut SqliteConnection, sizes: &[i64]) {
        let oldest = file::oldest(connection).await.unwrap_or(self.condition.figures().oldest);
        self.condition.subtract(sizes, oldest);
    }
}

#[cfg(test)]
mod tests;
