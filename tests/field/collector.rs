//! A collector of OpenTelemetry: an HTTP server that takes OTLP as protobuf, and keeps it as bytes and decoded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use esim_status_testing::wait_until;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The server. It ends with the test.
pub(crate) struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    requests: Mutex<Vec<Request>>,
    behaviour: Mutex<Behaviour>,
}

/// How it answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Behaviour {
    /// It accepts everything.
    #[default]
    Accepts,
    /// It answers with this status.
    Answers(u16),
    /// It never answers.
    Hangs,
}

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Request {
    pub headers: HeaderMap,
    pub body: Bytes,
    spans: Vec<Span>,
    lines: Vec<LogRecord>,
    pub resources: Vec<Resource>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, kept) = (listener.local_addr().unwrap(), Arc::<Kept>::default());
        Self { address, serving: serve(listener, kept.clone()), kept }
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answers(&self, behaviour: Behaviour) {
        *self.kept.behaviour.lock().unwrap() = behaviour;
    }

    /// Refuses connections from now on.
    pub(crate) async fn close(&mut self) {
        self.serving.abort();
        drop((&mut self.serving).await);
    }

    /// Accepts connections again.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = serve(listener, self.kept.clone());
    }

    /// Everything that it got.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.kept.requests.lock().unwrap().clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.requests().into_iter().flat_map(|request| request.spans).collect()
    }

    pub(crate) fn lines(&self) -> Vec<LogRecord> {
        self.requests().into_iter().flat_map(|request| request.lines).collect()
    }

    /// Waits for a span, and returns it.
    pub(crate) async fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        let find = || self.spans().into_iter().find(|span| is_it(span));
        wait_until(&format!("the span {what} comes"), async || find().is_some()).await;
        find().unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn serve(listener: TcpListener, kept: Arc<Kept>) -> JoinHandle<()> {
    let routes = Router::new().route("/v1/traces", post(traces)).route("/v1/logs", post(logs));
    let routes = routes.with_state(kept);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

async fn traces(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let decoded = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    let (mut spans, mut resources) = (Vec::new(), Vec::new());
    for of_resource in decoded.resource_spans {
        resources.extend(of_resource.resource);
        spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    answer(&kept, Request { headers, body, spans, lines: Vec::new(), resources }).await
}

async fn logs(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let decoded = ExportLogsServiceRequest::decode(&body[..]).unwrap();
    let (mut lines, mut resources) = (Vec::new(), Vec::new());
    for of_resource in decoded.resource_logs {
        resources.extend(of_resource.resource);
        lines.extend(of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records));
    }
    answer(&kept, Request { headers, body, spans: Vec::new(), lines, resources }).await
}

async fn answer(kept: &Kept, request: Request) -> StatusCode {
    let behaviour = *kept.behaviour.lock().unwrap();
    match behaviour {
        Behaviour::Accepts => {
            kept.requests.lock().unwrap().push(request);
            StatusCode::OK
        }
        Behaviour::Answers(status) => StatusCode::from_u16(status).unwrap(),
        Behaviour::Hangs => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            StatusCode::OK
        }
    }
}

/// An attribute as text; empty if it is absent.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key);
    found.map(|it| text(it.value.as_ref())).unwrap_or_default()
}

/// A value as text.
pub(crate) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    }
}

/// The spans below a parent as a tree, with what each took; what another trace has that is linked to is below its link.
pub(crate) fn tree(spans: &[Span], root: &Span) -> String {
    fn add(spans: &[Span], span: &Span, depth: usize, text: &mut String) {
        use std::fmt::Write;
        let micros = (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000;
        let shown = ["http.response.status_code", "esim_status.outcome", "esim_status.deliveries"];
        let shown: Vec<_> = shown.map(|key| attribute(&span.attributes, key)).into();
        let indent = "  ".repeat(depth);
        writeln!(text, "{indent}{} {micros} µs {}", span.name, shown.join(" ").trim()).unwrap();
        for link in span.links.iter().filter(|_| span.name == "write delivery") {
            for linked in spans.iter().filter(|it| it.span_id == link.span_id) {
                writeln!(text, "{indent}  → links to").unwrap();
                add(spans, linked, depth + 2, text);
            }
        }
        let mut children: Vec<_> = spans
            .iter()
            .filter(|it| it.parent_span_id == span.span_id && it.trace_id == span.trace_id)
            .collect();
        children.sort_by_key(|child| child.start_time_unix_nano);
        for child in children {
            add(spans, child, depth + 1, text);
        }
    }
    let mut text = String::new();
    add(spans, root, 0, &mut text);
    text
}
