//! Room that is kept for draining. SQLite needs room to delete: its log grows before its file can shrink. On a disk that is full
//! to the last byte, nothing could be removed from the spool, over restarts too, and deliveries would be refused for ever.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// Enough for the log of a full batch, twice.
const MAX_SIZE: u64 = 16 << 20;

/// On a small disk, a quarter of it is enough.
const SHARE: u64 = 4;

/// Pages that an append changes beside those that it fills.
const PAGES: u64 = 64 << 10;

/// A file that holds the room. While it does not exist, as much has to be free.
#[derive(Debug)]
pub(super) struct Ballast {
    folder: PathBuf,
    size: u64,
}

impl Ballast {
    pub(super) fn of(folder: &Path) -> Self {
        let size = room(folder).map_or(MAX_SIZE, |room| (room.total / SHARE).min(MAX_SIZE));
        Self { folder: folder.to_owned(), size }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    fn is_laid(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|file| file.len() >= self.size)
    }

    /// Whether all can still be drained after `bytes` of deliveries more, while SQLite's log has `log` bytes. They are written
    /// twice, to the log and later to the file, each time with some loss to pages; and before that, all of the log may have to go
    /// to the file, which only then can be emptied.
    pub(super) fn leaves_room_for(&self, bytes: u64, log: u64) -> bool {
        let kept = if self.is_laid() { 0 } else { self.size };
        let needed = kept + log + 2 * (bytes + bytes / 4 + PAGES);
        room(&self.folder).is_none_or(|room| room.free >= needed)
    }

    /// Keeps the room, if there is twice as much. That it cannot be kept is no reason not to run.
    pub(super) fn lay(&self) {
        let is_tight = room(&self.folder).is_some_and(|room| room.free < 2 * self.size);
        if self.is_laid() || is_tight {
            return;
        }
        if let Err(error) = self.write() {
            self.release();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no room could be kept for draining the spool on a full disk"
            );
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path())?;
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        if posix_fallocate(&file, 0, size).is_err() {
            // Not every file system knows it.
            let zeros = vec![0; 1 << 16];
            for _ in 0..self.size.div_ceil(zeros.len() as u64) {
                file.write_all(&zeros)?;
            }
        }
        file.sync_all()
    }

    /// Gives the room to whoever needs it to drain. Says whether there was any.
    pub(super) fn release(&self) -> bool {
        fs::remove_file(self.path()).is_ok()
    }

    /// The same if the disk is full: for a spool that is just being opened.
    pub(super) fn release_if_full(&self) {
        if room(&self.folder).is_some_and(|room| room.free < self.size / 2) {
            self.release();
        }
    }
}

struct Room {
    free: u64,
    total: u64,
}

/// `None` where the system does not say.
fn room(folder: &Path) -> Option<Room> {
    let disk = statvfs(folder).ok()?;
    let unit = disk.fragment_size();
    Some(Room { free: disk.blocks_available() * unit, total: disk.blocks() * unit })
}
