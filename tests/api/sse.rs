//! Helper: a client of a profile's event stream that parses Server-Sent Events as a browser does.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use esim_status_testing::Client;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// One block of an event stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frame {
    /// Its `id`.
    pub id: Option<i64>,
    /// Its `event`; empty for a comment.
    pub event: String,
    /// Its `data`.
    pub data: Value,
    /// Its `retry`, in milliseconds.
    pub retry: Option<u64>,
    /// The text of its last comment.
    pub comment: Option<String>,
}

/// An open stream.
pub(crate) struct Events {
    /// The headers of the answer.
    pub headers: HeaderMap,
    chunks: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: String,
}

impl Events {
    /// Opens the stream of a profile.
    pub(crate) async fn open(client: &Client, whose: &str) -> Self {
        Self::request(client, whose, None).await
    }

    /// Opens the stream and resumes after the last event that was seen.
    pub(crate) async fn resume(client: &Client, whose: &str, last_event_id: &str) -> Self {
        Self::request(client, whose, Some(last_event_id)).await
    }

    async fn request(client: &Client, whose: &str, last_event_id: Option<&str>) -> Self {
        Self::try_open(client, whose, last_event_id).await.expect("the stream opens")
    }

    /// `None` if there is no answer, or one with another status than 200.
    pub(crate) async fn try_open(
        client: &Client,
        whose: &str,
        last_event_id: Option<&str>,
    ) -> Option<Self> {
        Self::open_at(client, &format!("/v1/profiles/{whose}/events"), last_event_id).await
    }

    /// The same with this path, which may have a query.
    pub(crate) async fn open_at(
        client: &Client,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Option<Self> {
        let mut request = client.request(Method::GET, path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.ok().filter(|response| response.status() == 200)?;
        let headers = response.headers().clone();
        Some(Self { headers, chunks: Box::pin(response.bytes_stream()), buffer: String::new() })
    }

    /// The next block, including comments; `None` when the stream has ended or was cut.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let frame = Frame::parse(&self.buffer[..end]);
                self.buffer.drain(..end + 2);
                return Some(frame);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.chunks.next()).await;
            let chunk = chunk.expect("the stream sends something at least every 15 s")?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("the stream is UTF-8"));
        }
    }

    /// The next event, without heartbeats.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if !frame.event.is_empty() || frame.retry.is_some() {
                return Some(frame);
            }
        }
    }

    /// The next event; fails if the stream has ended.
    pub(crate) async fn event(&mut self) -> Frame {
        self.next().await.expect("the stream continues")
    }

    /// Asserts that only a retry hint follows, and returns its comment.
    pub(crate) async fn ending(&mut self) -> String {
        let last = self.event().await;
        assert!(last.event.is_empty() && last.id.is_none(), "{last:?}");
        let retry = last.retry.expect("the last block has a `retry`");
        assert!((500..=2_000).contains(&retry), "{retry}");
        assert_eq!(self.frame().await, None);
        assert_eq!(self.buffer, "");
        last.comment.unwrap_or_default()
    }
}

impl Frame {
    fn parse(block: &str) -> Self {
        let mut frame = Self::default();
        for line in block.lines() {
            let (field, value) = line.split_once(':').expect("every line has a field");
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => frame.comment = Some(value.to_owned()),
                "id" => frame.id = Some(value.parse().expect("an id is a seq")),
                "event" => value.clone_into(&mut frame.event),
                "data" => frame.data = serde_json::from_str(value).expect("data is JSON"),
                "retry" => frame.retry = Some(value.parse().expect("a number of milliseconds")),
                other => panic!("unknown field: {other}"),
            }
        }
        frame
    }
}
