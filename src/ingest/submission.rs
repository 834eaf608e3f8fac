//! A delivery on its way to the database: authenticated and read.

use uuid::Uuid;

use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{Iccid, Report, Timestamp};
use crate::hook::Hooks;
use crate::providers::{Malformed, Providers, Reading};
use crate::spool::Entry;

/// An authentic delivery with what its provider's adapter made of it.
#[derive(Debug)]
pub struct Submission {
    /// The authenticated request.
    pub delivery: AuthenticDelivery,
    /// The slug of the hook's provider.
    pub provider: &'static str,
    /// What the adapter read.
    pub parsed: Result<Reading, Malformed>,
    /// Whether it is written when it arrives, or from the spool.
    pub arrival: Arrival,
}

/// Whether a delivery is written when it arrives, or from the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Directly, as soon as we received it.
    Direct,
    /// After waiting in the spool. Meanwhile another replica may have written newer deliveries.
    Delayed,
}

impl Submission {
    /// Reads a delivery from the spool as its hook reads it now: the result is the same as on arrival, unless the configuration has
    /// changed. Returns its place in the spool, and the submission or why it cannot be read.
    pub(super) fn from_spool(
        entry: Entry,
        hooks: &Hooks,
        providers: &Providers,
    ) -> Result<(i64, Self), (i64, String)> {
        let (place, delivery, provider) = match entry {
            Entry::Intact { place, delivery, provider } => (place, delivery, provider),
            Entry::Damaged { place } => {
                return Err((place, "its checksum does not hold".to_owned()));
            }
        };
        let Some(provider) = providers.find(&provider) else {
            return Err((place, format!("this version knows no provider {provider}")));
        };
        let parsed = match hooks.get(delivery.hook_path()) {
            Some(hook) if hook.provider.slug() == provider.slug() => hook.read(&delivery),
            // The hook was removed, or given to another provider, while the delivery waited.
            _ => provider.parse(&delivery),
        };
        let arrival = Arrival::Delayed;
        Ok((place, Self { delivery, provider: provider.slug(), parsed, arrival }))
    }

    /// The key of its delivery in the database.
    pub(super) fn key(&self) -> (Uuid, Timestamp) {
        (self.delivery.id(), self.delivery.received_at())
    }

    /// The profile that it names, if that could be read.
    pub(super) fn iccid(&self) -> Option<&Iccid> {
        match &self.parsed {
            Ok(reading) => reading.iccid(),
            Err(malformed) => malformed.iccid.as_ref(),
        }
    }

    /// Whether it was received before its profile was erased. Only a delivery that waited in the spool can be older than the erasure.
    /// If a direct one seems to be, our clock is behind that of the replica that erased.
    pub(super) fn predates_erasure(&self, erased_at: Option<Timestamp>) -> bool {
        self.arrival == Arrival::Delayed
            && erased_at.is_some_and(|at| self.delivery.received_at() < at)
    }

    /// The customer whom it names, if it names no profile.
    pub(super) fn uid(&self) -> Option<&str> {
        self.parsed.as_ref().ok().and_then(Reading::uid)
    }

    /// Whether a text of the delivery contains the ICCID of its profile: a sender may build its event ids from that.
    pub(super) fn iccid_occurs_in(&self, text: &str) -> bool {
        self.iccid().is_some_and(|iccid| text.contains(iccid.as_str()))
    }

    /// The report, if it is one.
    pub(super) fn report(&self) -> Option<&Report> {
        self.parsed.as_ref().ok().and_then(Reading::report)
    }

    /// The sender's event id: the one in the body, else the signed one in the headers.
    pub(super) fn event_id(&self) -> Option<&str> {
        let in_body = self.parsed.as_ref().ok().and_then(|reading| reading.event_id.as_ref());
        in_body.map(EventId::as_str).or(self.delivery.event_id())
    }
}

/// A delivery with this body, as Gigastore's hook reads it, for the tests of this module.
#[cfg(test)]
pub(super) fn of_gigastore(body: &str) -> Submission {
    use std::sync::Arc;

    use crate::delivery::{Authenticator, Delivery, Scheme};
    use crate::providers::{Gigastore, Provider};

    let received_at = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
    let (hook, headers) = (Arc::from("gigastore/esim-status"), http::HeaderMap::new());
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let delivery = Delivery::new(Uuid::nil(), received_at, hook, None, headers, body);
    let delivery = Authenticator::new(Scheme::None).check(delivery).unwrap();
    let parsed = Gigastore.parse(&delivery);
    Submission { delivery, provider: Gigastore.slug(), parsed, arrival: Arrival::Direct }
}
