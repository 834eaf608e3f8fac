//! How other servers are called: by the commands that call a running service, by the questions to providers, and by outgoing webhooks,
//! which have a client of their own.

use std::time::Duration;

use http::{HeaderMap, header};
use url::Url;

use crate::config::is_this_machine;
use crate::domain::Timestamp;

/// Has TLS use ring in this process.
pub fn use_ring() {
    // It fails if another part of the process has installed a provider already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Creates a client for this address. It times out after ten seconds, and follows no redirects: a credential must not travel to
/// another address. It uses no proxy for this machine: Docker sets `HTTP_PROXY` in every container.
///
/// # Errors
/// If TLS cannot be set up.
pub fn new(base: &Url) -> reqwest::Result<reqwest::Client> {
    use_ring();
    let builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none());
    let builder = if is_this_machine(base) { builder.no_proxy() } else { builder };
    builder.build()
}

/// Reads `Retry-After`: seconds, or a date, at most this long from now: some senders write the time itself in seconds.
pub fn retry_after(headers: &HeaderMap, now: Timestamp, longest: Duration) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = value.parse().map_or(Duration::MAX, Duration::from_secs);
        return Some(seconds.min(longest));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = u64::try_from(now.unix_seconds()).ok()?;
    Some(at.saturating_sub(Duration::from_secs(now)).min(longest))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        const LONGEST: Duration = Duration::from_hours(24);
        let now = Timestamp::parse("2026-11-27T10:00:00Z").unwrap();
        let read = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]), now, LONGEST)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Fri, 27 Nov 2026 10:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        for long in ["Thu, 21 Oct 2190 07:28:00 GMT", "1795800000", "99999999999999999999999"] {
            assert_eq!(read(long), Some(LONGEST), "{long}");
        }
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now, LONGEST), None);
    }
}
