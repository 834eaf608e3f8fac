//! The `ETag` of a profile: its `seq`, compared as RFC 9110 says.
//!
//! It names the state of the history. A webhook that repeats the state changes `lastDeliveryAt` and `deliveries` but not
//! the tag, so that a follower is woken by changes only.

use http::{HeaderMap, HeaderValue, header};

/// The tag of this `seq`.
pub fn of(seq: i64) -> HeaderValue {
    quoted(&seq.to_string())
}

/// The tag of this text, which is letters and digits.
pub fn quoted(text: &str) -> HeaderValue {
    // Such a text in quotes is always a valid value.
    HeaderValue::from_str(&format!("\"{text}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` names this `seq`.
pub fn matches(headers: &HeaderMap, seq: i64) -> bool {
    names(headers, &of(seq))
}

/// Whether `If-None-Match` names this tag, among others, weak or strong, or as `*`.
pub fn names(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
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
