//! Reads profiles for the API.

use sqlx::PgConnection;

use super::{Row, StoredProfile, stored};
use crate::domain::{Eid, Iccid, Imsi, ProfileState, Timestamp};
use crate::store::codec::{StoreError, datetime_option};

/// The criteria of a search. All that are given must hold.
#[derive(Debug, Default)]
pub struct Filter {
    /// The canonical state.
    pub state: Option<ProfileState>,
    /// The provider's slug.
    pub provider: Option<String>,
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// The IMSI of the subscription.
    pub imsi: Option<Imsi>,
    /// The EID of the device.
    pub eid: Option<Eid>,
    /// Changed, or named by a webhook, at or after this time.
    pub updated_since: Option<Timestamp>,
}

impl Filter {
    /// Whether an index finds the profiles. Without one, a page of the list may require reading all profiles.
    pub fn is_indexed(&self) -> bool {
        let leads = self.uid.is_some() || self.imsi.is_some() || self.eid.is_some();
        let sifts = self.state.is_some() || self.provider.is_some() || self.updated_since.is_some();
        leads || !sifts
    }
}

/// Finds the profiles that exist.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<StoredProfile>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                  deliveries, last_delivery_at, last_occurred_at, erased_at, tokens_from, registered_at, uid,
                  activated_at, last_seen
           FROM profiles WHERE iccid = ANY($1)"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    stored(rows)
}

/// Lists the profiles after `after`, in the order of their ICCIDs.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Option<&Iccid>,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                  deliveries, last_delivery_at, last_occurred_at, erased_at, tokens_from, registered_at, uid,
                  activated_at, last_seen
           FROM profiles
           WHERE ($1::text IS NULL OR state = $1)
             AND ($2::text IS NULL OR provider = $2)
             AND ($3::text IS NULL OR uid = $3)
             AND ($4::text IS NULL OR imsi = $4)
             AND ($5::text IS NULL OR upper(eid) = upper($5))
             AND ($6::timestamptz IS NULL OR updated_at >= $6)
             AND ($7::text IS NULL OR iccid > $7)
           ORDER BY iccid
           LIMIT $8"#,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        filter.uid.as_deref(),
        filter.imsi.as_ref().map(Imsi::as_str),
        filter.eid.as_ref().map(Eid::as_str),
        datetime_option(filter.updated_since),
        after.map(Iccid::as_str),
        limit
    )
    .fetch_all(connection)
    .await?;
    stored(rows)
}
