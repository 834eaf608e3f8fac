//! The histogram of requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use metrics::{Histogram, describe_histogram, histogram};

use super::RequestLabel;

const REQUESTS: &str = "esim_status_request_duration_seconds";

/// Describes it.
pub(super) fn describe() {
    describe_histogram!(REQUESTS, "Duration of requests, by method, route and status");
}

/// Creates the empty histogram of these requests.
pub fn begin_requests(method: &'static str, route: &'static str, status: u16) {
    drop(request_histogram(method, route, status));
}

/// Records an answered request.
pub fn record_request(request: &RequestLabel, status: u16, took: Duration) {
    /// The histograms of one route by method and status. There are few, so a linear search is fast.
    type OfRoute = Vec<((&'static str, u16), Histogram)>;

    thread_local! {
        /// Looking a histogram up by its labels is expensive, so each thread caches the handles.
        static KNOWN: RefCell<HashMap<String, OfRoute>> = RefCell::default();
    }
    let kind = (request.method, status);
    KNOWN.with_borrow_mut(|known| {
        let histograms = match known.get_mut(&*request.route) {
            Some(histograms) => histograms,
            None => known.entry(request.route.to_string()).or_default(),
        };
        if let Some((_, histogram)) = histograms.iter().find(|(known, _)| *known == kind) {
            histogram.record(took);
            return;
        }
        let histogram = request_histogram(request.method, &request.route, status);
        histogram.record(took);
        histograms.push((kind, histogram));
    });
}

fn request_histogram(method: &'static str, route: &str, status: u16) -> Histogram {
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    histogram!(REQUESTS, &labels)
}
