//! Sends a request to a collector, and notes why that failed.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};

/// How many bytes of an answer are read. A collector answers with a short message, or with nothing.
const MAX_ANSWER: usize = 64 << 10;

/// Why the last request failed.
#[derive(Debug, Clone, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// The client of one signal.
#[derive(Debug)]
pub(super) struct Sender {
    pub client: reqwest::Client,
    pub headers: HeaderMap,
    pub timeout: Duration,
    pub last_failure: LastFailure,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request).await;
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.last_failure.note(format!("it answered {}", answer.status())),
            Err(error) => self.last_failure.note(deepest(error.as_ref()).to_string()),
        }
        answer
    }
}

impl Sender {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        request.headers_mut().extend(self.headers.clone());
        *request.timeout_mut() = Some(self.timeout);
        let mut answer = self.client.execute(request).await.map_err(reqwest::Error::without_url)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(Box::new(ResponseBodyTooLarge::new()));
            }
        }
        let mut read = Response::builder().status(answer.status()).body(body.freeze())?;
        std::mem::swap(read.headers_mut(), answer.headers_mut());
        Ok(read)
    }
}

/// The cause that says most: the outer ones only say that a request failed.
fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}
