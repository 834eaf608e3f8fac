//! Sends spans and log lines to a collector by OTLP, if the standard variables name one. Otherwise nothing starts.
//!
//! Nothing waits for the collector. Each signal has a bounded queue ([`queue`]) and one task that empties it. While the
//! collector is away, slow, or refuses, what it does not take is lost and counted.

mod settings;

mod sender;

mod queue;

mod lines;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use opentelemetry::logs::LoggerProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogExporter as _, SdkLoggerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(super) use lines::Sent;
pub(super) use queue::begin_lost;

use super::{build, spans};
use queue::{Queue, Reported};
use sender::{LastFailure, Sender};
use settings::{OtlpSettingError, Settings, Target};

/// The name of this service, unless the operator gives it another one.
const NAME: &str = "esim-status";

/// Why telemetry cannot be sent.
#[derive(Debug, thiserror::Error)]
enum OtlpError {
    /// A variable cannot be used.
    #[error(transparent)]
    Setting(#[from] OtlpSettingError),
    /// TLS cannot be set up.
    #[error("the client of the collector cannot be set up")]
    Client(#[from] reqwest::Error),
    /// The exporter refuses its settings.
    #[error("the exporter of telemetry cannot be set up: check the variables OTEL_EXPORTER_OTLP_*")]
    Exporter(#[from] ExporterBuildError),
}

/// The tasks that send. Without an endpoint there are none.
#[derive(Debug, Default)]
pub struct Exporting {
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

/// Sends spans and log lines from now on, if a variable says where. `client` makes the client for a URL.
///
/// A variable that cannot be used is logged, and nothing is sent: platforms set such variables for every container, and a webhook is
/// worth more than a trace.
pub fn export(client: impl Fn(&Url) -> reqwest::Result<reqwest::Client>) -> Exporting {
    try_export(client).unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "no telemetry is sent: correct the variable and start again, or set OTEL_SDK_DISABLED=true");
        Exporting::default()
    })
}

fn try_export(
    client: impl Fn(&Url) -> reqwest::Result<reqwest::Client>,
) -> Result<Exporting, OtlpError> {
    let mut exporting = Exporting::default();
    let Some(settings) = Settings::read(&|name| std::env::var(name).ok())? else {
        return Ok(exporting);
    };
    let resource = resource();
    let origin = |target: &Option<Target>| target.as_ref().map(Target::origin);
    let (traces, logs) = (origin(&settings.traces), origin(&settings.logs));
    if let Some(target) = settings.logs {
        let (queue, last_failure) = (Queue::new("logs", target.batching), LastFailure::default());
        let mut exporter = LogExporter::builder()
            .with_http()
            .with_endpoint(target.url.as_str())
            .with_timeout(target.timeout)
            .with_http_client(Sender::of(&target, client(&target.url)?, &last_failure))
            .build()?;
        exporter.set_resource(&resource);
        let provider = SdkLoggerProvider::builder().with_log_processor(queue.clone()).build();
        lines::begin(provider.logger(NAME));
        exporting.send(queue, Reported::of("logs", &target, exporter, last_failure));
    }
    if let Some(target) = settings.traces {
        let (queue, last_failure) = (Queue::new("traces", target.batching), LastFailure::default());
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(target.url.as_str())
            .with_timeout(target.timeout)
            .with_http_client(Sender::of(&target, client(&target.url)?, &last_failure))
            .build()?;
        exporter.set_resource(&resource);
        // What is not recorded never becomes a span of the library.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(queue.clone())
            .build();
        spans::begin(provider.tracer(NAME), settings.sampling);
        exporting.send(queue, Reported::of("traces", &target, exporter, last_failure));
    }
    tracing::info!(traces, logs, "sending telemetry by OTLP");
    Ok(exporting)
}

impl Exporting {
    fn send<T: Send + 'static>(&mut self, queue: Queue<T>, outlet: impl queue::Outlet<T> + Sync) {
        self.tasks.spawn(queue.send(outlet, self.closing.clone()));
    }

    /// Sends what is left, and gives that up after `limit`.
    pub async fn stop(mut self, limit: Duration) {
        self.closing.cancel();
        let sending = async { while self.tasks.join_next().await.is_some() {} };
        // A collector that does not answer does not hold up the end.
        drop(timeout(limit, sending).await);
    }
}

impl Sender {
    fn of(target: &Target, client: reqwest::Client, last_failure: &LastFailure) -> Self {
        let (headers, timeout) = (target.headers.clone(), target.timeout);
        Self { client, headers, timeout, last_failure: last_failure.clone() }
    }
}

impl<E> Reported<E> {
    fn of(signal: &'static str, target: &Target, exporter: E, last_failure: LastFailure) -> Self {
        let is_away = AtomicBool::new(false);
        Self { exporter, signal, to: target.origin(), last_failure, is_away }
    }
}

/// What all spans and lines of this process have in common: the attributes that the operator sets, and what only the
/// process knows.
fn resource() -> Resource {
    const SERVICE: Key = Key::from_static_str("service.name");
    let asked = Resource::builder().build();
    let is_named =
        asked.get(&SERVICE).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", build::version()))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()))
        .with_attributes(
            asked.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        );
    if is_named { resource } else { resource.with_service_name(NAME) }.build()
}
