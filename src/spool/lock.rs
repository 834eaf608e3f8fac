//! The folder of a spool, and the lock that keeps every other process out of it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::SpoolError;

/// A folder that is locked by us. The system releases the lock when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a child process that is being started also has it open, until it executes its
    /// program.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// Creates the folder if it does not exist, and locks it.
pub(super) fn lock(folder: &Path) -> Result<Lock, SpoolError> {
    let unusable = |source| SpoolError::Folder { path: folder.to_owned(), source };
    make(folder).map_err(unusable)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Creates only the last part of the path, so that a volume that is not mounted is noticed now.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(folder)?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync(parent),
        None => sync(Path::new(".")),
    }
}

/// Fsyncs a folder, so that the names in it are durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
