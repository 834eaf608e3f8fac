//! Secrets that authenticate a caller: never empty, never weak, never shown, compared in constant time.
//!
//! Several may be live at the same time, so that one can be replaced without refusing any delivery: add the new one,
//! let the sender switch, remove the old one.

use std::{iter, slice};

use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::weakness::{self, Flaw};

/// A shorter secret can be guessed, or found by brute force from one signature.
const MIN_BYTES: usize = 16;

const REMEDY: &str = "generate one with `openssl rand -hex 32`";

/// One secret. Its memory is wiped when it is dropped.
#[derive(Debug)]
pub struct Secret {
    bytes: SecretSlice<u8>,
    digest: SecretSlice<u8>,
}

/// The live secrets for one purpose: at least one. The first one signs, all of them verify.
#[derive(Debug)]
pub struct Secrets {
    first: Secret,
    others: Vec<Secret>,
}

/// A setting has no secret, or a weak one. The message names the setting and the remedy, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}{what}; {remedy}")]
pub struct WeakSecret {
    name: String,
    what: String,
    remedy: String,
}

impl Secret {
    /// Takes the bytes as they are. The caller has checked that they are fit for a secret.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: SecretSlice::from(bytes.to_vec()),
            digest: SecretSlice::from(Sha256::digest(bytes).to_vec()),
        }
    }

    /// The secret itself, as a key to sign with.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl Secrets {
    /// Reads a list of secrets, and trims the space around each. `name` is the setting that they come from.
    ///
    /// # Errors
    /// [`WeakSecret`] if the list is empty, or if a secret is empty, shorter than 16 bytes, a placeholder, a repeated
    /// pattern, or contains control characters.
    pub fn parse<S: AsRef<str>>(
        name: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<Self, WeakSecret> {
        Self::collect(name, REMEDY, values, read_plain)
    }

    /// The same for secrets that are sent in a header, as its whole value or as a part of it.
    ///
    /// # Errors
    /// [`WeakSecret`] also for a secret with characters beyond ASCII, because their encoding in a header is not
    /// defined.
    pub fn parse_for_header<S: AsRef<str>>(
        name: &str,
        values: impl IntoIterator<Item = S>,
    ) -> Result<Self, WeakSecret> {
        Self::collect(name, REMEDY, values, |text| {
            let secret = read_plain(text)?;
            weakness::check_header(text)?;
            Ok(secret)
        })
    }

    /// Reads each value with `read`, and reports which one failed.
    pub(super) fn collect<S: AsRef<str>>(
        name: &str,
        remedy: &'static str,
        values: impl IntoIterator<Item = S>,
        read: impl Fn(&str) -> Result<Secret, Flaw>,
    ) -> Result<Self, WeakSecret> {
        let weak = |what, remedy| WeakSecret { name: name.to_owned(), what, remedy };
        let mut secrets = (values.into_iter().enumerate()).map(|(index, value)| {
            read(value.as_ref().trim()).map_err(|flaw| {
                weak(format!(": secret number {} {flaw}", index + 1), flaw.remedy(remedy))
            })
        });
        let first = secrets.next();
        let first = first.ok_or_else(|| weak(" has no secret".to_owned(), remedy.to_owned()))??;
        Ok(Self { first, others: secrets.collect::<Result<_, _>>()? })
    }

    /// Whether `candidate` is one of the live secrets, as [`Self::position`] finds it.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.position(candidate).is_some()
    }

    /// The place of `candidate` among the live secrets. Compares digests, which all have the same length, with all
    /// secrets. So the time taken reveals neither the length of a secret nor which one matched.
    pub fn position(&self, candidate: &[u8]) -> Option<usize> {
        let digest = Sha256::digest(candidate);
        let none = (Choice::from(0), 0);
        let (found, place) =
            self.iter().zip(0_u64..).fold(none, |(found, place), (secret, index)| {
                let is_this = secret.digest.expose_secret().ct_eq(&digest);
                (found | is_this, u64::conditional_select(&place, &index, is_this))
            });
        bool::from(found).then(|| usize::try_from(place).ok()).flatten()
    }

    /// The secret that signs.
    pub fn first(&self) -> &Secret {
        &self.first
    }

    /// All secrets, with the one that signs first.
    pub fn iter(&self) -> iter::Chain<iter::Once<&Secret>, slice::Iter<'_, Secret>> {
        iter::once(&self.first).chain(&self.others)
    }

    /// The number of live secrets: at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always a first secret")]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }
}

