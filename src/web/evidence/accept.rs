//! Which form of the sheet a client prefers (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

/// Whether the client prefers HTML to JSON. Without a preference it gets JSON.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let accepted: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    weight(&accepted, "text", "html") > weight(&accepted, "application", "json")
}

/// The weight that these ranges give to a media type. The most specific range that matches decides.
fn weight(accepted: &[&str], kind: &str, subtype: &str) -> f32 {
    let (mut specific, mut weight) = (0, 0.0);
    for range in accepted {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let matched = match name.split_once('/') {
            Some((left, right)) if (left, right) == (kind, subtype) => 3,
            Some((left, "*")) if left == kind => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        if matched > specific {
            let given = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
            specific = matched;
            weight = given.map_or(1.0, |text| text.parse().unwrap_or_default());
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_for_those_who_prefer_it() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("image/png", false),
            ("text/html, application/json", false),
            ("text/html;q=0.5, application/json", false),
            ("text/html;q=0.5, */*", false),
            ("text/html;q=0", false),
            ("text/html;q=much", false),
            ("text/html", true),
            ("Text/HTML; charset=utf-8", true),
            ("text/*", true),
            ("*/*;q=0.1, text/html;q=0.2", true),
            ("application/json;Q=0.9,text/html", true),
            // A browser.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_html(&headers), expected, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
