//! The texts that users read, in every language.
//!
//! Each language has two files. `<tag>.rs` has what the service says itself: the journey, and the install page before its
//! script runs. It is a constant, so a missing or additional text does not compile. `<tag>.json` has what `<esim-install>`
//! says; the page loads only the file of its own language. The tests below hold that all of these files say the same things.
//!
//! The names of menus are the makers' own; `docs/menu-words.md` has their sources.

mod language;

mod ar;
mod de;
mod en;
mod es;
mod fr;
mod he;
mod it;
mod ja;
mod ko;
mod nl;
mod pl;
mod pt_br;
mod ru;
mod tr;
mod uk;
mod vi;
mod zh_hans;
mod zh_hant;

#[cfg(test)]
mod tests;

pub use language::{Language, UnknownLanguage};

use crate::domain::Advice;

/// What the service says in one language.
#[derive(Debug)]
pub struct Texts {
    journey: JourneyTexts,
    /// The install page until its script has something to show.
    pub early: EarlyTexts,
}

/// A title of a few words, and a sentence or two.
#[derive(Debug, Clone, Copy)]
struct Text(&'static str, &'static str);

/// A text for each [`Advice`].
#[derive(Debug)]
struct JourneyTexts {
    wait: Text,
    install: Text,
    reinstall: Text,
    /// Follows the detail of `reinstall` where the provider limits the installs, and begins with what is between two
    /// sentences of the language. Has `{seen}` and `{limit}`, and is worded without a plural.
    installs: &'static str,
    finish: Text,
    unconfirmed: Text,
    turn_on: Text,
    installed: Text,
    connected: Text,
    failed: Text,
    used_up: Text,
    deleted: Text,
    unavailable: Text,
}

/// The texts of `install.html`.
#[derive(Debug)]
pub struct EarlyTexts {
    /// The title if the operator has set no name.
    pub name: &'static str,
    /// Before the script has read anything.
    pub loading: &'static str,
    /// If the script does nothing.
    pub stuck: &'static str,
    /// In a browser without JavaScript.
    pub no_script: &'static str,
    /// The foot of the page.
    pub footer: &'static str,
}

impl Texts {
    /// The title and the detail of an advice.
    pub fn advice(&self, advice: &Advice) -> (&'static str, String) {
        let texts = &self.journey;
        let Text(title, detail) = match advice {
            Advice::Wait => texts.wait,
            Advice::Install => texts.install,
            Advice::Reinstall { .. } => texts.reinstall,
            Advice::Finish => texts.finish,
            Advice::Unconfirmed => texts.unconfirmed,
            Advice::TurnOn => texts.turn_on,
            Advice::Installed => texts.installed,
            Advice::Connected => texts.connected,
            Advice::Failed => texts.failed,
            Advice::UsedUp => texts.used_up,
            Advice::Deleted => texts.deleted,
            Advice::Unavailable => texts.unavailable,
        };
        let detail = match advice {
            Advice::Reinstall { seen, limit: Some(limit) } => {
                let installs = texts.installs.replace("{seen}", &seen.to_string());
                format!("{detail}{}", installs.replace("{limit}", &limit.to_string()))
            }
            _ => detail.to_owned(),
        };
        (title, detail)
    }
}