/// Reads a secret that is used as it is written.
fn read_plain(text: &str) -> Result<Secret, Flaw> {
    weakness::check_text(text)?;
    weakness::check_key(text.as_bytes(), MIN_BYTES)?;
    Ok(Secret::new(text.as_bytes()))
}

impl<'a> IntoIterator for &'a Secrets {
    type Item = &'a Secret;
    type IntoIter = iter::Chain<iter::Once<&'a Secret>, slice::Iter<'a, Secret>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "9f2c41d07be8835a6610fe7c";
    const NEW: &str = "kx81-vq02-mz77-ra40";

    fn refused(values: &[&str]) -> String {
        Secrets::parse("ESIM_STATUS_GIGASTORE_SECRETS", values).unwrap_err().to_string()
    }

    #[test]
    fn every_live_secret_matches_in_any_order() {
        for order in [[OLD, NEW], [NEW, OLD]] {
            let secrets = Secrets::parse("test", order).unwrap();
            assert!(secrets.matches(OLD.as_bytes()) && secrets.matches(NEW.as_bytes()));
            assert_eq!(order.map(|it| secrets.position(it.as_bytes())), [Some(0), Some(1)]);
            assert_eq!(secrets.len(), 2);
            assert_eq!(secrets.first().expose(), order[0].as_bytes());
            let all: Vec<_> = (&secrets).into_iter().map(Secret::expose).collect();
            assert_eq!(all, order.map(str::as_bytes));
        }
    }

    #[test]
    fn a_wrong_secret_of_equal_shorter_or_longer_length_does_not_match() {
        let secrets = Secrets::parse("test", [OLD, NEW]).unwrap();
        let longer = format!("{OLD}0");
        let both = format!("{OLD},{NEW}");
        let upper = OLD.to_uppercase();
        for wrong in [
            "",
            "9",
            &OLD[1..],
            &OLD[..OLD.len() - 1],
            &longer,
            &both,
            &upper,
            "9f2c41d07be8835a6610fe7d",
        ] {
            assert!(!secrets.matches(wrong.as_bytes()), "{wrong}");
        }
        let huge = vec![b'9'; 1_000_000];
        assert!(!secrets.matches(&huge));
    }

    #[test]
    fn space_around_a_secret_is_dropped() {
        let secrets = Secrets::parse("test", [format!(" {OLD}\r\n")]).unwrap();
        assert!(secrets.matches(OLD.as_bytes()));
        assert!(!secrets.matches(format!(" {OLD}").as_bytes()));
    }

    #[test]
    fn the_error_names_the_setting_the_place_and_the_remedy() {
        assert_eq!(
            refused(&[]),
            "ESIM_STATUS_GIGASTORE_SECRETS has no secret; generate one with `openssl rand -hex 32`"
        );
        assert_eq!(
            refused(&[OLD, "hunter2"]),
            "ESIM_STATUS_GIGASTORE_SECRETS: secret number 2 is shorter than 16 bytes; \
             generate one with `openssl rand -hex 32`"
        );
        assert_eq!(
            refused(&[OLD, " "]),
            "ESIM_STATUS_GIGASTORE_SECRETS: secret number 2 is empty; \
             remove the extra comma or blank line, or generate one with `openssl rand -hex 32`"
        );
    }

    #[test]
    fn no_error_echoes_the_value() {
        for value in [
            "hunter2",
            "my-password-1234567",
            "changeme-changeme",
            "abcabcabcabcabcabc",
            "\u{1}xkcd8fk3nm2ls9dk3",
        ] {
            let error = refused(&[value]);
            assert!(!error.contains(value), "{error}");
        }
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let secrets = Secrets::parse("test", [OLD, NEW]).unwrap();
        let debug = format!("{secrets:?} {:?} {secrets:#?}", secrets.first());
        assert!(debug.contains("REDACTED"), "{debug}");
        let as_numbers = format!("{:?}", OLD.as_bytes());
        let digest = format!("{:?}", &Sha256::digest(OLD)[..4]);
        for hidden in
            [OLD, NEW, as_numbers.trim_matches(['[', ']']), digest.trim_matches(['[', ']'])]
        {
            assert!(!debug.contains(hidden), "{debug}");
        }
    }
}
