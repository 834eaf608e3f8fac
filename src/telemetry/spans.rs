//! Every span of this service: its name, its parent, its links and its attributes, which follow the semantic conventions of
//! OpenTelemetry where there are any. `docs/operations.md` has the same table.
//!
//! Without an endpoint for traces, and for a trace that is not recorded, a [`Span`] is empty: nothing is allocated, and no
//! clock is read.
//!
//! No ICCID, IMSI, EID, secret, address of a person or text from a request is ever in a span.

use std::borrow::Cow;
use std::sync::OnceLock;

use http::HeaderMap;
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;
use url::Url;

use super::request;
use super::sampling::Sampling;
use super::trace_context::TraceContext;

/// The max number of deliveries that a batch's span links to: the max of OpenTelemetry.
const MAX_LINKS: usize = 128;

/// What makes spans, if they are recorded at all.
static TRACER: OnceLock<Tracer> = OnceLock::new();

#[derive(Debug)]
struct Tracer {
    tracer: SdkTracer,
    sampling: Sampling,
}

/// Records spans from now on.
pub(super) fn begin(tracer: SdkTracer, sampling: Sampling) {
    drop(TRACER.set(Tracer { tracer, sampling }));
}

/// Where the span of the request is that this task serves, if it is recorded.
pub fn current_trace() -> Option<TraceContext> {
    TRACER.get()?;
    request::with_current(|request| request.trace.clone()).flatten()
}

