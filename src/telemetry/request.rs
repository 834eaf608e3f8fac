//! Labels each log line with the request that it belongs to.
//!
//! This does not use a span: creating, entering and leaving one costs more than parsing and authenticating a webhook,
//! and few requests write a log line. Instead the label is stored in the task, and is only formatted for a log line.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use serde_json::{Map, Value, json};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use super::trace_context::TraceContext;

tokio::task_local! {
    static CURRENT: RequestLabel;
}

/// The facts about a request that log lines and metrics show.
#[derive(Debug, Clone)]
pub struct RequestLabel {
    /// The request's id, from the caller or created here. It has plain characters only.
    pub id: HeaderValue,
    /// The request's method, or `other`.
    pub method: &'static str,
    /// The pattern of the route that the request matched. Never the path, because paths contain ICCIDs and secrets.
    pub route: Arc<str>,
    /// The request's span, if it is recorded.
    pub trace: Option<TraceContext>,
}

impl RequestLabel {
    /// Runs the request's work. All log lines that it writes are labelled with the request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The id as text.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

/// Adds the current request, if any, to a line of text.
pub(super) struct Named<T>(pub T);

impl<'writer, T: FormatFields<'writer>> FormatFields<'writer> for Named<T> {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let request = CURRENT.try_with(|request| {
            let (id, route) = (request.id(), &request.route);
            format!("request{{id={id} method={} route={route}}} ", request.method)
        });
        if let Ok(request) = request {
            writer.write_str(&request)?;
        }
        self.0.format_fields(writer, fields)
    }
}

/// Calls `work` with the current request, if there is one.
pub(super) fn with_current<T>(work: impl FnOnce(&RequestLabel) -> T) -> Option<T> {
    CURRENT.try_with(work).ok()
}

/// Adds the current request, if any, to the members of a line in JSON: itself, and its span if that is recorded.
pub(super) fn add_to(members: &mut Map<String, Value>) {
    with_current(|request| {
        let object = json!({
            "id": request.id(), "method": request.method, "route": &*request.route,
        });
        members.insert("request".to_owned(), object);
        if let Some(trace) = &request.trace {
            let (trace_id, span_id, _) = trace.ids();
            members.insert("trace_id".to_owned(), trace_id.to_string().into());
            members.insert("span_id".to_owned(), span_id.to_string().into());
        }
    });
}
