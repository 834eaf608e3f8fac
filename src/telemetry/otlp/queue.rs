//! The items of one signal between the code that makes them and the task that sends them. Nobody waits for that task: an
//! item that finds the queue full is lost and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::sender::LastFailure;
use super::settings::Batching;

const LOST: &str = "esim_status_telemetry_lost_total";

/// Describes the counter of what is lost, and creates its series with 0.
pub(in super::super) fn begin_lost() {
    describe_counter!(LOST, "Spans and log lines that did not reach the collector, by signal");
    for signal in ["traces", "logs"] {
        count_lost(signal, 0);
    }
}

fn count_lost(signal: &'static str, items: usize) {
    counter!(LOST, "signal" => signal).increment(items as u64);
}

/// A bounded queue; cheap to clone.
pub(super) struct Queue<T>(Arc<Inside<T>>);

struct Inside<T> {
    items: Mutex<VecDeque<T>>,
    batching: Batching,
    /// Notified when there are enough for a batch.
    filled: Notify,
    signal: &'static str,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({})", self.0.signal)
    }
}

impl<T> Queue<T> {
    pub(super) fn new(signal: &'static str, batching: Batching) -> Self {
        let (items, filled) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inside { items, batching, filled, signal }))
    }

    fn push(&self, item: T) {
        let Inside { items, batching, filled, signal } = &*self.0;
        let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() >= batching.max_queue {
            drop(items);
            count_lost(signal, 1);
            return;
        }
        items.push_back(item);
        if items.len() == batching.max_batch {
            drop(items);
            filled.notify_one();
        }
    }

    /// Takes the oldest items, at most a batch. Also returns whether there are enough left for another one.
    fn take(&self) -> (Vec<T>, bool) {
        let mut items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        let max = self.0.batching.max_batch;
        let count = items.len().min(max);
        let taken = items.drain(..count).collect();
        (taken, items.len() >= max)
    }

    /// Sends what is queued, in batches, until the token is cancelled and the queue is empty.
    pub(super) async fn send(self, outlet: impl Outlet<T>, closing: CancellationToken) {
        let delay = self.0.batching.delay;
        loop {
            tokio::select! {
                () = sleep(delay) => {}
                () = self.0.filled.notified() => {}
                () = closing.cancelled() => {}
            }
            let is_last = closing.is_cancelled();
            loop {
                let (items, are_more) = self.take();
                if items.is_empty() {
                    break;
                }
                let count = items.len();
                if !outlet.send(items).await {
                    count_lost(self.0.signal, count);
                    // What came meanwhile waits for the next turn, unless there is none.
                    if !is_last {
                        break;
                    }
                }
                if !are_more && !is_last {
                    break;
                }
            }
            if is_last {
                return;
            }
        }
    }
}

/// Sends a batch, and returns whether the collector has it.
pub(super) trait Outlet<T>: Send + 'static {
    fn send(&self, items: Vec<T>) -> impl Future<Output = bool> + Send;
}

/// An exporter, and what was last known of its collector.
pub(super) struct Reported<E> {
    pub exporter: E,
    pub signal: &'static str,
    /// The collector's address, without secrets.
    pub to: String,
    pub last_failure: LastFailure,
    /// Whether the collector was away when it was last asked.
    pub is_away: std::sync::atomic::AtomicBool,
}

impl<E> Reported<E> {
    /// Logs an outage once when it begins, and once when it ends.
    fn note(&self, result: &OTelSdkResult) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let (signal, to) = (self.signal, &self.to);
        match result {
            Ok(()) => {
                if self.is_away.swap(false, Relaxed) {
                    tracing::info!(signal, to, "the collector accepts telemetry again");
                }
            }
            Err(error) => {
                let why = self.last_failure.take().unwrap_or_else(|| error.to_string());
                if !self.is_away.swap(true, Relaxed) {
                    tracing::warn!(
                        signal,
                        to,
                        why,
                        "the collector does not accept telemetry: what it does not accept is lost, and nothing else is affected; check OTEL_EXPORTER_OTLP_ENDPOINT"
                    );
                }
            }
        }
        result.is_ok()
    }
}

/// A log line with the scope that wrote it.
pub(super) type Line = (SdkLogRecord, InstrumentationScope);

impl<E: SpanExporter + 'static> Outlet<SpanData> for Reported<E> {
    async fn send(&self, spans: Vec<SpanData>) -> bool {
        self.note(&self.exporter.export(spans).await)
    }
}

impl<E: LogExporter + 'static> Outlet<Line> for Reported<E> {
    async fn send(&self, lines: Vec<Line>) -> bool {
        let lines: Vec<_> = lines.iter().map(|(record, scope)| (record, scope)).collect();
        self.note(&self.exporter.export(LogBatch::new(&lines)).await)
    }
}

impl SpanProcessor for Queue<SpanData> {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogProcessor for Queue<Line> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const BATCHING: Batching =
        Batching { delay: Duration::from_hours(1), max_queue: 5, max_batch: 2 };

    struct Kept(Arc<Mutex<Vec<Vec<u32>>>>, bool);

    impl Outlet<u32> for Kept {
        async fn send(&self, items: Vec<u32>) -> bool {
            self.0.lock().unwrap().push(items);
            self.1
        }
    }

    #[tokio::test]
    async fn a_full_queue_loses_what_comes_and_the_end_sends_the_rest_whatever_fails() {
        for is_accepted in [true, false] {
            let queue = Queue::new("traces", BATCHING);
            (0..9).for_each(|item| queue.push(item));
            let (sent, closing) = (Arc::default(), CancellationToken::new());
            closing.cancel();
            queue.send(Kept(Arc::clone(&sent), is_accepted), closing).await;
            assert_eq!(*sent.lock().unwrap(), [vec![0, 1], vec![2, 3], vec![4]]);
        }
    }

    #[tokio::test]
    async fn a_whole_batch_is_sent_without_the_delay_and_less_than_one_waits() {
        let queue = Queue::new("traces", BATCHING);
        let (sent, closing) = (Arc::<Mutex<Vec<Vec<u32>>>>::default(), CancellationToken::new());
        let sending = tokio::spawn(queue.clone().send(Kept(sent.clone(), true), closing.clone()));
        (0..3).for_each(|item| queue.push(item));
        while sent.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*sent.lock().unwrap(), [vec![0, 1]]);
        closing.cancel();
        sending.await.unwrap();
        assert_eq!(*sent.lock().unwrap(), [vec![0, 1], vec![2]]);
    }
}
