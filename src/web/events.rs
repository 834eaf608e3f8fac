//! `GET /v1/profiles/{iccid}/events`: follows one profile live, with server-sent events.
//!
//! A stream subscribes first, then reads the transitions after its last `seq`, and reads again on each wake-up and on a
//! slow timer. So it misses nothing and sends nothing twice. A stream holds no queue of changes: it reads from the
//! store when its client takes the next part.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::callers::{Shown, Subject};
use super::extract::Params;
use super::followers::Place;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use super::views::{ProfileView, TransitionView};
use super::{AppState, spread};
use crate::access::Caller;
use crate::domain::Connections;
use crate::feed::{SAFETY_NET, Subscription};
use crate::store::{Followed, ReadError};
use crate::telemetry::{self, Span, TraceContext};

/// How often a comment is sent, so that each end notices when the other one has gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How soon a stream reads again while the database is unavailable.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many milliseconds a client is asked to wait before it reconnects. The time is spread, so that not all reconnect
/// together.
const RETRY: u64 = 1_000;

/// The data of `event: transition`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransitionEvent)]
pub struct TransitionEvent {
    #[serde(flatten)]
    transition: TransitionView,
    /// The profile as it is now: after this transition, or after later ones.
    profile: ProfileView,
}

/// Streams a profile as server-sent events: first `event: profile` with the current profile, then `event: transition`
/// for each change, and `event: profile` without an `id` for each connection to a network.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/events", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `seq` of the last transition that the client has seen. Later ones are sent first"),
        ("lastEventId" = Option<String>, Query, description = "The same for clients that cannot send the header. If both are given, the header counts"),
    ),
    responses(
        (status = 200, body = TransitionEvent, content_type = "text/event-stream", description = "`id` is the `seq`. A comment is sent every 15 s. When the service shuts down, the stream ends with a `retry`"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
        (status = 503, body = ProblemDocument, description = "`unavailable`, also if too many streams are open"),
    )
)]
pub async fn follow(
    State(app): State<AppState>,
    subject: Subject,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let in_query = params.take("lastEventId", |text| Ok::<_, &str>(seq(text)))?.flatten();
    params.finish()?;
    let place = app.followers.stream(&subject)?;
    let seen = last_seen(&headers).or(in_query);
    let subscription = app.feed.subscribe(&subject.iccid);
    let followed = app.reader.follow(&subject.iccid, seen.unwrap_or(i64::MAX)).await?;
    let followed = followed.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
    // A `seq` that the client cannot have seen is ignored.
    let resumed = seen.filter(|seq| *seq <= followed.stored.profile.seq);
    let until = match &subject.caller {
        Caller::Backend => None,
        Caller::User { until, .. } => {
            let seconds = until.seconds_since(subject.received_at).max(0.0);
            Some(Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2))
        }
    };
    let mut stream = Stream {
        seq: resumed.unwrap_or(followed.stored.profile.seq),
        parts: VecDeque::new(),
        connections: followed.stored.profile.connections.clone(),
        beat: Instant::now() + HEARTBEAT,
        look: Instant::now() + spread(SAFETY_NET),
        until,
        ended: false,
        _place: place,
        trace: telemetry::current_trace(),
        subscription,
        subject,
        app,
    };
    // A client that resumes gets the profile without an id, because the missed transitions with their ids follow it.
    stream.parts.push_back(stream.profile_part(&followed, resumed.is_none()));
    if resumed.is_some() {
        stream.take(&followed);
    }
    let parts = stream::unfold(stream, |mut stream| async move {
        let part = stream.next().await?;
        Some((Ok::<_, Infallible>(part), stream))
    });
    let mut response = Body::from_stream(parts).into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `Last-Event-ID`, if it is a possible `seq`.
fn last_seen(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok().and_then(seq)
}

