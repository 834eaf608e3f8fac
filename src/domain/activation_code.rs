//! The activation code: what a device needs to download a profile, and the links that carry it (GSMA SGP.22 section
//! 4.1).
//!
//! It is a credential: anyone who has it can install the profile. `Debug` hides it.

use std::fmt;

/// The link that opens the setup on an iPhone, from iOS 17.4.
const APPLE: &str = "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=";

/// The link that opens the setup on Android, from Android 10, but not on every device.
const ANDROID: &str = "https://esimsetup.android.com/esim_qrcode_provisioning?carddata=";

/// The max length of an activation code. SGP.22 sets none, but a QR code that a phone can read from a screen does.
const LONGEST: usize = 512;

/// The prefix of a code.
const PREFIX: &str = "LPA:";

/// The text is not an activation code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an activation code, LPA:1$<SM-DP+ address>$<matching id>, exactly as the provider gave it"
)]
pub struct InvalidActivationCode;

/// `LPA:1$<SM-DP+ address>$<matching id>[$[<OID>][$[1]]]`, and whatever later versions of SGP.22 append. Kept as given,
/// including its case, except for surrounding space.
#[derive(Clone, PartialEq, Eq)]
pub struct ActivationCode {
    text: String,
    smdp_address: String,
    matching_id: String,
    confirmation_code_required: bool,
}

