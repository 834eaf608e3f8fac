//! The log: the destination, the format and the filter of its lines.

use std::env::{self, VarError};
use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Level, dispatcher};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{json, otlp, request};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// Sends logs to standard error, filtered by `RUST_LOG`. The default format is text on a terminal, otherwise JSON.
pub fn log_to_stderr(format: Option<LogFormat>) {
    let default = if stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    let format = format.unwrap_or(default);
    let asked = env::var(EnvFilter::DEFAULT_ENV);
    let (filter, doubt) = filter(&asked);
    let log = dispatch(format, filter);
    let doubt = doubt.or_else(|| hides_errors(&log, &asked));
    // In tests, a second call has no effect.
    if log.try_init().is_ok()
        && let Some(doubt) = doubt
    {
        // The filter that this line is about must not hide it.
        let unfiltered = dispatch(format, EnvFilter::new("warn"));
        dispatcher::with_default(&unfiltered, || tracing::warn!(RUST_LOG = ?asked, "{doubt}"));
    }
}

/// Returns the filter, and a complaint if `RUST_LOG` is invalid. An empty variable counts as not set.
fn filter(asked: &Result<String, VarError>) -> (EnvFilter, Option<&'static str>) {
    const UNREADABLE: &str = "RUST_LOG cannot be read, so it is `info`: set it to a filter such as `debug` or `info,sqlx=warn`";
    let info = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let parsed = match asked {
        Ok(asked) => info.parse(asked.trim()).ok(),
        Err(VarError::NotPresent) => Some(info.parse_lossy("")),
        Err(VarError::NotUnicode(_)) => None,
    };
    match parsed {
        Some(filter) => (filter, None),
        None => (info.parse_lossy(""), Some(UNREADABLE)),
    }
}

/// Complains if the filter hides errors of this service. A word that is not a level, such as `warning`, is parsed as
/// the name of a crate, and hides everything else.
fn hides_errors(log: &Dispatch, asked: &Result<String, VarError>) -> Option<&'static str> {
    let shows =
        dispatcher::with_default(log, || tracing::enabled!(target: "esim_status", Level::ERROR));
    let meant = asked.as_ref().is_ok_and(|asked| asked.contains("off"));
    (!shows && !meant).then_some(
        "RUST_LOG hides errors of this service: begin with a level, such as `info,sqlx=debug`",
    )
}

fn dispatch(format: LogFormat, filter: EnvFilter) -> Dispatch {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Text => log
            .with_ansi(stderr().is_terminal())
            .with_target(false)
            .fmt_fields(request::Named(DefaultFields::new()))
            .finish()
            .with(otlp::Sent)
            .into(),
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_target(false);
            log.map_event_format(json::Whole).finish().with(otlp::Sent).into()
        }
    }
}
