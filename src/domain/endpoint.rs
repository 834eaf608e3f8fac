//! Endpoints: where backends have changes delivered to. Which changes one wants, when a failed request is made again, and for how
//! long.

use std::time::Duration;

use super::ChangeKind;
use super::words::words;

words! {
    /// Why nothing is delivered to an endpoint.
    pub enum DisabledBecause or UnknownDisabledBecause {
        /// A backend asked for that.
        Request = "request",
        /// The endpoint answered 410.
        Gone = "gone",
        /// It accepted nothing for days.
        Failing = "failing",
        /// The database has not given out the endpoint's place: a part of it was restored or changed by hand.
        LostPlace = "lost-place",
    }
}

/// Which changes an endpoint wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The kinds; empty: all.
    pub kinds: Vec<ChangeKind>,
    /// The providers of the profiles, by their slugs; empty: all.
    pub providers: Vec<String>,
}

impl Filter {
    /// The filter of these words, each once and in their order.
    pub fn new(mut kinds: Vec<ChangeKind>, mut providers: Vec<String>) -> Self {
        kinds.sort();
        kinds.dedup();
        providers.sort();
        providers.dedup();
        Self { kinds, providers }
    }

    /// Whether it wants a change of this kind of a profile of this provider. An erased profile has none: every endpoint that wants
    /// erasures is notified, so that no copy of the data stays behind.
    pub fn wants(&self, kind: ChangeKind, provider: Option<&str>) -> bool {
        let is_provider =
            |slug| self.providers.is_empty() || self.providers.iter().any(|it| it == slug);
        (self.kinds.is_empty() || self.kinds.contains(&kind)) && provider.is_none_or(is_provider)
    }
}

/// The max number of characters of a description.
const MAX_DESCRIPTION: usize = 200;

/// Checks what an endpoint is said to be for. An empty text says nothing.
///
/// # Errors
/// What it must be.
pub fn check_description(text: Option<String>) -> Result<Option<String>, String> {
    let text = text.filter(|text| !text.is_empty());
    let is_fit = |text: &String| {
        text.chars().count() <= MAX_DESCRIPTION && !text.chars().any(char::is_control)
    };
    if text.as_ref().is_none_or(is_fit) {
        return Ok(text);
    }
    Err(format!("must have at most {MAX_DESCRIPTION} characters, and no control characters"))
}

/// How long requests that fail are made again: an endpoint that accepts nothing for this long is disabled, and a change that alone
/// is not accepted is given up.
pub const PERSISTENCE: Duration = Duration::from_hours(5 * 24);

/// After fewer attempts than this, nothing is given up and no endpoint disabled: the service or its database may have been away for
/// most of the time.
pub const MIN_ATTEMPTS: u32 = 10;

/// The longest pause that an endpoint can ask for by `Retry-After`.
pub const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// The pause after this many failures in a row of a whole endpoint: short at first, and a minute at most, because one request a
/// minute costs nobody anything, and changes wait until the endpoint is back. `chance` from 0 to 1 spreads it, so that those who were
/// interrupted together do not return together.
pub fn endpoint_pause(failures: u32, chance: f64) -> Duration {
    spread(Duration::from_secs(1 << failures.saturating_sub(1).min(6)), 60, chance)
}

/// The pause after this many failures in a row of one profile's change, while the endpoint accepts those of others: from seconds to
/// four hours.
pub fn profile_pause(failures: u32, chance: f64) -> Duration {
    spread(Duration::from_secs(5 * 4_u64.pow(failures.saturating_sub(1).min(8))), 4 * 3_600, chance)
}

fn spread(pause: Duration, max_seconds: u64, chance: f64) -> Duration {
    pause.min(Duration::from_secs(max_seconds)).mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_words_wants_all_and_every_filter_of_providers_wants_erasures() {
        let all = Filter::default();
        let some = Filter {
            kinds: vec![ChangeKind::Transition, ChangeKind::Erased],
            providers: vec!["roamify".to_owned()],
        };
        for kind in ChangeKind::ALL {
            assert!(all.wants(kind, Some("gigastore")) && all.wants(kind, None));
            assert_eq!(some.wants(kind, Some("roamify")), some.kinds.contains(&kind), "{kind}");
            assert!(!some.wants(kind, Some("gigastore")), "{kind}");
        }
        assert!(some.wants(ChangeKind::Erased, None));
    }

    #[test]
    fn pauses_grow_to_their_limits_and_are_spread_by_a_quarter() {
        let seconds =
            |pauses: Vec<Duration>| -> Vec<u64> { pauses.iter().map(Duration::as_secs).collect() };
        let whole = (1..=9).map(|failures| endpoint_pause(failures, 0.5)).collect();
        assert_eq!(seconds(whole), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let alone = (1..=8).map(|failures| profile_pause(failures, 0.5)).collect();
        assert_eq!(seconds(alone), [5, 20, 80, 320, 1_280, 5_120, 14_400, 14_400]);
        assert_eq!(endpoint_pause(7, 0.0), Duration::from_secs(45));
        assert_eq!(endpoint_pause(u32::MAX, 1.0), Duration::from_secs(75));
        assert_eq!(profile_pause(u32::MAX, 1.0), Duration::from_hours(5));
    }
}
