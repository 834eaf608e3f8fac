//! ICCID, IMSI and EID: their shape is required, their check digits are only reported, and `Debug` masks all three.
//!
//! They are always text. A 20-digit ICCID fits neither a `u64` nor a JavaScript number, and an IMSI may begin with 0.
//! Providers publish samples with wrong check digits, so a wrong one is no reason to refuse.

use std::fmt;

/// The value does not have the shape of this identifier. The message says what is expected, and does not contain the
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {shape}")]
pub struct InvalidIdentifier {
    name: &'static str,
    shape: &'static str,
}

/// The number of a profile (ITU-T E.118): 18 to 22 digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iccid(String);

/// The number of a subscription in its home network (ITU-T E.212): 5 to 15 digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Imsi(String);

/// The number of the chip in a device (GSMA SGP.29): regularly 32 decimal digits; 1 to 64 hexadecimal digits are
/// accepted.
#[derive(Clone)]
pub struct Eid(String);

impl Iccid {
    /// Parses 18 to 22 digits. Drops one trailing `F`, which fills up the number's binary form.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] for any other text, also if there are spaces around it.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
        let digits = text.strip_suffix(['F', 'f']).unwrap_or(text);
        if (18..=22).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(digits.to_owned()))
        } else {
            Err(InvalidIdentifier { name: "iccid", shape: "a string of 18 to 22 digits" })
        }
    }

    /// The whole number. It is personal data: keep it out of logs and metric labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the last digit is the Luhn check digit of the others (ITU-T E.118).
    pub fn luhn_holds(&self) -> bool {
        luhn_sum(&self.0).is_multiple_of(10)
    }

    /// The same number as another system may write it: of 20 digits without the check digit, of 19 with it.
    pub fn twin(&self) -> Option<Self> {
        match self.0.len() {
            20 if self.luhn_holds() => Some(Self(self.0[..19].to_owned())),
            19 => {
                let check = (10 - luhn_sum(&format!("{}0", self.0)) % 10) % 10;
                Some(Self(format!("{}{check}", self.0)))
            }
            _ => None,
        }
    }
}

impl Imsi {
    /// Parses 5 to 15 digits, which may begin with 0.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
        if (5..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdentifier { name: "imsi", shape: "a string of 5 to 15 digits" })
        }
    }

    /// The whole number. It is personal data: keep it out of logs and metric labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Eid {
    /// Parses 1 to 64 hexadecimal digits and keeps their case.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdentifier { name: "eid", shape: "a string of 1 to 64 hexadecimal digits" })
        }
    }

    /// The whole number. It is personal data: keep it out of logs and metric labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has 32 decimal digits that leave 1 when divided by 97 (GSMA SGP.29).
    pub fn check_digits_hold(&self) -> bool {
        self.0.len() == 32
            && self.0.bytes().all(|b| b.is_ascii_digit())
            && self.0.bytes().fold(0u32, |rest, b| (rest * 10 + u32::from(b - b'0')) % 97) == 1
    }
}

/// The number of a chip may be written in either case.
impl PartialEq for Eid {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Eid {}

/// The Luhn sum: every second digit from the right is doubled.
fn luhn_sum(digits: &str) -> u32 {
    let counted = digits.bytes().rev().enumerate().map(|(place, digit)| {
        let digit = u32::from(digit - b'0');
        match place % 2 {
            0 => digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        }
    });
    counted.sum()
}

/// Writes the last four characters and hides the rest.
fn masked(name: &str, value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tail = value.get(value.len().saturating_sub(4)..).unwrap_or_default();
    let tail = if value.len() > 4 { tail } else { "" };
    write!(f, "{name}(…{tail})")
}

impl fmt::Debug for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked("Iccid", &self.0, f)
    }
}

impl fmt::Debug for Imsi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked("Imsi", &self.0, f)
    }
}

