//! What a backend tells us of a profile when it sold it: the provider's eSIM object.

use std::fmt;

use super::{ActivationCode, Outcome, Profile, Report, Timestamp, Verdict};

/// The provider's eSIM object, as its adapter read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The state that the object names, as if it had been reported.
    pub report: Report,
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// When the data package was activated; says nothing of the install.
    pub activated_at: Option<Timestamp>,
    /// When the provider last saw the profile.
    pub last_seen: Option<Timestamp>,
    /// What installs the profile.
    pub credentials: Credentials,
}

/// What installs a profile: whoever has it can. `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The activation code.
    pub activation_code: Option<ActivationCode>,
    /// The provider's own link for iPhones, where it is a real one.
    pub apple_link: Option<String>,
    /// The provider's own install page; its URL carries a token.
    pub installation_url: Option<String>,
}

impl Credentials {
    /// These, completed from those that are `known`: an object that lacks a member takes nothing away. Another activation
    /// code replaces all of them, because the links belong to their code.
    #[must_use]
    pub fn or(self, known: Self) -> Self {
        if self.activation_code.is_some() && self.activation_code != known.activation_code {
            return self;
        }
        Self {
            activation_code: known.activation_code,
            apple_link: self.apple_link.or(known.apple_link),
            installation_url: self.installation_url.or(known.installation_url),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Profile {
    /// Judges a registration against what is `known` of the profile.
    ///
    /// The backend says which provider the profile belongs to. The state that it names counts only as long as no webhook
    /// has reported on the profile: what the backend was told when it ordered is older than any report.
    pub fn register(known: Option<&Self>, report: &Report) -> Verdict {
        let owned = known.map(|profile| Self {
            provider: report.provider.to_owned(),
            imsi: profile.imsi.clone().or_else(|| report.imsi.clone()),
            ..profile.clone()
        });
        if let Some(profile) = owned.as_ref().filter(|profile| profile.deliveries > 0) {
            let profile = Some(profile.clone());
            return Verdict { outcome: Outcome::Repeated, profile, transition: None };
        }
        let mut verdict = Self::observe(owned.as_ref(), report);
        // A registration is no delivery, and no evidence from the device.
        if let Some(profile) = &mut verdict.profile {
            profile.deliveries = 0;
            profile.last_delivery_at = None;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Iccid, ProfileState};

    fn report(state: ProfileState, provider: &'static str) -> Report {
        Report {
            iccid: Iccid::parse("89972123300991848961").unwrap(),
            provider,
            raw_state: state.as_str().to_owned(),
            claim: Some(Claim { state, enabled: None }),
            eid: None,
            imsi: None,
            occurred_at: None,
            received_at: Timestamp::parse("2026-11-23T10:00:00Z").unwrap(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn an_unreported_profile_has_the_state_of_its_last_registration() {
        let first = Profile::register(None, &report(ProfileState::Preparing, "a"));
        let profile = first.profile.unwrap();
        assert_eq!((profile.seq, profile.deliveries, profile.last_delivery_at), (1, 0, None));

        let again = Profile::register(Some(&profile), &report(ProfileState::Preparing, "a"));
        assert_eq!((again.outcome, again.transition), (Outcome::Repeated, None));

        let released = Profile::register(Some(&profile), &report(ProfileState::Released, "a"));
        let released = released.profile.unwrap();
        assert_eq!((released.seq, released.state), (2, ProfileState::Released));
    }

    #[test]
    fn a_registration_never_overwrites_what_a_webhook_reported() {
        let reported = Profile::observe(None, &report(ProfileState::Installed, "a"));
        let reported = reported.profile.unwrap();
        let verdict = Profile::register(Some(&reported), &report(ProfileState::Released, "a"));
        assert_eq!(verdict.profile, Some(reported));
        assert_eq!(verdict.transition, None);
    }

    #[test]
    fn a_registration_says_which_provider_the_profile_belongs_to() {
        let reported = Profile::observe(None, &report(ProfileState::Installed, "a"));
        let verdict =
            Profile::register(reported.profile.as_ref(), &report(ProfileState::Released, "b"));
        let profile = verdict.profile.unwrap();
        assert_eq!((profile.provider.as_str(), profile.state), ("b", ProfileState::Installed));
        let later = Profile::observe(Some(&profile), &report(ProfileState::Disabled, "a"));
        assert_eq!(later.outcome, Outcome::Foreign);
    }
}
