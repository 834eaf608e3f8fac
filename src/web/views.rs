//! Profiles and transitions as the API shows them, and pages of lists.

use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::domain::{
    Device, Eid, Iccid, OverdueReason, ProfileState, Source, Timestamp, Transition, TransitionKind,
};
use crate::store::{ProfileReader, StoredProfile};

/// The current knowledge about one profile. The members after `checks` are shown to backends only.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Profile)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The profile's number.
    #[schema(example = "89972123300991848961")]
    iccid: String,
    /// The canonical state.
    state: ProfileState,
    /// Whether the profile is switched on; null if the provider does not say.
    enabled: Option<bool>,
    /// The provider's own word for the state, from its last report.
    raw_state: String,
    /// The provider's slug.
    provider: String,
    /// When the profile entered this state, by the service's clock.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// The `seq` of the last transition. Continue the history (`after`) or the stream (`Last-Event-ID`) from it.
    seq: i64,
    /// When the last webhook about the profile was received, or the provider last answered a question about it. It tells
    /// how old this knowledge is.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<Timestamp>,
    /// How many webhooks reported something about the profile.
    deliveries: i64,
    /// How many installs onto a device were observed.
    installs_seen: i32,
    /// When the provider first said that the profile is connected to a network; null if it never did. The only evidence
    /// that the eSIM works.
    #[schema(value_type = Option<String>, format = DateTime)]
    first_connected_at: Option<Timestamp>,
    /// When the provider last said so.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_connected_at: Option<Timestamp>,
    /// Where the profile was then, as two letters (ISO 3166-1); null if unknown.
    #[schema(example = "PL")]
    country: Option<String>,
    /// What should have happened to the profile by now and did not; null if nothing is overdue.
    overdue: Option<OverdueReason>,
    /// Whether a backend has registered the profile.
    registered: bool,
    /// Whether check digits are correct. This is information only: nothing is refused for a wrong check digit.
    checks: Checks,
    #[serde(flatten)]
    backend: Option<BackendView>,
}

/// Whether check digits are correct.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Checks {
    /// Whether the ICCID's last digit is the Luhn check digit of the others.
    iccid_luhn: bool,
    /// The EID has 32 digits and leaves 1 modulo 97. Shown to backends only, if an EID is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    eid_mod97: Option<bool>,
}

/// The members that only a backend sees.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BackendView {
    /// The IMSI of the subscription.
    imsi: Option<String>,
    /// The EID of the device's eUICC.
    eid: Option<String>,
    /// What kind of device the profile is on; null if the provider has not said so.
    device: Option<DeviceView>,
    /// The customer's id at the provider, from the registration.
    uid: Option<String>,
    /// When the data package was activated, from the registration.
    #[schema(value_type = Option<String>, format = DateTime)]
    activated_at: Option<Timestamp>,
    /// When the provider last saw the profile, from the registration.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
    /// Your own number of the order, from the registration.
    reference: Option<String>,
    /// The day of travel, from the registration.
    #[schema(format = Date, example = "2026-12-24")]
    expected_from: Option<String>,
    /// The ICCID of the profile that this one was given out for, from the registration.
    replaces: Option<String>,
    /// The ICCID of the profile that was given out for this one. Access tokens for this profile show that one.
    replaced_by: Option<String>,
    /// The ICCID of another stored profile that differs only by the check digit at the end. Usually it is the same
    /// card, written differently by another system. Only looked up for a single profile about which no webhook has
    /// reported anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    twin: Option<String>,
}

/// The kind of a device, as far as the provider has said it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Device)]
#[serde(rename_all = "camelCase")]
struct DeviceView {
    /// Who made it.
    #[schema(example = "Apple")]
    make: Option<String>,
    /// Its model.
    #[schema(example = "iPhone 15")]
    model: Option<String>,
    /// Its type allocation code: the first eight digits of its IMEI, which leads to the model and not to the device.
    #[schema(example = "35328510")]
    tac: Option<String>,
}

impl From<&Device> for DeviceView {
    fn from(device: &Device) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Self { make: text(device.make()), model: text(device.model()), tac: text(device.tac()) }
    }
}

impl ProfileView {
    /// The profile as a backend sees it. If it has no webhooks, its twin is added, which may have them.
    pub async fn with_twin(stored: StoredProfile, reader: &ProfileReader) -> Self {
        let is_heard_of = stored.profile.deliveries > 0;
        let twin = stored.profile.iccid.twin().filter(|_| !is_heard_of);
        let mut view = Self::of(stored, &Caller::Backend);
        let Some(twin) = twin else { return view };
        // If only the twin cannot be read, the profile itself is still answered.
        let twin = reader.find(&twin).await.ok().flatten();
        if let Some(backend) = &mut view.backend {
            backend.twin = twin.map(|twin| twin.profile.iccid.as_str().to_owned());
        }
        view
    }

