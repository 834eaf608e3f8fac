//! Providers: each one file that turns the bytes of its webhooks into our words. Pure: bytes in, words out.
//!
//! To add one, see `docs/adding-a-provider.md`. The canonical state never comes from a shared list of words: "released"
//! means *ready to install* at one provider and *deleted from the device* at another.

mod json;

mod members;

mod esim_object;

mod gigastore;

#[cfg(test)]
mod recorded;

pub use gigastore::Gigastore;

use crate::delivery::AuthenticDelivery;
use crate::domain::{Iccid, Registration, Report, Timestamp};

/// One company whose webhooks we understand.
pub trait Provider: Send + Sync + 'static {
    /// Its name in paths, settings, rows and metric labels: kebab-case, never changed.
    fn slug(&self) -> &'static str;

    /// Reads one authentic delivery.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are not what this provider may send; the bytes are kept all the same.
    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed>;

    /// Whether this can only be a portal's try of the URL: it says nothing, of no profile.
    fn is_test(&self, delivery: &AuthenticDelivery) -> bool;

    /// Reads the eSIM object that the provider's API returns, which a backend hands on when it registers a profile.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes are no such object.
    fn parse_esim_object(&self, body: &[u8], now: Timestamp) -> Result<Registration, Malformed>;

    /// How often the provider lets a profile be installed, where it says so.
    fn install_limit(&self) -> Option<i32>;

    /// A body as this provider would send it, for the commands that play the provider.
    fn compose(&self, sample: &Sample<'_>) -> String;

    /// This provider's words for one whole life of a profile, in order.
    fn lifecycle(&self) -> &'static [&'static str];
}

/// What a delivery says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// Something about a profile's state.
    Report(Report),
    /// An event of another kind.
    Ignored {
        /// The profile it speaks of, where that could be read.
        iccid: Option<Iccid>,
        /// What it is, for support.
        reason: String,
    },
}

/// The body is not an object of the right shape. The reason names the member, or line and column, and echoes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// What is wrong and what was wanted.
    pub reason: String,
    /// The profile it speaks of, where that could be read all the same.
    pub iccid: Option<Iccid>,
}

/// What a composed body is to say.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The ICCID, of any shape: bad input is worth sending too.
    pub iccid: &'a str,
    /// The provider's word for the state.
    pub raw_state: &'a str,
    /// The device, if it is to be named.
    pub eid: Option<&'a str>,
    /// The subscription, if it is to be named.
    pub imsi: Option<&'a str>,
}

/// Every provider that this binary understands.
static REGISTRY: [&dyn Provider; 1] = [&Gigastore];

/// Finds a provider by its slug.
pub fn find(slug: &str) -> Option<&'static dyn Provider> {
    REGISTRY.into_iter().find(|provider| provider.slug() == slug)
}

/// The slugs of all providers, for messages.
pub fn slugs() -> Vec<&'static str> {
    REGISTRY.iter().map(|provider| provider.slug()).collect()
}
