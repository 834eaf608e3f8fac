//! HMAC-SHA256 (RFC 2104) over the raw body, in one header: what most senders do that sign at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use serde::Deserialize;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::secret::{Secret, Secrets};
use super::{Delivery, NotAuthentic};

/// How the header encodes the 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// 64 hexadecimal digits, in either case.
    Hex,
    /// The standard alphabet, with or without padding.
    Base64,
    /// Either of the two, told apart by length. `both` in the configuration.
    #[serde(rename = "both")]
    Either,
}

impl Encoding {
    /// Encodes a MAC as a sender would; in hexadecimal if both are allowed.
    pub(super) fn encode(self, mac: [u8; 32]) -> String {
        match self {
            Self::Hex | Self::Either => hex::encode(mac),
            Self::Base64 => base64::engine::general_purpose::STANDARD.encode(mac),
        }
    }

    /// Reads a MAC; `None` if it is not written like this.
    pub(super) fn decode(self, text: &[u8]) -> Option<[u8; 32]> {
        match self {
            Self::Hex => {
                let mut mac = [0; 32];
                hex::decode_to_slice(text, &mut mac).ok().map(|()| mac)
            }
            // Refuse longer input before decoding, so that a huge header costs nothing.
            Self::Base64 if text.len() > 44 => None,
            Self::Base64 => STANDARD_PAD_INDIFFERENT.decode(text).ok()?.try_into().ok(),
            Self::Either if text.len() == 64 => Self::Hex.decode(text),
            Self::Either => Self::Base64.decode(text),
        }
    }
}

/// Checks the MAC in `header`, whose value must be exactly `prefix` and the encoded bytes.
pub(super) fn check(
    delivery: &Delivery,
    header: &HeaderName,
    encoding: Encoding,
    prefix: &str,
    secrets: &Secrets,
) -> Result<(), NotAuthentic> {
    let value = delivery.only_header(header)?.as_bytes();
    let given = (value.strip_prefix(prefix.as_bytes()))
        .and_then(|encoded| encoding.decode(encoded))
        .ok_or(NotAuthentic::Garbled)?;
    let found = secrets.iter().fold(Choice::from(0), |found, secret| {
        found | mac(secret, &[&delivery.body]).ct_eq(&given)
    });
    if found.into() { Ok(()) } else { Err(NotAuthentic::Wrong) }
}

