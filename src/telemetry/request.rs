//! Which request a log line belongs to.
//!
//! Not by a span: to make, enter and leave one costs more than to parse and to prove a webhook, and hardly a request writes a
//! line. So its label goes with the task, and is written when there is a line.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

tokio::task_local! {
    static CURRENT: RequestLabel;
}

/// What a log line, or a metric, says of a request.
#[derive(Debug, Clone)]
pub struct RequestLabel {
    /// Its id: the caller's own, or ours. Plain characters.
    pub id: HeaderValue,
    /// Its method, of those that there are.
    pub method: &'static str,
    /// The pattern of the route that it matched, never the path: a path holds ICCIDs and secrets.
    pub route: Arc<str>,
}

impl RequestLabel {
    /// Does the request's work: what is logged meanwhile names the request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The id as text.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

/// Adds the request, where there is one, to a line of text.
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

/// The request of this line, for JSON.
pub(super) fn in_json() -> Option<serde_json::Value> {
    let object = |request: &RequestLabel| {
        serde_json::json!({
            "id": request.id(), "method": request.method, "route": &*request.route,
        })
    };
    CURRENT.try_with(object).ok()
}
