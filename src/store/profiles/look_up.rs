//! Reads profiles for the API.

use sqlx::PgConnection;

use super::RegistrationFacts;
use crate::domain::{Country, Eid, Evidence, Iccid, Imsi, Profile, ProfileState, Timestamp};
use crate::store::decode::datetime_option;
use crate::store::error::StoreError;

/// A profile with its registration.
#[derive(Debug, Clone)]
pub struct StoredProfile {
    /// What we believe about it.
    pub profile: Profile,
    /// What its backend registered; `None` if it never did.
    pub registration: Option<RegistrationFacts>,
    /// Access tokens that were issued before this are no longer valid.
    pub tokens_from: Option<Timestamp>,
}

/// Selects profiles with what their registration brought.
macro_rules! select_stored {
    ($rest:literal, $($argument:expr),+ $(,)?) => {
        select_profiles!(
            r#"tokens_from AS "tokens_from: Timestamp", registered_at, uid, activated_at AS "activated_at: Timestamp",
               last_seen AS "last_seen: Timestamp","#,
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
            registration: $row.registered_at.map(|_| RegistrationFacts {
                uid: $row.uid,
                activated_at: $row.activated_at,
                last_seen: $row.last_seen,
            }),
            profile: profile!($row),
        }
    };
}

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
    let rows = select_stored!("WHERE iccid = ANY($1)", iccids).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| stored!(row)).collect())
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
    let rows = select_stored!(
        "WHERE ($1::text IS NULL OR state = $1)
             AND ($2::text IS NULL OR provider = $2)
             AND ($3::text IS NULL OR uid = $3)
             AND ($4::text IS NULL OR imsi = $4)
             AND ($5::text IS NULL OR upper(eid) = upper($5))
             AND ($6::timestamptz IS NULL OR updated_at >= $6)
             AND ($7::text IS NULL OR iccid > $7)
           ORDER BY iccid
           LIMIT $8",
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
    Ok(rows.into_iter().map(|row| stored!(row)).collect())
}
