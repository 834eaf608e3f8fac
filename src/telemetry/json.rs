//! Adds to a log line in JSON the members that `tracing-subscriber` does not write: the causes of errors, and the
//! request.

use std::error::Error;
use std::fmt;
use std::iter::successors;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::request;

/// Adds these members to the lines of another format.
pub(super) struct Whole<T>(pub T);

impl<S, N, T> FormatEvent<S, N> for Whole<T>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    T: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let mut more = Causes::default();
        event.record(&mut more);
        let mut more = more.0;
        request::add_to(&mut more);
        let Some(open) = line.strip_suffix("}\n").filter(|_| !more.is_empty()) else {
            return writer.write_str(&line);
        };
        writer.write_str(open)?;
        for (name, value) in more {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writer.write_str("}\n")
    }
}

/// The causes of each error, outermost first. `tracing-subscriber` writes them in text format and omits them in JSON.
///
/// For the field `error` they are the member `error_sources`. The text format names them with a dot. Some log stores
/// read such a name as a member of an object, and would refuse the line because `error` is a string already.
#[derive(Default)]
struct Causes(Map<String, Value>);

impl Visit for Causes {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let causes: Vec<_> = successors(error.source(), |cause| (*cause).source())
            .map(ToString::to_string)
            .collect();
        if !causes.is_empty() {
            self.0.insert(format!("{}_sources", field.name()), causes.into());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