impl ActivationCode {
    /// Parses a code as found in orders and mails: with surrounding space or a line break, or without the prefix.
    /// `LPA:` matches in any case and is stored in capitals.
    ///
    /// # Errors
    /// [`InvalidActivationCode`], which does not contain the code.
    pub fn parse(text: &str) -> Result<Self, InvalidActivationCode> {
        let text = text.trim();
        let prefix = text.get(..PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
        let rest = text[prefix.map_or(0, str::len)..].trim_start();
        if PREFIX.len() + rest.len() > LONGEST {
            return Err(InvalidActivationCode);
        }
        let mut parts = rest.split('$');
        let (format, address, matching_id) = (parts.next(), parts.next(), parts.next());
        let (oid, confirmation) = (parts.next().unwrap_or_default(), parts.next());
        let (Some("1"), Some(address), Some(matching_id)) = (format, address, matching_id) else {
            return Err(InvalidActivationCode);
        };
        let confirmation_code_required = match confirmation {
            None | Some("") => false,
            Some("1") => true,
            Some(_) => return Err(InvalidActivationCode),
        };
        // We know neither the meaning nor the alphabet of the remaining parts, but they must be safe in links.
        let is_tail =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let is_known = is_host_name(address) && is_matching_id(matching_id) && is_oid(oid);
        if !is_known || !parts.all(is_tail) {
            return Err(InvalidActivationCode);
        }
        Ok(Self {
            text: format!("{PREFIX}{rest}"),
            smdp_address: address.to_owned(),
            matching_id: matching_id.to_owned(),
            confirmation_code_required,
        })
    }

    /// The whole code, as in a QR code.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host name of the server from which the profile is downloaded.
    pub fn smdp_address(&self) -> &str {
        &self.smdp_address
    }

    /// Identifies the profile to download; may be empty.
    pub fn matching_id(&self) -> &str {
        &self.matching_id
    }

    /// Whether the user must type a confirmation code.
    pub fn confirmation_code_required(&self) -> bool {
        self.confirmation_code_required
    }

    /// The link that opens the setup of an iPhone. No character of a code needs encoding: `$` and `:` are legal in a
    /// query, and the vendor writes them raw.
    pub fn apple_link(&self) -> String {
        format!("{APPLE}{}", self.text)
    }

    /// The link that opens the setup of an Android phone.
    pub fn android_link(&self) -> String {
        format!("{ANDROID}{}", self.text)
    }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

fn is_matching_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_oid(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

impl fmt::Debug for ActivationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_case_is_kept() {
        let code = ActivationCode::parse("lpa:1$rsp.Example.com$JQ-209u6H$1.3.6.1$1").unwrap();
        assert_eq!(code.as_str(), "LPA:1$rsp.Example.com$JQ-209u6H$1.3.6.1$1");
        assert_eq!((code.smdp_address(), code.matching_id()), ("rsp.Example.com", "JQ-209u6H"));
        assert!(code.confirmation_code_required());
    }

    #[test]
    fn matching_id_may_be_empty_and_the_tail_may_be_missing() {
        for (text, confirmation) in [
            ("LPA:1$smdp.io$", false),
            ("LPA:1$smdp.io$A", false),
            ("LPA:1$smdp.io$A$", false),
            ("LPA:1$smdp.io$A$$", false),
            ("LPA:1$smdp.io$A$$1", true),
            ("LPA:1$smdp.io$A$$1$", true),
            ("LPA:1$smdp.io$A$1.2.3$1$04AB$x", true),
        ] {
            let code = ActivationCode::parse(text).unwrap();
            assert_eq!(code.confirmation_code_required(), confirmation, "{text}");
        }
    }

    #[test]
    fn codes_are_read_as_they_are_found() {
        for text in [
            "LPA:1$smdp.io$A",
            "1$smdp.io$A",
            "lpa: 1$smdp.io$A",
            " LPA:1$smdp.io$A",
            "\tLPA:1$smdp.io$A\r\n",
        ] {
            assert_eq!(
                ActivationCode::parse(text).unwrap().as_str(),
                "LPA:1$smdp.io$A",
                "{text:?}"
            );
        }
    }

    /// A stored code must parse again.
    #[test]
    fn the_longest_code_is_one_with_its_prefix() {
        let code = |length: usize| format!("1$smdp.io${}", "A".repeat(length - "1$smdp.io$".len()));
        let longest = ActivationCode::parse(&code(LONGEST - PREFIX.len())).unwrap();
        assert_eq!(ActivationCode::parse(longest.as_str()), Ok(longest));
        assert!(ActivationCode::parse(&code(LONGEST - PREFIX.len() + 1)).is_err());
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in [
            "",
            "LPA:",
            "LPA:1$smdp.io",
            "LPA:2$smdp.io$A",
            "2$smdp.io$A",
            "LPA:LPA:1$smdp.io$A",
            "LPA:1$$A",
            "LPA:1$smdp..io$A",
            "LPA:1$-smdp.io$A",
            "LPA:1$smdp.io$A B",
            "LPA:1$smdp.io$A$x",
            "LPA:1$smdp.io$A$$2",
            "LPA:1$smdp.io$A$$1$ x",
            "LPA:1$smdp.io$A$$1$x#y",
            "LPA:1$smdp.io$A$$1$x&y=z",
            "LPA:1$smdp.io$A$$$<anything>",
            "LPA:1$smdp.io$A\nLPA:1$smdp.io$B",
            "LPA:1$<SM-DP+ Address>$<Activation Code>",
            "LPA:1$smdp.io$Ä",
            "LPÄ",
        ] {
            assert_eq!(ActivationCode::parse(text), Err(InvalidActivationCode), "{text}");
        }
    }

    #[test]
    fn links_have_a_lower_case_base_and_the_code_as_it_is() {
        let code = ActivationCode::parse("LPA:1$rsp.truphone.com$JQ-209U6H-6I82J5").unwrap();
        assert_eq!(
            code.android_link(),
            "https://esimsetup.android.com/esim_qrcode_provisioning?carddata=LPA:1$rsp.truphone.com$JQ-209U6H-6I82J5"
        );
        assert_eq!(
            code.apple_link(),
            "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=LPA:1$rsp.truphone.com$JQ-209U6H-6I82J5"
        );
    }

    #[test]
    fn debug_hides_it() {
        let code = ActivationCode::parse("LPA:1$smdp.io$SECRET").unwrap();
        assert_eq!(format!("{code:?}"), "ActivationCode(…)");
    }
}
