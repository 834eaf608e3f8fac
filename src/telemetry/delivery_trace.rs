//! The spans of one delivery, which pass from task to task with it.

use opentelemetry::trace::SpanKind;

use super::spans::{Span, current_trace};
use super::trace_context::TraceContext;

/// A delivery that is recorded, from its queue to its answer.
#[derive(Debug)]
pub struct DeliveryTrace {
    request: TraceContext,
    /// What it does now: it waits for its writer, or is written.
    now: Span,
}

impl DeliveryTrace {
    /// The delivery of the request that this task serves begins to wait for its writer.
    pub fn begin() -> Option<Box<Self>> {
        let request = current_trace()?;
        let now = Span::after(Some(&request), "wait for writer", SpanKind::Internal, Vec::new);
        Some(Box::new(Self { request, now }))
    }

    /// The span of its request.
    pub fn request(&self) -> &TraceContext {
        &self.request
    }

    /// A writer has taken it, in this batch. The span of its writing links to that of the batch.
    pub fn taken_by(&mut self, batch: &Span) {
        // The former span ends first.
        self.now = Span::default();
        self.now = Span::after(Some(&self.request), "write delivery", SpanKind::Internal, Vec::new);
        self.now.link(batch.context().as_ref());
    }

    /// It waits again, for a profile that another transaction holds.
    pub fn waits_for_lock(&mut self) {
        self.now = Span::default();
        self.now =
            Span::after(Some(&self.request), "wait for profile", SpanKind::Internal, Vec::new);
    }

    /// It is answered: with an outcome, or with the reason why there is none.
    pub fn ends(mut self, outcome: Result<&'static str, &'static str>) {
        let mut now = std::mem::take(&mut self.now);
        match outcome {
            Ok(outcome) => now.set("esim_status.outcome", outcome),
            Err(error) => now.fail(error),
        }
    }
}

/// One that is dropped without an answer has waited too long.
impl Drop for DeliveryTrace {
    fn drop(&mut self) {
        self.now.fail("given_up");
    }
}
