//! What backends do to endpoints.

use sqlx::Connection;

use crate::domain::{DisabledBecause, Timestamp};
use crate::store::endpoints::{self, Definition, Endpoint, Replay};
use crate::store::{Pool, Sealed, StoreError};

/// What is to change about an endpoint. What is `None` stays as it is.
#[derive(Debug)]
pub struct EndpointChange {
    /// What it is.
    pub definition: Option<Definition>,
    /// Its secrets, and until when the one before also signs.
    pub secrets: Option<(Sealed, Timestamp)>,
    /// Whether it is served.
    pub enabled: Option<bool>,
}

/// Changes an endpoint as `decide` says, and returns it; `None` if it does not exist. Nobody else changes it in between. The inner error is
/// that of `decide`.
///
/// # Errors
/// [`StoreError`]; then nothing has changed.
pub async fn change_endpoint<E>(
    pool: &Pool,
    id: &str,
    now: Timestamp,
    decide: impl Fn(&Endpoint) -> Result<EndpointChange, E>,
) -> Result<Result<Option<Endpoint>, E>, StoreError> {
    pool.run(async |connection| {
        let mut transaction = connection.begin().await?;
        endpoints::lock(&mut transaction, id).await?;
        let Some(endpoint) = endpoints::find(&mut transaction, id).await? else {
            return Ok(Ok(None));
        };
        let change = match decide(&endpoint) {
            Ok(change) => change,
            Err(refused) => return Ok(Err(refused)),
        };
        match change.enabled {
            Some(true) => endpoints::enable(&mut transaction, id, now).await?,
            // First, because it depends on what was read.
            Some(false) => {
                let because = DisabledBecause::Request;
                endpoints::disable(&mut transaction, &endpoint, because, now).await?;
            }
            None => {}
        }
        if let Some(definition) = &change.definition {
            endpoints::redefine(&mut transaction, id, definition, now).await?;
        }
        if let Some((sealed, until)) = &change.secrets {
            endpoints::save_secrets(&mut transaction, id, sealed, Some(*until)).await?;
        }
        transaction.commit().await?;
        Ok(Ok(endpoints::find(connection, id).await?))
    })
    .await
}

/// Sets the place of an endpoint, and returns it; `None` if it does not exist. Also enables it, unless a backend disabled it.
///
/// # Errors
/// [`StoreError`]; then nothing has changed.
pub async fn replay_endpoint(
    pool: &Pool,
    id: &str,
    replay: Replay,
    now: Timestamp,
) -> Result<Option<Endpoint>, StoreError> {
    pool.run(async |connection| {
        let mut transaction = connection.begin().await?;
        endpoints::lock(&mut transaction, id).await?;
        endpoints::replay(&mut transaction, id, replay).await?;
        let found = endpoints::find(&mut transaction, id).await?;
        let disabled = found.and_then(|endpoint| endpoint.disabled);
        if disabled.is_some_and(|(because, _)| because != DisabledBecause::Request) {
            endpoints::enable(&mut transaction, id, now).await?;
        }
        transaction.commit().await?;
        endpoints::find(connection, id).await
    })
    .await
}
