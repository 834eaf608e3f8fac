//! Where a span is, and how other processes learn it (W3C Trace Context).

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Where a recorded span is: its trace and its id. What follows from the span names it as its parent, or links to it.
#[derive(Debug, Clone)]
pub struct TraceContext(pub(super) SpanContext);

impl TraceContext {
    /// The context as `traceparent` (W3C Trace Context).
    pub fn traceparent(&self) -> String {
        let (trace, span, flags) = self.ids();
        format!("00-{trace}-{span}-{:02x}", flags.to_u8())
    }

    pub(super) fn ids(&self) -> (TraceId, SpanId, TraceFlags) {
        (self.0.trace_id(), self.0.span_id(), self.0.trace_flags())
    }

    /// The caller's `traceparent` and `tracestate`.
    pub(super) fn received(headers: &HeaderMap) -> Option<Self> {
        let propagator = TraceContextPropagator::new();
        let context = propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
        Some(context.span().span_context().clone()).filter(SpanContext::is_valid).map(Self)
    }

    /// Reads a `traceparent` that this service wrote.
    pub(super) fn parse(traceparent: &str) -> Option<Self> {
        let value = HeaderValue::from_str(traceparent).ok()?;
        Self::received(&HeaderMap::from_iter([(HeaderName::from_static("traceparent"), value)]))
    }

    /// Without the words that a caller may have put beside its trace.
    pub(super) fn without_state(&self) -> Self {
        let (trace, span, flags) = self.ids();
        Self(SpanContext::new(trace, span, flags, self.0.is_remote(), TraceState::default()))
    }

    /// Adds the context to the headers of a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let state = self.0.trace_state().header();
        for (name, value) in [("traceparent", self.traceparent()), ("tracestate", state)] {
            // Without a state there is no header.
            if let Ok(value) = HeaderValue::from_str(&value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        assert_eq!(TraceContext::parse(TRACEPARENT).unwrap().traceparent(), TRACEPARENT);
        for text in ["", "00-4bf9", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            assert!(TraceContext::parse(text).is_none(), "{text}");
        }
    }
}
