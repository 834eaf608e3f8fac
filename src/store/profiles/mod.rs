//! The table `profiles`: what we believe now.
//!
//! What a [`Profile`] is made of is named once in each direction: read by the two macros here, written by
//! [`super::batch_write`]. Only `erased_at` is written elsewhere, by [`begin_anew`].

/// Selects profiles, with further columns in front and the rest of the statement behind. [`profile`] makes the profile of a row.
macro_rules! select_profiles {
    ($more:literal, $rest:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query!(
            "SELECT " + $more + r#"
                    iccid AS "iccid: Iccid", provider, state AS "state: ProfileState", enabled, raw_state,
                    imsi AS "imsi: Imsi", eid AS "eid: Eid", since AS "since: Timestamp", seq, installs_seen, deliveries,
                    last_delivery_at AS "last_delivery_at: Timestamp", last_occurred_at AS "last_occurred_at: Timestamp",
                    first_connected_at AS "first_connected_at: Timestamp", last_connected_at AS "last_connected_at: Timestamp",
                    country AS "country: Country", erased_at AS "erased_at: Timestamp"
             FROM profiles "# + $rest,
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
            since: $row.since,
            seq: $row.seq,
            installs_seen: $row.installs_seen,
            deliveries: $row.deliveries,
            last_delivery_at: $row.last_delivery_at,
            last_occurred_at: $row.last_occurred_at,
            evidence: Evidence {
                first_connected_at: $row.first_connected_at,
                last_connected_at: $row.last_connected_at,
                country: $row.country,
            },
            erased_at: $row.erased_at,
        }
    };
}

mod look_up;

mod lock;

mod registration;

pub use lock::{Revision, lock_free, read, wait_for_locks};
pub use look_up::{Filter, Listed, StoredProfile, find, list};
pub use registration::{RegistrationFacts, begin_anew, end_tokens, save_registration};
