//! The guarantees of the spool, also for files that were truncated, corrupted and overwritten.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use sqlx::{Connection, Executor};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::delivery::{Authenticator, Delivery, Scheme};
use crate::domain::Timestamp;

const ROOM: u64 = 1 << 20;

fn noon(more_seconds: i64) -> Timestamp {
    Timestamp::parse("2026-11-23T12:00:00.123456Z").unwrap().plus_seconds(more_seconds)
}

fn delivery(number: u8, body: &[u8]) -> AuthenticDelivery {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_bytes("caf\u{e9} 1".as_bytes()).unwrap());
    let hook = Arc::from("gigastore/esim-status");
    let body = Bytes::copy_from_slice(body);
    let id = Uuid::from_bytes([number; 16]);
    let delivery = Delivery::new(id, noon(number.into()), hook, None, headers, body);
    Authenticator::new(Scheme::None).check(delivery).unwrap()
}

/// A body that is easy to find in a file, and so large that few share a page.
fn body(number: u8) -> Vec<u8> {
    format!("body {number:03} ").repeat(100).into_bytes()
}

async fn append(spool: &Spool, numbers: std::ops::Range<u8>) {
    for number in numbers {
        let delivery = delivery(number, &body(number));
        spool.append(&[(&delivery, "gigastore")]).await.unwrap();
    }
}

async fn open(folder: &TempDir) -> Spool {
    Spool::open(folder.path(), ROOM).await.unwrap()
}

/// The numbers of the deliveries in the spool; `None` for a damaged one.
async fn numbers(spool: &Spool) -> Vec<Option<u8>> {
    let number = |entry| match entry {
        Entry::Intact { delivery, .. } => Some(delivery.id().as_bytes()[0]),
        Entry::Damaged { .. } => None,
    };
    spool.next_after(0, 1_000).await.unwrap().into_iter().map(number).collect()
}

/// The files as a crash would leave them: nothing is closed.
fn crashed(folder: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if entry.file_name() != "spool.db-shm" {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

/// Closes the spool in order, so that all data is in the one file.
async fn close(spool: Spool) {
    let inner = Arc::into_inner(spool.0).unwrap();
    inner.connection.into_inner().close().await.unwrap();
}

fn find(file: &Path, text: &[u8]) -> u64 {
    let bytes = fs::read(file).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text);
    at.unwrap_or_else(|| panic!("not in {}", file.display())) as u64
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

fn range(numbers: std::ops::Range<u8>) -> Vec<Option<u8>> {
    numbers.map(Some).collect()
}

#[tokio::test]
async fn what_is_appended_comes_back_as_it_arrived_and_in_order() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    let odd = delivery(2, b"\0\xff not json");
    let event = AuthenticDelivery::restored(
        Uuid::from_bytes([3; 16]),
        noon(3),
        Arc::from("other/hook"),
        Some("msg_1".to_owned()),
        "{}".to_owned(),
        Bytes::new(),
    );
    append(&spool, 1..2).await;
    spool.append(&[(&odd, "gigastore"), (&event, "other")]).await.unwrap();
    let entries = spool.next_after(0, 10).await.unwrap();
    let read: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Intact { place, delivery, provider } => (place, delivery, &**provider),
            Entry::Damaged { place } => panic!("{place} is damaged"),
        })
        .collect();
    let providers: Vec<_> = read.iter().map(|(_, _, provider)| *provider).collect();
    assert_eq!(providers, ["gigastore", "gigastore", "other"]);
    assert!(read.is_sorted_by_key(|(place, ..)| *place));
    for ((_, kept, _), sent) in read.iter().zip([&delivery(1, &body(1)), &odd, &event]) {
        assert_eq!((kept.id(), kept.received_at()), (sent.id(), sent.received_at()));
        assert_eq!((kept.hook_path(), kept.event_id()), (sent.hook_path(), sent.event_id()));
        assert_eq!(kept.body(), sent.body());
        assert!(kept.kept_headers().eq(sent.kept_headers()));
    }
}

