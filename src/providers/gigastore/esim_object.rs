//! The eSIM object of Gigastore's API: `iccid, imsi, activationCode, appleUniversalLink, installationUrl, lastSeen,
//! activatedAt, state, uid, active`. A backend passes it on as it received it, so unknown members are fine.

use url::Url;

use super::super::Malformed;
use super::super::json::{Object, Value};
use super::super::members::{iccid, optional, word};
use super::{LONGEST_UID, SLUG, claim};
use crate::domain::{
    ActivationCode, Claim, Credentials, Imsi, Order, ProfileState, Registration, Report, Timestamp,
};

/// Reads an eSIM object.
///
/// # Errors
/// [`Malformed`]; the reason names the member and does not contain its value.
pub(super) fn parse(body: &[u8], now: Timestamp) -> Result<Registration, Malformed> {
    read(body, now).map_err(|reason| Malformed { reason, iccid: None })
}

fn read(body: &[u8], now: Timestamp) -> Result<Registration, String> {
    let object = Object::parse(body)?;
    let mut remarks = Vec::new();
    let raw_state = text(&object, "state")?.and_then(word);
    let raw_state = raw_state.ok_or("state is missing; send the provider's word for it")?;
    // An unknown word must not keep a backend from registering. PREPARING, which makes the user wait, is always safe.
    let known = claim(&raw_state);
    let claim = known.unwrap_or(Claim { state: ProfileState::Preparing, enabled: None });
    // An unreadable code is left out. Refusing the registration would leave the user with nothing at all.
    let activation_code = text(&object, "activationCode")?.and_then(|code| {
        let read = ActivationCode::parse(code);
        read.map_err(|error| remarks.push(format!("activationCode was left out: it {error}"))).ok()
    });
    let uid = text(&object, "uid")?;
    if uid.is_some_and(|uid| uid.len() > LONGEST_UID) {
        return Err(format!("uid must be at most {LONGEST_UID} bytes long"));
    }
    let iccid = iccid(object.member("iccid"))?;
    let imsi = optional("imsi", object.member("imsi"), Imsi::parse, &mut remarks)?;
    let report = Report::new(iccid, SLUG, raw_state, Some(claim), now);
    Ok(Registration {
        report: Report { imsi, remarks, ..report },
        uid: uid.map(str::to_owned),
        activated_at: time(&object, "activatedAt")?,
        last_seen: time(&object, "lastSeen")?,
        credentials: Credentials {
            activation_code,
            apple_link: text(&object, "appleUniversalLink")?.and_then(real_link),
            installation_url: text(&object, "installationUrl")?.and_then(real_link),
        },
        order: Order::default(),
        replaces_none: false,
    })
}

/// Reads a text member. Absent, null and empty are the same.
fn text<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, String> {
    match object.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a string or null")),
    }
}

/// The vendor documents these members only as null, with no other value. A value that is not a time is left out.
fn time(object: &Object, name: &str) -> Result<Option<Timestamp>, String> {
    Ok(text(object, name)?.and_then(|text| Timestamp::parse(text).ok()))
}

/// A link that can be opened. The vendor's own page shows a template that still contains `<SM-DP+ Address>`.
fn real_link(link: &str) -> Option<String> {
    let real = !link.contains('<') && Url::parse(link).is_ok_and(|url| url.scheme() == "https");
    real.then(|| link.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::members::LONGEST_WORD;

    const SAMPLE: &str = r#"{
        "iccid": "89972123300991848961",
        "imsi": "260060145143896",
        "activationCode": "LPA:1$domain.tld$1234567890ABCDEF123456",
        "appleUniversalLink": "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=LPA:1$<SM-DP+ Address>$<Activation Code>",
        "installationUrl": "https://install.example#/esim/profile?token=abc",
        "lastSeen": null,
        "activatedAt": null,
        "state": "RELEASED",
        "uid": "7555cab8-72bc-4e85-b56a-6cdf60e2d6e4",
        "active": true
    }"#;

    fn parse_with(from: &str, to: &str) -> Result<Registration, Malformed> {
        let now = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
        parse(SAMPLE.replace(from, to).as_bytes(), now)
    }

    #[test]
    fn the_vendors_own_sample_is_taken_and_its_template_is_no_link() {
        let registration = parse_with("", "").unwrap();
        let credentials = registration.credentials;
        let code = credentials.activation_code.unwrap();
        assert_eq!(code.smdp_address(), "domain.tld");
        assert_eq!(credentials.apple_link, None);
        assert!(credentials.installation_url.is_some());
        assert_eq!(registration.uid.as_deref(), Some("7555cab8-72bc-4e85-b56a-6cdf60e2d6e4"));
    }

    #[test]
    fn a_long_word_for_the_state_is_cut_as_in_a_webhook() {
        let word = format!("\"{}\"", "é".repeat(10_000));
        let registration = parse_with("\"RELEASED\"", &word).unwrap();
        assert_eq!(registration.report.raw_state, "é".repeat(LONGEST_WORD));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_echoed() {
        for (from, to, named) in [
            ("\"89972123300991848961\"", "89972123300991848961", "iccid"),
            ("\"RELEASED\"", "null", "state"),
            ("\"active\": true", "\"state\": \"X\"", "twice"),
            ("\"7555cab8-72bc-4e85-b56a-6cdf60e2d6e4\"", "12", "uid"),
            ("\"260060145143896\"", "260060145143896", "imsi"),
        ] {
            let reason = parse_with(from, to).unwrap_err().reason;
            assert!(reason.contains(named), "{named}: {reason}");
            assert!(!reason.contains("1234567890ABCDEF"), "{reason}");
        }
    }
}
