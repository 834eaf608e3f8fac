//! Writes what a batch of deliveries, or a registration, changes: all of it or nothing, and only if the profiles are as they were
//! read. Outside a transaction the statement commits by itself, so a batch takes two round trips, one to read and one to write.
//!
//! There are two such statements. [`one`] is for a single delivery, which most deliveries are: its parameters are plain values,
//! so it costs what a statement written by hand costs. [`many`] is for a batch of several, and takes a list for each column.

mod many;

mod one;

mod notes;

mod tally;

use std::collections::HashSet;

use sqlx::PgConnection;

use super::deliveries::NewDelivery;
use super::erasures::ErasureKey;
use super::error::StoreError;
use super::notify;
use super::profiles::Revision;
use super::transitions::NewTransition;
use crate::domain::{Headway, Iccid, Profile, ProfileState};

/// What to write, and what must be unchanged for that.
#[derive(Debug, Default)]
pub struct BatchWrite<'a> {
    /// The profiles to change.
    pub changed: Vec<Changed<'a>>,
    /// The profiles that were judged but do not change.
    pub unchanged: Vec<(&'a Iccid, Revision)>,
    /// The profiles to create, sorted by ICCID, so that two transactions that create the same ones cannot deadlock.
    pub new: Vec<&'a Profile>,
    /// The profiles that the batch names and that did not exist, also those of `new`, but without those that are known to be erased.
    /// None of them may have been erased, or been created by others.
    pub absent: Vec<&'a Iccid>,
    /// The transitions of these profiles.
    pub transitions: Vec<NewTransition<'a>>,
    /// The profiles with a new connection. Their followers are woken, as those of profiles with a transition are.
    pub connected: Vec<&'a Iccid>,
    /// All deliveries of the batch.
    pub deliveries: Vec<NewDelivery<'a>>,
    /// The `traceparent` of the batch, if it is recorded. The notification has it.
    pub traceparent: Option<String>,
}

/// A profile to change.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    /// As it is to be saved.
    pub profile: &'a Profile,
    /// The revision that was read.
    pub revision: Revision,
    /// What was read, for the counts.
    pub before: Before<'a>,
}

/// What the counts depend on of a profile that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before<'a> {
    /// Its provider.
    pub provider: &'a str,
    /// Its state.
    pub state: ProfileState,
    /// How far it had come.
    pub headway: Option<Headway>,
}

impl<'a> From<&'a Profile> for Before<'a> {
    fn from(profile: &'a Profile) -> Self {
        Self { provider: &profile.provider, state: profile.state, headway: profile.headway }
    }
}

impl BatchWrite<'_> {
    /// The profiles of `connected`, as they are to be saved.
    fn connected_profiles(&self) -> impl Iterator<Item = &Profile> {
        let connected: HashSet<_> = self.connected.iter().copied().collect();
        let changed = self.changed.iter().map(|it| it.profile);
        changed.chain(self.new.iter().copied()).filter(move |it| connected.contains(&it.iccid))
    }

    /// What to notify the replicas of, if there is anything.
    fn notification(&self) -> Option<String> {
        let moved = self.transitions.iter().map(|it| it.iccid);
        let moved = moved.chain(self.connected.iter().copied());
        notify::payload(moved, self.traceparent.as_deref())
    }
}

/// Writes all or nothing, and returns whether it wrote. It writes nothing if a profile changed since it was read, is
/// locked by another transaction, was erased, or is to be created but exists.
///
/// Never waits for an existing row. It does wait for a concurrent insert of the same ICCID. If that commits, this returns
/// `false`, and a transaction around it can only be rolled back.
///
/// Outside a transaction, the statement commits by itself. An error that the server did not report then leaves open
/// whether it committed.
///
/// # Errors
/// [`StoreError`].
pub async fn write_if_unchanged(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    write: &BatchWrite<'_>,
) -> Result<bool, StoreError> {
    let written = match one::of(write, erasure_key)? {
        Some(one) => one::write(connection, &one).await,
        None => many::write(connection, erasure_key, write).await,
    };
    match written {
        Err(StoreError::Database(error)) if is_of_another_creation(&error) => Ok(false),
        written => written,
    }
}

/// Whether another transaction has created one of the new profiles while this statement ran.
fn is_of_another_creation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("profiles_pkey"))
}