/// A span under way, or nothing. It ends when it is dropped.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Where the span is, if it is recorded.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|span| TraceContext(span.span_context().clone()))
    }

    /// Notes that the work failed, with a word of a small set.
    pub fn fail(&mut self, error_type: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", error_type.into()));
            span.set_status(Status::error(""));
        }
    }

    /// Links to what also caused this span.
    pub fn link(&mut self, other: Option<&TraceContext>) {
        if let (Some(span), Some(other)) = (&mut self.0, other) {
            span.add_link(other.0.clone(), Vec::new());
        }
    }

    /// Adds this span to the headers of a request that it makes.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(context) = self.context() {
            context.add_to(headers);
        }
    }

    pub(super) fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// A request that was received (`SERVER`). `method` and `route` are those of its label.
    ///
    /// A caller that `is_trusted` continues its own trace and may decide whether it is recorded. Anybody else's trace is
    /// continued under its id only: strangers decide nothing, and nothing else that they send is recorded.
    pub fn request(
        method: &'static str,
        route: &str,
        scheme: &'static str,
        headers: &HeaderMap,
        is_trusted: impl FnOnce() -> bool,
    ) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        if PROBES.contains(&route) {
            return Self(None);
        }
        let is_asked = headers.contains_key("traceparent");
        let parent = if is_asked { TraceContext::received(headers) } else { None };
        let (parent, is_recorded) = match parent {
            Some(parent) if is_trusted() => {
                let is_recorded = tracer.sampling.records(Some(&parent.0));
                (Some(parent), is_recorded)
            }
            parent => (parent.map(|it| it.without_state()), tracer.sampling.records(None)),
        };
        if !is_recorded {
            return Self(None);
        }
        let method = if method == "other" { "_OTHER" } else { method };
        let is_known = route != "unmatched";
        let mut attributes =
            vec![KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", scheme)];
        let mut name = if method == "_OTHER" { "HTTP" } else { method }.to_owned();
        if is_known {
            attributes.push(KeyValue::new("http.route", route.to_owned()));
            name = format!("{name} {route}");
        }
        tracer.begin(
            name,
            SpanKind::Server,
            parent.as_ref().map(|it| &it.0),
            attributes,
            Vec::new(),
        )
    }

    /// The answer to the request, and the code of its problem, if it is one.
    pub fn answered(&mut self, status: u16, problem: Option<&'static str>) {
        self.set("http.response.status_code", i64::from(status));
        if status >= 500 {
            self.fail(problem.unwrap_or("500"));
        } else if let Some(problem) = problem {
            self.set("esim_status.problem", problem);
        }
    }

    /// A batch of deliveries that one writer writes. It is a trace of its own, which links to the deliveries that are
    /// recorded; without one, the batch is not recorded.
    pub fn batch<'a>(deliveries: usize, recorded: impl Iterator<Item = &'a TraceContext>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let links = recorded.take(MAX_LINKS).map(|it| Link::with_context(it.0.clone()));
        let links: Vec<_> = links.collect();
        if links.is_empty() {
            return Self(None);
        }
        let attributes = vec![KeyValue::new("esim_status.deliveries", count(deliveries))];
        tracer.begin("write batch", SpanKind::Internal, None, attributes, links)
    }

    /// A batch from the spool.
    pub fn drained_batch(deliveries: usize) -> Self {
        let attributes = || vec![KeyValue::new("esim_status.deliveries", count(deliveries))];
        Self::root("drain spool", SpanKind::Internal, attributes)
    }

    /// The spool takes deliveries.
    pub fn spool(&self, deliveries: usize) -> Self {
        self.child("append to spool", SpanKind::Internal, || {
            vec![KeyValue::new("esim_status.deliveries", count(deliveries))]
        })
    }

    /// A statement, or a commit, on a table (`CLIENT`).
    fn statement(&self, operation: &'static str, table: Option<&'static str>) -> Self {
        let name = || match table {
            Some(table) => Cow::from(format!("{operation} {table}")),
            None => Cow::from(operation),
        };
        self.child_named(name, SpanKind::Client, || {
            let mut attributes = vec![
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", operation),
            ];
            attributes.extend(table.map(|table| KeyValue::new("db.collection.name", table)));
            attributes
        })
    }

    /// A notification of another transaction's commit has come (`CONSUMER`), and wakes followers. It is a child of the
    /// batch that sent it, perhaps on another replica.
    pub fn wake_up(traceparent: Option<&str>) -> Self {
        let (Some(tracer), Some(text)) = (TRACER.get(), traceparent) else { return Self(None) };
        let Some(parent) = TraceContext::parse(text) else { return Self(None) };
        let attributes = vec![
            KeyValue::new("messaging.system", "postgresql"),
            KeyValue::new("messaging.destination.name", "esim_status_moved"),
            KeyValue::new("messaging.operation.name", "receive"),
            KeyValue::new("messaging.operation.type", "receive"),
        ];
        let name = "receive esim_status_moved";
        tracer.begin(name, SpanKind::Consumer, Some(&parent.0), attributes, Vec::new())
    }

    /// How many followers were woken.
    pub fn woke(&mut self, followers: usize) {
        self.set("esim_status.followers", count(followers));
    }

    /// A live stream reads what has changed and sends it, after it was woken. It links to the request that opened the
    /// stream.
    pub fn of_stream(wake_up: Option<&TraceContext>, stream: Option<&TraceContext>) -> Self {
        let mut span = Self::after(wake_up, "send changes", SpanKind::Internal, Vec::new);
        span.link(stream);
        span
    }

    /// A request waits for a change (a long poll).
    pub fn long_poll() -> Self {
        let request = current_trace();
        Self::after(request.as_ref(), "wait for changes", SpanKind::Internal, Vec::new)
    }

    /// Changes are delivered to an endpoint, because it was woken or because it is their time.
    pub fn round(wake_up: Option<&TraceContext>, endpoint: &str, changes: usize) -> Self {
        let attributes = || {
            vec![
                KeyValue::new("esim_status.endpoint", endpoint.to_owned()),
                KeyValue::new("esim_status.changes", count(changes)),
            ]
        };
        let (name, kind) = ("deliver changes", SpanKind::Internal);
        match wake_up {
            Some(_) => Self::after(wake_up, name, kind, attributes),
            None => Self::root(name, kind, attributes),
        }
    }

    /// A POST to another server, for this span (`CLIENT`). Only the server's name and port are recorded.
    pub fn post(&self, url: &Url) -> Self {
        self.child("POST", SpanKind::Client, || post_attributes(url))
    }

    /// A question to a provider's API (`CLIENT`).
    pub fn question(url: &Url) -> Self {
        Self::root("POST", SpanKind::Client, || post_attributes(url))
    }

    /// The answer of the other server.
    pub fn got(&mut self, status: u16) {
        self.set("http.response.status_code", i64::from(status));
        if status >= 400 {
            self.fail(status.to_string());
        }
    }

    /// A trace that begins here.
    fn root(
        name: &'static str,
        kind: SpanKind,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        let Some(tracer) = TRACER.get().filter(|it| it.sampling.records(None)) else {
            return Self(None);
        };
        tracer.begin(name, kind, None, attributes(), Vec::new())
    }

    /// A span that follows from one that may be elsewhere; nothing if that is not recorded.
    pub(super) fn after(
        parent: Option<&TraceContext>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        let (Some(tracer), Some(parent)) = (TRACER.get(), parent) else { return Self(None) };
        tracer.begin(name, kind, Some(&parent.0), attributes(), Vec::new())
    }

    fn child(
        &self,
        name: &'static str,
        kind: SpanKind,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        self.child_named(|| Cow::from(name), kind, attributes)
    }

    fn child_named(
        &self,
        name: impl FnOnce() -> Cow<'static, str>,
        kind: SpanKind,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        if self.0.is_none() {
            return Self(None);
        }
        Self::after(self.context().as_ref(), name(), kind, attributes)
    }
}

