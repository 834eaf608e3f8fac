//! The members that most providers send, and how they are read from the object that has them.

use super::json::{Object, Value};
use crate::domain::{Iccid, InvalidIdentifier};

/// Reads the required ICCID.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn iccid(body: &Object) -> Result<Iccid, String> {
    match body.member("iccid") {
        Some(Value::Text(text)) => Iccid::parse(text).map_err(|error| error.to_string()),
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
    body: &Object,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, InvalidIdentifier>,
    remarks: &mut Vec<String>,
) -> Result<Option<T>, String> {
    match body.member(name) {
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
