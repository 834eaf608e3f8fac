//! What the database alone takes: one connection that writes batches of 256 deliveries, made beforehand. The statements are
//! those that esim-status began with; here they stay as they are, so that there is something to compare with.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use esim_status::clock;
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::types::time::OffsetDateTime;
use sqlx::{ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use crate::deliveries::Signed;
use crate::{interrupt, peer};

/// How many deliveries are written at once.
const AT_ONCE: usize = 256;

const LOCK: &str = "
    SELECT iccid, state, seq FROM profiles WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE SKIP LOCKED";

const INSERT: &str = "
    INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                          last_delivery_at, updated_at)
    SELECT u.*, u.since, now()
    FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[])
         AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries)
    ORDER BY u.iccid
    ON CONFLICT (iccid) DO NOTHING";

const UPDATE: &str = "
    UPDATE profiles AS p
    SET provider = u.provider, state = u.state, enabled = u.enabled, raw_state = u.raw_state, imsi = u.imsi, eid = u.eid,
        since = u.since, seq = u.seq, installs_seen = u.installs_seen, deliveries = u.deliveries,
        last_delivery_at = u.since, updated_at = now()
    FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[])
         AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries)
    WHERE p.iccid = u.iccid";

const APPEND: &str = "
    INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider,
                             delivery_id)
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::text[], $10::uuid[])";

const KEEP: &str = "
    INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
    SELECT u.id, u.received_at, u.hook, u.provider, u.iccid, u.outcome, u.headers::jsonb, u.body
    FROM UNNEST($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
         AS u (id, received_at, hook, provider, iccid, outcome, headers, body)";

/// What each delivery is kept with.
const HEADERS: &str = r#"{"content-type": "application/json"}"#;

const PROVIDER: &str = "gigastore";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    iccid: String,
    imsi: String,
    profile_state: String,
    eid: Option<String>,
}

#[derive(Debug, Clone)]
struct Profile {
    body: Body,
    enabled: Option<bool>,
    since: OffsetDateTime,
    seq: i64,
    installs_seen: i32,
    deliveries: i64,
}

#[derive(Debug)]
struct Transition {
    iccid: String,
    seq: i64,
    from: Option<String>,
    to: String,
    enabled: Option<bool>,
    at: OffsetDateTime,
    delivery: Uuid,
}

#[derive(Debug)]
struct Kept {
    id: Uuid,
    at: OffsetDateTime,
    iccid: String,
    outcome: &'static str,
    body: Vec<u8>,
}

/// The rows of one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    iccids: Vec<String>,
    new: Vec<Profile>,
    changed: Vec<Profile>,
    transitions: Vec<Transition>,
    kept: Vec<Kept>,
}

/// Works out what the deliveries do to an empty table.
///
/// # Errors
/// Where one cannot be read.
pub fn make(deliveries: &[Signed]) -> anyhow::Result<Vec<Batch>> {
    let mut known: HashMap<String, Profile> = HashMap::new();
    let mut batches = Vec::new();
    for signed in deliveries.chunks_exact(AT_ONCE) {
        let mut batch = Batch::default();
        for delivery in signed {
            let body: Body = serde_json::from_str(&delivery.body)?;
            let before = known.get(&body.iccid).cloned();
            let after = batch.add(body, before, &delivery.body);
            known.insert(after.body.iccid.clone(), after);
        }
        batch.iccids.sort_unstable();
        batches.push(batch);
    }
    Ok(batches)
}

impl Batch {
    fn add(&mut self, body: Body, before: Option<Profile>, raw: &str) -> Profile {
        let (id, at) = (peer::new_id(), clock::now().as_datetime());
        let state = body.profile_state.clone();
        let enabled = match state.as_str() {
            "RELEASED" => None,
            word => Some(word == "INSTALLED"),
        };
        let from = before.as_ref().map(|before| before.body.profile_state.clone());
        let moved = from.as_ref() != Some(&state);
        let is_new = before.is_none();
        let came = enabled.is_some() && before.as_ref().is_none_or(|it| it.enabled.is_none());
        let mut after = before.unwrap_or_else(|| Profile {
            body: body.clone(),
            enabled,
            since: at,
            seq: 0,
            installs_seen: 0,
            deliveries: 0,
        });
        let eid = body.eid.clone().or(after.body.eid.take());
        after.body = Body { eid, ..body };
        after.enabled = enabled;
        after.seq += i64::from(moved);
        after.installs_seen += i32::from(came);
        after.deliveries += 1;
        let iccid = after.body.iccid.clone();
        if moved {
            after.since = at;
            let (iccid, seq, to) = (iccid.clone(), after.seq, state);
            self.transitions.push(Transition { iccid, seq, from, to, enabled, at, delivery: id });
        }
        let outcome = if moved { "moved" } else { "repeated" };
        self.kept.push(Kept { id, at, iccid: iccid.clone(), outcome, body: raw.into() });
        self.iccids.push(iccid);
        if is_new { &mut self.new } else { &mut self.changed }.push(after.clone());
        after
    }

