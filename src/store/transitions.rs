//! The table `transitions`: every profile's history, append-only.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::decode::datetime_option;
use super::deliveries::Digest;
use super::error::StoreError;
use crate::domain::{
    Iccid, OverdueReason, ProfileState, Source, Timestamp, Transition, TransitionKind,
};

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

/// New rows, one array for each column, as `UNNEST` expects them.
pub(super) struct TransitionColumns<'a> {
    pub iccid: Vec<&'a str>,
    pub seq: Vec<i64>,
    pub from_state: Vec<Option<&'a str>>,
    pub to_state: Vec<&'a str>,
    pub enabled: Vec<Option<bool>>,
    pub raw_state: Vec<&'a str>,
    pub kind: Vec<&'a str>,
    pub occurred_at: Vec<Option<OffsetDateTime>>,
    pub received_at: Vec<OffsetDateTime>,
    pub provider: Vec<&'a str>,
    pub delivery: Vec<Option<Uuid>>,
    pub source: Vec<Option<&'a str>>,
}

impl<'a> TransitionColumns<'a> {
    pub fn of(transitions: &[NewTransition<'a>]) -> Self {
        let each = || transitions.iter();
        Self {
            iccid: each().map(|t| t.iccid.as_str()).collect(),
            seq: each().map(|t| t.transition.seq).collect(),
            from_state: each().map(|t| t.transition.from_state.map(ProfileState::as_str)).collect(),
            to_state: each().map(|t| t.transition.to_state.as_str()).collect(),
            enabled: each().map(|t| t.transition.enabled).collect(),
            raw_state: each().map(|t| t.transition.raw_state.as_str()).collect(),
            kind: each().map(|t| t.transition.kind.as_str()).collect(),
            occurred_at: each().map(|t| datetime_option(t.transition.occurred_at)).collect(),
            received_at: each().map(|t| t.transition.received_at.as_datetime()).collect(),
            provider: each().map(|t| t.transition.provider.as_str()).collect(),
            delivery: each().map(|t| t.delivery_id).collect(),
            source: each().map(|t| t.transition.source.map(Source::as_str)).collect(),
        }
    }
}

/// Selects transitions, with further columns in front and the rest of the statement behind.
macro_rules! select_transitions {
    ($query:ident!($($type:ident,)? $more:literal, $rest:literal, $($argument:expr),+ $(,)?)) => {
        sqlx::$query!(
            $($type,)?
            "SELECT " + $more + r#"
                    seq, from_state AS "from_state: ProfileState", to_state AS "to_state: ProfileState", enabled, raw_state,
                    kind AS "kind: TransitionKind", reason AS "reason: OverdueReason",
                    coalesce(source, CASE WHEN delivery_id IS NOT NULL THEN 'webhook'
                                          WHEN kind <> 'overdue' THEN 'registration' END) AS "source: Source",
                    occurred_at AS "occurred_at: Timestamp",
                    received_at AS "received_at: Timestamp", provider "# + $rest,
            $($argument),+
        )
    };
}

/// The transition of a row of [`select_transitions`].
macro_rules! transition {
    ($row:ident) => {
        Transition {
            seq: $row.seq,
            from_state: $row.from_state,
            to_state: $row.to_state,
            enabled: $row.enabled,
            raw_state: $row.raw_state,
            kind: $row.kind,
            reason: $row.reason,
            source: $row.source,
            occurred_at: $row.occurred_at,
            received_at: $row.received_at,
            provider: $row.provider,
        }
    };
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
    let rows = select_transitions!(query_as!(
        Transition,
        "",
        "FROM transitions WHERE iccid = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        iccid.as_str(),
        after,
        limit
    ));
    Ok(rows.fetch_all(connection).await?)
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
    let rows = select_transitions!(query!(
        r#"u.iccid AS "iccid!: Iccid", u.after AS "after!","#,
        "FROM UNNEST($1::text[], $2::bigint[]) AS u (iccid, after)
         CROSS JOIN LATERAL (
             SELECT * FROM transitions AS inside
             WHERE inside.iccid = u.iccid AND inside.seq > u.after ORDER BY inside.seq LIMIT $3
         ) AS t
         ORDER BY u.iccid, u.after, t.seq",
        &iccids as &[&str],
        &after,
        limit
    ))
    .fetch_all(connection)
    .await?;
    let each = rows.into_iter().map(|row| (row.iccid, row.after, transition!(row)));
    Ok(each.collect())
}

/// Lists the histories of all profiles, in the order of their ICCIDs and `seq`, after a transition; without a profile from the
/// beginning.
///
/// # Errors
/// [`StoreError`].
pub async fn list_all(
    connection: &mut PgConnection,
    after: Option<&Iccid>,
    after_seq: i64,
    limit: i64,
) -> Result<Vec<(Iccid, Transition)>, StoreError> {
    let rows = select_transitions!(query!(
        r#"iccid AS "iccid: Iccid","#,
        "FROM transitions WHERE (iccid, seq) > ($1, $2) ORDER BY iccid, seq LIMIT $3",
        after.map_or("", Iccid::as_str),
        after_seq,
        limit
    ))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.iccid, transition!(row))).collect())
}