impl fmt::Debug for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked("Eid", &self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn iccid_takes_18_to_22_digits_and_one_trailing_f() {
        for good in ["893612330083612951", "89972123300991848961", "8936112330083612951400"] {
            assert_eq!(Iccid::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(Iccid::parse("8936123300836129510F").unwrap().as_str(), "8936123300836129510");
        for bad in [
            "",
            "89361233008361295",
            "89361123300836129514000",
            "89361123300836129514FF",
            " 89361123300836129514",
            "8936112330083612951x",
            "８９３６１１２３３００８３６１２９５１４",
        ] {
            assert!(Iccid::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn luhn_is_reported_and_the_vendors_own_sample_fails_it() {
        assert!(Iccid::parse("89972123300991848961").unwrap().luhn_holds());
        assert!(!Iccid::parse("89361123300836129514").unwrap().luhn_holds());
    }

    #[test]
    fn a_number_is_known_without_its_check_digit_and_with_one() {
        let twin = |text: &str| {
            let twin = Iccid::parse(text).unwrap().twin();
            twin.map(|twin| twin.as_str().to_owned())
        };
        assert_eq!(twin("89972123300991848961").as_deref(), Some("8997212330099184896"));
        assert_eq!(twin("8997212330099184896").as_deref(), Some("89972123300991848961"));
        // Its last digit is not a check digit, so it cannot be left out.
        assert_eq!(twin("89361123300836129514"), None);
        assert_eq!(twin("899721233009918489"), None);
    }

    #[test]
    fn eid_check_digits_want_32_digits_and_mod_97() {
        assert!(Eid::parse("89049032123451234512345678901235").unwrap().check_digits_hold());
        assert!(!Eid::parse("89049032123451234512345678901236").unwrap().check_digits_hold());
        assert!(!Eid::parse("74088234238931452").unwrap().check_digits_hold());
    }

    #[test]
    fn eid_is_the_same_in_either_case() {
        assert_eq!(Eid::parse("ABCDEF").unwrap(), Eid::parse("abcdef").unwrap());
    }

    #[test]
    fn imsi_takes_5_to_15_digits() {
        assert!(Imsi::parse("001010123456789").is_ok());
        assert!(Imsi::parse("0010").is_err());
        assert!(Imsi::parse("0010101234567890").is_err());
    }

    #[test]
    fn debug_shows_four_digits_at_most() {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        assert_eq!(format!("{iccid:?}"), "Iccid(…8961)");
        assert_eq!(format!("{:?}", Eid::parse("a1").unwrap()), "Eid(…)");
    }
    fn shown(debug: &impl fmt::Debug) -> usize {
        let text = format!("{debug:?}");
        let tail = text.split_once('…').unwrap().1.strip_suffix(')').unwrap();
        tail.chars().count()
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic_and_none_is_changed(text in ".{0,70}|[0-9a-fA-F]{0,70}") {
            if let Ok(iccid) = Iccid::parse(&text) {
                prop_assert_eq!(iccid.as_str(), text.trim_end_matches(['F', 'f']));
                prop_assert_eq!(Iccid::parse(iccid.as_str()), Ok(iccid));
            }
            if let Ok(imsi) = Imsi::parse(&text) {
                prop_assert_eq!(imsi.as_str(), text.as_str());
            }
            if let Ok(eid) = Eid::parse(&text) {
                prop_assert_eq!(eid.as_str(), text.as_str());
                let _ = eid.check_digits_hold();
            }
        }

        #[test]
        fn well_formed_ones_are_read_and_debug_hides_all_but_four(
            iccid in "[0-9]{18,22}",
            imsi in "[0-9]{5,15}",
            eid in "[0-9a-fA-F]{1,64}",
        ) {
            let read = Iccid::parse(&format!("{iccid}F")).unwrap();
            prop_assert_eq!(read.as_str(), iccid.as_str());
            prop_assert!(shown(&read) <= 4);
            prop_assert!(shown(&Imsi::parse(&imsi).unwrap()) <= 4);
            let eid = Eid::parse(&eid).unwrap();
            prop_assert!(shown(&eid) <= 4 && shown(&eid) < eid.as_str().len());
        }

        #[test]
        fn luhn_holds_for_exactly_one_last_digit(digits in "[0-9]{17,21}") {
            let holds = (0..10).filter(|last| {
                Iccid::parse(&format!("{digits}{last}")).unwrap().luhn_holds()
            });
            prop_assert_eq!(holds.count(), 1);
        }

        #[test]
        fn a_refusal_echoes_nothing(text in "[g-z]{6,40}") {
            for refusal in [Iccid::parse(&text).err(), Imsi::parse(&text).err(), Eid::parse(&text).err()] {
                let refusal = refusal.unwrap();
                let message = format!("{refusal} {refusal:?}");
                prop_assert!(!message.contains(&text));
            }
        }
    }
}
