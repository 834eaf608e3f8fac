//! An HTTP client for one listener, and its answers.

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client of one listener.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    bearer: Option<String>,
    http: reqwest::Client,
}

/// An answer, read completely.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Client {
    /// A client of the listener at `base`, without a credential.
    ///
    /// # Panics
    /// If no client can be created.
    pub fn new(base: impl Into<String>) -> Self {
        // reqwest's features are unified with the service's, which needs TLS, so a provider must be installed.
        drop(rustls::crypto::ring::default_provider().install_default());
        let redirect = reqwest::redirect::Policy::none();
        // No certificate is verified here, and loading the system's certificates takes longer than most tests.
        let builder = reqwest::Client::builder().redirect(redirect).no_proxy();
        let http = builder.tls_certs_only([]).build();
        Self { base: base.into(), bearer: None, http: http.expect("a client can be created") }
    }

    /// The same client with a bearer credential.
    #[must_use]
    pub fn with_bearer(&self, credential: impl Into<String>) -> Self {
        Self { bearer: Some(credential.into()), ..self.clone() }
    }

    /// A request to complete and send with [`Answer::of`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.bearer {
            Some(credential) => request.bearer_auth(credential),
            None => request,
        }
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Gets `path` with one more header.
    pub async fn get_with(&self, path: &str, name: &str, value: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).header(name, value)).await
    }

    /// Posts `body` to `path`.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.request(Method::POST, path).body(body)).await
    }
}

impl Answer {
    /// Sends the request and reads the answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("the body arrives");
        Self { status, headers, text }
    }

    /// Checks the status, and shows the whole answer if it is another.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    /// One header as text; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Checks that the answer is a well-formed problem document, and returns its member `code`.
    ///
    /// # Panics
    /// If the answer is not a well-formed problem document.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{self:?}");
        assert_eq!(problem["requestId"], self.header("x-request-id"), "{self:?}");
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        }
        problem["code"].as_str().map(str::to_owned).unwrap_or_default()
    }

    /// The member `outcome` of an accepted webhook.
    pub fn outcome(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()["outcome"].as_str().map(str::to_owned).unwrap_or_default()
    }
}
