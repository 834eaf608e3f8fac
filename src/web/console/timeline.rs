//! All that is known of a profile's past, in one line: changes, webhooks that changed nothing, those about its customer, its
//! registration, what its user did on the page, and questions to the provider.

use std::cmp::Reverse;

use uuid::Uuid;

use super::shell::When;
use crate::domain::{Intent, Outcome, Timestamp, TransitionKind};
use crate::store::deliveries::{DeliveryRecord, Uneventful};
use crate::store::evidence::Evidence;
use crate::store::inquiries::Pending;
use crate::store::transitions::Caused;

/// The max number of entries that a page shows.
pub(super) const SHOWN: usize = 200;

/// One thing that happened.
pub(super) struct Entry {
    at: Timestamp,
    /// When, as the page shows it.
    pub when: When,
    /// How it is marked: `change`, `connected`, `wrong`, or nothing.
    pub class: &'static str,
    /// What happened.
    pub title: String,
    /// What else is known of it.
    pub notes: Vec<String>,
    /// The delivery whose body can be shown.
    pub delivery: Option<String>,
}

impl Entry {
    fn new(at: Timestamp, class: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        Self { at, when: at.into(), class, title, notes: Vec::new(), delivery: None }
    }

    fn with(mut self, note: Option<String>) -> Self {
        self.notes.extend(note);
        self
    }

    fn of_webhook(self, delivery: Uuid, hook: &str, reason: Option<String>) -> Self {
        let entry = self.with(Some(format!("by the hook {hook}"))).with(reason);
        Self { delivery: Some(delivery.to_string()), ..entry }
    }
}

/// The newest entries, newest first, and whether older ones are left out.
pub(super) fn of(
    evidence: &Evidence,
    of_customer: &[DeliveryRecord],
    intents: &[(Intent, Timestamp)],
    pending: Option<&Pending>,
) -> (Vec<Entry>, bool) {
    let registration = evidence.stored.registration.as_ref();
    let registered = registration
        .map(|facts| Entry::new(facts.at, "", "Registered by a backend, most recently"));
    let mut entries: Vec<_> = (evidence.transitions.rows.iter().map(change))
        .chain(evidence.uneventful.rows.iter().map(delivery))
        .chain(of_customer.iter().map(about_customer))
        .chain(registered)
        .chain(intents.iter().map(|(intent, at)| Entry::new(*at, "", did(*intent))))
        .chain(pending.map(question))
        .collect();
    // Stable, so that of one moment the later entry of the history stays the newer one.
    entries.reverse();
    entries.sort_by_key(|entry| Reverse(entry.at));
    let is_complete = evidence.transitions.complete && evidence.uneventful.complete;
    let is_cut = entries.len() > SHOWN || of_customer.len() >= SHOWN || !is_complete;
    entries.truncate(SHOWN);
    (entries, is_cut)
}

fn change(caused: &Caused) -> Entry {
    let it = &caused.transition;
    let is_overdue = it.kind == TransitionKind::Overdue;
    let title = match it.from_state {
        _ if is_overdue => {
            format!(
                "Overdue: {}",
                it.reason.map_or("something", crate::domain::OverdueReason::as_str)
            )
        }
        Some(from) if from != it.to_state => format!("{from} → {}", it.to_state),
        _ => it.to_state.to_string(),
    };
    let odd = matches!(it.kind, TransitionKind::Late | TransitionKind::Unexpected);
    let hook = caused.delivery.as_ref().map(|delivery| format!("by the hook {}", delivery.hook));
    let source = it.source.filter(|_| hook.is_none()).map(|source| format!("by {source}"));
    let mut entry = Entry::new(it.received_at, if is_overdue { "wrong" } else { "change" }, title)
        .with((!is_overdue).then(|| format!("{} says {}", it.provider, it.raw_state)))
        .with(it.enabled.map(|on| if on { "switched on" } else { "switched off" }.to_owned()))
        .with(source)
        .with(hook)
        .with(it.occurred_at.map(|at| format!("the provider's time: {}", When::from(at).text)))
        .with(odd.then(|| it.kind.to_string()));
    entry.delivery =
        caused.delivery_id.filter(|_| caused.delivery.is_some()).map(|id| id.to_string());
    entry
}

fn delivery(delivery: &Uneventful) -> Entry {
    let (class, title) = match delivery.outcome {
        Outcome::Connected => ("connected", "Connected to a network"),
        Outcome::Repeated | Outcome::Moved => ("", "The same state again"),
        Outcome::Duplicate => ("", "The same event again"),
        Outcome::Late => ("", "Older than what was known"),
        Outcome::Ignored => ("", "Not about the state"),
        Outcome::Unrecognised => ("wrong", "A word that is not understood"),
        Outcome::Foreign => ("wrong", "From another provider"),
        Outcome::Malformed => ("wrong", "A malformed webhook"),
    };
    Entry::new(delivery.received_at, class, title).of_webhook(
        delivery.id,
        &delivery.digest.hook,
        delivery.reason.clone(),
    )
}

fn about_customer(delivery: &DeliveryRecord) -> Entry {
    Entry::new(delivery.received_at, "", "About the customer, not this eSIM").of_webhook(
        delivery.id,
        &delivery.hook,
        delivery.reason.clone(),
    )
}

fn did(intent: Intent) -> &'static str {
    match intent {
        Intent::Opened => "The user opened the install page",
        Intent::LinkTapped => "The user tapped the install link",
        Intent::QrShown => "The user was shown the QR code",
    }
}

fn question(pending: &Pending) -> Entry {
    let state = match (pending.attempts, pending.due_at) {
        (0, _) => "it was not asked yet".to_owned(),
        (times, Some(due)) => {
            format!("asked {times} times, next at {}", When::from(due).text)
        }
        (times, None) => format!("asked {times} times, and not again"),
    };
    Entry::new(pending.wanted_at, "", "A question to the provider").with(Some(state))
}
