//! What kind of phone a profile is on, as far as its provider says: for support. It never changes the state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a phone: its make, its model, and its type allocation code (TAC), the first eight digits of its IMEI. Never the IMEI,
/// which names one phone. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    make: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tac: Option<String>,
}

/// The max number of characters of a make or a model.
const MAX_CHARS: usize = 64;

/// A TAC has this many digits.
const TAC_DIGITS: usize = 8;

/// A name with this many digits may contain an IMEI.
const DIGITS_OF_AN_IMEI: usize = 14;

impl Device {
    /// The device of these parts. Leaves out what is no name or no TAC; `None` if nothing is left.
    pub fn new(make: Option<&str>, model: Option<&str>, tac: Option<&str>) -> Option<Self> {
        let tac = tac.filter(|it| it.len() == TAC_DIGITS && it.bytes().all(|b| b.is_ascii_digit()));
        let device = Self {
            make: make.and_then(name),
            model: model.and_then(name),
            tac: tac.map(str::to_owned),
        };
        let says_something =
            [&device.make, &device.model, &device.tac].iter().any(|it| it.is_some());
        says_something.then_some(device)
    }

    /// Reads what [`to_json`](Self::to_json) wrote; `None` if it is no device.
    pub fn from_json(text: &str) -> Option<Self> {
        let Self { make, model, tac } = serde_json::from_str(text).ok()?;
        Self::new(make.as_deref(), model.as_deref(), tac.as_deref())
    }

    /// The known parts as a JSON object, to be stored.
    pub fn to_json(&self) -> String {
        // Three texts can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Who made it.
    pub fn make(&self) -> Option<&str> {
        self.make.as_deref()
    }

    /// Its model.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The eight digits of its TAC.
    pub fn tac(&self) -> Option<&str> {
        self.tac.as_deref()
    }

    /// What is known after `newer` was said. A part that it leaves out stays, unless another part shows that it is another kind of
    /// phone.
    #[must_use]
    pub fn updated(&self, newer: &Self) -> Self {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        let is_other = differ(&self.make, &newer.make)
            || differ(&self.model, &newer.model)
            || differ(&self.tac, &newer.tac);
        if is_other {
            return newer.clone();
        }
        let known = |newer: &Option<String>, old: &Option<String>| newer.clone().or(old.clone());
        Self {
            make: known(&newer.make, &self.make),
            model: known(&newer.model, &self.model),
            tac: known(&newer.tac, &self.tac),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device(…)")
    }
}

/// A make or a model, without the space around it.
fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let is_fit = (1..=MAX_CHARS).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && text.bytes().filter(u8::is_ascii_digit).count() < DIGITS_OF_AN_IMEI;
    is_fit.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(make: &str, model: &str, tac: &str) -> Option<Device> {
        Device::new(Some(make), Some(model), Some(tac))
    }

    #[test]
    fn what_is_no_name_and_no_tac_is_left_out() {
        let phone = device(" Apple ", "iPhone 15", "01328510").unwrap();
        assert_eq!(
            (phone.make(), phone.model(), phone.tac()),
            (Some("Apple"), Some("iPhone 15"), Some("01328510"))
        );
        for odd in
            ["", " ", "a\nb", "a\u{0}", &"x".repeat(65), "353285100000018", "35-328510-000001"]
        {
            assert_eq!(device(odd, odd, odd), None, "{odd:?}");
            assert_eq!(device(odd, "Pixel 8", odd).unwrap().model(), Some("Pixel 8"));
        }
        for tac in ["3532851", "353285100", "3532851x", " 3532851", "３５３２８５１０"] {
            assert_eq!(Device::new(None, None, Some(tac)), None, "{tac}");
        }
    }

    #[test]
    fn a_part_stays_known_until_another_part_shows_another_phone() {
        let known = device("Apple", "iPhone 15", "01328510").unwrap();
        let only_make = |make| Device::new(Some(make), None, None).unwrap();
        assert_eq!(known.updated(&only_make("Apple")), known);
        assert_eq!(known.updated(&only_make("Google")), only_make("Google"));
        let tac = Device::new(None, None, Some("01328510")).unwrap();
        let both = only_make("Apple").updated(&tac);
        assert_eq!((both.make(), both.tac()), (Some("Apple"), Some("01328510")));
    }

    #[test]
    fn it_reads_back_equal_and_debug_shows_none_of_it() {
        for phone in [device("Apple", "iPhone \"15\" é", "01328510"), device("Apple", "", "")] {
            let phone = phone.unwrap();
            assert_eq!(Device::from_json(&phone.to_json()), Some(phone.clone()));
            assert_eq!(format!("{phone:?}"), "Device(…)");
        }
        assert_eq!(device("Apple", "", "").unwrap().to_json(), r#"{"make":"Apple"}"#);
        for text in ["", "{}", "[]", "null", r#"{"make":7}"#, r#"{"tac":"1"}"#] {
            assert_eq!(Device::from_json(text), None, "{text}");
        }
    }
}