/// The MAC over the concatenation of `parts`.
pub(super) fn mac(secret: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "RFC 2104 defines HMAC for keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::tests::{delivery, noon};
    use crate::delivery::{Authenticator, Scheme};

    const SECRET: &str = "9f2c41d07be8835a6610fe7c";

    /// Keys, data and MACs of RFC 4231, sections 4.2 to 4.8, without 4.6, which is about truncation.
    fn rfc_4231() -> Vec<(Vec<u8>, Vec<u8>, &'static str)> {
        let long = b"This is a test using a larger than block-size key and a larger than block-size data. \
            The key needs to be hashed before being used by the HMAC algorithm.";
        vec![
            (
                vec![0x0b; 20],
                b"Hi There".to_vec(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 20],
                vec![0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                (1..=25).collect(),
                vec![0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                vec![0xaa; 131],
                long.to_vec(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ]
    }

    fn hook(encoding: Encoding, prefix: &str, secrets: Secrets) -> Authenticator {
        let (header, prefix) = (HeaderName::from_static("x-signature"), prefix.to_owned());
        Authenticator::new(Scheme::HmacSha256 { header, encoding, prefix, secrets })
    }

    fn secrets() -> Secrets {
        Secrets::parse("test", [SECRET]).unwrap()
    }

    fn answer(hook: &Authenticator, value: &[u8], body: &[u8]) -> Result<(), NotAuthentic> {
        hook.check(delivery(None, &[("x-signature", value)], body)).map(drop)
    }

    #[test]
    fn rfc_4231_holds_in_every_encoding() {
        for (key, data, hex_mac) in rfc_4231() {
            let secrets = || Secrets::collect("test", "", [""], |_| Ok(Secret::new(&key))).unwrap();
            let base64_mac = STANDARD.encode(hex::decode(hex_mac).unwrap());
            let written =
                [hex_mac, &hex_mac.to_uppercase(), &base64_mac, base64_mac.trim_end_matches('=')]
                    .map(str::to_owned);
            for (encoding, right) in [
                (Encoding::Hex, [true, true, false, false]),
                (Encoding::Base64, [false, false, true, true]),
                (Encoding::Either, [true; 4]),
            ] {
                for (text, right) in written.iter().zip(right) {
                    let plain = answer(&hook(encoding, "", secrets()), text.as_bytes(), &data);
                    assert_eq!(plain.is_ok(), right, "{encoding:?} {text}");
                    let text = format!("sha256={text}");
                    let prefixed =
                        answer(&hook(encoding, "sha256=", secrets()), text.as_bytes(), &data);
                    assert_eq!(prefixed.is_ok(), right, "{encoding:?} {text}");
                }
            }
        }
    }

    #[test]
    fn a_truncated_mac_is_refused_though_rfc_4231_knows_it() {
        let key = [0x0c; 20];
        let secrets = Secrets::collect("test", "", [""], |_| Ok(Secret::new(&key))).unwrap();
        let given = answer(
            &hook(Encoding::Either, "", secrets),
            b"a3b6167473100ee06e0c796c2955552b",
            b"Test With Truncation",
        );
        assert_eq!(given, Err(NotAuthentic::Garbled));
    }

    #[test]
    fn a_garbled_header_is_refused_whatever_its_length() {
        let right = hex::encode(mac(secrets().first(), &[b"{}"]));
        let base64 = STANDARD.encode(mac(secrets().first(), &[b"{}"]));
        let url_safe = base64::engine::general_purpose::URL_SAFE.encode([0xff; 32]);
        let cases: Vec<String> = vec![
            String::new(),
            "=".to_owned(),
            "0".to_owned(),
            "0".repeat(63),
            "0".repeat(65),
            "0".repeat(1_000_000),
            "A".repeat(42),
            "A".repeat(44),
            "=".repeat(44),
            url_safe,
            right[..62].to_owned(),
            format!("{right}00"),
            format!(" {right}"),
            format!("{right},{right}"),
            format!("sha256={right}"),
            format!("0x{right}"),
            format!("{}=", &base64),
            format!("{base64} "),
            // The last base64 digit carries only two bits. Other digits that decode to the same bits are refused.
            format!("{}B=", "A".repeat(42)),
        ];
        for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Either] {
            for case in &cases {
                let given = answer(&hook(encoding, "", secrets()), case.as_bytes(), b"{}");
                assert_eq!(given, Err(NotAuthentic::Garbled), "{encoding:?} {case:.80}");
            }
            assert_eq!(
                answer(&hook(encoding, "", secrets()), &[0xff; 64], b"{}"),
                Err(NotAuthentic::Garbled)
            );
        }
    }

    #[test]
    fn the_prefix_has_to_be_there_exactly() {
        let right = hex::encode(mac(secrets().first(), &[b"{}"]));
        let hook = hook(Encoding::Hex, "sha256=", secrets());
        assert_eq!(answer(&hook, format!("sha256={right}").as_bytes(), b"{}"), Ok(()));
        for prefix in ["", "SHA256=", "sha1=", "sha256", "sha256= ", "sha256=sha256=", "v1="] {
            let given = answer(&hook, format!("{prefix}{right}").as_bytes(), b"{}");
            assert_eq!(given, Err(NotAuthentic::Garbled), "{prefix}");
        }
    }

    #[test]
    fn the_configuration_says_hex_base64_or_both() {
        for (text, encoding) in
            [("hex", Encoding::Hex), ("base64", Encoding::Base64), ("both", Encoding::Either)]
        {
            assert_eq!(serde_json::from_value::<Encoding>(text.into()).unwrap(), encoding);
        }
        assert!(serde_json::from_value::<Encoding>("either".into()).is_err());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_body_or_header_is_refused(
            body in prop::collection::vec(any::<u8>(), 1..200),
            in_body: bool, place: prop::sample::Index, bit in 0..8u8,
            encoding in prop::sample::select(vec![Encoding::Hex, Encoding::Base64]),
        ) {
            let hook = hook(encoding, "sha256=", secrets());
            let right = format!("sha256={}", encoding.encode(mac(secrets().first(), &[&body])));
            prop_assert_eq!(answer(&hook, right.as_bytes(), &body), Ok(()));
            let (mut value, mut body) = (right.clone().into_bytes(), body);
            let flipped = if in_body { &mut body } else { &mut value };
            let place = place.index(flipped.len());
            flipped[place] ^= 1 << bit;
            // No header can carry some bytes, and hexadecimal digits may have either case: skip both.
            prop_assume!(http::HeaderValue::from_bytes(&value).is_ok());
            let same_digits = encoding == Encoding::Hex
                && value[..7] == right.as_bytes()[..7]
                && value.eq_ignore_ascii_case(right.as_bytes());
            prop_assume!(in_body || !same_digits);
            prop_assert!(answer(&hook, &value, &body).is_err());
        }

        #[test]
        fn no_header_panics(value in prop::collection::vec(0x80u8.., 0..100), text in "[ -~]{0,100}") {
            let hook = hook(Encoding::Either, "", secrets());
            for value in [&value, text.as_bytes()] {
                prop_assert_eq!(answer(&hook, value, b"{}"), Err(NotAuthentic::Garbled));
            }
        }
    }

    #[test]
    fn what_the_sender_is_told_to_add_is_accepted() {
        for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Either] {
            let hook = hook(encoding, "sha256=", secrets());
            let credentials = hook.credentials_for("msg_1", noon(), b"{}");
            assert_eq!(answer(&hook, credentials.headers[0].1.as_bytes(), b"{}"), Ok(()));
        }
    }
}