#[tokio::test]
async fn what_is_removed_is_gone_and_the_figures_say_what_is_left() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    assert_eq!(spool.figures(), Figures::default());
    append(&spool, 1..6).await;
    let head = spool.next_after(0, 2).await.unwrap();
    let Entry::Intact { place: last, .. } = head[1] else { panic!("damaged") };
    spool.remove(&(1..=last).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(numbers(&spool).await, range(3..6));
    let figures = spool.figures();
    assert_eq!((figures.deliveries, figures.oldest), (3, Some(noon(3))));
    close(spool).await;

    let spool = open(&folder).await;
    assert_eq!(spool.figures(), figures);
    spool.remove(&(1..=1_000).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(spool.figures(), Figures::default());
    append(&spool, 6..8).await;
    assert_eq!(numbers(&spool).await, range(6..8));
}

#[tokio::test]
async fn removed_bodies_are_overwritten_and_an_empty_spool_is_small() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..100).await;
    spool.tidy().await.unwrap();
    assert_eq!(numbers(&spool).await, range(1..100));
    spool.remove(&(1..=1_000).collect::<Vec<_>>()).await.unwrap();
    spool.tidy().await.unwrap();
    let mut size = 0;
    for name in ["spool.db", "spool.db-wal"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"body 001"), "{name}");
        size += bytes.len();
    }
    assert!(size < 40_000, "{size}");
}

#[tokio::test]
async fn a_spool_is_bounded_and_takes_more_once_there_is_room() {
    let folder = TempDir::new().unwrap();
    let spool = Spool::open(folder.path(), 3_000).await.unwrap();
    append(&spool, 1..3).await;
    assert!(spool.accepts());
    let more = delivery(3, &body(3));
    let refused = spool.append(&[(&more, "gigastore")]).await.unwrap_err();
    assert!(matches!(refused, SpoolError::Full), "{refused}");
    assert!(!spool.accepts());
    assert_eq!(numbers(&spool).await, range(1..3));
    spool.remove(&(1..=1).collect::<Vec<_>>()).await.unwrap();
    assert!(spool.accepts());
    append(&spool, 3..4).await;
    assert_eq!(numbers(&spool).await, range(2..4));
}

#[tokio::test]
async fn a_second_process_is_told_to_use_a_folder_of_its_own() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    let refused = Spool::open(folder.path(), ROOM).await.unwrap_err().to_string();
    assert!(refused.contains("give each replica its own spool directory"), "{refused}");
    drop(spool);
    open(&folder).await;
}

#[tokio::test]
async fn a_folder_whose_parent_is_not_there_is_not_made() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("volume").join("spool");
    assert!(matches!(Spool::open(&missing, ROOM).await, Err(SpoolError::Folder { .. })));
    Spool::open(&folder.path().join("spool"), ROOM).await.unwrap();
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let folder = TempDir::new().unwrap();
    let made = folder.path().join("spool");
    let spool = Spool::open(&made, ROOM).await.unwrap();
    append(&spool, 1..2).await;
    let access = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(access(&made), 0o700);
    for name in ["lock", "spool.db", "spool.db-wal", "spool.db-shm"] {
        assert_eq!(access(&made.join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_written_is_set_aside_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..4).await;
    spool.refuse(2, "the database says no").await.unwrap();
    assert_eq!(numbers(&spool).await, [Some(1), Some(3)]);
    assert_eq!((spool.figures().deliveries, spool.figures().refused), (2, 1));
    close(spool).await;
    let mut connection = file::open(&folder.path().join("spool.db")).await.unwrap();
    let reason: String =
        sqlx::query_scalar("SELECT reason FROM refused").fetch_one(&mut connection).await.unwrap();
    assert_eq!(reason, "the database says no");
}

#[tokio::test]
async fn what_is_tried_again_leaves_room_for_an_outage() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..7).await;
    let each = spool.figures().bytes / 6;
    for place in 1..6 {
        spool.refuse(place, "no").await.unwrap();
    }
    close(spool).await;
    // Four fit in half of it, and one of them waits already.
    let spool = Spool::open(folder.path(), each * 8 + each / 2).await.unwrap();
    assert_eq!(spool.retry_refused().await.unwrap(), 3);
    assert_eq!(numbers(&spool).await, [Some(1), Some(2), Some(3), Some(6)]);
    assert_eq!(spool.figures().refused, 2);
    assert_eq!(spool.retry_refused().await.unwrap(), 0);
    spool.remove(&[1, 2, 3, 6]).await.unwrap();
    assert_eq!(spool.retry_refused().await.unwrap(), 2);
    assert_eq!(spool.retry_refused().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_synced_survives_a_crash() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..50).await;
    let folder = crashed(&folder);
    let spool = open(&folder).await;
    assert_eq!(numbers(&spool).await, range(1..50));
    assert_eq!(spool.figures().deliveries, 49);
}

