//! Providers: for each, one file that turns the bytes of its webhooks into our words, without side effects.
//!
//! The file is TOML if names are all that differs (`docs/providers.md`), and code otherwise (`docs/adding-a-provider.md`).
//! There is deliberately no shared list of state words: "released" means *ready to install* at one provider and *deleted from
//! the device* at another.

mod json;

mod members;

mod unit;

mod order;

mod gigastore;

mod esim_access;

mod esim_go;

mod simlessly;

mod declared;

mod registry;

#[cfg(test)]
mod recorded;

pub use declared::{Declaration, Declared, Draft, Flaw, Summary};
pub use esim_access::EsimAccess;
pub use esim_go::EsimGo;
pub use gigastore::Gigastore;
pub use order::parse_order;
pub use registry::{InCode, Providers};
pub use simlessly::Simlessly;

use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{Connection, Iccid, Registration, Report, Timestamp};

/// A company whose webhooks we understand.
pub trait Provider: Send + Sync + 'static {
    /// Its name in paths, settings, rows and metric labels: kebab-case, and never changed.
    fn slug(&self) -> &'static str;

    /// The headers that `parse` reads with [`AuthenticDelivery::header`], in lower case. They are stored with each
    /// delivery, unless their names are those of credentials. None may hold an identifier of a profile, because they
    /// are stored even if it was erased.
    fn headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads one authentic delivery.
    ///
    /// # Errors
    /// [`Malformed`] if this provider would not send such bytes. They are stored all the same.
    fn parse(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed>;

    /// Whether a body that `parse` refuses can only be a portal's test of the URL: it names no profile and reports
    /// nothing.
    fn is_test(&self, _: &AuthenticDelivery) -> bool {
        false
    }

    /// The paths of the provider's other webhooks below its slug, which exist with the secrets of its first one.
    fn other_hooks(&self) -> &'static [&'static str] {
        &[]
    }

    /// How often the provider lets a profile be installed, if it says so.
    fn install_limit(&self) -> Option<i32> {
        None
    }

    /// What reads the eSIM object of the provider's API, if that has one. Without it, a backend cannot register this
    /// provider's profiles.
    fn registrar(&self) -> Option<&dyn Registrar> {
        None
    }

    /// What plays the provider, if it can be played.
    fn simulator(&self) -> Option<&dyn Simulator> {
        None
    }
}

/// Reads what a backend passes on when it registers a profile.
pub trait Registrar: Send + Sync {
    /// Reads the eSIM object of the provider's API.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not such an object.
    fn parse_esim_object(&self, body: &[u8], now: Timestamp) -> Result<Registration, Malformed>;
}

/// Plays a provider, for the commands that send webhooks.
pub trait Simulator: Send + Sync {
    /// Makes a body as this provider would send it.
    fn compose(&self, sample: &Sample<'_>) -> String;

    /// This provider's words for a whole life of a profile, in order.
    fn lifecycle(&self) -> Vec<&str>;

    /// Makes the body with which this provider says that the profile has connected for the first time, in this country; `None` if it
    /// never says so.
    fn compose_connection(
        &self,
        _iccid: &str,
        _imsi: Option<&str>,
        _country: &str,
    ) -> Option<String> {
        None
    }
}

/// What an adapter reads in a delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the delivery says.
    pub content: Content,
    /// The sender's id of the event, if the body has one. It precedes the id in the headers, which a relay may have
    /// given.
    pub event_id: Option<EventId>,
}

/// What a delivery says.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// A report on a profile's state.
    Report(Report),
    /// A profile is connected to a network.
    Connection(Connection),
    /// An event of another kind.
    Ignored {
        /// The profile that it names, if that could be read.
        iccid: Option<Iccid>,
        /// If it names no profile: the customer whom it names, by the `uid` that a registration may have.
        uid: Option<String>,
        /// The kind of event, for support.
        reason: String,
    },
}

impl Reading {
    /// A report on a profile's state, without an event id.
    pub fn of(report: Report) -> Self {
        Self { content: Content::Report(report), event_id: None }
    }

    /// A connection, without an event id.
    pub fn connected(connection: Connection) -> Self {
        Self { content: Content::Connection(connection), event_id: None }
    }

    /// An event of another kind, without an event id.
    pub fn ignored(iccid: Option<Iccid>, reason: impl Into<String>) -> Self {
        let content = Content::Ignored { iccid, uid: None, reason: reason.into() };
        Self { content, event_id: None }
    }

    /// An event of another kind that names no profile, only a customer, without an event id.
    pub fn of_customer(uid: Option<String>, reason: impl Into<String>) -> Self {
        let content = Content::Ignored { iccid: None, uid, reason: reason.into() };
        Self { content, event_id: None }
    }

    /// The same with the event id that the body has. An erasure leaves event ids, so it must not contain an identifier
    /// of the profile.
    #[must_use]
    pub fn with_event_id(self, event_id: Option<EventId>) -> Self {
        Self { event_id, ..self }
    }

    /// The report, if it is one.
    pub fn report(&self) -> Option<&Report> {
        match &self.content {
            Content::Report(report) => Some(report),
            Content::Connection(_) | Content::Ignored { .. } => None,
        }
    }

    /// The profile that it names, if that could be read.
    pub fn iccid(&self) -> Option<&Iccid> {
        match &self.content {
            Content::Report(report) => Some(&report.iccid),
            Content::Connection(connection) => Some(&connection.iccid),
            Content::Ignored { iccid, .. } => iccid.as_ref(),
        }
    }

    /// The customer whom it names, if it names no profile.
    pub fn uid(&self) -> Option<&str> {
        match &self.content {
            Content::Ignored { iccid: None, uid, .. } => uid.as_deref(),
            _ => None,
        }
    }
}

/// The body does not have the required form. The reason names the member, or line and column, and contains no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// What is wrong, and what is expected.
    pub reason: String,
    /// The profile that it names, if that could be read all the same.
    pub iccid: Option<Iccid>,
}

/// The content of a body to compose.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The ICCID, of any form: invalid input is worth sending too.
    pub iccid: &'a str,
    /// The provider's word for the state.
    pub raw_state: &'a str,
    /// The device, if it should be named.
    pub eid: Option<&'a str>,
    /// The subscription, if it should be named.
    pub imsi: Option<&'a str>,
    /// When it happened, for providers that say so.
    pub at: Timestamp,
}
