//! The `ETag` of a profile: its `seq`, compared as RFC 9110 says.
//!
//! It names the state of the history. A webhook that repeats the state changes `lastDeliveryAt` and `deliveries` but not
//! the tag, so that a follower is woken by changes only.

use http::{HeaderMap, HeaderValue, header};

/// The tag of this `seq`.
pub fn of(seq: i64) -> HeaderValue {
    // Digits and quotes are always a valid value.
    HeaderValue::from_str(&format!("\"{seq}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Whether `If-None-Match` names this `seq`, among others, weak or strong, or as `*`.
pub fn matches(headers: &HeaderMap, seq: i64) -> bool {
    let wanted = seq.to_string();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| {
            let opaque = tag.strip_prefix("W/").unwrap_or(tag);
            let opaque = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            tag == "*" || opaque == Some(wanted.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_compared_weakly_in_lists_and_by_star() {
        for (value, expected) in [
            ("\"2\"", true),
            ("W/\"2\"", true),
            ("\"1\", \"2\"", true),
            ("*", true),
            ("\"1\"", false),
            ("2", false),
            ("\"22\"", false),
            ("", false),
            ("\"", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(matches(&headers, 2), expected, "{value}");
        }
        assert!(!matches(&HeaderMap::new(), 2));
    }
}
