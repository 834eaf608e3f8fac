//! The layer around all routes; only that of CORS is outside it. It notes the time of receipt, sets the request id, labels
//! log lines, measures the duration, and renders problems. A panic in a handler becomes a problem too.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use uuid::{ContextV7, Uuid};

use super::AppState;
use super::credential::is_backend;
use super::problem::{Code, Problem};
use crate::clock;
use crate::domain::Timestamp;
use crate::telemetry::{self, RequestLabel, Span};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The content type of pages.
pub const HTML: &str = "text/html; charset=utf-8";

/// When the request was received. Handlers take the time from here.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedAt(pub Timestamp);

/// Marks an answer that was delayed because the caller asked for it. Its duration is not recorded.
#[derive(Debug, Clone, Copy)]
pub struct Waited;

/// Wraps every request, including those that match no route.
pub async fn around(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let received_at = clock::now();
    let method = method_label(request.method());
    let route = Arc::from(request.extensions().get().map_or("unmatched", route));
    let scheme = if app.public_url.starts_with("https:") { "https" } else { "http" };
    let headers = request.headers();
    let mut span = Span::request(method, &route, scheme, headers, || is_backend(&app, headers));
    let label = RequestLabel {
        id: request_id(&request, received_at),
        method,
        route,
        trace: span.context(),
    };
    request.extensions_mut().insert(ReceivedAt(received_at));

    let mut response = label.clone().scope(next.run(request)).await;
    let problem = response.extensions_mut().remove::<Problem>();
    // The page of the API answers an unknown path with a 404 in plain text. The console has pages for it.
    let is_page = response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == HTML);
    let is_bare = problem.is_none() && !is_page && response.status() == StatusCode::NOT_FOUND;
    let mut code = None;
    if let Some(problem) = problem.or_else(|| is_bare.then(|| Problem::new(Code::UnknownPath))) {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.render(&app.public_url, label.id());
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
        code = Some(problem.entry().name);
        telemetry::count_problem(problem.entry().name);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, label.id.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.answered(status, code);
    tracing::debug!(
        id = label.id(),
        method = label.method,
        route = &*label.route,
        status,
        ?took,
        "answered"
    );
    if response.extensions_mut().remove::<Waited>().is_none() {
        telemetry::record_request(&label, status, took);
    }
    response
}

/// The pattern that the path matched. A slash at the end, or in the secret of a hook, does not make another route.
fn route(matched: &MatchedPath) -> &str {
    let pattern = matched.as_str();
    let pattern = pattern.strip_suffix("{*rest}").unwrap_or(pattern);
    pattern.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(pattern)
}

/// The caller's own request id if it is short and plain, so that both logs have the same id. Otherwise a new one.
fn request_id(request: &Request, now: Timestamp) -> HeaderValue {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let own = request
        .headers()
        .get(REQUEST_ID)
        .filter(|id| (1..=64).contains(&id.as_bytes().len()) && id.as_bytes().iter().all(plain));
    own.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        let text = new_id(now).hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens are always a valid value.
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// A UUIDv7 of this time. Within a process, the ids increase in the order of the calls. If the clock is set back by more than
/// [`SET_BACK_SECONDS`], they begin again at the new time, because deliveries are looked for by the time in their ids.
pub fn new_id(now: Timestamp) -> Uuid {
    static LAST: Mutex<(ContextV7, i64)> = Mutex::new((ContextV7::new(), 0));
    let seconds = now.unix_seconds();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let (context, newest) = &mut *last;
    if seconds + SET_BACK_SECONDS < *newest {
        // The context would continue from the newest time.
        (*context, *newest) = (ContextV7::new(), seconds);
    }
    *newest = seconds.max(*newest);
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, now.subsecond_nanos()))
}

/// A clock that was wrong is set back by more than this. Smaller differences are corrected in small steps.
const SET_BACK_SECONDS: i64 = 2;

/// The label of a method. Clients can invent methods, so all others share one label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Turns a panic in a handler into an answer and a log line. The process continues.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer requires")]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(message = ?message.unwrap_or_default(), "a handler panicked");
    Problem::new(Code::Internal).into_response()
}

/// Answers a request that matches no route.
pub async fn unknown_path() -> Problem {
    Problem::new(Code::UnknownPath)
}

/// Answers a request whose path exists, but not for its method.
pub async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(id: Uuid) -> u64 {
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        seconds * 1_000 + u64::from(nanos) / 1_000_000
    }

    #[test]
    fn ids_increase_until_a_clock_that_was_ahead_is_set_back() {
        let now = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
        let time =
            |seconds| u64::try_from(now.plus_seconds(seconds).unix_seconds()).unwrap() * 1_000;
        let ahead = new_id(now.plus_seconds(3 * 3_600));
        let a_little_before = new_id(now.plus_seconds(3 * 3_600 - 1));
        assert!(a_little_before > ahead);
        let (first, second) = (new_id(now), new_id(now));
        assert!(first < second && second < ahead);
        assert_eq!(milliseconds(first), time(0));
    }
}
