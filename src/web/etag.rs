//! The `ETag` of a profile, and how `If-None-Match` is compared with tags.
//!
//! A tag names one state of the history of one profile and, for backends, of its registration. `/v1/profiles/self` is the same
//! URL for the users of all profiles, so if the tag were only the `seq`, a cache could show one user the profile of
//! another. The tag is opaque to callers. A webhook that repeats the state, or the country, changes `lastDeliveryAt` and
//! `deliveries` but not the tag, so that a long poll returns only for changes.

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::access::Caller;
use crate::domain::{Country, Device, Iccid, Profile, Reference, Timestamp};
use crate::store::StoredProfile;

/// The tag of this state of the profile, for this kind of caller.
pub fn of(stored: &StoredProfile, caller: &Caller) -> HeaderValue {
    let Profile { iccid, seq, connections, .. } = &stored.profile;
    let for_caller = match caller {
        Caller::Backend => registered(stored),
        Caller::User { .. } => format!("user {}", stored.registration.is_some()),
    };
    let first = connections.first_connected_at.map(|at| at.to_string()).unwrap_or_default();
    let country = connections.country.as_ref().map(Country::as_str).unwrap_or_default();
    let state = format!("{} {seq} {first} {country} {for_caller}", iccid.as_str());
    value(&format!("\"{}\"", digest(&state)))
}

/// All that a backend alone is shown and that the `seq` does not count: what backends have said, and the kind of the device. Texts that can contain spaces come last, each with its length.
fn registered(stored: &StoredProfile) -> String {
    let StoredProfile { profile, registration, order, replaced_by, .. } = stored;
    let number = |iccid: Option<&Iccid>| iccid.map(|it| it.as_str().to_owned()).unwrap_or_default();
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let text = |text: Option<&str>| text.map(|it| format!("{}:{it}", it.len())).unwrap_or_default();
    let facts = registration.as_ref();
    [
        "backend".to_owned(),
        facts.is_some().to_string(),
        time(facts.and_then(|it| it.activated_at)),
        time(facts.and_then(|it| it.last_seen)),
        order.expected_from.map(|day| day.to_string()).unwrap_or_default(),
        number(order.replaces.as_ref()),
        number(replaced_by.as_ref()),
        text(order.reference.as_ref().map(Reference::as_str)),
        text(facts.and_then(|it| it.uid.as_deref())),
        text(profile.device.as_ref().map(Device::to_json).as_deref()),
    ]
    .join(" ")
}

/// The tag of a constant text, such as a file of the install page. The tag is weak, because the text may be sent
/// compressed or uncompressed.
pub fn of_text(text: &str) -> HeaderValue {
    value(&format!("W/\"{}\"", digest(text)))
}

/// Whether `If-None-Match` names this tag: as one of several, weak or strong, as `*`, or with the suffix that a
/// compressing proxy adds (`"x-gzip"`).
pub fn names(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let Some(tag) = tag.to_str().ok().and_then(opaque) else { return false };
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || opaque(named).is_some_and(|named| is_variant(named, tag)))
}

/// The text between the quotes of a tag; `None` if the value is not a tag.
fn opaque(tag: &str) -> Option<&str> {
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')
}

/// Whether `named` is `tag`, alone or with a suffix. Our tags are hexadecimal digits, so a proxy has added anything
/// that follows one of these characters.
fn is_variant(named: &str, tag: &str) -> bool {
    let suffix = named.strip_prefix(tag);
    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['-', ';', ':', '.', '_']))
}

/// 96 bits of a hash, enough that in practice no two states of profiles share a tag.
fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..12])
}

fn value(tag: &str) -> HeaderValue {
    // Hexadecimal digits in quotes are always a valid value.
    HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_compared_weakly_in_lists_by_star_and_without_suffixes() {
        for (named, expected) in [
            ("\"2f\"", true),
            ("W/\"2f\"", true),
            ("\"1\", \"2f\"", true),
            ("\"2f-gzip\"", true),
            ("W/\"2f;gzip\"", true),
            ("\"2f--gzip\", \"1\"", true),
            ("*", true),
            ("\"1\"", false),
            ("2f", false),
            ("\"2f", false),
            ("2f\"", false),
            ("\"2f2\"", false),
            ("\"2fgzip\"", false),
            ("\"-gzip\"", false),
            ("\"\"", false),
            ("w/\"2f\"", false),
            ("", false),
            ("\"", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(named));
            for tag in ["\"2f\"", "W/\"2f\""] {
                assert_eq!(names(&headers, &HeaderValue::from_static(tag)), expected, "{named}");
            }
        }
        assert!(!names(&HeaderMap::new(), &HeaderValue::from_static("\"2f\"")));
    }
}
