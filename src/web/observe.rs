//! The outermost layer: the request id, the span, the duration, the rendering of problems, and what a panic becomes.

use std::any::Any;
use std::sync::Mutex;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, header};
use tracing::Instrument;
use uuid::{ContextV7, Uuid};

use super::AppState;
use super::clock;
use super::problem::{Code, Problem};
use crate::domain::Timestamp;
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When the request reached us. Handlers take the time from here.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedAt(pub Timestamp);

/// Wraps every request, those that match no route included.
pub async fn observe(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let received_at = clock::now();
    let id = request_id(&request, received_at);
    let method = method_label(request.method());
    // The pattern, never the path: a path holds ICCIDs and secrets.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "unmatched".to_owned());
    request.extensions_mut().insert(ReceivedAt(received_at));

    let span = tracing::info_span!("request", %id, method, %route);
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.render(&app.public_url, &id);
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
        telemetry::count_problem(problem.entry().name);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.in_scope(|| tracing::debug!(status, ?took, "answered"));
    telemetry::record_request(method, route, status, took);
    response
}

/// The caller's own id where it is short and plain, so that it can be found in both logs; else a new one.
fn request_id(request: &Request, now: Timestamp) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(plain))
        .map_or_else(|| new_id(now).to_string(), str::to_owned)
}

/// A UUIDv7 of this time; within a process they increase in the order of the calls.
pub fn new_id(now: Timestamp) -> Uuid {
    static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());
    let seconds = u64::try_from(now.unix_seconds()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(&CONTEXT, seconds, now.subsecond_nanos()))
}

/// Methods can be made up; labels must not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What a panic in a handler becomes: one answer and one log line; the process lives.
#[expect(clippy::needless_pass_by_value, reason = "the shape that the layer calls")]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(message = ?message.unwrap_or_default(), "a handler panicked");
    Problem::new(Code::Internal).into_response()
}

/// Nothing at this path.
pub async fn unknown_path() -> Problem {
    Problem::new(Code::UnknownPath)
}

/// Something at this path, but not for this method.
pub async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}
