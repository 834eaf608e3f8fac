//! Seals credentials and the secrets of endpoints with the current data key. An operator runs this, as `esim-status migrate`, after a key rotation.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection};

use crate::domain::Timestamp;
use crate::store::{StoreError, Vault, endpoints, install_credentials};

/// The result of [`seal_anew`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealedAnew {
    /// The number of credentials that are now sealed with the current key, and were not before.
    pub sealed: u64,
    /// The number of credentials that could not be opened, and are unchanged.
    pub left: u64,
    /// The data keys that those credentials need and that the vault does not have.
    pub missing_keys: BTreeSet<String>,
}

impl SealedAnew {
    /// Notes that something could not be opened.
    fn note(&mut self, error: StoreError) {
        self.left += 1;
        if let StoreError::UnknownDataKey(id) = error {
            self.missing_keys.insert(id);
        }
    }
}

/// Seals with the current data key all credentials and secrets of endpoints that are not sealed with it yet. Skips those that cannot be opened.
///
/// # Errors
/// [`StoreError`]; what was sealed before the error stays sealed.
pub async fn seal_anew(
    connection: &mut PgConnection,
    vault: &Vault,
    now: Timestamp,
) -> Result<SealedAnew, StoreError> {
    // Few: a registration of one of these waits for all of them, with its profile locked, and so do webhooks about that.
    const AT_ONCE: i64 = 20;
    let mut done = SealedAnew::default();
    let Some(current) = vault.current_key() else { return Ok(done) };
    for endpoint in endpoints::list(connection, None).await? {
        let Some(sealed) = endpoint.sealed.filter(|it| it.key_id.as_deref() != Some(current))
        else {
            continue;
        };
        let id = &endpoint.id;
        match vault.open_bytes(id, &sealed) {
            Ok(plain) => {
                let anew = vault.seal_bytes(id, plain)?;
                endpoints::seal_anew(connection, id, &sealed, &anew).await?;
                done.sealed += 1;
            }
            Err(error) => done.note(error),
        }
    }
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
                    let host = credentials.smdp_address();
                    install_credentials::save(&mut transaction, iccid, &sealed, host, now).await?;
                    done.sealed += 1;
                }
                Err(error) => done.note(error),
            }
        }
        transaction.commit().await?;
    }
}
