//! What to ask a customer next, from what is known of their profile.

use crate::domain::{Advice, OverdueReason};

/// The question that leads further, or what to tell the customer if nothing needs to be asked.
pub(super) fn next(advice: &Advice, overdue: Option<OverdueReason>) -> &'static str {
    match (advice, overdue) {
        (Advice::Wait, _) => {
            "Nothing to ask: the provider is still preparing the eSIM. Tell the customer that they get the link when it is ready."
        }
        (Advice::Install, _) => {
            "Is it in the phone's list of eSIMs? If it is, the provider has not reported the install: see Hooks whether webhooks come. If not: does the phone support eSIM, is it unlocked, and on Wi-Fi? Then send a fresh install link."
        }
        (Advice::Reinstall { .. }, _) => {
            "Did they remove the eSIM themselves, or change phones? It can be installed again: send a fresh install link."
        }
        (Advice::Finish, _) => {
            "Is the phone on Wi-Fi, and does it still show the eSIM as being set up? Ask them to leave it open for a few minutes."
        }
        (Advice::Unconfirmed, _) => {
            "Is the eSIM in the phone's list of eSIMs? If it is, does it say “activating” or “no plan”? If it is not, send a fresh install link."
        }
        (Advice::TurnOn, _) => {
            "Is this eSIM switched on in the phone's settings for mobile networks?"
        }
        (Advice::Installed, Some(OverdueReason::NotConnected)) => {
            "Has the journey begun? If so: is this eSIM switched on, is data roaming on for it, and is it chosen for mobile data?"
        }
        (Advice::Installed, _) => {
            "Is data roaming on for this eSIM, and is it chosen for mobile data? Which country is the customer in?"
        }
        (Advice::Connected, _) => {
            "The eSIM has been on a network. Does another app load? If none does: which network is shown, and is data left in the package?"
        }
        (Advice::Failed, _) => {
            "What did the phone say when the install failed? Ask the provider whether the profile is free again; otherwise give out a replacement."
        }
        (Advice::UsedUp, _) => {
            "On how many phones was it installed? The provider allows no further install: give out a replacement."
        }
        (Advice::Deleted, _) => {
            "Did they delete the eSIM from the phone? It cannot be relied on to install again: give out a replacement."
        }
        (Advice::Unavailable, _) => {
            "Nothing to ask: the profile can no longer be installed. Give out a replacement."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_profile_is_asked_about_otherwise_once_it_should_have_connected() {
        let usual = next(&Advice::Installed, None);
        let late = next(&Advice::Installed, Some(OverdueReason::NotConnected));
        assert!(usual.contains("Which country") && late.contains("Has the journey begun"));
    }

    #[test]
    fn who_can_install_is_sent_a_link_and_who_cannot_a_replacement() {
        for advice in
            [Advice::Install, Advice::Reinstall { seen: 1, limit: None }, Advice::Unconfirmed]
        {
            assert!(next(&advice, None).contains("fresh install link"), "{advice:?}");
        }
        for advice in [Advice::Failed, Advice::UsedUp, Advice::Deleted, Advice::Unavailable] {
            let question = next(&advice, None);
            assert!(question.contains("replacement") && !question.contains("link"), "{advice:?}");
        }
    }
}