/// Finds single transitions by their profiles and `seq`.
///
/// # Errors
/// [`StoreError`].
pub async fn find_each(
    connection: &mut PgConnection,
    wanted: &[(&Iccid, i64)],
) -> Result<HashMap<(Iccid, i64), Transition>, StoreError> {
    let iccids: Vec<_> = wanted.iter().map(|(iccid, _)| iccid.as_str()).collect();
    let seqs: Vec<_> = wanted.iter().map(|(_, seq)| *seq).collect();
    let rows = select_transitions!(query!(
        r#"iccid AS "iccid!: Iccid","#,
        "FROM transitions WHERE (iccid, seq) IN (SELECT * FROM UNNEST($1::text[], $2::bigint[]))",
        &iccids as &[&str],
        &seqs
    ))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.iccid, row.seq), transition!(row))).collect())
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
    let rows = select_transitions!(query_as!(
        Transition,
        "",
        "FROM transitions WHERE iccid = $1 ORDER BY seq DESC LIMIT $2",
        iccid.as_str(),
        limit
    ));
    let mut last = rows.fetch_all(connection).await?;
    last.reverse();
    Ok(last)
}

/// A transition with the delivery that caused it.
#[derive(Debug)]
pub struct Caused {
    /// The transition.
    pub transition: Transition,
    /// The id of the delivery; `None` if no webhook caused the transition.
    pub delivery_id: Option<Uuid>,
    /// What is shown of the delivery; `None` if it is no longer kept.
    pub delivery: Option<Digest>,
}

/// Lists the last `limit` transitions of a profile with their deliveries, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_caused(
    connection: &mut PgConnection,
    iccid: &Iccid,
    limit: i64,
) -> Result<Vec<Caused>, StoreError> {
    let rows = select_transitions!(query!(
        r#"delivery_id, hook AS "hook?", event_id AS "event_id?", body_sha256 AS "body_sha256?","#,
        "FROM (SELECT * FROM transitions WHERE iccid = $1 ORDER BY seq DESC LIMIT $2) AS last
         LEFT JOIN LATERAL (
             SELECT hook, event_id, sha256(body) AS body_sha256
             FROM deliveries WHERE deliveries.iccid = $1 AND id = last.delivery_id
         ) AS kept ON true
         ORDER BY seq",
        iccid.as_str(),
        limit
    ))
    .fetch_all(connection)
    .await?;
    let each = rows.into_iter().map(|row| Caused {
        delivery_id: row.delivery_id,
        delivery: row.hook.zip(row.body_sha256).map(|(hook, body_sha256)| Digest {
            hook,
            event_id: row.event_id,
            body_sha256,
        }),
        transition: transition!(row),
    });
    Ok(each.collect())
}
