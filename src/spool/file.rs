//! The file `spool.db`: how it is opened and checked, and every SQL statement on it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::record::{self, Record};
use super::{Entry, Figures, SpoolError, lock};
use crate::domain::Timestamp;

/// The format of the tables, kept as SQLite's `user_version`.
const VERSION: i64 = 1;

/// The columns of a [`Record`].
macro_rules! record_columns {
    () => {
        "id BLOB NOT NULL,
        received_at INTEGER NOT NULL,
        hook TEXT NOT NULL,
        provider TEXT NOT NULL,
        event_id TEXT,
        headers TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        body BLOB NOT NULL"
    };
}

/// Their names, and that of the size, which counts toward the limit.
macro_rules! record_names {
    () => {
        "size, id, received_at, hook, provider, event_id, headers, sha256, body"
    };
}

/// `size` is what counts toward the limit. `seq` is the place, in the order of arrival; AUTOINCREMENT never reuses a value.
const TABLES: &str = concat!(
    "BEGIN IMMEDIATE;
     CREATE TABLE waiting (seq INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, ",
    record_columns!(),
    ") STRICT;
     CREATE TABLE refused (seq INTEGER PRIMARY KEY, reason TEXT NOT NULL, size INTEGER NOT NULL, ",
    record_columns!(),
    ") STRICT;
     PRAGMA user_version = 1;
     COMMIT;"
);

/// The spool file of a folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("spool.db")
}

/// Its write-ahead log, which SQLite copies into the file from time to time.
pub(super) fn log_path(folder: &Path) -> PathBuf {
    folder.join("spool.db-wal")
}

/// Opens the file, or creates it, and has SQLite check it.
pub(super) async fn open_checked(path: &Path) -> Result<SqliteConnection, SpoolError> {
    let mut connection = open(path).await?;
    let checked: Result<String, _> =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await;
    match checked {
        Ok(found) if found == "ok" => {}
        Ok(found) => return Err(sqlx::Error::Protocol(found).into()),
        Err(error) => return Err(error.into()),
    }
    match version(&mut connection).await? {
        0 => {
            sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        }
        VERSION => {}
        _ => return Err(SpoolError::Newer(path.to_owned())),
    }
    Ok(connection)
}

/// Opens a file without checking it. Creates an empty one that only its owner may read.
pub(super) async fn open(path: &Path) -> Result<SqliteConnection, SpoolError> {
    let unusable = |source| SpoolError::Folder { path: path.to_owned(), source };
    if !path.exists() {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        new.map_err(unusable)?;
        lock::sync(path.parent().unwrap_or(Path::new("."))).map_err(unusable)?;
    }
    // SQLite gives its other files the mode of this one.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("cell_size_check", "ON");
    Ok(options.connect().await?)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, SpoolError> {
    Ok(sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await?)
}

/// Whether SQLite reports that the file's content is damaged, rather than that the file could not be reached.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    /// `ERROR` (a schema that cannot be read), `CORRUPT`, `NOTADB`, whatever their extended code.
    const DAMAGE: [i32; 3] = [1, 11, 26];
    /// `IOERR_SHORT_READ`, `IOERR_DATA`, `IOERR_CORRUPTFS`. Other errors of the disk may pass.
    const UNREADABLE: [i32; 3] = [522, 8_202, 8_458];
    match error {
        // An error found by `quick_check`.
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            code.is_some_and(|code| DAMAGE.contains(&(code & 0xff)) || UNREADABLE.contains(&code))
        }
        _ => false,
    }
}

/// Whether the disk could not be read, which may pass, or be a bad sector.
pub(super) fn is_read_error(error: &sqlx::Error) -> bool {
    /// `IOERR_READ`.
    const READ: &str = "266";
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(READ))
}

/// Whether SQLite reports that the disk, or the file system, is full.
pub(super) fn is_full(error: &SpoolError) -> bool {
    /// `FULL`.
    const FULL: i32 = 13;
    let SpoolError::Sqlite(sqlx::Error::Database(error)) = error else { return false };
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == FULL)
}

/// Commits a transaction that changes nothing.
pub(super) async fn touch(connection: &mut SqliteConnection) -> Result<(), SpoolError> {
    sqlx::query("PRAGMA user_version = 1").execute(connection).await?;
    Ok(())
}

/// Appends rows, each at its given place or after all others. One statement is one transaction and one fsync.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    records: Vec<(Option<i64>, Record)>,
) -> Result<(), SpoolError> {
    let mut insert =
        QueryBuilder::<Sqlite>::new(concat!("INSERT INTO waiting (seq, ", record_names!(), ") "));
    if records.is_empty() {
        return Ok(());
    }
    insert.push_values(records, |mut row, (place, record)| {
        let sha256 = record.sha256().to_vec();
        row.push_bind(place)
            .push_bind(i64::try_from(record.size()).unwrap_or(i64::MAX))
            .push_bind(record.id.as_bytes().to_vec())
            .push_bind(record.received_at)
            .push_bind(record.hook)
            .push_bind(record.provider)
            .push_bind(record.event_id)
            .push_bind(record.headers)
            .push_bind(sha256)
            .push_bind(Vec::from(record.body));
    });
    insert.build().persistent(false).execute(connection).await?;
    Ok(())
}

