//! The content of an evidence sheet.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::views::TransitionView;
use crate::domain::{Outcome, ProfileState, Timestamp};
use crate::store::deliveries::{Digest, Uneventful};
use crate::store::evidence::Evidence;
use crate::store::transitions::Caused;

/// What the service has recorded about one profile, as of one moment. It has no activation code and no credentials, and
/// names neither device nor subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EvidenceSheet)]
#[serde(rename_all = "camelCase")]
pub struct SheetView {
    /// When the sheet was issued, by the service's clock.
    #[schema(value_type = String, format = DateTime)]
    pub issued_at: Timestamp,
    /// The profile's number.
    #[schema(example = "89972123300991848961")]
    pub iccid: String,
    /// The provider's slug.
    pub provider: String,
    /// The canonical state.
    pub state: ProfileState,
    /// Whether the profile is switched on; null if the provider does not say.
    pub enabled: Option<bool>,
    /// The provider's own word for the state, from its last report.
    pub raw_state: String,
    /// When the profile entered this state, by the service's clock.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When a backend last registered something new about the profile; null if none has registered it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub registered_at: Option<Timestamp>,
    /// Your own number of the order, from the registration.
    pub reference: Option<String>,
    /// When the provider first said that the profile is connected to a network; null if it never did.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_connected_at: Option<Timestamp>,
    /// When the provider last said so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_connected_at: Option<Timestamp>,
    /// Where the profile was then, as two letters (ISO 3166-1); null if unknown.
    #[schema(example = "PL")]
    pub country: Option<String>,
    /// The whole history, oldest first.
    pub transitions: Vec<CausedView>,
    /// Whether `transitions` is the whole history. If not, it has the last 2,000.
    pub transitions_complete: bool,
    /// How many of these transitions were caused by a webhook that is no longer kept. Webhooks are kept for
    /// `ESIM_STATUS_DELIVERY_RETENTION_DAYS`.
    pub deliveries_gone: usize,
    /// The webhooks about the profile that caused no transition, as far as they are kept, oldest first: what the provider
    /// said again, connections, and what was not applied. A webhook whose ICCID could not be read is not among them.
    pub other_deliveries: Vec<OtherView>,
    /// Whether `otherDeliveries` has all that are kept. If not, it has the last 1,000.
    pub other_deliveries_complete: bool,
}

/// One entry of the history, and the webhook that caused it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CausedTransition)]
#[serde(rename_all = "camelCase")]
pub struct CausedView {
    #[serde(flatten)]
    pub transition: TransitionView,
    /// The id that the provider was answered; null if no webhook caused the transition.
    pub delivery_id: Option<Uuid>,
    /// The path of the hook that authenticated the sender and received the webhook; null if the webhook is no longer kept.
    pub hook: Option<String>,
    /// The sender's event id; null if it sends none, or the webhook is no longer kept.
    pub event_id: Option<String>,
    /// The SHA-256 of the webhook's body, exactly as received, in hexadecimal; null if no webhook caused the transition, or
    /// it is no longer kept: with `deliveryId` it is the latter.
    pub body_sha256: Option<String>,
}

/// A webhook that caused no transition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OtherDelivery)]
#[serde(rename_all = "camelCase")]
pub struct OtherView {
    /// The id that the provider was answered.
    pub delivery_id: Uuid,
    /// When the service received the webhook.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The slug of the hook's provider.
    pub provider: String,
    /// What the service did with the webhook.
    pub outcome: Outcome,
    /// The reason for the outcome, in words.
    pub reason: Option<String>,
    /// The path of the hook that authenticated the sender and received the webhook.
    pub hook: String,
    /// The sender's event id, if it sends one.
    pub event_id: Option<String>,
    /// The SHA-256 of the webhook's body, exactly as received, in hexadecimal.
    pub body_sha256: String,
}

impl SheetView {
    /// The sheet that is issued now.
    pub fn of(evidence: Evidence, now: Timestamp) -> Self {
        let Evidence { stored, transitions, uneventful } = evidence;
        let profile = stored.profile;
        let gone = |it: &&Caused| it.delivery_id.is_some() && it.delivery.is_none();
        Self {
            issued_at: now,
            iccid: profile.iccid.as_str().to_owned(),
            provider: profile.provider,
            state: profile.state,
            enabled: profile.enabled,
            raw_state: profile.raw_state,
            since: profile.since,
            registered_at: stored.registration.map(|registration| registration.at),
            reference: stored.order.reference.map(|reference| reference.as_str().to_owned()),
            first_connected_at: profile.connections.first_connected_at,
            last_connected_at: profile.connections.last_connected_at,
            country: profile.connections.country.map(|country| country.as_str().to_owned()),
            transitions_complete: transitions.complete,
            deliveries_gone: transitions.rows.iter().filter(gone).count(),
            transitions: transitions.rows.into_iter().map(CausedView::from).collect(),
            other_deliveries_complete: uneventful.complete,
            other_deliveries: uneventful.rows.into_iter().map(OtherView::from).collect(),
        }
    }
}

impl From<Caused> for CausedView {
    fn from(Caused { transition, delivery_id, delivery }: Caused) -> Self {
        let (hook, event_id, body_sha256) = match delivery {
            Some(Digest { hook, event_id, body_sha256 }) => {
                (Some(hook), event_id, Some(hex::encode(body_sha256)))
            }
            None => (None, None, None),
        };
        Self { transition: transition.into(), delivery_id, hook, event_id, body_sha256 }
    }
}

impl From<Uneventful> for OtherView {
    fn from(delivery: Uneventful) -> Self {
        Self {
            delivery_id: delivery.id,
            received_at: delivery.received_at,
            provider: delivery.provider,
            outcome: delivery.outcome,
            reason: delivery.reason,
            hook: delivery.digest.hook,
            event_id: delivery.digest.event_id,
            body_sha256: hex::encode(delivery.digest.body_sha256),
        }
    }
}
