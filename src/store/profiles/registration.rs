//! What a registration brings to a profile, beside the state.

use sqlx::PgConnection;

use crate::domain::{Iccid, Timestamp};
use crate::store::decode::datetime_option;
use crate::store::error::StoreError;

/// What a backend registered about a profile, except the credentials.
#[derive(Debug, Clone)]
pub struct RegistrationFacts {
    /// When it last registered something new.
    pub at: Timestamp,
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// When the data package was activated. Says nothing about the install.
    pub activated_at: Option<Timestamp>,
    /// When the provider last saw the profile.
    pub last_seen: Option<Timestamp>,
}

/// Saves the registration of a profile whose lock is held, unless it says nothing new. Members that it leaves out keep the value of
/// an earlier registration. Returns whether it said something new.
///
/// # Errors
/// [`StoreError`].
pub async fn save_registration(
    connection: &mut PgConnection,
    iccid: &Iccid,
    registration: &RegistrationFacts,
) -> Result<bool, StoreError> {
    let saved = sqlx::query!(
        r#"UPDATE profiles
           SET registered_at = $2, uid = coalesce($3, uid), activated_at = coalesce($4, activated_at),
               last_seen = coalesce($5, last_seen), updated_at = now()
           WHERE iccid = $1
             AND (registered_at IS NULL OR (uid, activated_at, last_seen) IS DISTINCT FROM
                  (coalesce($3, uid), coalesce($4, activated_at), coalesce($5, last_seen)))"#,
        iccid.as_str(),
        registration.at.as_datetime(),
        registration.uid.as_deref(),
        datetime_option(registration.activated_at),
        datetime_option(registration.last_seen)
    )
    .execute(connection)
    .await?;
    Ok(saved.rows_affected() > 0)
}

/// Marks a profile as changed without a delivery. The trigger does not see that, because an answer of the provider is as recent as
/// a delivery would be.
///
/// # Errors
/// [`StoreError`].
pub async fn mark_unreported(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<(), StoreError> {
    sqlx::query!("UPDATE profiles SET unreported_at = updated_at WHERE iccid = $1", iccid.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that a profile, whose lock is held, was erased before, and from when on its access tokens are valid.
///
/// # Errors
/// [`StoreError`].
pub async fn begin_anew(
    connection: &mut PgConnection,
    iccid: &Iccid,
    erased_at: Timestamp,
    tokens_from: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE profiles SET erased_at = $2, tokens_from = $3 WHERE iccid = $1",
        iccid.as_str(),
        erased_at.as_datetime(),
        tokens_from.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Revokes the access tokens that were issued before this time. Returns whether the profile exists.
///
/// # Errors
/// [`StoreError`].
pub async fn end_tokens(
    connection: &mut PgConnection,
    iccid: &Iccid,
    from: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "UPDATE profiles SET tokens_from = greatest(tokens_from, $2) WHERE iccid = $1",
        iccid.as_str(),
        from.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}
