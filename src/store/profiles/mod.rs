//! The table `profiles`: what we currently believe about each profile.

mod look_up;

mod lock;

mod write;

use sqlx::types::time::OffsetDateTime;

pub(super) use lock::xid;
pub use lock::{Version, lock_free, read, wait_for_locks};
pub use look_up::{Filter, find, list};
pub use write::{begin_anew, end_tokens, insert, save, save_registration};

use super::codec::{StoreError, instant, instant_option, parsed, parsed_option};
use crate::domain::{Eid, Iccid, Imsi, Profile, Timestamp};

/// A profile with its registration.
#[derive(Debug, Clone)]
pub struct StoredProfile {
    /// What we believe about it.
    pub profile: Profile,
    /// What its backend registered; `None` if it never did.
    pub registration: Option<Registration>,
    /// Access tokens that were issued before this are no longer valid.
    pub tokens_from: Option<Timestamp>,
}

/// What a backend registered about a profile, except the credentials.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// When the data package was activated. Says nothing about the install.
    pub activated_at: Option<Timestamp>,
    /// When the provider last saw the profile.
    pub last_seen: Option<Timestamp>,
}

struct Row {
    iccid: String,
    provider: String,
    state: String,
    enabled: Option<bool>,
    raw_state: String,
    imsi: Option<String>,
    eid: Option<String>,
    since: OffsetDateTime,
    seq: i64,
    installs_seen: i32,
    deliveries: i64,
    last_delivery_at: Option<OffsetDateTime>,
    last_occurred_at: Option<OffsetDateTime>,
    erased_at: Option<OffsetDateTime>,
    tokens_from: Option<OffsetDateTime>,
    registered_at: Option<OffsetDateTime>,
    uid: Option<String>,
    activated_at: Option<OffsetDateTime>,
    last_seen: Option<OffsetDateTime>,
}

impl TryFrom<Row> for StoredProfile {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let profile = Profile {
            iccid: parsed("iccid", &row.iccid, Iccid::parse)?,
            provider: row.provider,
            state: parsed("state", &row.state, str::parse)?,
            enabled: row.enabled,
            raw_state: row.raw_state,
            imsi: parsed_option("imsi", row.imsi.as_deref(), Imsi::parse)?,
            eid: parsed_option("eid", row.eid.as_deref(), Eid::parse)?,
            since: instant(row.since),
            seq: row.seq,
            installs_seen: row.installs_seen,
            deliveries: row.deliveries,
            last_delivery_at: instant_option(row.last_delivery_at),
            last_occurred_at: instant_option(row.last_occurred_at),
            erased_at: instant_option(row.erased_at),
        };
        let registration = row.registered_at.map(|_| Registration {
            uid: row.uid,
            activated_at: instant_option(row.activated_at),
            last_seen: instant_option(row.last_seen),
        });
        let tokens_from = instant_option(row.tokens_from);
        Ok(Self { profile, registration, tokens_from })
    }
}

fn stored(rows: Vec<Row>) -> Result<Vec<StoredProfile>, StoreError> {
    rows.into_iter().map(StoredProfile::try_from).collect()
}
