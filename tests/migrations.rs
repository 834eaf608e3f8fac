//! The migrations: each applies to a database with data in every table, and `store::migrate` refuses schemas that it
//! does not know.
//!
//! The tests apply the migrations to a real Postgres one by one, with sample rows in between, or change the table of
//! applied migrations.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use esim_status::domain::{DisabledBecause, Iccid, Outcome, ProfileState, TransitionKind};
use esim_status::store::event_ids::{self, NewEvent};
use esim_status::store::{self, SchemaError, deliveries, profiles, transitions};
use esim_status_testing::Database;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

static MIGRATOR: Migrator = sqlx::migrate!();

const ICCID: &str = "89480100000472018362";

/// The sample rows that are written after a migration, with the columns that the tables have then. A new table needs an
/// entry here.
const SAMPLES: [(i64, &str); 17] = [
    (
        20_261_123_100_000,
        "INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                               deliveries, last_delivery_at, uid, registered_at, updated_at)
         VALUES ('89480100000472018362', 'gigastore', 'INSTALLED', true, 'INSTALLED', '260060147200183', '89',
                 '2026-11-23T10:00:02Z', 2, 1, 2, '2026-11-23T10:00:02Z', 'c-204', '2026-11-23T10:00:00Z',
                 '2026-11-23T10:00:02Z'),
                ('89480100000472018388', 'gigastore', 'RELEASED', NULL, 'RELEASED', NULL, NULL,
                 '2026-11-23T10:00:02Z', 1, 0, 1, NULL, NULL, NULL, '2026-11-23T10:00:02Z')",
    ),
    (
        20_261_123_100_100,
        "INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider)
         VALUES ('89480100000472018362', 1, NULL, 'RELEASED', NULL, 'RELEASED', 'normal', '2026-11-23T10:00:01Z', 'gigastore'),
                ('89480100000472018362', 2, 'RELEASED', 'INSTALLED', true, 'INSTALLED', 'normal', '2026-11-23T10:00:02Z', 'gigastore'),
                ('89480100000472018388', 1, NULL, 'RELEASED', NULL, 'RELEASED', 'normal', '2026-11-23T10:00:02Z', 'gigastore')",
    ),
    (
        20_261_123_100_200,
        "CREATE TABLE deliveries_2026_11 PARTITION OF deliveries
             FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00');
         INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers, body)
         VALUES ('019aaf5e-0000-7000-8000-000000000001', '2026-11-23T10:00:02Z', 'gigastore/esim-status', 'gigastore',
                 '89480100000472018362', 'moved', NULL, NULL, '{\"user-agent\": \"x\"}', '\\x7b7d')",
    ),
    (
        20_261_123_100_300,
        "INSERT INTO event_ids (hook, event_id, body_sha256, iccid, received_at)
         VALUES ('gigastore/relayed', 'msg_1', '\\x00', '89480100000472018362', '2026-11-23T10:00:02Z')",
    ),
    (
        20_261_123_130_000,
        "INSERT INTO install_credentials (iccid, key_id, sealed, updated_at)
         VALUES ('89480100000472018362', NULL, convert_to('{\"activationCode\":\"LPA:1$smdp.example$K2-204\"}', 'UTF8'),
                 '2026-11-23T10:00:00Z')",
    ),
    (
        20_261_123_130_100,
        "INSERT INTO erasures (iccid_hmac, erased_at) VALUES ('\\x0102', '2026-11-23T10:00:00Z')",
    ),
    (
        20_261_127_110_000,
        "INSERT INTO count_changes (provider, day, outcome, from_state, to_state, n)
         VALUES ('gigastore', '2026-11-23', 'moved', 'RELEASED', 'INSTALLED', 1);
         INSERT INTO profile_counts (provider, state, profiles) VALUES ('gigastore', 'RELEASED', 2);
         INSERT INTO delivery_counts (day, provider, outcome, deliveries)
         VALUES ('2026-11-23', 'gigastore', 'moved', 1)",
    ),
    (
        20_261_127_130_000,
        "INSERT INTO orders (iccid, reference, expected_from, replaces, replaced_at)
         VALUES ('89480100000472018362', 'A-4711', '2026-12-24', '89480100000472018388', '2026-11-23T10:00:00Z')",
    ),
    (
        20_261_127_140_000,
        "INSERT INTO overdue (iccid, seq, reason) VALUES ('89480100000472018388', 1, 'not-installed');
         INSERT INTO overdue_scans (reason, until) VALUES ('not-installed', '2026-11-23T10:00:00Z')",
    ),
    (
        20_261_127_150_000,
        "INSERT INTO inquiries (iccid, provider, seq, urgent, wanted_at, attempts, due_at)
         VALUES ('89480100000472018388', 'gigastore', 1, true, '2026-11-23T10:00:00Z', 2, NULL)",
    ),
    (
        20_261_127_160_000,
        "INSERT INTO hook_hours (hook, hour, accepted, refused) VALUES ('gigastore/esim-status', '2026-11-23T10:00:00Z', 2, 1);
         INSERT INTO hook_health (hook, accepted_at) VALUES ('gigastore/esim-status', '2026-11-23T10:00:02Z')",
    ),
    (
        20_261_127_180_000,
        "INSERT INTO funnel_counts (day, provider, milestone, profiles) VALUES ('2026-11-23', 'gigastore', 'ready', 1);
         INSERT INTO install_times (day, provider, took, profiles) VALUES ('2026-11-23', 'gigastore', 8, 1);
         INSERT INTO intents (iccid, intent, at) VALUES ('89480100000472018362', 'opened', '2026-11-23T10:00:01Z')",
    ),
    (
        20_261_127_210_000,
        "INSERT INTO new_changes (iccid, seq, kind, at)
         VALUES ('89480100000472018362', 2, 'evidence', '2026-11-23T10:00:03Z');
         INSERT INTO changes (position, iccid, seq, kind, at)
         VALUES (1, '89480100000472018362', 1, 'transition', '2026-11-23T10:00:01Z')",
    ),
    (
        20_261_127_220_000,
        "INSERT INTO endpoints (id, is_configured, url, kinds, providers, sealed, created_at, disabled_because, disabled_at, position)
         VALUES ('ep_1', false, 'https://shop.example.org', '{transition}', '{}', '\\x7b7d', '2026-11-27T10:00:00Z', NULL, NULL, 7),
                ('shop', true, 'https://shop.example.org', '{}', '{gigastore}', NULL, '2026-11-27T10:00:00Z', 'gone', '2026-11-27T11:00:00Z', 0);
         INSERT INTO endpoint_backlogs (iccid, endpoint, position, since, failures, retry_at)
         VALUES ('89480100000472018362', 'ep_1', 5, '2026-11-27T10:00:00Z', 1, '2026-11-27T10:00:05Z')",
    ),
    (
        20_261_127_231_000,
        "INSERT INTO ended_sessions (id, until) VALUES ('\\x000102030405060708090a0b0c0d0e0f', '2026-11-27T11:00:00Z')",
    ),
    (
        20_261_128_100_100,
        "INSERT INTO inquiry_scans (provider, position) VALUES ('gigastore', 7)",
    ),
    (
        20_261_128_110_000,
        "INSERT INTO customer_deliveries (uid, provider, delivery_id, received_at)
         VALUES ('c-204', 'gigastore', '019aaf5e-0000-7000-8000-000000000001', '2026-11-23T10:00:02Z')",
    ),
];

