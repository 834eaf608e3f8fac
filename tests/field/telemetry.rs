//! Traces and logs by OTLP: what a collector gets, what it never gets, and what a collector that does not work costs.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use esim_status_testing::receiver::Receiver;
use esim_status_testing::service::Service;
use esim_status_testing::turn::{alone, beside_others, measured};
use esim_status_testing::{
    API_KEY, Answer, Client, Database, HOOK_SECRET, TestApp, server, wait_until,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::collector::{Behaviour, Collector, attribute, text, tree};
use super::iccid;

const ICCID: &str = "89972123300991848961";
const IMSI: &str = "260216611193634";
const EID: &str = "89049032123451234512345678901235";
const MATCHING_ID: &str = "K7-Qh2PLm9-04xZ";
/// What a stranger may put beside its trace, and into a header, a query and a body.
const MARKER: &str = "xylophone";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What makes the service send soon.
const SOON: [(&str, &str); 3] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
    ("ESIM_STATUS_ENDPOINT_NETWORKS", "127.0.0.0/8"),
];

/// A service with an empty database.
struct Running {
    service: Service,
    database: Database,
    anybody: Client,
}

impl Running {
    async fn start(more: &[(&str, &str)]) -> Self {
        let database = Database::migrated().await;
        let url = server().url(database.options.get_database().unwrap());
        let service = Service::start_with(&url, &[&SOON, more].concat()).await;
        let anybody = Client::new(format!("http://{}", service.address()));
        Self { service, database, anybody }
    }

    /// Waits until the courier has found that nothing is left: a change that it finds in the same round has no wake-up.
    async fn courier_rests(&self) {
        let rests =
            "SELECT count(*) > 0 AND bool_and(state = 'idle' AND state_change < clock_timestamp() - interval '300 ms')
             FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'esim-status outgoing'";
        wait_until("the courier rests", async || self.database.scalar::<bool>(rests).await).await;
    }

    async fn deliver(&self, iccid: &str, state: &str, traceparent: &str) -> Answer {
        let body = json!({ "iccid": iccid, "profileState": state, "note": MARKER }).to_string();
        let path = format!("{}?{MARKER}=1", TestApp::hook_path());
        let request = self.anybody.request(Method::POST, &path).body(body);
        let request = request.header("traceparent", traceparent).header("x-odd", MARKER);
        Answer::of(request.header("tracestate", format!("odd={MARKER}"))).await
    }

    /// Creates an endpoint, and waits until it is served from the present end.
    async fn with_endpoint(&self) -> Receiver {
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url() }).to_string();
        let created = self.service.backend().post("/v1/endpoints", body).await;
        assert_eq!(created.status, 201, "{}", created.text);
        // The courier begins within two seconds. A change before it shows that it has.
        assert_eq!(self.deliver(&iccid(1), "RELEASED", "").await.status, 200);
        receiver.has_accepted(1).await;
        receiver
    }

    /// Ends the service as an operator would, so that all that is left is sent, and returns how long that took.
    async fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.service.terminate();
        assert!(self.service.ended().await.success());
        begun.elapsed()
    }
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn assert_attributes(span: &Span, wanted: &[(&str, &str)]) {
    for (key, value) in wanted {
        assert_eq!(attribute(&span.attributes, key), *value, "{key} of {}", span.name);
    }
}

/// The only span of this name among those whose parent it is.
async fn child(collector: &Collector, parent: &Span, name: &str) -> Span {
    let span = collector.span(name, |it| it.name == name && it.parent_span_id == parent.span_id);
    let span = span.await;
    assert_eq!(span.trace_id, parent.trace_id, "{name}");
    assert!(
        (parent.start_time_unix_nano..=span.end_time_unix_nano)
            .contains(&span.start_time_unix_nano)
    );
    span
}

