//! Reads single profiles for the API.

use sqlx::PgConnection;

use super::RegistrationFacts;
use crate::domain::{
    Connections, Country, Day, Device, Eid, Headway, Iccid, Imsi, Milestone, Order, OverdueReason,
    Profile, ProfileState, Reference, Timestamp,
};
use crate::store::error::StoreError;

/// A profile with its registration.
#[derive(Debug, Clone)]
pub struct StoredProfile {
    /// What we believe about it.
    pub profile: Profile,
    /// What its backend registered; `None` if it never did.
    pub registration: Option<RegistrationFacts>,
    /// What its reseller said about the sale.
    pub order: Order,
    /// The profile that has replaced this one.
    pub replaced_by: Option<Iccid>,
    /// What should have happened by now and did not.
    pub overdue: Option<OverdueReason>,
    /// Access tokens that were issued before this are no longer valid.
    pub tokens_from: Option<Timestamp>,
}

/// Finds the profiles that exist.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(connection, "WHERE iccid = ANY($1)", iccids)
}
