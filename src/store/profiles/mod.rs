//! The table `profiles`: what we believe now.
//!
//! What a [`Profile`] is made of is named once in each direction: read by the two macros here, written by
//! [`super::batch_write`]. Only `erased_at` is written elsewhere, by [`begin_anew`].

/// Selects profiles, with further columns in front, another table behind, and then the rest of the statement. [`profile`] makes
/// the profile of a row.
macro_rules! select_profiles {
    ($more:literal, $join:literal, $rest:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query!(
            "SELECT " + $more + r#"
                    iccid AS "iccid!: Iccid", provider AS "provider!", state AS "state!: ProfileState", enabled,
                    raw_state AS "raw_state!", imsi AS "imsi: Imsi", eid AS "eid: Eid", since AS "since!: Timestamp",
                    seq AS "seq!", installs_seen AS "installs_seen!", deliveries AS "deliveries!",
                    last_delivery_at AS "last_delivery_at: Timestamp", last_occurred_at AS "last_occurred_at: Timestamp",
                    first_connected_at AS "first_connected_at: Timestamp", last_connected_at AS "last_connected_at: Timestamp",
                    country AS "country: Country", ready_at AS "ready_at: Timestamp", reached AS "reached: Milestone",
                    erased_at AS "erased_at: Timestamp", device::text AS "device: Device"
             FROM profiles "# + $join + $rest,
            $($argument),+
        )
    };
}

/// The profile of a row of [`select_profiles`].
macro_rules! profile {
    ($row:ident) => {
        Profile {
            iccid: $row.iccid,
            provider: $row.provider,
            state: $row.state,
            enabled: $row.enabled,
            raw_state: $row.raw_state,
            imsi: $row.imsi,
            eid: $row.eid,
            device: $row.device,
            since: $row.since,
            seq: $row.seq,
            installs_seen: $row.installs_seen,
            deliveries: $row.deliveries,
            last_delivery_at: $row.last_delivery_at,
            last_occurred_at: $row.last_occurred_at,
            connections: Connections {
                first_connected_at: $row.first_connected_at,
                last_connected_at: $row.last_connected_at,
                country: $row.country,
            },
            headway: $row
                .ready_at
                .zip($row.reached)
                .map(|(ready_at, reached)| Headway { ready_at, reached }),
            erased_at: $row.erased_at,
        }
    };
}

/// Selects profiles with what their registration brought.
macro_rules! select_stored {
    ($rest:literal, $($argument:expr),+ $(,)?) => {
        select_profiles!(
            r#"tokens_from AS "tokens_from: Timestamp", registered_at AS "registered_at: Timestamp", uid, activated_at AS "activated_at: Timestamp",
               last_seen AS "last_seen: Timestamp", reference AS "reference?: Reference",
               expected_from AS "expected_from?: Day", replaces AS "replaces?: Iccid",
               (SELECT n.iccid FROM orders AS n WHERE n.replaces = profiles.iccid
                ORDER BY n.replaced_at DESC, n.iccid LIMIT 1) AS "replaced_by: Iccid",
               (SELECT o.reason FROM overdue AS o
                WHERE o.iccid = profiles.iccid AND (o.seq = profiles.seq OR o.since = profiles.since)
                  AND first_connected_at IS NULL)
                   AS "overdue: OverdueReason","#,
            "LEFT JOIN orders USING (iccid) ",
            $rest,
            $($argument),+
        )
    };
}

/// The profile of a row of [`select_stored`].
macro_rules! stored {
    ($row:ident) => {
        StoredProfile {
            tokens_from: $row.tokens_from,
            registration: $row.registered_at.map(|at| RegistrationFacts {
                at,
                uid: $row.uid,
                activated_at: $row.activated_at,
                last_seen: $row.last_seen,
            }),
            order: Order {
                reference: $row.reference,
                expected_from: $row.expected_from,
                replaces: $row.replaces,
            },
            replaced_by: $row.replaced_by,
            overdue: $row.overdue,
            profile: profile!($row),
        }
    };
}

/// Fetches what [`select_stored`] selects.
macro_rules! fetch_stored {
    ($connection:expr, $rest:literal, $($argument:expr),+ $(,)?) => {{
        let rows = select_stored!($rest, $($argument),+).fetch_all($connection).await?;
        Ok(rows.into_iter().map(|row| stored!(row)).collect())
    }};
}

mod look_up;

mod list;

mod ending;

mod lock;

mod registration;

pub(super) use ending::BY_END;
pub use ending::list_ending;
pub use list::{Filter, Listed, list};
pub use lock::{Revision, lock_seq, read, revision, try_lock, wait_for_locks};
pub use look_up::{StoredProfile, find};
pub use registration::{
    RegistrationFacts, begin_anew, end_tokens, mark_unreported, save_registration,
};
