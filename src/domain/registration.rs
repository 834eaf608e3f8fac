//! What a backend tells us about a profile that it has sold: the provider's eSIM object.

use std::fmt;

use super::{
    ActivationCode, Claim, Order, Profile, ProfileState, Report, Source, Timestamp, Transition,
};

/// The provider's eSIM object, as its adapter read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The object's state, as if it had been reported.
    pub report: Report,
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// When the data package was activated. Says nothing about the install.
    pub activated_at: Option<Timestamp>,
    /// When the provider last saw the profile.
    pub last_seen: Option<Timestamp>,
    /// What installs the profile.
    pub credentials: Credentials,
    /// What the reseller adds. The adapter of a provider leaves it empty.
    pub order: Order,
    /// Whether the reseller takes back that the profile was given out for another one.
    pub replaces_none: bool,
}

/// The credentials that install a profile. `Debug` hides them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The activation code.
    pub activation_code: Option<ActivationCode>,
    /// The provider's own link for iPhones, if it is a real one.
    pub apple_link: Option<String>,
    /// The provider's own install page. Its URL contains a token.
    pub installation_url: Option<String>,
}

impl Credentials {
    /// The server that installs the profile.
    pub fn smdp_address(&self) -> Option<&str> {
        self.activation_code.as_ref().map(ActivationCode::smdp_address)
    }

    /// Completes these from those that are `known`: an object that lacks a member removes nothing. A different
    /// activation code replaces all of them, because the links belong to their code.
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
    /// What a registration makes of the profile, as far as it is `known`: the profile as it is to be saved, and what to append to its
    /// history. Numbers of a new profile begin behind `last_seq`, that of the last transition of a life that was erased, or 0.
    ///
    /// The backend says which provider the profile belongs to. The state that it names counts only as long as the provider
    /// has not reported on the profile: what the backend was told when it ordered is older than any report. An object that names
    /// no state that we know is of a profile that is getting ready.
    pub fn register(
        known: Option<&Self>,
        report: &Report,
        last_seq: i64,
    ) -> (Self, Option<Transition>) {
        let claim = report.claim.unwrap_or(Claim { state: ProfileState::Preparing, enabled: None });
        let Some(known) = known else {
            let (mut profile, mut transition) = Self::first(claim, report);
            profile.seq += last_seq;
            transition.seq += last_seq;
            return (profile.unreported(), Some(by_registration(transition)));
        };
        let owned = Self {
            provider: report.provider.to_owned(),
            imsi: known.imsi.clone().or_else(|| report.imsi.clone()),
            ..known.clone()
        };
        if owned.last_delivery_at.is_some() {
            return (owned, None);
        }
        let report = Report { claim: Some(claim), ..report.clone() };
        let (profile, transition) = Self::observe(Some(&owned), &report).into_parts();
        (profile.unwrap_or(owned).unreported(), transition.map(by_registration))
    }

    /// A registration is no delivery, and no evidence from the device.
    fn unreported(self) -> Self {
        Self { deliveries: 0, last_delivery_at: None, ..self }
    }
}

fn by_registration(transition: Transition) -> Transition {
    Transition { source: Some(Source::Registration), ..transition }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Iccid, Outcome};

    fn report(state: ProfileState, provider: &'static str) -> Report {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let claim = Some(Claim { state, enabled: None });
        let received_at = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
        Report::new(iccid, provider, state.to_string(), claim, received_at)
    }

    #[test]
    fn an_unreported_profile_has_the_state_of_its_last_registration() {
        let (profile, _) = Profile::register(None, &report(ProfileState::Preparing, "a"), 0);
        assert_eq!((profile.seq, profile.deliveries, profile.last_delivery_at), (1, 0, None));

        let again = report(ProfileState::Preparing, "a");
        assert_eq!(Profile::register(Some(&profile), &again, 0), (profile.clone(), None));

        let released = report(ProfileState::Released, "a");
        let (released, transition) = Profile::register(Some(&profile), &released, 0);
        assert_eq!((released.seq, released.state), (2, ProfileState::Released));
        assert_eq!(transition.map(|it| it.seq), Some(2));
    }

    #[test]
    fn a_registration_never_overwrites_what_a_webhook_reported() {
        let reported = Profile::observe(None, &report(ProfileState::Installed, "a"));
        let reported = reported.into_parts().0.unwrap();
        let released = report(ProfileState::Released, "a");
        assert_eq!(Profile::register(Some(&reported), &released, 0), (reported, None));
    }

    #[test]
    fn a_registration_says_which_provider_the_profile_belongs_to() {
        let reported = Profile::observe(None, &report(ProfileState::Installed, "a"));
        let reported = reported.into_parts().0;
        let released = report(ProfileState::Released, "b");
        let (profile, _) = Profile::register(reported.as_ref(), &released, 0);
        assert_eq!((profile.provider.as_str(), profile.state), ("b", ProfileState::Installed));
        let later = Profile::observe(Some(&profile), &report(ProfileState::Disabled, "a"));
        assert_eq!(later.outcome(), Outcome::Foreign);
    }

    #[test]
    fn an_object_without_a_known_state_registers_a_profile_that_is_getting_ready() {
        let wordless = Report { claim: None, ..report(ProfileState::Released, "a") };
        let (profile, transition) = Profile::register(None, &wordless, 7);
        assert_eq!((profile.seq, profile.state), (8, ProfileState::Preparing));
        assert_eq!(transition.map(|it| (it.seq, it.to_state)), Some((8, ProfileState::Preparing)));
        assert_eq!(Profile::register(Some(&profile), &wordless, 0), (profile.clone(), None));
    }
}
