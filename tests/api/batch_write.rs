//! A batch written in one conditional statement: all of it if its profiles have not changed since they were read, else
//! nothing.
//!
//! The tests read two profiles, let a rival connection change, lock or erase one, and then run the real statement.

use esim_status::domain::{
    Connections, Country, Device, Eid, Headway, Iccid, Imsi, Milestone, Profile, ProfileState,
    Source, Timestamp, Transition, TransitionKind,
};
use esim_status::store::batch_write::{BatchWrite, Changed, write_if_unchanged};
use esim_status::store::transitions::NewTransition;
use esim_status::store::{ErasureKey, profiles};
use esim_status_testing::history::assert_counted;
use esim_status_testing::{Database, TestApp, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Duration, timeout};

use super::esim::{erase, object, register};
use super::{ICCID, iccid};

/// Much longer than the statement takes, and shorter than the locks are held here.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn with_two_profiles() -> (TestApp, PgConnection) {
    let app = TestApp::start_on(Database::migrated().await, |_| ()).await;
    for iccid in [ICCID.to_owned(), iccid(1)] {
        assert_eq!(app.report(&iccid, "RELEASED").await, "moved");
    }
    let connection = app.database.connect().await;
    (app, connection)
}

async fn erasure_key(connection: &mut PgConnection) -> ErasureKey {
    let key = ErasureKey::default();
    key.load(connection).await.unwrap();
    key
}

/// Whether the statement for a single delivery is used, or the one for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    One,
    Many,
}

const BOTH: [Of; 2] = [Of::One, Of::Many];

/// Reads the profile, or both, runs `meanwhile`, and then writes that the first is installed.
async fn install(
    connection: &mut PgConnection,
    of: Of,
    meanwhile: impl AsyncFnOnce(),
) -> (bool, Vec<Profile>) {
    let mut read = profiles::read(connection, &[iccid(1), ICCID.to_owned()]).await.unwrap();
    read.sort_by_key(|(profile, _)| profile.iccid.as_str() != ICCID);
    let (before, revisions): (Vec<Profile>, Vec<_>) = read.into_iter().unzip();
    let first = &before[0];
    let after = Profile { state: ProfileState::Installed, seq: 2, ..first.clone() };
    let transition = Transition {
        seq: 2,
        from_state: Some(ProfileState::Released),
        to_state: ProfileState::Installed,
        enabled: Some(true),
        raw_state: "INSTALLED".to_owned(),
        kind: TransitionKind::Normal,
        reason: None,
        source: Some(Source::Webhook),
        occurred_at: None,
        received_at: Timestamp::parse("2026-11-23T10:00:00Z").unwrap(),
        provider: "gigastore".to_owned(),
    };
    meanwhile().await;
    let iccid = Iccid::parse(ICCID).unwrap();
    let write = BatchWrite {
        changed: vec![Changed { profile: &after, revision: revisions[0], before: first.into() }],
        unchanged: match of {
            Of::One => Vec::new(),
            Of::Many => vec![(&before[1].iccid, revisions[1])],
        },
        transitions: vec![NewTransition {
            iccid: &iccid,
            transition: &transition,
            delivery_id: None,
        }],
        ..BatchWrite::default()
    };
    let key = erasure_key(connection).await;
    let written = timeout(AT_ONCE, write_if_unchanged(connection, &key, &write)).await;
    let written = written.expect("the statement waits for no lock").unwrap();
    if written {
        let read = profiles::read(connection, &[ICCID.to_owned()]).await.unwrap();
        assert_eq!(read[0].0.seq, 2);
    }
    (written, before)
}

#[tokio::test]
async fn a_batch_is_written_if_its_profiles_are_unchanged() {
    for of in BOTH {
        let (app, mut connection) = with_two_profiles().await;
        let (written, _) = install(&mut connection, of, async || ()).await;
        assert!(written, "{of:?}");
        assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
        app.assert_straight(ICCID).await;
    }
}

