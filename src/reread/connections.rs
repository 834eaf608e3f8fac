//! Connections that arrived before their profile was known: the two come over different hooks, perhaps to different replicas, and a
//! phone may send its install notification late.

use sqlx::PgConnection;

use super::{apply_one, is_of_the_profile, read, warn};
use crate::domain::{Outcome, Timestamp};
use crate::providers::Providers;
use crate::store::{ErasureKey, Pool, StoreError, kept};

/// Applies the connections that were received at `since` or later and ignored because their profile was not known, if it is known by
/// now. One whose profile cannot be read, or is locked for long, is left for the next call. Safe to call from any number of replicas.
///
/// # Errors
/// [`StoreError`]; what was applied before stays applied.
pub async fn place(
    connection: &mut PgConnection,
    registrations: &Pool,
    key: &ErasureKey,
    providers: &Providers,
    since: Timestamp,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = kept::find_placeable(connection, since, after).await?;
        for record in &page.records {
            let Some(reading) = read(providers, record) else { continue };
            let placed = registrations.run(async |it| apply_one(it, key, record, &reading).await);
            match placed.await {
                Ok(Some(Outcome::Foreign)) => tracing::warn!(
                    delivery = %record.id,
                    hook = record.hook,
                    "a connection is about a profile of another provider: kept, not applied"
                ),
                Ok(_) | Err(StoreError::Crowded) => {}
                Err(error) if error.is_busy() => {}
                Err(error) if is_of_the_profile(&error) => warn(record, &error),
                Err(error) => return Err(error),
            }
        }
        after = page.last;
        if after.is_none() {
            return Ok(());
        }
    }
}
