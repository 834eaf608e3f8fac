//! The table `transitions`: every profile's history, append-only.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::codec::{StoreError, instant, instant_option, parsed, parsed_option};
use super::columns::TransitionColumns;
use crate::domain::{Iccid, Transition, TransitionKind};

/// A transition to append.
#[derive(Debug, Clone, Copy)]
pub struct NewTransition<'a> {
    /// The profile.
    pub iccid: &'a Iccid,
    /// What changed.
    pub transition: &'a Transition,
    /// The delivery that caused it; `None` for a registration.
    pub delivery_id: Option<Uuid>,
}

/// Appends transitions of profiles whose locks are held.
///
/// # Errors
/// [`StoreError`].
pub async fn append(
    connection: &mut PgConnection,
    transitions: &[NewTransition<'_>],
) -> Result<(), StoreError> {
    let columns = TransitionColumns::of(transitions);
    sqlx::query!(
        r#"INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, occurred_at,
                                    received_at, provider, delivery_id)
           SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::text[],
                                $7::text[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::uuid[])"#,
        &columns.iccid as &[&str],
        &columns.seq,
        &columns.from_state as &[Option<&str>],
        &columns.to_state as &[&str],
        &columns.enabled as &[Option<bool>],
        &columns.raw_state as &[&str],
        &columns.kind as &[&str],
        &columns.occurred_at as &[Option<OffsetDateTime>],
        &columns.received_at as &[OffsetDateTime],
        &columns.provider as &[&str],
        &columns.delivery as &[Option<Uuid>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

struct Row {
    seq: i64,
    from_state: Option<String>,
    to_state: String,
    enabled: Option<bool>,
    raw_state: String,
    kind: String,
    occurred_at: Option<OffsetDateTime>,
    received_at: OffsetDateTime,
    provider: String,
}

impl TryFrom<Row> for Transition {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            from_state: parsed_option("from_state", row.from_state.as_deref(), str::parse)?,
            to_state: parsed("to_state", &row.to_state, str::parse)?,
            enabled: row.enabled,
            raw_state: row.raw_state,
            kind: parsed("kind", &row.kind, str::parse::<TransitionKind>)?,
            occurred_at: instant_option(row.occurred_at),
            received_at: instant(row.received_at),
            provider: row.provider,
        })
    }
}

/// Lists the history of one profile after the `seq` `after`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    iccid: &Iccid,
    after: i64,
    limit: i64,
) -> Result<Vec<Transition>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, from_state, to_state, enabled, raw_state, kind, occurred_at, received_at, provider
           FROM transitions WHERE iccid = $1 AND seq > $2 ORDER BY seq LIMIT $3"#,
        iccid.as_str(),
        after,
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Transition::try_from).collect()
}

/// Lists the histories of several profiles, each after its own `seq`, oldest first, at most `limit` transitions each.
///
/// # Errors
/// [`StoreError`].
pub async fn list_each(
    connection: &mut PgConnection,
    behind: &[(&Iccid, i64)],
    limit: i64,
) -> Result<Vec<(Iccid, i64, Transition)>, StoreError> {
    let iccids: Vec<_> = behind.iter().map(|(iccid, _)| iccid.as_str()).collect();
    let after: Vec<_> = behind.iter().map(|(_, after)| *after).collect();
    let rows = sqlx::query!(
        r#"SELECT u.iccid AS "iccid!", u.after AS "after!", t.seq, t.from_state, t.to_state, t.enabled, t.raw_state,
                  t.kind, t.occurred_at, t.received_at, t.provider
           FROM UNNEST($1::text[], $2::bigint[]) AS u (iccid, after)
           CROSS JOIN LATERAL (
               SELECT * FROM transitions AS inside
               WHERE inside.iccid = u.iccid AND inside.seq > u.after ORDER BY inside.seq LIMIT $3
           ) AS t
           ORDER BY u.iccid, u.after, t.seq"#,
        &iccids as &[&str],
        &after,
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let transition = Row {
                seq: row.seq,
                from_state: row.from_state,
                to_state: row.to_state,
                enabled: row.enabled,
                raw_state: row.raw_state,
                kind: row.kind,
                occurred_at: row.occurred_at,
                received_at: row.received_at,
                provider: row.provider,
            };
            let iccid = parsed("iccid", &row.iccid, Iccid::parse)?;
            Ok((iccid, row.after, Transition::try_from(transition)?))
        })
        .collect()
}

/// Lists the last `limit` transitions of a profile, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_last(
    connection: &mut PgConnection,
    iccid: &Iccid,
    limit: i64,
) -> Result<Vec<Transition>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT seq, from_state, to_state, enabled, raw_state, kind, occurred_at, received_at, provider
           FROM transitions WHERE iccid = $1 ORDER BY seq DESC LIMIT $2"#,
        iccid.as_str(),
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().rev().map(Transition::try_from).collect()
}
