//! What makes a secret weak: it is too short, was left over from an example file, or is a repeated pattern.
//!
//! The rules are narrow: less than one random hexadecimal or base64 secret in a hundred thousand breaks one.

use std::fmt;

use secrecy::zeroize::Zeroizing;

/// What is wrong with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is empty, or only space.
    Empty,
    /// Fewer than 16 bytes.
    Short,
    /// Text from an example that should have been replaced, or a well-known word.
    Placeholder,
    /// A short pattern that repeats.
    Repeated,
    /// Characters that neither a path nor a header can carry.
    Control,
    /// Characters that a header cannot carry, or that do not arrive unchanged.
    NotInHeader,
    /// A `whsec_` secret was expected.
    NotStandard,
}

impl Flaw {
    /// What the operator should do. `usual` is how to get a new secret.
    pub(super) fn remedy(self, usual: &str) -> String {
        match self {
            Self::Empty => format!("remove the extra comma or blank line, or {usual}"),
            _ => usual.to_owned(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Short => "is shorter than 16 bytes",
            Self::Placeholder => "is a placeholder",
            Self::Repeated => "is a pattern that repeats",
            Self::Control => "contains control characters",
            Self::NotInHeader => {
                "has characters that a header cannot carry unchanged, such as an umlaut"
            }
            Self::NotStandard => "is not `whsec_` and base64",
        })
    }
}

/// Searched for anywhere, ignoring case and punctuation.
const GIVEAWAYS: [&str; 11] = [
    "changeme",
    "changethis",
    "replace",
    "placeholder",
    "example",
    "insertyour",
    "yoursecret",
    "password",
    "qwerty",
    "abcdefgh",
    "123456789",
];

/// Searched for as whole words only: they are too short to be searched for inside others.
const WORDS: [&str; 5] = ["your", "todo", "fixme", "tbd", "dummy"];

/// Brackets around a template's variable.
const BRACKETS: [(&str, &str); 3] = [("<", ">"), ("${", "}"), ("{{", "}}")];

/// Finds signs that a text is not a real secret.
pub(super) fn check_text(text: &str) -> Result<(), Flaw> {
    if text.is_empty() {
        return Err(Flaw::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(Flaw::Control);
    }
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let letters: Zeroizing<String> =
        Zeroizing::new(lower.chars().filter(char::is_ascii_alphanumeric).collect());
    let placeholder = GIVEAWAYS.iter().any(|giveaway| letters.contains(giveaway))
        || lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
        || BRACKETS.iter().any(|(open, close)| text.starts_with(open) && text.ends_with(close))
        || text.ends_with("...")
        || text.contains('…');
    if placeholder { Err(Flaw::Placeholder) } else { Ok(()) }
}

/// Finds characters that a header cannot carry unchanged.
pub(super) fn check_header(text: &str) -> Result<(), Flaw> {
    if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        Ok(())
    } else {
        Err(Flaw::NotInHeader)
    }
}

/// Finds what makes a key easy to guess.
pub(super) fn check_key(key: &[u8], min_bytes: usize) -> Result<(), Flaw> {
    if key.len() < min_bytes {
        return Err(Flaw::Short);
    }
    if (1..=key.len() / 2).any(|period| key[period..] == key[..key.len() - period]) {
        return Err(Flaw::Repeated);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_are_found() {
        for text in [
            "changeme-changeme",
            "CHANGE-ME-please-0000",
            "change_this_secret",
            "replace-with-a-secret",
            "<your secret here>",
            "your-gigastore-secret",
            "your_secret_here_123",
            "${GIGASTORE_SECRET}",
            "{{ gigastore_secret }}",
            "todo: ask operations",
            "this-is-a-placeholder",
            "example-secret-0001",
            "whsec_…",
            "whsec_...",
            "Password1234567890",
            "0123456789abcdef",
            "abcdefghijklmnop",
            "1234567890123456",
            "insert-your-key-here",
        ] {
            assert_eq!(check_text(text), Err(Flaw::Placeholder), "{text}");
        }
    }

    #[test]
    fn repeated_patterns_are_found() {
        for text in [
            "aaaaaaaaaaaaaaaa",
            "abababababababab",
            "secretsecretsecret",
            "secret-secret-secret",
            "00000000000000000",
        ] {
            assert_eq!(check_key(text.as_bytes(), 16), Err(Flaw::Repeated), "{text}");
        }
        assert_eq!(check_key(&[0; 32], 16), Err(Flaw::Repeated));
    }

    #[test]
    fn sixteen_bytes_are_enough_and_fifteen_are_not() {
        assert_eq!(check_key(b"9f2c41d07be8835a", 16), Ok(()));
        assert_eq!(check_key(b"9f2c41d07be8835", 16), Err(Flaw::Short));
        // The length is in bytes, not characters: eight umlauts are sixteen bytes.
        assert_eq!(check_key("äöüßéèêë".as_bytes(), 16), Ok(()));
    }

    #[test]
    fn control_characters_are_found_and_letters_of_any_script_are_not() {
        for text in [
            "9f2c41d07be8835a\n6610",
            "\0f2c41d07be8835a",
            "9f2c41d07be8835a\u{7f}",
            "9f2c41d07be8835a\u{85}6",
        ] {
            assert_eq!(check_text(text), Err(Flaw::Control), "{text:?}");
        }
        assert_eq!(check_text("korrektes Pferd Büroklammer 電池"), Ok(()));
    }

    #[test]
    fn what_no_header_carries_is_found() {
        for text in ["9f2c41d07be8835ä6610", "\u{feff}9f2c41d07be8835a"] {
            assert_eq!(check_header(text), Err(Flaw::NotInHeader), "{text}");
        }
        assert_eq!(check_header("Bearer 9f2c+41d/07be==8835a~!"), Ok(()));
    }

    proptest! {
        #[test]
        fn random_secrets_are_fit(key in prop::array::uniform32(any::<u8>())) {
            use base64::{Engine, engine::general_purpose::STANDARD};
            // The shrinker prefers keys that are all or nearly all zero, which a random source never returns.
            prop_assume!(key.iter().collect::<std::collections::BTreeSet<_>>().len() > 16);
            for text in [hex::encode(key), STANDARD.encode(key)] {
                prop_assert_eq!(check_text(&text), Ok(()));
                prop_assert_eq!(check_key(text.as_bytes(), 16), Ok(()));
            }
        }
    }
}
