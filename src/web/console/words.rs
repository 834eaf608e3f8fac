//! What the words of the API mean, for people at support.

use crate::delivery::NotAuthentic;
use crate::domain::{Outcome, OverdueReason};

/// What did not happen, in two words.
pub(super) fn overdue(reason: OverdueReason) -> &'static str {
    match reason {
        OverdueReason::NotInstalled => "Not installed",
        OverdueReason::NotFinished => "Not finished",
        OverdueReason::Failed => "Failed",
        OverdueReason::NotConnected => "Not connected",
    }
}

/// The same in a sentence.
pub(super) fn overdue_at_length(reason: OverdueReason) -> &'static str {
    match reason {
        OverdueReason::NotInstalled => "These can be installed, and nobody has for too long.",
        OverdueReason::NotFinished => {
            "A phone has downloaded these, and did not finish the install."
        }
        OverdueReason::Failed => "The install of these failed, and nothing came after that.",
        OverdueReason::NotConnected => {
            "These are installed and should be in use by now, and no connection was reported."
        }
    }
}

/// Why a webhook was not applied.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unrecognised => {
            "The provider uses a word that this service does not know: tell your operator."
        }
        Outcome::Malformed => "Not what this provider sends otherwise: tell your operator.",
        Outcome::Foreign => "About an eSIM of another provider: tell your operator.",
        Outcome::Ignored => "Not about the state of an eSIM, or about one that was erased.",
        Outcome::Duplicate => "The same event again, as providers send it after a lost answer.",
        Outcome::Late => "Older than what was known by then.",
        Outcome::Moved | Outcome::Repeated | Outcome::Connected => "It was applied.",
    }
}

/// Whether somebody has to look at webhooks with this outcome.
pub(super) fn needs_somebody(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Unrecognised | Outcome::Malformed | Outcome::Foreign)
}

/// Why a webhook could not be authenticated, from the word that is stored.
pub(super) fn refusal(word: &str) -> String {
    let known = NotAuthentic::ALL.into_iter().find(|it| it.as_str() == word);
    known.map_or_else(|| word.to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_applied_has_a_meaning_and_every_refusal_says_what_to_check() {
        for it in Outcome::ALL {
            let is_applied = outcome(it) == "It was applied.";
            let expected = matches!(it, Outcome::Moved | Outcome::Repeated | Outcome::Connected);
            assert_eq!(is_applied, expected, "{it}");
            assert_eq!(needs_somebody(it), outcome(it).ends_with("tell your operator."), "{it}");
        }
        for reason in NotAuthentic::ALL {
            assert!(refusal(reason.as_str()).contains("check"), "{reason:?}");
        }
        assert_eq!(refusal("a word of a later release"), "a word of a later release");
    }
}