#[tokio::test]
async fn nothing_is_written_if_one_of_the_profiles_has_changed() {
    for (of, changed) in [(Of::One, ICCID.to_owned()), (Of::Many, iccid(1))] {
        let (app, mut connection) = with_two_profiles().await;
        // It changes by a delivery that only increases its count.
        let meanwhile = async || assert_eq!(app.report(&changed, "RELEASED").await, "repeated");
        let (written, _) = install(&mut connection, of, meanwhile).await;
        assert!(!written, "{of:?}");
        assert_eq!(app.profile(ICCID).await["seq"], json!(1));
        app.assert_straight(ICCID).await;
    }
}

/// Replicas of an older release, and people with `psql`, do not know the column.
#[tokio::test]
async fn nothing_is_written_over_a_change_by_somebody_who_does_not_raise_the_revision() {
    for of in BOTH {
        let (app, mut connection) = with_two_profiles().await;
        let mut stranger = app.database.connect().await;
        let meanwhile = async || {
            let changed = "UPDATE profiles SET deliveries = deliveries + 1";
            stranger.execute(changed).await.unwrap();
        };
        let (written, _) = install(&mut connection, of, meanwhile).await;
        assert!(!written, "{of:?}");
        assert_eq!(app.profile(ICCID).await["deliveries"], json!(2));
    }
}

#[tokio::test]
async fn nothing_is_written_and_no_lock_is_waited_for_if_a_row_is_locked() {
    for (of, locked) in [(Of::One, ICCID.to_owned()), (Of::Many, iccid(1))] {
        let (app, mut connection) = with_two_profiles().await;
        let mut rival = app.database.connect().await;
        let mut held = rival.begin().await.unwrap();
        let lock = async || {
            sqlx::query("SELECT FROM profiles WHERE iccid = $1 FOR UPDATE")
                .bind(&locked)
                .execute(&mut *held)
                .await
                .unwrap();
        };
        let (written, _) = install(&mut connection, of, lock).await;
        assert!(!written, "{of:?}");
        assert_eq!(app.profile(ICCID).await["seq"], json!(1));
    }
}

/// Neither over the gap that an erasure leaves, nor over the next life of the profile.
#[tokio::test]
async fn nothing_is_written_if_a_profile_was_erased() {
    for (of, is_registered_again) in BOTH.into_iter().flat_map(|of| [(of, false), (of, true)]) {
        let (app, mut connection) = with_two_profiles().await;
        let end = async || {
            erase(&app.backend, ICCID).await.is(204);
            if is_registered_again {
                assert_eq!(register(&app, &object(ICCID)).await.status, 201);
            }
        };
        let (written, before) = install(&mut connection, of, end).await;
        assert!(!written, "{of:?} {is_registered_again}");
        assert_eq!(before.len(), 2);
        let left = app.database.scalar::<i64>("SELECT count(*) FROM transitions").await;
        assert_eq!(left, 1 + i64::from(is_registered_again));
    }
}

#[tokio::test]
async fn a_profile_that_exists_by_now_is_not_inserted_again() {
    let (app, mut connection) = with_two_profiles().await;
    let read = profiles::read(&mut connection, &[ICCID.to_owned()]).await.unwrap();
    let write = BatchWrite {
        new: vec![&read[0].0],
        absent: vec![&read[0].0.iccid],
        ..BatchWrite::default()
    };
    let key = erasure_key(&mut connection).await;
    assert!(!write_if_unchanged(&mut connection, &key, &write).await.unwrap());
    assert_eq!(app.profile(ICCID).await["deliveries"], json!(1));
}

#[tokio::test]
async fn new_and_changed_profiles_are_written_in_the_same_batches() {
    let app = TestApp::start().await;
    let numbers = 0..60;
    let rounds = ["RELEASED", "INSTALLED"].map(|state| {
        join_all(numbers.clone().map(|number| {
            let app = &app;
            async move { app.report(&iccid(number), state).await }
        }))
    });
    let [first, second] = rounds;
    let (first, second) = tokio::join!(first, second);
    assert!(first.iter().chain(&second).all(|outcome| outcome == "moved"), "{first:?} {second:?}");
    for number in numbers {
        app.assert_straight(&iccid(number)).await;
        assert_eq!(app.profile(&iccid(number)).await["seq"], json!(2));
    }
}

