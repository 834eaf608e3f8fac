//! Extractors that fail as problems; axum's own, which answer in plain text, are banned by lint.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::middleware::ReceivedAt;
use super::problem::{Code, Problem};
use crate::domain::Timestamp;

/// The largest body that is read, in bytes.
pub const BODY_LIMIT: usize = 65_536;

/// How many parameters a query may have; no call has as many. They are compared with one another.
const MAX_PARAMS: usize = 32;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// The parameters of a query string. Each is taken by name; what is left over, or given twice, is refused.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().take(MAX_PARAMS + 1).collect();
        if pairs.len() > MAX_PARAMS {
            let reason = format!("the query has more than {MAX_PARAMS} parameters");
            return Err(Problem::because(Code::InvalidParameter, reason));
        }
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::parameter(&shown(name), "is given twice; give it once"));
            }
        }
        Ok(Self(pairs))
    }
}

impl Params {
    /// Takes one parameter; `None` if it is absent.
    ///
    /// # Errors
    /// A problem that names it, where `parse` refuses.
    pub fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(place) = self.0.iter().position(|(key, _)| key == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(place);
        parse(&value).map(Some).map_err(|error| Problem::parameter(name, error))
    }

    /// Takes `limit`: 1 to 200, 50 where it is absent.
    ///
    /// # Errors
    /// A problem that names it.
    pub fn take_limit(&mut self) -> Result<i64, Problem> {
        let parse = |text: &str| match text.parse() {
            Ok(limit @ 1..=200) => Ok(limit),
            _ => Err("must be a number from 1 to 200"),
        };
        Ok(self.take("limit", parse)?.unwrap_or(50))
    }

    /// Takes `cursor`, as an earlier page gave it.
    ///
    /// # Errors
    /// A problem that names it.
    pub fn take_cursor<T, E>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        const WANTED: &str = "must be the nextCursor of an earlier page";
        self.take("cursor", |text| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| WANTED)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| WANTED)?;
            parse(text).map_err(|_| WANTED)
        })
    }

    /// Refuses what nobody took: a misspelt filter would otherwise be no filter.
    ///
    /// # Errors
    /// A problem that names it.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::parameter(
                &shown(name),
                "is not a parameter of this call; see /docs for those that are",
            )),
            None => Ok(()),
        }
    }
}

/// What takes the place of a text in a page.
pub fn cursor(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A parameter's name is the caller's text: only so much of it, and only plain characters.
fn shown(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '?' }).collect()
}

/// A segment of the path by its name in the route; `None` where the route has none of that name, or its bytes are no text.
pub async fn path_segment(parts: &mut Parts, name: &str) -> Option<String> {
    let [segment] = path_segments(parts, [name]).await;
    segment
}

/// Several segments at once.
pub async fn path_segments<const N: usize>(
    parts: &mut Parts,
    names: [&str; N],
) -> [Option<String>; N] {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok();
    names.map(|name| {
        let (_, value) = params.as_ref()?.iter().find(|(key, _)| *key == name)?;
        Some(value.to_owned())
    })
}

impl<S: Sync> FromRequestParts<S> for ReceivedAt {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| Problem::new(Code::Internal))
    }
}

/// Reads a body of at most [`BODY_LIMIT`] bytes. A declared length is refused before anything is read.
///
/// # Errors
/// `too-large`, `timeout`, or `incomplete-body`.
pub async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if declared.and_then(|text| text.parse().ok()).is_some_and(|n: u64| n > BODY_LIMIT as u64) {
        return Err(Problem::new(Code::TooLarge));
    }
    let read = Limited::new(body, BODY_LIMIT).collect();
    let mut read = pin!(read);
    // Most bodies are there already, and a timer is dear.
    let read = match read.as_mut().now_or_never() {
        Some(read) => Ok(read),
        None => tokio::time::timeout(BODY_PATIENCE, read).await,
    };
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(Code::TooLarge)),
        Ok(Err(_)) => Err(Problem::new(Code::IncompleteBody)),
        Err(_) => Err(Problem::new(Code::Timeout)),
    }
}

/// Reads a body as JSON; an empty one is that of the type's default.
///
/// # Errors
/// As [`read_body`], and `invalid-body`, which says where.
pub async fn read_json<T: DeserializeOwned + Default>(request: Request) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    // A message about data echoes values; only where it is may be told.
    let refuse = |line, column| {
        let reason = format!(
            "the body is not the JSON object of this call, at line {line} column {column}; see /docs"
        );
        Problem::because(Code::InvalidBody, reason)
    };
    // serde takes an array for an object whose members come in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refuse(1, 1));
    }
    serde_json::from_slice(&body).map_err(|error| refuse(error.line(), error.column()))
}

/// Parses a time for [`Params::take`].
///
/// # Errors
/// What is wanted instead.
pub fn timestamp(text: &str) -> Result<Timestamp, crate::domain::InvalidTimestamp> {
    // A `+` of a zone that was not encoded arrives as a space.
    Timestamp::parse(&text.replace(' ', "+"))
}
