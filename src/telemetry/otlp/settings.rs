//! The standard variables of OpenTelemetry that this service honours. An empty variable counts as not set.

use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::super::sampling::Sampling;

/// Reads a variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable has a value that this service cannot use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct OtlpSettingError {
    variable: String,
    // It never contains the value, which may be a secret.
    problem: &'static str,
}

/// What is sent where.
#[derive(Debug)]
pub(super) struct Settings {
    pub traces: Option<Target>,
    pub logs: Option<Target>,
    pub sampling: Sampling,
}

/// Where the data of one signal goes.
#[derive(Debug)]
pub(super) struct Target {
    pub url: Url,
    /// They contain secrets.
    pub headers: HeaderMap,
    /// How long the collector may take over one request.
    pub timeout: Duration,
    pub batching: Batching,
}

/// How items are collected before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batching {
    /// How long an item waits at most while there are too few for a batch.
    pub delay: Duration,
    /// How many items may wait. Further ones are lost.
    pub max_queue: usize,
    /// How many items one request has at most.
    pub max_batch: usize,
}

/// A signal of OpenTelemetry, with the names of its variables.
#[derive(Debug)]
struct Signal {
    /// `TRACES` in `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    name: &'static str,
    /// `OTEL_BSP` in `OTEL_BSP_SCHEDULE_DELAY`.
    batching: &'static str,
    path: &'static str,
    delay_millis: u64,
}

const TRACES: Signal =
    Signal { name: "TRACES", batching: "OTEL_BSP", path: "v1/traces", delay_millis: 5_000 };
const LOGS: Signal =
    Signal { name: "LOGS", batching: "OTEL_BLRP", path: "v1/logs", delay_millis: 1_000 };

/// More than the 2,048 of the specification, because a burst of webhooks makes thousands of spans a second.
const MAX_QUEUE: usize = 8_192;
const MAX_BATCH: usize = 512;
const TIMEOUT_MILLIS: u64 = 10_000;

impl Settings {
    /// Reads the variables. Returns `None` if nothing is to be sent anywhere.
    pub(super) fn read(env: Env<'_>) -> Result<Option<Self>, OtlpSettingError> {
        let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|it| it.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (traces, logs) = (Target::read(&set, &TRACES)?, Target::read(&set, &LOGS)?);
        if traces.is_none() && logs.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { traces, logs, sampling: sampling(&set)? }))
    }
}

impl Target {
    fn read(env: Env<'_>, signal: &Signal) -> Result<Option<Self>, OtlpSettingError> {
        let exporter = format!("OTEL_{}_EXPORTER", signal.name);
        let Some((variable, url)) = endpoint(env, signal)? else { return Ok(None) };
        match env(&exporter).as_deref().map(str::trim) {
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(_) => return Err(wrong(exporter, "must be otlp or none")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                variable,
                "must have no user and password: put credentials into OTEL_EXPORTER_OTLP_HEADERS",
            ));
        }
        match either(env, signal, "PROTOCOL") {
            None => {}
            Some((_, protocol)) if protocol.trim() == "http/protobuf" => {}
            Some((variable, _)) => {
                return Err(wrong(
                    variable,
                    "must be http/protobuf, which is all that this service sends: set it so, and the endpoint to the collector's port for HTTP, usually 4318",
                ));
            }
        }
        match either(env, signal, "COMPRESSION") {
            None => {}
            Some((_, compression)) if ["none", "gzip"].contains(&compression.trim()) => {}
            Some((variable, _)) => return Err(wrong(variable, "must be none or gzip")),
        }
        let headers = match either(env, signal, "HEADERS") {
            Some((variable, text)) => headers(&text).ok_or_else(|| {
                wrong(variable, "must be headers such as authorization=Bearer%20abc,tenant=7")
            })?,
            None => HeaderMap::new(),
        };
        let timeout = match either(env, signal, "TIMEOUT") {
            Some((variable, text)) => positive(variable, &text)?,
            None => TIMEOUT_MILLIS,
        };
        let batching = Batching::read(env, signal)?;
        Ok(Some(Self { url, headers, timeout: Duration::from_millis(timeout), batching }))
    }

    /// The target without anything that may be a secret.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

impl Batching {
    fn read(env: Env<'_>, signal: &Signal) -> Result<Self, OtlpSettingError> {
        let number = |name: &str, usual: u64| {
            let variable = format!("{}_{name}", signal.batching);
            env(&variable).map_or(Ok(usual), |text| positive(variable, &text))
        };
        let size = |name: &str, usual: usize| {
            Ok(usize::try_from(number(name, usual as u64)?).unwrap_or(usize::MAX))
        };
        let max_queue = size("MAX_QUEUE_SIZE", MAX_QUEUE)?;
        Ok(Self {
            delay: Duration::from_millis(number("SCHEDULE_DELAY", signal.delay_millis)?),
            max_queue,
            max_batch: size("MAX_EXPORT_BATCH_SIZE", MAX_BATCH)?.min(max_queue),
        })
    }
}

/// The variable that says where a signal goes, and the URL. That of the signal is complete; the general one is a base.
fn endpoint(env: Env<'_>, signal: &Signal) -> Result<Option<(String, Url)>, OtlpSettingError> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
    let general = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
    let (variable, text) = if let Some(text) = env(&own) {
        (own, text.trim().to_owned())
    } else if let Some(base) = env(&general) {
        (general, format!("{}/{}", base.trim().trim_end_matches('/'), signal.path))
    } else {
        return Ok(None);
    };
    let url = Url::parse(&text).ok();
    match url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host()) {
        Some(url) => Ok(Some((variable, url))),
        None => Err(wrong(variable, "must be a URL such as http://collector:4318")),
    }
}