#[tokio::test]
async fn a_batch_does_not_scan_the_table_after_it_has_grown() {
    let app = TestApp::start_on(Database::migrated().await, |settings| settings.writers = 1).await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let mut connection = app.database.connect().await;
    // Now Postgres believes that the table is tiny, and caches a plan for that.
    connection.execute("ANALYZE profiles").await.unwrap();
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let many = "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                SELECT '8999' || n, 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now()
                FROM generate_series(100000000000000, 100000000019999) AS n";
    connection.execute(many).await.unwrap();
    for state in ["RELEASED", "INSTALLED"].repeat(10) {
        app.report(ICCID, state).await;
    }
    let database = app.database.clone();
    // A connection reports its statistics when it ends.
    app.stop().await;
    wait_until("the writer's statistics are reported", async || {
        database
            .scalar::<i64>(
                "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'transitions'",
            )
            .await
            >= 21
    })
    .await;
    let read = "SELECT (idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname = 'profiles'";
    let read = database.scalar::<i64>(read).await;
    assert!(read < 1_000, "{read} rows of the table were read for 22 deliveries");
}

/// The struct literals name every field, so a new one must be added here, and then fails until the statement saves it.
#[tokio::test]
async fn every_column_of_a_profile_is_created_and_changed() {
    let database = Database::migrated().await;
    // A change of the provider is two changes of the counts, so it is written by the statement for several.
    for (number, provider) in ["gigastore", "other"].into_iter().enumerate() {
        create_and_change(&database, &iccid(number), provider).await;
    }
    assert_counted(&database).await;
}

async fn create_and_change(database: &Database, iccid: &str, provider: &str) {
    let mut connection = database.connect().await;
    let key = erasure_key(&mut connection).await;
    let at = |second| Timestamp::parse(&format!("2026-11-23T10:00:{second:02}Z")).unwrap();
    let created = Profile {
        iccid: Iccid::parse(iccid).unwrap(),
        provider: "gigastore".to_owned(),
        state: ProfileState::Released,
        enabled: None,
        raw_state: "RELEASED".to_owned(),
        imsi: None,
        eid: None,
        device: None,
        since: at(1),
        seq: 1,
        installs_seen: 0,
        deliveries: 1,
        last_delivery_at: Some(at(1)),
        last_occurred_at: None,
        connections: Connections::default(),
        headway: Some(Headway { ready_at: at(1), reached: Milestone::Ready }),
        erased_at: None,
    };
    let changed = Profile {
        iccid: created.iccid.clone(),
        provider: provider.to_owned(),
        state: ProfileState::Installed,
        enabled: Some(true),
        raw_state: "ENABLED".to_owned(),
        imsi: Some(Imsi::parse("260060147200183").unwrap()),
        eid: Some(Eid::parse("89049032").unwrap()),
        device: Device::new(Some("Apple"), Some("iPhone 15"), Some("01328510")),
        since: at(2),
        seq: 2,
        installs_seen: 1,
        deliveries: 2,
        last_delivery_at: Some(at(3)),
        last_occurred_at: Some(at(4)),
        connections: Connections {
            first_connected_at: Some(at(5)),
            last_connected_at: Some(at(6)),
            country: Country::parse("PL"),
        },
        headway: Some(Headway { ready_at: at(0), reached: Milestone::Connected }),
        // Only a registration sets it.
        erased_at: None,
    };
    let write = BatchWrite { new: vec![&created], ..BatchWrite::default() };
    assert!(write_if_unchanged(&mut connection, &key, &write).await.unwrap());
    let read = profiles::read(&mut connection, &[iccid.to_owned()]).await.unwrap();
    let (first, revision) = &read[0];
    assert_eq!(first, &created);
    let before = first.into();
    let write = BatchWrite {
        changed: vec![Changed { profile: &changed, revision: *revision, before }],
        ..BatchWrite::default()
    };
    assert!(write_if_unchanged(&mut connection, &key, &write).await.unwrap());
    let read = profiles::read(&mut connection, &[iccid.to_owned()]).await.unwrap();
    assert_eq!(read[0].0, changed);
}
