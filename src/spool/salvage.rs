//! Salvages a damaged file: sets it aside, and copies every intact row to a new file.
//!
//! The new file is complete before the old one is moved, so a crash at any point leaves one complete file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{Connection, Row, SqliteConnection};
use tokio::time::sleep;

use super::record::Record;
use super::tail::{self, Tail};
use super::{SpoolError, file, lock};

/// How often a file is read whose disk fails, before it counts as damaged, and the pause between.
const READS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// How many rows are copied together.
const ROWS_AT_ONCE: usize = 128;

/// Opens the folder's file, or creates it. A damaged file is set aside, and its readable rows are copied to a new one.
pub(super) async fn open(folder: &Path) -> Result<SqliteConnection, SpoolError> {
    finish_interrupted(folder)?;
    look_at_log(folder)?;
    let path = file::path(folder);
    let mut opened = file::open_checked(&path).await;
    for _ in 1..READS {
        match &opened {
            Err(SpoolError::Sqlite(error)) if file::is_read_error(error) => sleep(PAUSE).await,
            _ => break,
        }
        opened = file::open_checked(&path).await;
    }
    match opened {
        Err(SpoolError::Sqlite(error))
            if file::is_damage(&error) || file::is_read_error(&error) =>
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the spool is damaged; what can be read is copied to a new file"
            );
            salvage(folder).await?;
            file::open_checked(&path).await
        }
        opened => opened,
    }
}

/// Copies the readable rows of the folder's file to a new one, and logs how many.
async fn salvage(folder: &Path) -> Result<(), SpoolError> {
    let (damaged, new) = (file::path(folder), new_path(folder));
    let unusable = |source| SpoolError::Folder { path: folder.to_owned(), source };
    let kept_aside = free_name(&damaged);
    // Copy the log first: reading may merge it into the file, but the log must be set aside as it was found.
    copy_if_there(&with_suffix(&damaged, "-wal"), &with_suffix(&kept_aside, "-wal"))
        .map_err(unusable)?;
    remove_all(&new).map_err(unusable)?;
    let taken = take_over(&damaged, &new).await?;
    remove_if_there(&with_suffix(&damaged, "-wal")).map_err(unusable)?;
    remove_if_there(&with_suffix(&damaged, "-shm")).map_err(unusable)?;
    fs::rename(&damaged, &kept_aside).map_err(unusable)?;
    fs::rename(&new, &damaged).map_err(unusable)?;
    lock::sync(folder).map_err(unusable)?;
    tracing::error!(
        taken_over = taken.rows,
        damaged = taken.damaged,
        missing = taken.missing,
        refused = taken.refused,
        kept_aside = %kept_aside.display(),
        "the spool was damaged: keep the file that was set aside, and ask the provider for what is missing"
    );
    Ok(())
}

/// Logs what SQLite is about to discard from a log that was not closed, and keeps a copy of a damaged log.
fn look_at_log(folder: &Path) -> Result<(), SpoolError> {
    let unusable = |source| SpoolError::Folder { path: folder.to_owned(), source };
    let path = file::path(folder);
    let log = with_suffix(&path, "-wal");
    let Tail { bytes, commits } = tail::look_at(&log).map_err(unusable)?;
    if commits > 0 {
        let kept_aside = with_suffix(&free_name(&path), "-wal");
        copy_if_there(&log, &kept_aside).map_err(unusable)?;
        tracing::error!(
            bytes,
            appends = commits,
            kept_aside = %kept_aside.display(),
            "the end of the spool's log is damaged and is cut off: ask the provider for what came last"
        );
    } else if bytes > 0 {
        tracing::warn!(
            bytes,
            "an append to the spool that was never finished or acknowledged is cut off"
        );
    }
    Ok(())
}

/// Completes a [`salvage`] that crashed between its two renames and left a finished new file but no current one.
fn finish_interrupted(folder: &Path) -> Result<(), SpoolError> {
    let (path, new) = (file::path(folder), new_path(folder));
    if !path.exists() && new.exists() {
        fs::rename(&new, &path)
            .map_err(|source| SpoolError::Folder { path: folder.to_owned(), source })?;
    }
    Ok(())
}

