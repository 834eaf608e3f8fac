//! Helper: a proxy between the page and the service that causes faults. The first segment of the path names the fault;
//! the rest is forwarded to the service, so that every fault also tests a path prefix.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A request that the proxy has received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at: Instant,
    /// The first segment of the path.
    pub fault: String,
    /// The rest of the path, with the query.
    pub path: String,
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    service: SocketAddr,
    client: reqwest::Client,
    asked: Mutex<Vec<Asked>>,
    is_ill: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of this service.
    pub async fn start(service: SocketAddr) -> Self {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let client = client.expect("a client can be made");
        let (asked, is_ill) = (Mutex::default(), AtomicBool::new(true));
        let shared = Arc::new(Shared { service, client, asked, is_ill });
        let router = Router::new().fallback(handle).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared, serving }
    }

    /// The base URL of the service with this fault; ends with a slash.
    pub fn base(&self, fault: &str) -> String {
        format!("http://{}/{fault}/", self.address)
    }

    /// The requests with this fault whose path begins like this.
    pub fn asked(&self, fault: &str, path: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().expect("nobody panicked with it");
        asked.iter().filter(|a| a.fault == fault && a.path.starts_with(path)).cloned().collect()
    }

    /// Ends the fault `ill`.
    pub fn heal(&self) {
        self.shared.is_ill.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let (fault, path) = target[1..].split_once('/').unwrap_or((&target[1..], ""));
    let (fault, path) = (fault.to_owned(), path.to_owned());
    let now = Asked { at: Instant::now(), fault: fault.clone(), path: path.clone() };
    shared.asked.lock().expect("nobody panicked with it").push(now);
    let is_stream = path.ends_with("/events");
    match fault.as_str() {
        "empty" if is_stream => events(stream::empty()),
        "comments" if is_stream => events(comments()),
        "silent" if is_stream => events(stream::pending()),
        "broken" if is_stream => events(stream::iter([Err(io::Error::other("cut"))])),
        "html" | "tags" if is_stream => {
            ([(header::CONTENT_TYPE, "text/html")], "<p>Please log in").into_response()
        }
        "refused" if is_stream => refused(),
        "ill" if path.contains("/journey") && shared.is_ill.load(Ordering::SeqCst) => refused(),
        "old" if path.ends_with("/esim-status.js") => {
            ([(header::CONTENT_TYPE, "text/javascript")], "class { syntax of tomorrow }")
                .into_response()
        }
        "late" if path.contains("/journey") => {
            sleep(Duration::from_millis(500)).await;
            pass(&shared, request, &path).await
        }
        "cut" | "closed" | "short" if is_stream => {
            let response = pass(&shared, request, &path).await;
            end_early(response, &fault)
        }
        _ => {
            let mut response = pass(&shared, request, &path).await;
            if fault == "tags" {
                add_to_tag(&mut response);
            }
            response
        }
    }
}

/// Forwards the request, and streams the answer back.
async fn pass(shared: &Shared, request: Request, path: &str) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let to_service =
        shared.client.request(parts.method, format!("http://{}/{path}", shared.service));
    let Ok(answer) = to_service.headers(parts.headers).body(body).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for of_connection in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(of_connection);
    }
    let chunks = stream::unfold(answer, async |mut answer| {
        Some((answer.chunk().await.transpose()?.map_err(io::Error::other), answer))
    });
    (status, headers, Body::from_stream(chunks)).into_response()
}

/// Changes the entity tag as Apache does when it compresses an answer.
fn add_to_tag(response: &mut Response) {
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(changed) = tag.and_then(|tag| tag.strip_suffix('"')) {
        let changed = HeaderValue::from_str(&format!("{changed}-gzip\"")).expect("still a tag");
        response.headers_mut().insert(header::ETAG, changed);
    }
}

/// Ends a stream that has delivered events: after half a second, in order or not, or after twelve seconds.
fn end_early(response: Response, fault: &str) -> Response {
    let (parts, body) = response.into_parts();
    let life = Duration::from_millis(if fault == "short" { 12_000 } else { 500 });
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(io::Error::other));
    let end = (fault != "closed").then(|| Err(io::Error::other("cut")));
    let comments = stream::select(chunks, comments()).take_until(sleep(life));
    Response::from_parts(parts, Body::from_stream(comments.chain(stream::iter(end))))
}

fn comments() -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::unfold((), async |()| {
        sleep(Duration::from_secs(1)).await;
        Some((Ok(Bytes::from_static(b": still here\n\n")), ()))
    })
}

fn events(parts: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts)).into_response()
}

fn refused() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "3")], "overloaded").into_response()
}