#[tokio::test]
async fn a_torn_log_is_cut_after_the_last_whole_append() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..10).await;
    for cut in [1, 1_000, 5_000] {
        let folder = crashed(&folder);
        let log = File::options().write(true).open(folder.path().join("spool.db-wal")).unwrap();
        log.set_len(log.metadata().unwrap().len() - cut).unwrap();
        let tail = tail::look_at(&folder.path().join("spool.db-wal")).unwrap();
        assert!(tail.bytes > 0 && tail.commits == 0, "{tail:?}");
        let spool = open(&folder).await;
        let left = numbers(&spool).await;
        assert!(left.len() < 9 && left.len() > 5, "{left:?}");
        assert_eq!(left, range(1..10)[..left.len()]);
        append(&spool, 10..12).await;
        assert_eq!(numbers(&spool).await[left.len()..], range(10..12));
    }
}

#[tokio::test]
async fn a_whole_log_has_nothing_to_cut_also_after_it_was_begun_anew() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    let log = folder.path().join("spool.db-wal");
    for round in 0..3 {
        append(&spool, round * 20..round * 20 + 10).await;
        assert_eq!(tail::look_at(&log).unwrap(), tail::Tail::default());
        // The next append restarts the log, and the old frames stay behind it.
        let checkpoint = "PRAGMA wal_checkpoint(RESTART)";
        spool.0.connection.lock().await.execute(checkpoint).await.unwrap();
        append(&spool, round * 20 + 10..round * 20 + 11).await;
        assert_eq!(tail::look_at(&log).unwrap(), tail::Tail::default());
    }
}

#[tokio::test]
async fn a_log_that_is_damaged_in_its_middle_is_kept() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..10).await;
    let folder = crashed(&folder);
    let log = folder.path().join("spool.db-wal");
    overwrite(&log, find(&log, b"body 005 "), b"B");
    let before = fs::read(&log).unwrap();
    assert!(tail::look_at(&log).unwrap().commits >= 4);
    assert_eq!(numbers(&open(&folder).await).await, range(1..5));
    assert!(fs::read(folder.path().join("spool.db.damaged-1-wal")).unwrap() == before);
}

#[tokio::test]
async fn a_full_disk_costs_what_comes_and_nothing_that_is_there() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..3).await;
    let execute = async |pragma: &'static str| {
        spool.0.connection.lock().await.execute(pragma).await.unwrap();
    };
    // For SQLite, the same as a full disk.
    execute("PRAGMA max_page_count = 1").await;
    let large = delivery(3, &vec![b'x'; 60_000]);
    let failed = spool.append(&[(&large, "gigastore")]).await.unwrap_err();
    assert!(matches!(failed, SpoolError::Full), "{failed}");
    assert!(!spool.accepts());
    assert_eq!((numbers(&spool).await, spool.figures().deliveries), (range(1..3), 2));
    execute("PRAGMA max_page_count = 1000000").await;
    spool.probe().await.unwrap();
    assert!(spool.accepts());
    spool.append(&[(&large, "gigastore")]).await.unwrap();
    assert!(spool.accepts());
}

