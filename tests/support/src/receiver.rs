//! The server of a backend that has changes delivered to it: a stand-in that checks signatures, and answers as a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::wait_until;

/// The server.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    inside: Arc<Inside>,
    serving: JoinHandle<()>,
}

struct Inside {
    requests: Mutex<Vec<Received>>,
    rule: Mutex<Rule>,
}

/// How a request is answered.
type Rule = Box<dyn Fn(&Received) -> Reply + Send>;

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Its path and query.
    pub uri: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it came.
    pub raw: Bytes,
    /// The event in it.
    pub event: Value,
    /// Whether it was answered 2xx.
    pub accepted: bool,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(header::HeaderName, String)>,
    delay: Duration,
}

impl Reply {
    /// The status, and nothing else.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        Self { status, headers: Vec::new(), delay: Duration::ZERO }
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// That comes later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl Received {
    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The profile of the change.
    pub fn iccid(&self) -> &str {
        self.event["data"]["iccid"].as_str().unwrap()
    }

    /// The id of the event.
    pub fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }

    /// Kind, profile and new state in one line.
    pub fn line(&self) -> String {
        let data = &self.event["data"];
        let (kind, iccid) = (data["kind"].as_str().unwrap(), self.iccid());
        match data["transition"]["toState"].as_str() {
            Some(state) => format!("{kind} {iccid} {state}"),
            None => format!("{kind} {iccid}"),
        }
    }

    /// Whether the project's own library accepts it with this secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).unwrap().verify(&self.raw, &self.headers).is_ok()
    }
}

impl Receiver {
    /// Starts it. It accepts everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rule: Rule = Box::new(|_| Reply::status(204));
        let inside = Arc::new(Inside { requests: Mutex::default(), rule: Mutex::new(rule) });
        Self { address, serving: serve(listener, inside.clone()), inside }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hooks/esim?shop=1", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers as this says from now on.
    pub fn answers(&self, rule: impl Fn(&Received) -> Reply + Send + 'static) {
        *self.inside.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// Refuses connections, and cuts those that are open.
    pub async fn close(&mut self) {
        self.serving.abort();
        drop((&mut self.serving).await);
    }

    /// Accepts connections again.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = serve(listener, self.inside.clone());
    }

    /// All requests, in the order of their answers.
    pub fn requests(&self) -> Vec<Received> {
        self.inside.requests.lock().unwrap().clone()
    }

    /// Those that were accepted.
    pub fn accepted(&self) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.accepted).collect()
    }

    /// The lines of those that were accepted.
    pub fn lines(&self) -> Vec<String> {
        self.accepted().iter().map(Received::line).collect()
    }

    /// Waits until so many were accepted.
    pub async fn has_accepted(&self, count: usize) -> Vec<Received> {
        wait_until(&format!("{count} changes are accepted"), async || {
            self.accepted().len() >= count
        })
        .await;
        self.accepted()
    }

    /// Waits until there were so many requests.
    pub async fn has_got(&self, count: usize) -> Vec<Received> {
        wait_until(&format!("{count} requests come"), async || self.requests().len() >= count)
            .await;
        self.requests()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inside")
    }
}

fn serve(listener: TcpListener, inside: Arc<Inside>) -> JoinHandle<()> {
    let routes = Router::new().fallback(receive).with_state(inside);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

async fn receive(
    State(inside): State<Arc<Inside>>,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let event = serde_json::from_slice(&raw).unwrap_or_default();
    let (at, uri) = (Instant::now(), uri.to_string());
    let mut received = Received { at, uri, headers, raw, event, accepted: false };
    let reply = (inside.rule.lock().unwrap_or_else(PoisonError::into_inner))(&received);
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    received.accepted = reply.status.is_success();
    inside.requests.lock().unwrap().push(received);
    let mut response = reply.status.into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
