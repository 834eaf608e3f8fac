//! What a reseller adds to the provider's eSIM object: `reference`, `expectedFrom` and `replaces`.

use super::Malformed;
use super::json::{Object, Value};
use crate::domain::{Day, Iccid, Order, Reference};

/// Reads what a reseller has added to an eSIM object, and whether it says that the profile replaces none (`"replaces": null`).
/// These members are the reseller's own, so a wrong one is refused.
///
/// # Errors
/// [`Malformed`]; the reason names the member and does not contain its value.
pub fn parse_order(body: &[u8]) -> Result<(Order, bool), Malformed> {
    read(body).map_err(|reason| Malformed { reason, iccid: None })
}

fn read(body: &[u8]) -> Result<(Order, bool), String> {
    let object = Object::parse(body)?;
    let replaces = member(&object, "replaces", |text| {
        Iccid::parse(text).map_err(|_| "must be an ICCID, a string of 18 to 22 digits")
    })?;
    let order = Order {
        reference: member(&object, "reference", Reference::parse)?,
        expected_from: member(&object, "expectedFrom", Day::parse)?,
        replaces,
    };
    Ok((order, matches!(object.member("replaces"), Some(Value::Null))))
}

/// Absent and null are the same.
fn member<T, E: ToString>(
    object: &Object,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    match object.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => match parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("{name} {}", error.to_string())),
        },
        Some(_) => Err(format!("{name} must be a string or null")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_optional_and_a_wrong_one_is_named() {
        assert_eq!(parse_order(br#"{"iccid":1,"reference":null}"#), Ok((Order::default(), false)));
        assert_eq!(parse_order(br#"{"replaces":null}"#), Ok((Order::default(), true)));
        let order =
            br#"{"reference":"A-1","expectedFrom":"2026-12-24","replaces":"89972123300991848961"}"#;
        let (order, replaces_none) = parse_order(order).unwrap();
        assert!(!replaces_none);
        assert_eq!(order.reference.unwrap().as_str(), "A-1");
        assert_eq!(order.expected_from.unwrap().to_string(), "2026-12-24");
        assert_eq!(order.replaces.unwrap().as_str(), "89972123300991848961");
        for (body, reason) in [
            (r#"{"reference":4711}"#, "reference must be a string or null"),
            (
                r#"{"reference":""}"#,
                "reference must be a text of 1 to 64 characters without control characters or space around it",
            ),
            (r#"{"expectedFrom":"tomorrow"}"#, "expectedFrom must be a day such as 2026-11-23"),
            (r#"{"replaces":"1"}"#, "replaces must be an ICCID, a string of 18 to 22 digits"),
        ] {
            assert_eq!(parse_order(body.as_bytes()).unwrap_err().reason, reason);
        }
    }
}