#[tokio::test]
async fn a_flipped_byte_costs_one_delivery() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..10).await;
    close(spool).await;
    let file = folder.path().join("spool.db");
    overwrite(&file, find(&file, b"body 005 "), b"B");
    let spool = open(&folder).await;
    let mut expected = range(1..10);
    expected[4] = None;
    assert_eq!(numbers(&spool).await, expected);
}

#[tokio::test]
async fn of_a_file_with_a_hole_all_else_is_taken_over_and_the_file_is_kept() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..100).await;
    spool.refuse(7, "no").await.unwrap();
    close(spool).await;
    let file = folder.path().join("spool.db");
    let hole = find(&file, b"body 050 ") / 4_096 * 4_096;
    overwrite(&file, hole, &[0xa5; 4_096]);
    let before = fs::read(&file).unwrap();

    let spool = open(&folder).await;
    let left = numbers(&spool).await;
    assert!(left.len() >= 90 && left.len() < 98, "{left:?}");
    assert!(left.is_sorted() && !left.contains(&None) && !left.contains(&Some(50)), "{left:?}");
    assert!(left.starts_with(&range(1..7)) && left.ends_with(&range(60..100)), "{left:?}");
    assert_eq!(spool.figures().refused, 1);
    assert!(fs::read(folder.path().join("spool.db.damaged-1")).unwrap() == before);
    append(&spool, 100..102).await;
    close(spool).await;

    let spool = open(&folder).await;
    assert_eq!(numbers(&spool).await.len(), left.len() + 2);
    assert!(!folder.path().join("spool.db.damaged-2").exists());
}

#[tokio::test]
async fn a_file_that_is_none_is_set_aside_and_a_new_one_takes_its_place() {
    for garbage in [&[0xa5; 100][..], &vec![0xa5; 20_000], b"SQLite format 3\0garbage"] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("spool.db"), garbage).unwrap();
        let spool = open(&folder).await;
        append(&spool, 1..3).await;
        assert_eq!(numbers(&spool).await, range(1..3));
        assert_eq!(fs::read(folder.path().join("spool.db.damaged-1")).unwrap(), garbage);
    }
}

#[tokio::test]
async fn an_interrupted_salvage_is_finished() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..3).await;
    close(spool).await;
    // The state after a crash between the two renames.
    let file = folder.path().join("spool.db");
    fs::rename(&file, folder.path().join("spool.db.new")).unwrap();
    assert_eq!(numbers(&open(&folder).await).await, range(1..3));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..3).await;
    spool.0.connection.lock().await.execute("PRAGMA user_version = 2").await.unwrap();
    close(spool).await;
    let refused = Spool::open(folder.path(), ROOM).await.unwrap_err();
    assert!(matches!(refused, SpoolError::Newer(_)), "{refused}");
}

#[tokio::test]
async fn figures_agree_with_what_waits_whoever_gives_up_halfway() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..241).await;
    for (round, place) in (1..=240).enumerate() {
        let limit = Duration::from_micros(1 + u64::try_from(round).unwrap() % 60);
        match round % 3 {
            0 => drop(tokio::time::timeout(limit, spool.remove(&[place])).await),
            1 => drop(tokio::time::timeout(limit, spool.refuse(place, "for a test")).await),
            _ => drop(tokio::time::timeout(limit, spool.remove(&[])).await),
        }
    }
    // Waits until the work that is under way has ended.
    spool.remove(&[]).await.unwrap();
    let figures = spool.figures();
    let waiting = numbers(&spool).await.len();
    assert!(waiting < 120, "{waiting}");
    assert_eq!(usize::try_from(figures.deliveries), Ok(waiting));
    close(spool).await;
    assert_eq!(open(&folder).await.figures(), figures);
}

#[tokio::test]
async fn refused_deliveries_of_an_erased_profile_are_erased() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder).await;
    append(&spool, 1..4).await;
    for place in 1..=2 {
        spool.refuse(place, "for a test").await.unwrap();
    }
    assert!(spool.erase_refused("body 001").await.unwrap());
    assert!(!spool.erase_refused("body 001").await.unwrap());
    assert_eq!((spool.figures().refused, spool.figures().deliveries), (1, 1));
}