/// Opens a live stream of the profile, and waits for its first event.
async fn open_stream(service: &Service) -> TcpStream {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let request = format!(
        "GET /v1/profiles/{ICCID}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, "event: profile").await;
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) {
    let (mut read, mut buffer) = (String::new(), [0; 4_096]);
    while !read.contains(wanted) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "{read}");
        read += &String::from_utf8_lossy(&buffer[..count]);
    }
}

/// The batch of a delivery, with its statements and what it woke; returns the request to the endpoint.
async fn assert_batch(collector: &Collector, request: &Span, write: &Span) -> Span {
    let batch = collector.span("of the batch", |it| it.span_id == write.links[0].span_id).await;
    assert_eq!((batch.name.as_str(), batch.parent_span_id.len()), ("write batch", 0));
    assert_ne!(batch.trace_id, request.trace_id);
    let link = &batch.links[0];
    assert_eq!((&link.trace_id, &link.span_id), (&request.trace_id, &request.span_id));
    assert_attributes(&batch, &[("esim_status.deliveries", "1")]);
    child(collector, &batch, "SELECT profiles").await;
    let commit = child(collector, &batch, "INSERT deliveries").await;
    assert_eq!(commit.kind(), SpanKind::Client);
    let wanted = [
        ("db.system.name", "postgresql"),
        ("db.operation.name", "INSERT"),
        ("db.collection.name", "deliveries"),
    ];
    assert_attributes(&commit, &wanted);
    let wake_up = child(collector, &batch, "receive esim_status_moved").await;
    assert_eq!(wake_up.kind(), SpanKind::Consumer);
    // The stream and the endpoint.
    assert_attributes(&wake_up, &[("esim_status.followers", "2")]);
    child(collector, &wake_up, "send changes").await;
    let round = child(collector, &wake_up, "deliver changes").await;
    let post = child(collector, &round, "POST").await;
    assert_eq!(post.kind(), SpanKind::Client);
    let wanted = [("http.response.status_code", "204"), ("server.address", "127.0.0.1")];
    assert_attributes(&post, &wanted);
    post
}

/// A line of the log has the ids of its request's span, in JSON and at the collector.
async fn assert_line_is_in_its_trace(collector: &Collector, running: &mut Running) {
    let wrong = format!("/webhooks/gigastore/esim-status/{MARKER}");
    assert_eq!(running.anybody.post(&wrong, "{}").await.status, 401);
    let is_refused =
        |it: &Span| attribute(&it.attributes, "esim_status.problem") == "not-authentic";
    let refused = collector.span("of the refused webhook", is_refused).await;
    let ids = (hex::encode(&refused.trace_id), hex::encode(&refused.span_id));
    let is_it = |line: &Value| {
        line["message"] == "webhook not authenticated"
            && line["trace_id"] == ids.0.as_str()
            && line["span_id"] == ids.1.as_str()
    };
    let log = running.service.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert!(lines.any(|line| is_it(&line)), "{ids:?} {log}");

    running.stop().await;
    let lines = collector.lines();
    let line = lines.iter().find(|it| text(it.body.as_ref()) == "webhook not authenticated");
    let line = line.expect("the line reaches the collector");
    assert_eq!((hex::encode(&line.trace_id), hex::encode(&line.span_id)), ids);
    assert_eq!(line.severity_text, "WARN");
    for key in ["reason", "request.id"] {
        assert!(!attribute(&line.attributes, key).is_empty(), "{key}");
    }
    assert!(lines.iter().any(|it| text(it.body.as_ref()) == "ended"), "the last lines come too");
}