async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
    connection.execute(AssertSqlSafe(sql.into())).await.unwrap();
}

/// The tables of the schema, without partitions.
async fn tables(connection: &mut PgConnection) -> BTreeSet<String> {
    let query = "SELECT relname::text FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
                   AND relname <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(query).fetch_all(connection).await.unwrap();
    tables.into_iter().collect()
}

async fn rows(connection: &mut PgConnection, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn each_migration_applies_over_data_and_the_data_is_readable_afterwards() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    let mut counted: Vec<(String, i64)> = Vec::new();
    for migration in MIGRATOR.iter() {
        let version = migration.version;
        MIGRATOR.run_direct(Some(version), &mut connection, false).await.unwrap();
        if let Some((_, sample)) = SAMPLES.iter().find(|(after, _)| *after == version) {
            connection.execute(sqlx::raw_sql(*sample)).await.unwrap();
        }
        for (table, before) in &counted {
            let kept = rows(&mut connection, table).await;
            assert!(kept >= *before, "migration {version} lost rows of {table}");
        }
        counted.clear();
        for table in tables(&mut connection).await {
            let count = rows(&mut connection, &table).await;
            assert!(count > 0, "migration {version}: write a sample for the table {table}");
            counted.push((table, count));
        }
    }
    // All migrations are applied; running them again changes nothing.
    store::migrate(&database.connector()).await.unwrap();

    let iccid = Iccid::parse(ICCID).unwrap();
    let found = profiles::find(&mut connection, &[ICCID.to_owned()]).await.unwrap();
    let profile = &found[0].profile;
    assert_eq!(
        (profile.state, profile.enabled, profile.seq),
        (ProfileState::Installed, Some(true), 2)
    );
    assert_eq!(profile.imsi.as_ref().unwrap().as_str(), "260060147200183");
    let filter = profiles::Filter::default();
    let listed = profiles::list(&mut connection, &filter, None, 10).await.unwrap();
    assert_eq!(listed.profiles.len(), 2);

    let history = transitions::list(&mut connection, &iccid, 0, 10).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].from_state, Some(ProfileState::Released));
    assert_eq!(history[1].kind, TransitionKind::Normal);

    let kept = deliveries::list_of_profile(&mut connection, &iccid, None, 10).await.unwrap();
    assert_eq!((kept[0].outcome, kept[0].body.as_slice()), (Outcome::Moved, b"{}".as_slice()));

    let again = NewEvent {
        hook: "gigastore/relayed",
        event_id: "msg_1",
        body_sha256: &[0],
        iccid: Some(&iccid),
    };
    assert_eq!(event_ids::reserve(&mut connection, &[again]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn samples_belong_to_existing_migrations() {
    let versions: BTreeSet<_> = MIGRATOR.iter().map(|migration| migration.version).collect();
    assert!(SAMPLES.iter().all(|(version, _)| versions.contains(version)), "{versions:?}");
    assert_eq!(versions.last().copied(), Some(store::latest_version()));
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let database = Database::migrated().await;
    let query = "SELECT c.relname || coalesce('.' || a.attname, '')
                 FROM pg_class c
                 LEFT JOIN LATERAL (
                     SELECT attname, attnum FROM pg_attribute
                     WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
                     UNION ALL SELECT NULL, 0
                 ) a ON true
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                   AND c.relname <> '_sqlx_migrations'
                   AND CASE a.attnum WHEN 0 THEN obj_description(c.oid, 'pg_class')
                            ELSE col_description(c.oid, a.attnum) END IS NULL";
    let mut connection = database.connect().await;
    let silent: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap();
    assert_eq!(silent, [""; 0], "these have no COMMENT");
}

#[tokio::test]
async fn several_concurrent_migrations_all_succeed() {
    let database = Database::empty().await;
    let connector = database.connector();
    let start = || store::migrate(&connector);
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    for result in [a, b, c, d] {
        result.unwrap();
    }
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    let applied: i64 = database.scalar(applied).await;
    assert_eq!(usize::try_from(applied), Ok(MIGRATOR.iter().count()));
}

/// Changes the table of applied migrations of a migrated database, and returns the error of `migrate`.
async fn refusal_after(sql: &str) -> (SchemaError, String) {
    let database = Database::migrated().await;
    run(&mut database.connect().await, sql).await;
    let refusal = store::migrate(&database.connector()).await.unwrap_err();
    let message = refusal.to_string();
    (refusal, message)
}

#[tokio::test]
async fn a_schema_that_is_newer_than_the_binary_is_refused() {
    let (refusal, message) = refusal_after(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (29991231000000, 'from the future', true, '\\x00', 0)",
    )
    .await;
    assert!(matches!(refusal, SchemaError::Newer(29_991_231_000_000)), "{refusal:?}");
    assert!(message.contains("run a release at least as new"), "{message}");
}

#[tokio::test]
async fn a_migration_that_was_applied_with_other_content_is_refused() {
    let (refusal, message) = refusal_after(
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 20261123100000",
    )
    .await;
    assert!(matches!(refusal, SchemaError::Changed(20_261_123_100_000)), "{refusal:?}");
    assert!(message.contains("restore the release that applied it"), "{message}");
}

#[tokio::test]
async fn a_migration_that_is_half_applied_is_refused() {
    let (refusal, message) =
        refusal_after("UPDATE _sqlx_migrations SET success = false WHERE version = 20261123100300")
            .await;
    assert!(matches!(refusal, SchemaError::HalfApplied(20_261_123_100_300)), "{refusal:?}");
    assert!(message.contains("delete its row"), "{message}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    run(&mut connection, "CREATE TABLE event_ids (somebody_elses int)").await;
    let refusal = store::migrate(&database.connector()).await.unwrap_err();
    assert!(matches!(refusal, SchemaError::Failed(_)), "{refusal:?}");
    run(&mut connection, "DROP TABLE event_ids").await;
    store::migrate(&database.connector()).await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_distinguished_from_one_that_refuses() {
    let database = Database::empty().await;
    let not_there = database.options.clone().database("not_there");
    let refusal = store::migrate(&not_there.into()).await.unwrap_err();
    assert!(matches!(refusal, SchemaError::Refused(_)), "{refusal:?}");
    // Nothing listens there.
    let nowhere = database.options.clone().socket("/nowhere");
    let refusal = store::migrate(&nowhere.into()).await.unwrap_err();
    assert!(matches!(refusal, SchemaError::Unreachable(_)), "{refusal:?}");
    assert!(refusal.to_string().contains("check DATABASE_URL"), "{refusal}");
}

/// The tables check their words themselves: a state without a migration would make every webhook that names it fail.
#[tokio::test]
async fn the_tables_take_every_state_outcome_and_kind() {
    let database = Database::migrated().await;
    let mut connection = database.connect().await;
    for (number, state) in ProfileState::ALL.into_iter().enumerate() {
        let iccid = format!("8997212330099{number:07}");
        sqlx::query(
            "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
             VALUES ($1, 'gigastore', $2, $2, now(), 1, 0, 1, now())",
        )
        .bind(&iccid)
        .bind(state.as_str())
        .execute(&mut connection)
        .await
        .unwrap();
        for (seq, kind) in (1_i64..).zip(TransitionKind::ALL) {
            sqlx::query(
                "INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, reason, received_at, provider)
                 VALUES ($1, $2, $3, $3, $3, $4, $5, now(), 'gigastore')",
            )
            .bind(&iccid)
            .bind(seq)
            .bind(state.as_str())
            .bind(kind.as_str())
            .bind((kind == TransitionKind::Overdue).then_some("failed"))
            .execute(&mut connection)
            .await
            .unwrap();
        }
    }
    connection
        .execute("CREATE TABLE deliveries_of_all_time PARTITION OF deliveries DEFAULT")
        .await
        .unwrap();
    for outcome in Outcome::ALL {
        sqlx::query(
            "INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
             VALUES (gen_random_uuid(), now(), 'gigastore/esim-status', 'gigastore', $1, '{}', '{}')",
        )
        .bind(outcome.as_str())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    for because in DisabledBecause::ALL {
        sqlx::query(
            "INSERT INTO endpoints (id, is_configured, url, kinds, providers, created_at, disabled_because, disabled_at, position)
             VALUES ($1, true, '', '{}', '{}', now(), $1, now(), 0)",
        )
        .bind(because.as_str())
        .execute(&mut connection)
        .await
        .unwrap();
    }
}