/// The next entries after a place, in order: at most `max`, and no more once they have `bytes` in total, or the next
/// cannot be read.
pub(super) async fn next_after(
    connection: &mut SqliteConnection,
    place: i64,
    max: usize,
    bytes: u64,
) -> Result<Vec<Entry>, SpoolError> {
    let mut rows = sqlx::query("SELECT * FROM waiting WHERE seq > ? ORDER BY seq LIMIT ?")
        .bind(place)
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch(connection);
    let (mut entries, mut total) = (Vec::new(), 0);
    loop {
        let row = match rows.try_next().await {
            Ok(Some(row)) => row,
            Err(error) if entries.is_empty() => return Err(error.into()),
            Ok(None) | Err(_) => break,
        };
        let (entry, size) = Record::entry(&row)?;
        entries.push(entry);
        total += size;
        if total >= bytes {
            break;
        }
    }
    Ok(entries)
}

/// Removes the entries at these places, and returns their sizes.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    places: &[i64],
) -> Result<Vec<i64>, SpoolError> {
    let remove = sqlx::query_scalar(
        "DELETE FROM waiting WHERE seq IN (SELECT value FROM json_each(?)) RETURNING size",
    );
    let places = serde_json::Value::from(places).to_string();
    Ok(remove.bind(places).fetch_all(connection).await?)
}

/// Moves an entry to the table `refused`, and returns its size, if it exists.
pub(super) async fn refuse(
    connection: &mut SqliteConnection,
    place: i64,
    reason: &str,
) -> Result<Vec<i64>, SpoolError> {
    let mut transaction = connection.begin().await?;
    sqlx::query(concat!(
        "INSERT INTO refused (seq, reason, ",
        record_names!(),
        ") SELECT seq, ?, ",
        record_names!(),
        " FROM waiting WHERE seq = ?"
    ))
    .bind(reason)
    .bind(place)
    .execute(&mut *transaction)
    .await?;
    let remove = sqlx::query_scalar("DELETE FROM waiting WHERE seq = ? RETURNING size");
    let sizes = remove.bind(place).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(sizes)
}

/// Moves the first refused entries, up to this many bytes, back to their places among those that wait.
pub(super) async fn retry_refused(
    connection: &mut SqliteConnection,
    bytes: u64,
) -> Result<u64, SpoolError> {
    let mut transaction = connection.begin().await?;
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT max(seq) FROM (SELECT seq, sum(size) OVER (ORDER BY seq) AS bytes FROM refused)
         WHERE bytes <= ?",
    )
    .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
    .fetch_one(&mut *transaction)
    .await?;
    let moved = sqlx::query(concat!(
        "INSERT INTO waiting (seq, ",
        record_names!(),
        ") SELECT seq, ",
        record_names!(),
        " FROM refused WHERE seq <= ?"
    ))
    .bind(last)
    .execute(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM refused WHERE seq <= ?").bind(last).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(moved.rows_affected())
}

/// Deletes the refused rows whose body contains this text, and returns how many.
pub(super) async fn erase_refused(
    connection: &mut SqliteConnection,
    text: &str,
) -> Result<u64, SpoolError> {
    let delete = sqlx::query("DELETE FROM refused WHERE instr(body, ?) > 0");
    Ok(delete.bind(text.as_bytes()).execute(connection).await?.rows_affected())
}

/// Appends a row that comes from another file to the table `refused`.
pub(super) async fn append_refused(
    connection: &mut SqliteConnection,
    place: i64,
    reason: &str,
    record: Record,
) -> Result<(), SpoolError> {
    append(connection, vec![(Some(place), record)]).await?;
    refuse(connection, place, reason).await.map(drop)
}

/// Counts everything. Reads the size of every row, so it is only for the start; afterwards the figures are kept up to
/// date.
pub(super) async fn figures(connection: &mut SqliteConnection) -> Result<Figures, SpoolError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM waiting) AS deliveries,
                (SELECT coalesce(sum(size), 0) FROM waiting) AS bytes,
                (SELECT count(*) FROM refused) AS refused,
                (SELECT received_at FROM waiting ORDER BY seq LIMIT 1) AS oldest",
    )
    .fetch_one(connection)
    .await?;
    let count =
        |column: &str| row.try_get::<i64, _>(column).map(|it| u64::try_from(it).unwrap_or(0));
    Ok(Figures {
        deliveries: count("deliveries")?,
        bytes: count("bytes")?,
        refused: count("refused")?,
        oldest: row.try_get::<Option<i64>, _>("oldest")?.map(record::instant),
    })
}

/// When the oldest waiting delivery was received.
pub(super) async fn oldest(
    connection: &mut SqliteConnection,
) -> Result<Option<Timestamp>, SpoolError> {
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT received_at FROM waiting ORDER BY seq LIMIT 1")
            .fetch_optional(connection)
            .await?;
    Ok(oldest.map(record::instant))
}

/// Returns the space of removed rows to the disk.
pub(super) async fn tidy(connection: &mut SqliteConnection) -> Result<(), SpoolError> {
    sqlx::query("VACUUM").execute(&mut *connection).await?;
    empty_log(connection).await
}

/// Copies the log into the file, and returns its space to the disk.
pub(super) async fn empty_log(connection: &mut SqliteConnection) -> Result<(), SpoolError> {
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    Ok(())
}
