//! Which traces are recorded.

use opentelemetry::trace::{SpanContext, SpanKind};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    honours_parent: bool,
    ratio: f64,
}

impl Sampling {
    /// Records this share of the traces, from 0 to 1. With `honours_parent`, a trusted caller decides for the traces that it
    /// began.
    pub(super) fn new(honours_parent: bool, ratio: f64) -> Self {
        Self { honours_parent, ratio }
    }

    /// Whether to record a trace that a trusted caller began (`Some`), or that begins here.
    pub(super) fn records(&self, parent: Option<&SpanContext>) -> bool {
        match parent {
            Some(parent) if self.honours_parent => parent.is_sampled(),
            // Every service with this ratio decides alike.
            Some(parent) => {
                let sampler = Sampler::TraceIdRatioBased(self.ratio);
                let (id, kind) = (parent.trace_id(), SpanKind::Server);
                let result = sampler.should_sample(None, id, "", &kind, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            }
            None => rand::random::<f64>() < self.ratio,
        }
    }
}
