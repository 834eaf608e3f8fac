//! Turns rows into one array for each column, as `UNNEST` expects, so that one statement writes any number of rows.

use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::codec::datetime_option;
use super::deliveries::NewDelivery;
use super::transitions::NewTransition;
use crate::domain::{Eid, Iccid, Imsi, Profile, ProfileState};

/// The columns of `profiles` that webhooks change.
pub(super) struct ProfileColumns<'a> {
    pub iccid: Vec<&'a str>,
    pub provider: Vec<&'a str>,
    pub state: Vec<&'a str>,
    pub enabled: Vec<Option<bool>>,
    pub raw_state: Vec<&'a str>,
    pub imsi: Vec<Option<&'a str>>,
    pub eid: Vec<Option<&'a str>>,
    pub since: Vec<OffsetDateTime>,
    pub seq: Vec<i64>,
    pub installs_seen: Vec<i32>,
    pub deliveries: Vec<i64>,
    pub last_delivery_at: Vec<Option<OffsetDateTime>>,
    pub last_occurred_at: Vec<Option<OffsetDateTime>>,
}

/// Rows of `transitions`.
pub(super) struct TransitionColumns<'a> {
    pub iccid: Vec<&'a str>,
    pub seq: Vec<i64>,
    pub from_state: Vec<Option<&'a str>>,
    pub to_state: Vec<&'a str>,
    pub enabled: Vec<Option<bool>>,
    pub raw_state: Vec<&'a str>,
    pub kind: Vec<&'a str>,
    pub occurred_at: Vec<Option<OffsetDateTime>>,
    pub received_at: Vec<OffsetDateTime>,
    pub provider: Vec<&'a str>,
    pub delivery: Vec<Option<Uuid>>,
}

/// Rows of `deliveries`.
pub(super) struct DeliveryColumns<'a> {
    pub id: Vec<Uuid>,
    pub received_at: Vec<OffsetDateTime>,
    pub hook: Vec<&'a str>,
    pub provider: Vec<&'a str>,
    pub iccid: Vec<Option<&'a str>>,
    pub outcome: Vec<&'a str>,
    pub reason: Vec<Option<&'a str>>,
    pub event_id: Vec<Option<&'a str>>,
    pub headers: Vec<&'a str>,
    pub body: Vec<&'a [u8]>,
}

impl<'a> ProfileColumns<'a> {
    pub fn of(profiles: &[&'a Profile]) -> Self {
        let each = || profiles.iter();
        Self {
            iccid: each().map(|p| p.iccid.as_str()).collect(),
            provider: each().map(|p| p.provider.as_str()).collect(),
            state: each().map(|p| p.state.as_str()).collect(),
            enabled: each().map(|p| p.enabled).collect(),
            raw_state: each().map(|p| p.raw_state.as_str()).collect(),
            imsi: each().map(|p| p.imsi.as_ref().map(Imsi::as_str)).collect(),
            eid: each().map(|p| p.eid.as_ref().map(Eid::as_str)).collect(),
            since: each().map(|p| p.since.as_datetime()).collect(),
            seq: each().map(|p| p.seq).collect(),
            installs_seen: each().map(|p| p.installs_seen).collect(),
            deliveries: each().map(|p| p.deliveries).collect(),
            last_delivery_at: each().map(|p| datetime_option(p.last_delivery_at)).collect(),
            last_occurred_at: each().map(|p| datetime_option(p.last_occurred_at)).collect(),
        }
    }
}

impl<'a> TransitionColumns<'a> {
    pub fn of(transitions: &[NewTransition<'a>]) -> Self {
        let each = || transitions.iter();
        Self {
            iccid: each().map(|t| t.iccid.as_str()).collect(),
            seq: each().map(|t| t.transition.seq).collect(),
            from_state: each().map(|t| t.transition.from_state.map(ProfileState::as_str)).collect(),
            to_state: each().map(|t| t.transition.to_state.as_str()).collect(),
            enabled: each().map(|t| t.transition.enabled).collect(),
            raw_state: each().map(|t| t.transition.raw_state.as_str()).collect(),
            kind: each().map(|t| t.transition.kind.as_str()).collect(),
            occurred_at: each().map(|t| datetime_option(t.transition.occurred_at)).collect(),
            received_at: each().map(|t| t.transition.received_at.as_datetime()).collect(),
            provider: each().map(|t| t.transition.provider.as_str()).collect(),
            delivery: each().map(|t| t.delivery_id).collect(),
        }
    }
}

impl<'a> DeliveryColumns<'a> {
    pub fn of(deliveries: &'a [NewDelivery<'a>]) -> Self {
        let each = || deliveries.iter();
        Self {
            id: each().map(|d| d.id).collect(),
            received_at: each().map(|d| d.received_at.as_datetime()).collect(),
            hook: each().map(|d| d.hook).collect(),
            provider: each().map(|d| d.provider).collect(),
            iccid: each().map(|d| d.iccid.map(Iccid::as_str)).collect(),
            outcome: each().map(|d| d.outcome.as_str()).collect(),
            reason: each().map(|d| d.reason).collect(),
            event_id: each().map(|d| d.event_id).collect(),
            headers: each().map(|d| d.headers).collect(),
            body: each().map(|d| d.body).collect(),
        }
    }
}