fn seq(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

struct Stream {
    app: AppState,
    subject: Subject,
    subscription: Subscription,
    /// The `seq` of the last transition that was added to `parts`.
    seq: i64,
    /// The parts that are ready to be sent, at most those of one read.
    parts: VecDeque<Bytes>,
    /// When to send the next comment.
    beat: Instant,
    /// When to read without a wake-up.
    look: Instant,
    /// What was last sent of the profile's connections.
    connections: Connections,
    /// When the access token expires.
    until: Option<Instant>,
    ended: bool,
    _place: Place,
    /// The request that opened the stream, if it is recorded.
    trace: Option<TraceContext>,
}

/// Why a stream stopped waiting.
enum Woken {
    /// With the span of the wake-up, if there was one and it is recorded.
    Change(Option<TraceContext>),
    Beat,
    Drained,
    Expired,
}

impl Stream {
    /// Waits for the next part; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Some(part);
            }
            if self.ended {
                return None;
            }
            match self.wait().await {
                Woken::Beat => {
                    self.beat = Instant::now() + HEARTBEAT;
                    return Some(Bytes::from_static(b":\n\n"));
                }
                Woken::Change(wake_up) => {
                    let _span = Span::of_stream(wake_up.as_ref(), self.trace.as_ref());
                    self.read().await;
                }
                Woken::Drained => self.end(": the service is shutting down; reconnect\n"),
                Woken::Expired => self.end(": the access token has expired\n"),
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let expired = async {
            match self.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.app.draining.begun() => Woken::Drained,
            () = expired => Woken::Expired,
            wake_up = self.subscription.woken() => Woken::Change(wake_up),
            () = tokio::time::sleep_until(self.look) => Woken::Change(None),
            () = tokio::time::sleep_until(self.beat) => Woken::Beat,
        }
    }

    /// Reads the transitions after the last `seq`.
    async fn read(&mut self) {
        self.look = Instant::now() + spread(SAFETY_NET);
        match self.app.reader.follow(&self.subject.iccid, self.seq).await {
            Ok(Some(followed)) => match self.subject.shown(&self.app, &followed.stored).await {
                Ok(Shown::This) => self.take(&followed),
                Ok(Shown::Another) => self.end(": the profile was replaced; reconnect\n"),
                Ok(Shown::Nothing) => self.end(": the access token is no longer valid\n"),
                Err(_) => self.look = Instant::now() + spread(LOOK_AGAIN),
            },
            Ok(None) => self.end(": the profile was erased\n"),
            // The database is unavailable. Keep the client, and read again soon.
            Err(ReadError::Overloaded | ReadError::Stalled | ReadError::Failed(_)) => {
                self.look = Instant::now() + spread(LOOK_AGAIN);
            }
        }
    }

    fn take(&mut self, followed: &Followed) {
        for transition in followed.transitions.iter().filter(|t| t.seq > self.seq) {
            let data = TransitionEvent {
                transition: transition.clone().into(),
                profile: ProfileView::of(followed.stored.clone(), &self.subject.caller),
            };
            self.parts.push_back(part("transition", Some(transition.seq), &data));
        }
        let connections = &followed.stored.profile.connections;
        if *connections != self.connections {
            self.connections.clone_from(connections);
            // Each transition brings the profile with it. An event without an id moves no client's place.
            if followed.transitions.iter().all(|transition| transition.seq <= self.seq) {
                self.parts.push_back(self.profile_part(followed, false));
            }
        }
        let read_to = followed.transitions.last().map_or(self.seq, |transition| transition.seq);
        self.seq = self.seq.max(read_to);
        if self.seq < followed.stored.profile.seq {
            // More transitions are left than one read returns.
            self.look = Instant::now();
        }
    }

    fn profile_part(&self, followed: &Followed, with_id: bool) -> Bytes {
        let profile = ProfileView::of(followed.stored.clone(), &self.subject.caller);
        part("profile", with_id.then_some(followed.stored.profile.seq), &profile)
    }

    fn end(&mut self, comment: &str) {
        let retry = spread(Duration::from_millis(RETRY)).as_millis();
        self.parts.push_back(Bytes::from(format!("{comment}retry: {retry}\n\n")));
        self.ended = true;
    }
}

/// One event. The JSON has no line breaks, so the data is one line.
fn part(event: &str, id: Option<i64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    Bytes::from(format!("{id}event: {event}\ndata: {data}\n\n"))
}
