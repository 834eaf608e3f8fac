//! The nouns of this field, pure: no async, no clock, no SQL, no HTTP.
//!
//! - **ICCID**: the number of a profile. **IMSI**: the number of its subscription. **EID**: the number of the chip that
//!   it is on.
//! - **Profile**: what lets a device into a mobile network; here, what we currently believe about it.
//! - **State**: ours ([`ProfileState`]). The provider's own word is kept beside it as `raw_state`.
//! - **Report**: what a provider claims. **Transition**: what changed. **Verdict**: what a report does to a profile.
//! - **Connection**: what a provider says about a network. **Connections**: what is known of those of a profile.
//! - **Device**: the kind of phone that a profile is on.
//! - **Milestone**: what a profile reaches on its way from ready to connected.
//! - **Change**: what followers of all profiles are notified of. **Endpoint**: where a backend has changes delivered to.
//! - **Overdue**: what should have happened to a profile and did not.
//! - `received_at` is our time, `occurred_at` the provider's.

mod words;

mod identifiers;

mod timestamp;

mod state;

mod report;

mod profile;

mod connection;

mod device;

mod registration;

mod order;

mod overdue;

mod milestone;

mod change;

mod endpoint;

mod reach;

mod inquiry;

mod activation_code;

mod journey;

pub use activation_code::{ActivationCode, InvalidActivationCode};
pub use change::{ChangeKind, UnknownChangeKind};
pub use connection::{Connection, Connections, Country};
pub use device::Device;
pub use endpoint::{
    DisabledBecause, Filter, LONGEST_WAIT, MIN_ATTEMPTS, PERSISTENCE, UnknownDisabledBecause,
    check_description, endpoint_pause, profile_pause,
};
pub use identifiers::{Eid, Iccid, Imsi, InvalidIdentifier};
pub use inquiry::{ASKED_FOR_SECONDS, ask_again_at, is_asked_long_enough};
pub use journey::{Advice, Journey, Progress, Step, StepStatus};
pub use milestone::{Advance, Headway, Intent, Milestone, Took, UnknownIntent, UnknownMilestone};
pub use order::{Day, InvalidDay, InvalidReference, Order, Reference};
pub use overdue::{Allowance, OverdueReason, Patience, UnknownOverdueReason};
pub use profile::{
    Profile, REPLICA_TOLERANCE_SECONDS, Source, Transition, TransitionKind, UnknownSource, Verdict,
};
pub use reach::{EndpointUrl, InvalidEndpointUrl, Reach};
pub use registration::{Credentials, Registration};
pub use report::{Claim, Outcome, Report, UnknownOutcome};
pub use state::{ProfileState, UnknownState};
pub use timestamp::{InvalidTimestamp, Timestamp};