    /// Whether the view names a twin.
    pub fn has_twin(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.twin.is_some())
    }

    /// The profile, with the members that this caller may see.
    pub fn of(stored: StoredProfile, caller: &Caller) -> Self {
        let StoredProfile { profile, registration, order, replaced_by, overdue, tokens_from: _ } =
            stored;
        let number = |iccid: Iccid| iccid.as_str().to_owned();
        let for_backend = *caller == Caller::Backend;
        let eid_mod97 = profile.eid.as_ref().filter(|_| for_backend).map(Eid::check_digits_hold);
        let registered = registration.is_some();
        let backend = for_backend.then(|| BackendView {
            imsi: profile.imsi.as_ref().map(|imsi| imsi.as_str().to_owned()),
            eid: profile.eid.as_ref().map(|eid| eid.as_str().to_owned()),
            device: profile.device.as_ref().map(DeviceView::from),
            activated_at: registration.as_ref().and_then(|r| r.activated_at),
            last_seen: registration.as_ref().and_then(|r| r.last_seen),
            uid: registration.and_then(|r| r.uid),
            reference: order.reference.map(|reference| reference.as_str().to_owned()),
            expected_from: order.expected_from.map(|day| day.to_string()),
            replaces: order.replaces.map(number),
            replaced_by: replaced_by.map(number),
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
            first_connected_at: profile.connections.first_connected_at,
            last_connected_at: profile.connections.last_connected_at,
            country: profile.connections.country.map(|country| country.as_str().to_owned()),
            overdue,
            registered,
            backend,
        }
    }
}

/// A registered profile, and the parts of its registration that could not be used.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegisteredView {
    #[serde(flatten)]
    profile: ProfileView,
    /// The members of the provider's object that were ignored, and why. Usually empty.
    remarks: Vec<String>,
}

impl RegisteredView {
    /// The view of a profile with these remarks.
    pub fn of(profile: ProfileView, remarks: Vec<String>) -> Self {
        Self { profile, remarks }
    }
}

/// One entry of a profile's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transition)]
#[serde(rename_all = "camelCase")]
pub struct TransitionView {
    /// The number in the profile's history: 1, 2, 3 … without gaps. After an erasure the numbers continue.
    pub(super) seq: i64,
    /// The state before; null for the first transition.
    pub(super) from_state: Option<ProfileState>,
    /// The reported state.
    pub(super) to_state: ProfileState,
    /// Whether the profile is switched on; null if the provider does not say.
    pub(super) enabled: Option<bool>,
    /// The provider's own word for the state.
    pub(super) raw_state: String,
    /// The kind of the transition. `late`: recorded, but not applied to the profile. `overdue`: no webhook came; the state is
    /// as before.
    pub(super) kind: TransitionKind,
    /// With the kind `overdue`: what did not happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<OverdueReason>,
    /// Where the transition comes from; null with the kind `overdue`.
    pub(super) source: Option<Source>,
    /// The provider's time of the event, if it sends one.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) occurred_at: Option<Timestamp>,
    /// When the service received the webhook, or found that the profile is overdue.
    #[schema(value_type = String, format = DateTime)]
    pub(super) received_at: Timestamp,
    /// The slug of the provider that reported the transition.
    pub(super) provider: String,
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
            reason: transition.reason,
            source: transition.source,
            occurred_at: transition.occurred_at,
            received_at: transition.received_at,
            provider: transition.provider,
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items of this page.
    items: Vec<T>,
    /// Send this as `cursor` (or, for transitions, as `after`) to get the next page; null on the last page.
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` items, from up to `limit + 1` rows. `next` makes the cursor from the last row shown.
    pub fn of<R: Into<T>>(mut rows: Vec<R>, limit: i64, next: impl FnOnce(&R) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(next);
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor }
    }
}

impl<T> Page<T> {
    /// A page of these rows, after which the next one begins at `next_cursor`.
    pub fn until<R: Into<T>>(rows: Vec<R>, next_cursor: Option<String>) -> Self {
        Self { items: rows.into_iter().map(Into::into).collect(), next_cursor }
    }
}

/// For lists, which only backends can read.
impl From<StoredProfile> for ProfileView {
    fn from(stored: StoredProfile) -> Self {
        Self::of(stored, &Caller::Backend)
    }
}
