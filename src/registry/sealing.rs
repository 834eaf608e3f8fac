//! Sealing credentials with the current data key, which an operator asks for after a rotation.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection};

use crate::domain::Timestamp;
use crate::store::{StoreError, Vault, install_credentials};

/// What sealing anew has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealedAnew {
    /// How many credentials are sealed with the current key now, and were not before.
    pub sealed: u64,
    /// How many could not be opened, and are as they were.
    pub left: u64,
    /// The keys that those are sealed with and that are not among the live ones.
    pub missing_keys: BTreeSet<String>,
}

/// Seals all credentials with the current data key that are not yet. Those that cannot be opened are left as they are, and
/// keep no others from being sealed.
///
/// # Errors
/// [`StoreError`]; what was sealed before it stays sealed.
pub async fn seal_anew(
    connection: &mut PgConnection,
    vault: &Vault,
    now: Timestamp,
) -> Result<SealedAnew, StoreError> {
    const AT_ONCE: i64 = 500;
    let mut done = SealedAnew::default();
    let Some(current) = vault.current_key() else { return Ok(done) };
    let mut after = String::new();
    loop {
        let mut transaction = connection.begin().await?;
        let stale =
            install_credentials::lock_stale(&mut transaction, current, &after, AT_ONCE).await?;
        let Some((last, _)) = stale.last() else { return Ok(done) };
        after = last.as_str().to_owned();
        for (iccid, sealed) in &stale {
            match vault.open(iccid, sealed) {
                Ok(credentials) => {
                    let sealed = vault.seal(iccid, &credentials)?;
                    install_credentials::save(&mut transaction, iccid, &sealed, now).await?;
                    done.sealed += 1;
                }
                Err(error) => {
                    done.left += 1;
                    if let StoreError::UnknownDataKey(id) = error {
                        done.missing_keys.insert(id);
                    }
                }
            }
        }
        transaction.commit().await?;
    }
}
