//! Disk space that is reserved for draining. SQLite needs space to delete: its log grows before its file can shrink. If
//! the disk were full to the last byte, nothing could be removed from the spool, not even after a restart, and
//! deliveries would be refused forever.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// Twice the log of a full batch.
const MAX_SIZE: u64 = 16 << 20;

/// On a small disk, a quarter of its size is enough.
const SHARE: u64 = 4;

/// The pages that an append changes besides those that it fills.
const PAGES: u64 = 64 << 10;

/// A file that reserves the space. While it does not exist, as much space must be free.
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

    /// Whether everything can still be drained after an append of `bytes`, while SQLite's log has `log` bytes. The
    /// deliveries are written twice, first to the log and later to the file, each time with some loss to pages. Before
    /// that, the whole log may have to be copied to the file, because only then can it be emptied.
    pub(super) fn leaves_room_for(&self, bytes: u64, log: u64) -> bool {
        let kept = if self.is_laid() { 0 } else { self.size };
        let needed = kept + log + 2 * (bytes + bytes / 4 + PAGES);
        room(&self.folder).is_none_or(|room| room.free >= needed)
    }

    /// Reserves the space, if twice as much is free. The service runs without it if that fails.
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
            // Not every file system supports it.
            let zeros = vec![0; 1 << 16];
            for _ in 0..self.size.div_ceil(zeros.len() as u64) {
                file.write_all(&zeros)?;
            }
        }
        file.sync_all()
    }

    /// Frees the reserved space for draining. Returns whether there was any.
    pub(super) fn release(&self) -> bool {
        fs::remove_file(self.path()).is_ok()
    }

    /// Frees it if the disk is full, for a spool that is being opened.
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

/// Returns `None` if the system does not tell.
fn room(folder: &Path) -> Option<Room> {
    let disk = statvfs(folder).ok()?;
    let unit = disk.fragment_size();
    Some(Room { free: disk.blocks_available() * unit, total: disk.blocks() * unit })
}
