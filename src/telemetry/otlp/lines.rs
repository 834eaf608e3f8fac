//! Hands the log lines of this process to the logger of OpenTelemetry.

use std::error::Error;
use std::fmt::Debug;
use std::iter::successors;
use std::sync::OnceLock;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, Severity};
use opentelemetry_sdk::logs::SdkLogger;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::super::request;

/// The logger, if lines are sent.
static LOGGER: OnceLock<SdkLogger> = OnceLock::new();

/// Sends the lines from now on.
pub(super) fn begin(logger: SdkLogger) {
    drop(LOGGER.set(logger));
}

/// The layer that hands every line to the logger, once there is one. The filter of the log applies to it too.
pub(in super::super) struct Sent;

/// Crates that write lines while lines are sent: each would cause the next. `log` is the target of all that comes by the crate of that
/// name, which reqwest, rustls and want use.
const OWN: [&str; 5] = ["h2", "hyper", "hyper_util", "log", "opentelemetry"];

impl<S: Subscriber> Layer<S> for Sent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(logger) = LOGGER.get() else { return };
        let metadata = event.metadata();
        let origin = metadata.target().split("::").next().unwrap_or_default();
        if OWN.contains(&origin) {
            return;
        }
        let mut record = logger.create_log_record();
        record.set_target(metadata.target());
        let (severity, text) = severity(*metadata.level());
        record.set_severity_number(severity);
        record.set_severity_text(text);
        event.record(&mut Fields(&mut record));
        request::with_current(|request| {
            record.add_attribute("request.id", request.id().to_owned());
            record.add_attribute("http.request.method", request.method);
            record.add_attribute("http.route", request.route.to_string());
            if let Some(trace) = &request.trace {
                let (trace_id, span_id, flags) = trace.ids();
                record.set_trace_context(trace_id, span_id, Some(flags));
            }
        });
        logger.emit(record);
    }
}

fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::TRACE => (Severity::Trace, "TRACE"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::ERROR => (Severity::Error, "ERROR"),
    }
}

/// Copies the fields of a line. The message becomes the body; an error is a text with its causes beside it, as in the log
/// in JSON.
struct Fields<'a, R>(&'a mut R);

impl<R: LogRecord> Fields<'_, R> {
    fn add(&mut self, field: &Field, value: impl Into<AnyValue>) {
        self.0.add_attribute(field.name(), value);
    }
}

impl<R: LogRecord> Visit for Fields<'_, R> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.set_body(format!("{value:?}").into());
        } else {
            self.add(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.set_body(value.to_owned().into());
        } else {
            self.add(field, value.to_owned());
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.add(field, error.to_string());
        let causes = successors(error.source(), |cause| (*cause).source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        if !causes.is_empty() {
            self.0.add_attribute(format!("{}_sources", field.name()), causes.join("; "));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.add(field, value),
            Err(_) => self.add(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}