/// The routes of the admin listener, which are asked every few seconds.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

impl Tracer {
    fn begin(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<&SpanContext>,
        attributes: Vec<KeyValue>,
        links: Vec<Link>,
    ) -> Span {
        let context = match parent {
            Some(parent) => {
                // The library records what its parent recorded; here the decision was made before.
                Context::new().with_remote_span_context(parent.clone())
            }
            None => Context::new(),
        };
        let builder = self.tracer.span_builder(name).with_kind(kind);
        let builder = builder.with_attributes(attributes).with_links(links);
        Span(Some(Box::new(self.tracer.build_with_context(builder, &context))))
    }
}

/// Runs a statement, or a commit, under a span of its own, and notes how it failed. One that is dropped before it ends was
/// given up.
///
/// # Errors
/// That of `work`.
pub async fn statement<T, E>(
    parent: &Span,
    operation: &'static str,
    table: Option<&'static str>,
    work: impl Future<Output = Result<T, E>>,
    error_type: impl FnOnce(&E) -> Cow<'static, str>,
) -> Result<T, E> {
    if parent.0.is_none() {
        return work.await;
    }
    let mut given_up = GivenUp(parent.statement(operation, table));
    let result = work.await;
    let mut span = std::mem::take(&mut given_up.0);
    if let Err(error) = &result {
        span.fail(error_type(error));
    }
    result
}

/// Fails its span if it is dropped with it.
struct GivenUp(Span);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fail("timeout");
    }
}

fn post_attributes(url: &Url) -> Vec<KeyValue> {
    let (host, port) = (url.host_str(), url.port_or_known_default());
    let mut attributes = vec![KeyValue::new("http.request.method", "POST")];
    attributes.extend(host.map(|host| KeyValue::new("server.address", host.to_owned())));
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    attributes
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn without_an_endpoint_every_span_is_empty() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("traceparent"),
            HeaderValue::from_static(TRACEPARENT),
        )]);
        let trusts = || -> bool { unreachable!("nobody is asked") };
        let request = Span::request("POST", "/a", "https", &headers, trusts);
        assert!(request.0.is_none());
        assert!(Span::wake_up(Some(TRACEPARENT)).0.is_none());
        assert!(Span::round(None, "a", 1).0.is_none());
        assert!(current_trace().is_none());
        let mut sent = HeaderMap::new();
        request.post(&Url::parse("https://a.example").unwrap()).add_to(&mut sent);
        assert!(sent.is_empty());
    }
}