fn assert_nobody_is_named(collector: &Collector) {
    for request in collector.requests() {
        assert_eq!(request.headers["authorization"], "Bearer collector-secret");
        let attributes = &request.resources[0].attributes;
        assert_eq!(attribute(attributes, "service.name"), "esim-status");
        assert_eq!(attribute(attributes, "deployment.environment.name"), "test");
        let bytes = String::from_utf8_lossy(&request.body);
        for never in
            [ICCID, IMSI, EID, MATCHING_ID, MARKER, HOOK_SECRET, API_KEY, "order-1", "shop=1"]
        {
            assert!(!bytes.contains(never), "{never} in {bytes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_traced_from_its_sender_to_the_endpoint_and_nobody_is_named() {
    let _turn = beside_others().await;
    let collector = Collector::start().await;
    let mut running = Running::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector-secret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("RUST_LOG", "info,esim_status=debug"),
    ])
    .await;
    let endpoint = running.with_endpoint().await;
    let object = json!({
        "iccid": ICCID, "imsi": IMSI, "eid": EID, "state": "RELEASED", "uid": "order-1",
        "activationCode": format!("LPA:1$smdp.example.com${MATCHING_ID}"),
    });
    let put = running.service.backend().request(Method::PUT, &format!("/v1/profiles/{ICCID}"));
    let put = Answer::of(put.json(&object)).await;
    assert!(put.status.is_success(), "{}", put.text);
    // The wake-up of what follows is not that of the registration, which makes two changes.
    endpoint.has_accepted(3).await;
    let mut stream = open_stream(&running.service).await;
    running.courier_rests().await;

    // A stranger that asks for no record is recorded all the same.
    assert_eq!(running.deliver(ICCID, "INSTALLED", &traceparent("00")).await.outcome(), "moved");
    read_until(&mut stream, "event: transition").await;

    let is_it = |span: &Span| hex::encode(&span.parent_span_id) == PARENT;
    let request = collector.span("of the request", is_it).await;
    assert_eq!(request.name, "POST /webhooks/{provider}/{topic}/{secret}");
    assert_eq!(
        (request.kind(), hex::encode(&request.trace_id).as_str()),
        (SpanKind::Server, TRACE)
    );
    assert_eq!(request.trace_state, "");
    let wanted = [
        ("http.request.method", "POST"),
        ("http.route", "/webhooks/{provider}/{topic}/{secret}"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("error.type", ""),
    ];
    assert_attributes(&request, &wanted);
    child(&collector, &request, "wait for writer").await;
    let write = child(&collector, &request, "write delivery").await;
    assert_attributes(&write, &[("esim_status.outcome", "moved")]);
    let post = assert_batch(&collector, &request, &write).await;
    let delivered = &endpoint.has_accepted(4).await[3];
    let sent = format!("00-{}-{}-01", hex::encode(&post.trace_id), hex::encode(&post.span_id));
    assert_eq!(delivered.header("traceparent"), sent);
    assert_eq!(delivered.header("tracestate"), "");
    measured("the trace of one delivery", format!("\n{}", tree(&collector.spans(), &request)));

    assert_line_is_in_its_trace(&collector, &mut running).await;
    assert_nobody_is_named(&collector);
    assert!(!running.service.log().contains("collector-secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_trace_is_recorded_is_up_to_holders_of_an_api_key_and_not_to_strangers() {
    let _turn = beside_others().await;
    let collector = Collector::start().await;
    let mut running = Running::start(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{}/v1/traces", collector.url())),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_SERVICE_NAME", "status-of-the-shop"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", ""),
    ])
    .await;
    assert_eq!(running.deliver(ICCID, "RELEASED", &traceparent("01")).await.outcome(), "moved");
    let path = format!("/v1/profiles/{ICCID}");
    for (client, flags, status) in [
        (running.anybody.clone(), "01", 401),
        (running.anybody.with_bearer("wrong"), "01", 401),
        (running.service.backend(), "00", 200),
        (running.service.backend(), "01", 200),
    ] {
        let request = client.request(Method::GET, &path).header("traceparent", traceparent(flags));
        let request = request.header("tracestate", "shop=7");
        assert_eq!(Answer::of(request).await.status, status);
    }
    running.service.admin().get("/readyz").await;
    running.stop().await;
    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.name, "GET /v1/profiles/{iccid}");
    assert_eq!(
        (hex::encode(&span.trace_id), hex::encode(&span.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!(span.trace_state, "shop=7");
    assert!(collector.lines().is_empty(), "no endpoint for logs is set");
    let resource = &collector.requests()[0].resources[0];
    assert_eq!(attribute(&resource.attributes, "service.name"), "status-of-the-shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_or_refuses_loses_no_webhook_and_is_logged_once() {
    let _turn = beside_others().await;
    let mut collector = Collector::start().await;
    collector.close().await;
    let mut running = Running::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "5"),
    ])
    .await;
    let lost = async |signal: &str| {
        let metrics = running.service.admin().get("/metrics").await.text;
        let series = format!("esim_status_telemetry_lost_total{{signal=\"{signal}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("the metric exists from the start").parse::<f64>().unwrap()
    };
    let deliver_many = async || {
        for number in 0..30 {
            let answer = running.deliver(&iccid(number), "RELEASED", "").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    deliver_many().await;
    let refusals = || {
        let log = running.service.log();
        let text = "the collector does not accept telemetry";
        let of = |signal: &str| {
            log.lines().filter(|it| it.contains(text) && it.contains(signal)).count()
        };
        (of("traces"), of("logs"))
    };
    wait_until("both outages are logged", async || refusals() == (1, 1)).await;
    // What is wrong is in the line, and the secret parts of the URL are not.
    assert!(running.service.log().contains("Connection refused"), "{}", running.service.log());
    wait_until("spans are lost", async || lost("traces").await > 0.0).await;

    collector.answers(Behaviour::Answers(503));
    collector.open().await;
    deliver_many().await;
    collector.answers(Behaviour::Accepts);
    wait_until("the end of the outage is logged", async || {
        deliver_many().await;
        running.service.log().contains("the collector accepts telemetry again")
    })
    .await;
    assert_eq!(refusals(), (1, 1));
    collector.span("of a batch", |it| it.name == "write batch").await;

    // It goes away for good.
    collector.close().await;
    deliver_many().await;
    let took = running.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_holds_up_neither_webhooks_nor_the_end() {
    let turn = alone().await;
    let collector = Collector::start().await;
    collector.answers(Behaviour::Hangs);
    let mut running = Running::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
    ])
    .await;
    let mut worst = Duration::ZERO;
    for number in 0..100 {
        let begun = Instant::now();
        assert_eq!(running.deliver(&iccid(number), "RELEASED", "").await.status, 200);
        worst = worst.max(begun.elapsed());
    }
    let took = running.stop().await;
    measured("a hanging collector", format!("worst answer {worst:?}, end after {took:?}"));
    assert!(worst < turn.budget(), "{worst:?}");
    assert!(took < Duration::from_secs(4) + turn.slack(), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_endpoint_or_with_exporters_of_none_nothing_is_sent() {
    let _turn = beside_others().await;
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    nobody.set_nonblocking(true).unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    for more in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("OTEL_SDK_DISABLED", "true")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
    ] {
        let mut running = Running::start(more).await;
        let endpoint = running.with_endpoint().await;
        assert_eq!(running.deliver(ICCID, "RELEASED", &traceparent("01")).await.outcome(), "moved");
        let delivered = endpoint.has_accepted(2).await;
        assert!(delivered.iter().all(|it| it.header("traceparent").is_empty()), "{more:?}");
        running.stop().await;
        let log = running.service.log();
        assert!(!log.contains("trace_id") && !log.contains("OTLP"), "{log}");
        let called = nobody.accept();
        assert!(called.is_err(), "{more:?}: {called:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_that_cannot_be_used_costs_the_traces_and_no_webhook() {
    for (variable, value, remedy) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_"),
    ] {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let mut running = Running::start(&[endpoint, (variable, value)]).await;
        assert_eq!(running.deliver(&iccid(0), "RELEASED", "").await.status, 200);
        running.stop().await;
        let log = running.service.log();
        let line = log.lines().find(|line| line.contains("no telemetry is sent"));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(variable) && line.contains(remedy), "{line}");
    }
}
