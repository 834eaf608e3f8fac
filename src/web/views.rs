//! Profiles and transitions as callers see them, and pages of either.

use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::domain::{Eid, ProfileState, Timestamp, Transition, TransitionKind};
use crate::store::{ProfileReader, StoredProfile};

/// What we believe of one profile. The members below `checks` are for backends only.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Profile)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// Its number.
    #[schema(example = "89972123300991848961")]
    iccid: String,
    /// The canonical state.
    state: ProfileState,
    /// Switched on or off; null where the provider does not say.
    enabled: Option<bool>,
    /// The provider's last word for the state.
    raw_state: String,
    /// The provider's slug.
    provider: String,
    /// When it came into this state, by our clock.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// The number of its last transition: the cursor of its history and its stream.
    seq: i64,
    /// When the last webhook about it came: the age of the evidence.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<Timestamp>,
    /// How many webhooks told something about it.
    deliveries: i64,
    /// How often it was seen to come onto a device.
    installs_seen: i32,
    /// Whether a backend registered it.
    registered: bool,
    /// Check digits, which are reported and never required.
    checks: Checks,
    #[serde(flatten)]
    backend: Option<BackendView>,
}

/// Whether check digits hold.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Checks {
    /// The ICCID's last digit is the Luhn check digit of the others.
    iccid_luhn: bool,
    /// The EID has 32 digits that leave 1 modulo 97; for backends, where an EID is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    eid_mod97: Option<bool>,
}

/// What only a backend sees.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BackendView {
    /// The subscription.
    imsi: Option<String>,
    /// The device.
    eid: Option<String>,
    /// The customer at the provider, from the registration.
    uid: Option<String>,
    /// When the data package was activated, from the registration.
    #[schema(value_type = Option<String>, format = DateTime)]
    activated_at: Option<Timestamp>,
    /// When the provider last saw it, from the registration.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// Another profile whose number is this one without its check digit, or with it: the same card as another system writes it, as a
    /// rule. Looked for where one profile is asked for that no webhook has told anything about.
    #[serde(skip_serializing_if = "Option::is_none")]
    twin: Option<String>,
}

impl ProfileView {
    /// The profile as a backend sees it, with its twin where that may have the webhooks that this one lacks.
    pub async fn with_twin(stored: StoredProfile, reader: &ProfileReader) -> Self {
        let is_heard_of = stored.profile.deliveries > 0;
        let twin = stored.profile.iccid.twin().filter(|_| !is_heard_of);
        let mut view = Self::of(stored, &Caller::Backend);
        let Some(twin) = twin else { return view };
        // What was asked for is there; that the twin cannot be read is no reason to keep it back.
        let twin = reader.find(&twin).await.ok().flatten();
        if let Some(backend) = &mut view.backend {
            backend.twin = twin.map(|twin| twin.profile.iccid.as_str().to_owned());
        }
        view
    }

    /// Whether it names a twin.
    pub fn has_twin(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.twin.is_some())
    }

    /// The profile as this caller may see it.
    pub fn of(stored: StoredProfile, caller: &Caller) -> Self {
        let StoredProfile { profile, registration, tokens_from: _ } = stored;
        let for_backend = *caller == Caller::Backend;
        let eid_mod97 = profile.eid.as_ref().filter(|_| for_backend).map(Eid::check_digits_hold);
        let registered = registration.is_some();
        let backend = for_backend.then(|| BackendView {
            imsi: profile.imsi.as_ref().map(|imsi| imsi.as_str().to_owned()),
            eid: profile.eid.as_ref().map(|eid| eid.as_str().to_owned()),
            activated_at: registration.as_ref().and_then(|r| r.activated_at),
            last_seen: registration.as_ref().and_then(|r| r.last_seen),
            uid: registration.and_then(|r| r.uid),
            twin: None,
        });
        Self {
            checks: Checks { iccid_luhn: profile.iccid.luhn_holds(), eid_mod97 },
            iccid: profile.iccid.as_str().to_owned(),
            state: profile.state,
            enabled: profile.enabled,
            raw_state: profile.raw_state,
            provider: profile.provider,
            since: profile.since,
            seq: profile.seq,
            last_delivery_at: profile.last_delivery_at,
            deliveries: profile.deliveries,
            installs_seen: profile.installs_seen,
            registered,
            backend,
        }
    }
}

/// A registered profile, and what of its registration could not be used.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegisteredView {
    #[serde(flatten)]
    profile: ProfileView,
    /// What was left out of the provider's object, and why; mostly empty.
    remarks: Vec<String>,
}

impl RegisteredView {
    /// Both together.
    pub fn of(profile: ProfileView, remarks: Vec<String>) -> Self {
        Self { profile, remarks }
    }
}

/// One line of a profile's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transition)]
#[serde(rename_all = "camelCase")]
pub struct TransitionView {
    /// 1, 2, 3 … for each profile, without gaps.
    seq: i64,
    /// The state before; null on the first.
    from_state: Option<ProfileState>,
    /// The state that was reported.
    to_state: ProfileState,
    /// Switched on or off; null where the provider does not say.
    enabled: Option<bool>,
    /// The provider's word.
    raw_state: String,
    /// `late`: kept, not applied.
    kind: TransitionKind,
    /// The provider's event time, where it sends one.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    /// When the webhook reached us.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// Who reported it.
    provider: String,
}

impl From<Transition> for TransitionView {
    fn from(transition: Transition) -> Self {
        Self {
            seq: transition.seq,
            from_state: transition.from_state,
            to_state: transition.to_state,
            enabled: transition.enabled,
            raw_state: transition.raw_state,
            kind: transition.kind,
            occurred_at: transition.occurred_at,
            received_at: transition.received_at,
            provider: transition.provider,
        }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// What there is on this page.
    items: Vec<T>,
    /// What to send as `cursor` (or `after`) for the next page; null on the last.
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` from `limit + 1` rows that were asked for; `next` makes the cursor from the last row shown.
    pub fn of<R: Into<T>>(mut rows: Vec<R>, limit: i64, next: impl FnOnce(&R) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(next);
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor }
    }
}

/// Lists are for backends, which see everything.
impl From<StoredProfile> for ProfileView {
    fn from(stored: StoredProfile) -> Self {
        Self::of(stored, &Caller::Backend)
    }
}
