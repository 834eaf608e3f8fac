//! What the user should do now: a pure function from profile and history to a step, its texts and the progress so far.
//!
//! The keys are the interface; the texts are English defaults, plain and honest. A profile is "installed", never "on right
//! now": nobody tells us that it is connected, and a phone may send its notifications days late.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Profile, ProfileState, Timestamp, Transition, TransitionKind};

/// How long a download usually takes to become an install, in seconds. Beyond it something may be wrong.
const INSTALL_TAKES_AT_MOST: f64 = 3_600.0;

/// What the user does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Nothing yet: the profile is being prepared.
    Wait,
    /// Install it.
    Install,
    /// Finish on the phone what was begun.
    Finish,
    /// Turn the eSIM on in the phone's settings.
    TurnOn,
    /// Nothing more: it is installed.
    Done,
    /// Install it again: it was removed.
    Reinstall,
    /// Ask support: the user cannot mend it alone.
    ContactSupport,
}

/// How far one part of the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Reached.
    Done,
    /// What comes now.
    Current,
    /// Not reached, and something is wrong.
    Problem,
    /// Not yet its turn.
    Upcoming,
}

/// One part of the way, for a progress display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// `ready`, `downloaded` (only where it was reported), `installed`, `turned-on` (only where it was off).
    pub key: &'static str,
    /// How far it is.
    pub status: StepStatus,
    /// When it was reached.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// What the user should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// What comes next.
    pub step: Step,
    /// It in a few words.
    pub title: &'static str,
    /// It in a sentence or two.
    pub detail: String,
    /// The way so far.
    pub progress: Vec<Progress>,
    /// Whether the user can install the profile now.
    pub can_install: bool,
}

impl Journey {
    /// The journey of a profile with this history (oldest first), as of `now`. `install_limit` is how often the provider lets
    /// a profile be installed, where it says so.
    pub fn of(
        profile: &Profile,
        history: &[Transition],
        install_limit: Option<i32>,
        now: Timestamp,
    ) -> Self {
        let used_up = install_limit.is_some_and(|limit| profile.installs_seen >= limit);
        let waiting_long = now.seconds_since(profile.since) > INSTALL_TAKES_AT_MOST;
        let step = step(profile, used_up);
        let (title, detail) = texts(profile, step, install_limit, waiting_long);
        Self {
            step,
            title,
            detail,
            progress: progress(profile, history, step, waiting_long),
            can_install: matches!(step, Step::Install | Step::Reinstall),
        }
    }
}

fn step(profile: &Profile, used_up: bool) -> Step {
    match profile.state {
        ProfileState::Preparing => Step::Wait,
        // RELEASED means "never installed" and "removed again".
        ProfileState::Released if profile.installs_seen == 0 => Step::Install,
        ProfileState::Released if used_up => Step::ContactSupport,
        ProfileState::Released => Step::Reinstall,
        ProfileState::Downloaded => Step::Finish,
        ProfileState::Installed if profile.enabled == Some(false) => Step::TurnOn,
        ProfileState::Installed => Step::Done,
        ProfileState::Disabled => Step::TurnOn,
        ProfileState::Deleted | ProfileState::Error | ProfileState::Unavailable => {
            Step::ContactSupport
        }
    }
}

fn texts(
    profile: &Profile,
    step: Step,
    install_limit: Option<i32>,
    waiting_long: bool,
) -> (&'static str, String) {
    let (title, detail) = match (step, profile.state) {
        (Step::Wait, _) => (
            "Your eSIM is being prepared",
            "This usually takes a few minutes. This page tells you when it is ready.",
        ),
        (Step::Install, _) => (
            "Install your eSIM",
            "You need the phone that will use it, and a connection to the internet.",
        ),
        (Step::Reinstall, _) => {
            let title = "Your eSIM was removed from the phone";
            let seen = profile.installs_seen;
            let times = match install_limit {
                Some(limit) => format!(" It was installed {seen} of {limit} times."),
                None => String::new(),
            };
            return (title, format!("You can install it again.{times}"));
        }
        (Step::Finish, _) if waiting_long => (
            "The install is not confirmed yet",
            "If your phone shows the eSIM in its settings, it is installed, and the confirmation may come later. \
             If not, contact support.",
        ),
        (Step::Finish, _) => (
            "Finish on your phone",
            "Your phone has downloaded the eSIM. Follow what it shows to finish the install.",
        ),
        (Step::TurnOn, _) => (
            "Turn your eSIM on",
            "It is installed and switched off. Turn it on in your phone's settings for mobile networks.",
        ),
        (Step::Done, _) => (
            "Your eSIM is installed",
            "Turn on data roaming for it in your phone's settings, and choose it for mobile data when you arrive.",
        ),
        (Step::ContactSupport, ProfileState::Error) => (
            "The install failed",
            "Please contact support for a replacement. Trying again will not help.",
        ),
        (Step::ContactSupport, ProfileState::Released) => (
            "Your eSIM was installed as often as it can be",
            "It was removed from the phone. Please contact support for a replacement.",
        ),
        (Step::ContactSupport, ProfileState::Deleted) => (
            "Your eSIM was deleted from the phone",
            "Please contact support: they can tell whether it can be installed again.",
        ),
        (Step::ContactSupport, _) => {
            ("This eSIM can no longer be installed", "Please contact support for a replacement.")
        }
    };
    (title, detail.to_owned())
}

/// When the parts of the way were reached, in the profile's present life: a removal begins a new one.
#[derive(Default)]
struct Reached {
    ready: Option<Timestamp>,
    downloaded: Option<Timestamp>,
    installed: Option<Timestamp>,
}

impl Reached {
    fn by(history: &[Transition]) -> Self {
        let mut reached = Self::default();
        for transition in history.iter().filter(|t| t.kind != TransitionKind::Late) {
            let at = Some(transition.received_at);
            match transition.to_state {
                ProfileState::Preparing => reached = Self::default(),
                ProfileState::Released | ProfileState::Deleted => {
                    reached = Self { ready: at, ..Self::default() };
                }
                ProfileState::Downloaded => reached.downloaded = at,
                ProfileState::Installed | ProfileState::Disabled => {
                    reached.installed = reached.installed.or(at);
                }
                ProfileState::Error | ProfileState::Unavailable => {}
            }
        }
        reached
    }
}

fn progress(
    profile: &Profile,
    history: &[Transition],
    step: Step,
    waiting_long: bool,
) -> Vec<Progress> {
    let reached = Reached::by(history);
    let part = |key, status, at| Progress { key, status, at };
    let on_device = profile.state.is_on_device();
    let problem = step == Step::ContactSupport || (step == Step::Finish && waiting_long);
    let install = match (on_device, problem, step) {
        (true, _, _) => StepStatus::Done,
        (false, true, _) => StepStatus::Problem,
        (false, false, Step::Wait) => StepStatus::Upcoming,
        (false, false, _) => StepStatus::Current,
    };
    let ready = if step == Step::Wait { StepStatus::Current } else { StepStatus::Done };
    let mut parts = vec![part("ready", ready, reached.ready)];
    if profile.state == ProfileState::Downloaded || reached.downloaded.is_some() {
        parts.push(part("downloaded", StepStatus::Done, reached.downloaded));
    }
    let installed_at = reached.installed.filter(|_| on_device);
    parts.push(part("installed", install, installed_at));
    if step == Step::TurnOn {
        parts.push(part("turned-on", StepStatus::Current, None));
    }
    parts
}
