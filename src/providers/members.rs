//! The members that most providers send, and how their values are read.

use super::Malformed;
use super::json::{Object, Value};
use crate::domain::{Iccid, InvalidIdentifier};

/// A state word with more bytes is cut to this many characters. The raw body still has all of it.
pub(super) const LONGEST_WORD: usize = 64;

/// Reads the required ICCID.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn iccid(value: Option<&Value>) -> Result<Iccid, String> {
    match value {
        Some(Value::Text(text)) => Iccid::parse(text).map_err(|error| error.to_string()),
        // An ICCID has more digits than a double, so most JSON libraries round it.
        Some(Value::Number(_)) => Err(
            "iccid must be a string of 18 to 22 digits; as a number it may have been rounded already"
                .to_owned(),
        ),
        Some(_) => Err("iccid must be a string of 18 to 22 digits, not another type".to_owned()),
        None => Err("iccid is missing; send it as a string of 18 to 22 digits".to_owned()),
    }
}

/// Reads an optional identifier. Absent, null and empty are the same. A number is refused together with the event,
/// because it may have lost digits on its way. Any other wrong value is left out, with a remark.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn optional<T>(
    name: &'static str,
    value: Option<&Value>,
    parse: impl FnOnce(&str) -> Result<T, InvalidIdentifier>,
    remarks: &mut Vec<String>,
) -> Result<Option<T>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if text.is_empty() => Ok(None),
        Some(Value::Number(_)) => Err(format!("{name} must be a string, not a number")),
        Some(Value::Text(text)) => match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                remarks.push(format!("{name} was left out: {error}"));
                Ok(None)
            }
        },
        Some(_) => {
            remarks.push(format!("{name} was left out: it is not a string"));
            Ok(None)
        }
    }
}

/// As [`optional`], in an event about this profile.
///
/// # Errors
/// The event is malformed.
pub(super) fn optional_of<T>(
    iccid: &Iccid,
    name: &'static str,
    value: Option<&Value>,
    parse: impl FnOnce(&str) -> Result<T, InvalidIdentifier>,
    remarks: &mut Vec<String>,
) -> Result<Option<T>, Malformed> {
    optional(name, value, parse, remarks).map_err(|reason| malformed(Some(iccid.clone()), reason))
}

/// A word for a state, exactly as it was sent unless it is too long; `None` if it is only space.
pub(super) fn word(text: &str) -> Option<String> {
    match text.trim() {
        "" => None,
        trimmed if text.len() > LONGEST_WORD => Some(trimmed.chars().take(LONGEST_WORD).collect()),
        _ => Some(text.to_owned()),
    }
}

/// A text that is not only space.
pub(super) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    match object.member(name) {
        Some(Value::Text(text)) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

/// The text of a member that has two names; `None` if it is absent or null by both.
///
/// # Errors
/// If it is no text or only space, or has another text by each name: then nobody knows which of them is meant.
pub(super) fn renamed<'a>(
    object: &'a Object,
    [one, other]: [&str; 2],
) -> Result<Option<&'a str>, String> {
    let read = |name| match object.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(object, name)
            .map(Some)
            .ok_or_else(|| format!("{name} must be a string that is not empty")),
    };
    match (read(one)?, read(other)?) {
        (Some(a), Some(b)) if !a.trim().eq_ignore_ascii_case(b.trim()) => {
            Err(format!("{one} and {other} differ; send one"))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// Whether a body is empty, or an object without any of these members: a portal's test of the URL.
pub(super) fn names_none_of<'a>(body: &[u8], names: impl IntoIterator<Item = &'a str>) -> bool {
    let has_none = |body: Object| names.into_iter().all(|name| body.member(name).is_none());
    body.trim_ascii().is_empty() || Object::parse(body).is_ok_and(has_none)
}

/// Reports a missing or invalid ICCID first, whatever else is wrong with the body.
pub(super) fn iccid_first(iccid: Result<Iccid, String>, reason: impl Into<String>) -> String {
    iccid.err().unwrap_or_else(|| reason.into())
}

/// A body that its provider would not send, with the profile that it names if that could be read all the same.
pub(super) fn malformed(iccid: Option<Iccid>, reason: impl Into<String>) -> Malformed {
    Malformed { reason: reason.into(), iccid }
}

/// Whether an event id contains an identifier, in whatever case. An erasure leaves event ids, so such an id must not be kept.
pub(super) fn contains_identifier(event_id: &str, identifier: &Value) -> bool {
    let (Value::Text(text) | Value::Number(text)) = identifier else { return false };
    let plain = text.trim().to_lowercase();
    // An ICCID may be written with the filler F.
    let plain = plain.trim_end_matches('f');
    !plain.is_empty() && event_id.to_lowercase().contains(plain)
}