/// The variable of a signal, or else the one for all signals, with its value.
fn either(env: Env<'_>, signal: &Signal, what: &str) -> Option<(String, String)> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name);
    let general = format!("OTEL_EXPORTER_OTLP_{what}");
    [own, general].into_iter().find_map(|name| env(&name).map(|value| (name, value)))
}

/// Reads `name=value,name=value` with percent-encoded values.
fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_str(name.trim()).ok()?, value);
    }
    Some(headers)
}

fn positive(variable: String, text: &str) -> Result<u64, OtlpSettingError> {
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| wrong(variable, "must be a whole number above 0"))
}

fn wrong(variable: impl Into<String>, problem: &'static str) -> OtlpSettingError {
    OtlpSettingError { variable: variable.into(), problem }
}

/// Which traces are recorded.
fn sampling(env: Env<'_>) -> Result<Sampling, OtlpSettingError> {
    const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let sampler = env(SAMPLER).unwrap_or_else(|| "parentbased_always_on".to_owned());
    let sampler = sampler.trim();
    let root = sampler.strip_prefix("parentbased_");
    let ratio = match root.unwrap_or(sampler) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let asked = env(ARGUMENT).map_or(Ok(1.0), |text| text.trim().parse());
            let ratio = asked.ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| {
                wrong(ARGUMENT, "must be a share from 0 to 1, such as 0.01 for one in a hundred")
            })?
        }
        _ => {
            return Err(wrong(
                SAMPLER,
                "must be always_on, always_off, traceidratio, or one of these after parentbased_",
            ));
        }
    };
    Ok(Sampling::new(root.is_some(), ratio))
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&find).map_err(|error| error.to_string())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_set() {
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_SERVICE_NAME", "a")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")],
        ] {
            assert!(read(variables).unwrap().is_none(), "{variables:?}");
        }
    }

    #[test]
    fn each_signal_may_have_its_own_target_and_empty_variables_are_not_set() {
        let settings = read(&[ENDPOINT]).unwrap().unwrap();
        let (traces, logs) = (settings.traces.unwrap(), settings.logs.unwrap());
        assert_eq!(traces.url.as_str(), "http://collector:4318/v1/traces");
        assert_eq!(logs.url.as_str(), "http://collector:4318/v1/logs");
        assert_eq!(traces.batching.delay, Duration::from_secs(5));
        assert_eq!(logs.timeout, Duration::from_secs(10));

        let settings = read(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/intake?key=abc"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", ""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b = x%20y"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Bearer%20abc"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", ""),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ]);
        let settings = settings.unwrap().unwrap();
        let (traces, logs) = (settings.traces.unwrap(), settings.logs.unwrap());
        assert_eq!(traces.url.as_str(), "https://traces.example/intake?key=abc");
        assert_eq!(traces.origin(), "https://traces.example");
        assert_eq!(traces.headers["authorization"], "Bearer abc");
        assert_eq!(
            (logs.headers["a"].as_bytes(), logs.headers["b"].as_bytes()),
            (&b"1"[..], &b"x y"[..])
        );
        assert_eq!(traces.timeout, Duration::from_millis(1_500));
        assert_eq!((traces.batching.max_queue, traces.batching.max_batch), (100, 100));
        assert!(!format!("{traces:?}").contains("Bearer"), "{traces:?}");
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_its_variable_and_not_shown() {
        let secret = "s3cr3t";
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318/s3cr3t"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cr3t@collector:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=s3cr3t"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
        ] {
            let refused = read(&[(variable, value), ENDPOINT]).unwrap_err();
            assert!(refused.starts_with(variable), "{refused}");
            assert!(!refused.contains(secret), "{refused}");
        }
        let ratio =
            [ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "7")];
        assert!(read(&ratio).unwrap_err().starts_with("OTEL_TRACES_SAMPLER_ARG"));
    }

    #[test]
    fn a_trusted_caller_decides_with_a_sampler_that_honours_parents_and_only_with_that() {
        let sampling = |sampler: &str| {
            let variables =
                [ENDPOINT, ("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", "0.5")];
            read(&variables).unwrap().unwrap().sampling
        };
        let parent = |id: u128, flags| {
            let (trace, span) = (TraceId::from(id), SpanId::from(1));
            SpanContext::new(trace, span, flags, true, TraceState::default())
        };
        let (sampled, not) = (parent(1, TraceFlags::SAMPLED), parent(1, TraceFlags::default()));
        let off = sampling("parentbased_always_off");
        assert!(off.records(Some(&sampled)) && !off.records(Some(&not)) && !off.records(None));
        let on = sampling("parentbased_always_on");
        assert!(on.records(Some(&sampled)) && !on.records(Some(&not)) && on.records(None));
        assert!(sampling("always_on").records(Some(&not)));
        assert!(!sampling("always_off").records(Some(&sampled)));
        let half = sampling("traceidratio");
        assert!(half.records(Some(&not)), "a low trace id is within the half");
        assert!(!half.records(Some(&parent(u128::MAX, TraceFlags::SAMPLED))));
        let share = (0..10_000).filter(|_| half.records(None)).count();
        assert!((4_000..6_000).contains(&share), "{share}");
    }
}