/// The result of the copy.
#[derive(Debug, Default)]
struct Taken {
    rows: u64,
    /// Rows that were readable, but not as they were written.
    damaged: u64,
    /// How many more rows there may have been, judging by the numbers on either side.
    missing: i64,
    /// Rows of the table `refused`.
    refused: u64,
}

async fn take_over(damaged: &Path, new: &Path) -> Result<Taken, SpoolError> {
    let mut taken = Taken::default();
    let mut to = file::open_checked(new).await?;
    // A file without a valid header cannot even be opened: there is nothing to copy.
    if let Ok(mut from) = file::open(damaged).await {
        // Read from the front up to the damage, then from the back down to it.
        let reached = copy(&mut from, &mut to, Order::Forward, 0, &mut taken).await?;
        if let Some(last) = reached {
            let back = copy(&mut from, &mut to, Order::Backward, last, &mut taken).await?;
            taken.missing = back.map_or(0, |first| (first - last - 1).max(0));
        }
        taken.refused = copy_refused(&mut from, &mut to).await?;
        drop(from.close().await);
    }
    to.close().await?;
    Ok(taken)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Forward,
    Backward,
}

/// Copies rows after `after` until the end, or until a row cannot be read. Then returns the number of the last row
/// before it.
async fn copy(
    from: &mut SqliteConnection,
    to: &mut SqliteConnection,
    order: Order,
    after: i64,
    taken: &mut Taken,
) -> Result<Option<i64>, SpoolError> {
    let select = match order {
        Order::Forward => "SELECT * FROM waiting WHERE seq > ? ORDER BY seq",
        Order::Backward => "SELECT * FROM waiting WHERE seq > ? ORDER BY seq DESC",
    };
    let mut rows = sqlx::query(select).bind(after).fetch(from);
    let (mut reached, mut records) = (after, Vec::new());
    let end = loop {
        match rows.try_next().await {
            Ok(None) => break None,
            Err(_) => break Some(reached),
            Ok(Some(row)) => match (row.try_get::<i64, _>("seq"), Record::read(&row)) {
                (Ok(place), Some(record)) => {
                    reached = place;
                    records.push((Some(place), record));
                    taken.rows += 1;
                }
                _ => taken.damaged += 1,
            },
        }
        if records.len() >= ROWS_AT_ONCE {
            file::append(to, std::mem::take(&mut records)).await?;
        }
    };
    file::append(to, records).await?;
    Ok(end)
}

/// Copies the readable rows of the table `refused`.
async fn copy_refused(
    from: &mut SqliteConnection,
    to: &mut SqliteConnection,
) -> Result<u64, SpoolError> {
    let mut rows = sqlx::query("SELECT * FROM refused ORDER BY seq").fetch(from);
    let mut count = 0;
    while let Ok(Some(row)) = rows.try_next().await {
        let (place, reason) = (row.try_get::<i64, _>("seq"), row.try_get::<String, _>("reason"));
        let (Ok(place), Ok(reason), Some(record)) = (place, reason, Record::read(&row)) else {
            continue;
        };
        file::append_refused(to, place, &reason, record).await?;
        count += 1;
    }
    Ok(count)
}

fn new_path(folder: &Path) -> PathBuf {
    folder.join("spool.db.new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The damaged files of a folder.
pub(super) fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains(".damaged-")).collect()
}

/// `spool.db.damaged-1`, or the next free number.
fn free_name(path: &Path) -> PathBuf {
    let mut number = 1;
    loop {
        let name = with_suffix(path, &format!(".damaged-{number}"));
        if !name.exists() && !with_suffix(&name, "-wal").exists() {
            return name;
        }
        number += 1;
    }
}

fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    if from.exists() { fs::copy(from, to).map(drop) } else { Ok(()) }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    if path.exists() { fs::remove_file(path) } else { Ok(()) }
}

fn remove_all(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm"].into_iter().try_for_each(|it| remove_if_there(&with_suffix(path, it)))
}