    async fn write(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let mut transaction = connection.begin().await?;
        sqlx::query(LOCK).bind(&self.iccids).fetch_all(&mut *transaction).await?;
        for (statement, profiles) in [(INSERT, &self.new), (UPDATE, &self.changed)] {
            if !profiles.is_empty() {
                save(&mut transaction, statement, profiles).await?;
            }
        }
        let each = || self.transitions.iter();
        sqlx::query(APPEND)
            .bind(each().map(|it| it.iccid.as_str()).collect::<Vec<_>>())
            .bind(each().map(|it| it.seq).collect::<Vec<_>>())
            .bind(each().map(|it| it.from.as_deref()).collect::<Vec<_>>())
            .bind(each().map(|it| it.to.as_str()).collect::<Vec<_>>())
            .bind(each().map(|it| it.enabled).collect::<Vec<_>>())
            .bind(each().map(|it| it.to.as_str()).collect::<Vec<_>>())
            .bind(each().map(|_| "normal").collect::<Vec<_>>())
            .bind(each().map(|it| it.at).collect::<Vec<_>>())
            .bind(each().map(|_| PROVIDER).collect::<Vec<_>>())
            .bind(each().map(|it| it.delivery).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        let each = || self.kept.iter();
        sqlx::query(KEEP)
            .bind(each().map(|it| it.id).collect::<Vec<_>>())
            .bind(each().map(|it| it.at).collect::<Vec<_>>())
            .bind(each().map(|_| "gigastore/esim-status").collect::<Vec<_>>())
            .bind(each().map(|_| PROVIDER).collect::<Vec<_>>())
            .bind(each().map(|it| it.iccid.as_str()).collect::<Vec<_>>())
            .bind(each().map(|it| it.outcome).collect::<Vec<_>>())
            .bind(each().map(|_| HEADERS).collect::<Vec<_>>())
            .bind(each().map(|it| it.body.as_slice()).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }
}

async fn save(
    connection: &mut PgConnection,
    statement: &'static str,
    profiles: &[Profile],
) -> sqlx::Result<()> {
    let each = || profiles.iter();
    sqlx::query(statement)
        .bind(each().map(|it| it.body.iccid.as_str()).collect::<Vec<_>>())
        .bind(each().map(|_| PROVIDER).collect::<Vec<_>>())
        .bind(each().map(|it| it.body.profile_state.as_str()).collect::<Vec<_>>())
        .bind(each().map(|it| it.enabled).collect::<Vec<_>>())
        .bind(each().map(|it| it.body.profile_state.as_str()).collect::<Vec<_>>())
        .bind(each().map(|it| it.body.imsi.as_str()).collect::<Vec<_>>())
        .bind(each().map(|it| it.body.eid.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|it| it.since).collect::<Vec<_>>())
        .bind(each().map(|it| it.seq).collect::<Vec<_>>())
        .bind(each().map(|it| it.installs_seen).collect::<Vec<_>>())
        .bind(each().map(|it| it.deliveries).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes batches for as long as that, over one connection, and gives back how many deliveries that were and the time taken.
///
/// # Errors
/// What the server complains of.
pub async fn write(
    options: &PgConnectOptions,
    batches: &[Batch],
    time: Duration,
) -> anyhow::Result<(u64, Duration)> {
    let mut connection = options.connect().await?;
    let begun = Instant::now();
    let mut written = 0;
    for batch in batches {
        if begun.elapsed() >= time {
            break;
        }
        interrupt::check()?;
        batch.write(&mut connection).await?;
        written += batch.kept.len() as u64;
    }
    Ok((written, begun.elapsed()))
}
