//! Extractors that fail as problems. axum's own extractors answer in plain text, so a lint bans them.

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

/// The max number of parameters in a query, more than any call has. The limit is needed because each is compared with
/// all others.
const MAX_PARAMS: usize = 32;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);

/// The parameters of a query string. A handler takes each by name. Unknown and duplicate parameters are refused.
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
                return Err(Problem::parameter(
                    &shown(name),
                    "is given more than once; give it once",
                ));
            }
        }
        Ok(Self(pairs))
    }
}

impl Params {
    /// Takes one parameter; `None` if it is absent.
    ///
    /// # Errors
    /// A problem that names the parameter, if `parse` refuses it.
    pub fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(place) = self.0.iter().position(|(key, _)| key == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(place);
        parse(&value).map(Some).map_err(|error| Problem::parameter(name, error))
    }

    /// Takes `limit`: 1 to 200, by default 50.
    ///
    /// # Errors
    /// A problem that names the parameter.
    pub fn take_limit(&mut self) -> Result<i64, Problem> {
        let parse = |text: &str| match text.parse() {
            Ok(limit @ 1..=200) => Ok(limit),
            _ => Err("must be a number from 1 to 200"),
        };
        Ok(self.take("limit", parse)?.unwrap_or(50))
    }

    /// Takes `cursor`, which is the `nextCursor` of an earlier page.
    ///
    /// # Errors
    /// A problem that names the parameter.
    pub fn take_cursor<T, E>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let wanted = "must be the nextCursor of an earlier page";
        self.take("cursor", |text| read_cursor(text, parse).ok_or(wanted))
    }

    /// Takes `wait`: how long to wait for a change, in seconds; `None` if it is absent.
    ///
    /// # Errors
    /// A problem that names the parameter.
    pub fn take_wait(&mut self) -> Result<Option<Duration>, Problem> {
        self.take("wait", |text| match text.parse() {
            Ok(seconds @ 0..=60) => Ok(Duration::from_secs(seconds)),
            _ => Err("must be a number of seconds from 0 to 60"),
        })
    }

    /// Refuses parameters that the handler did not take. Otherwise a misspelt filter would silently be ignored.
    ///
    /// # Errors
    /// A problem that names the first of them.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::parameter(
                &shown(name),
                "is not a parameter of this call; see /docs for its parameters",
            )),
            None => Ok(()),
        }
    }
}

/// Encodes a position in a list as an opaque cursor.
pub fn cursor(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Decodes a [`cursor`]; `None` if it is not one, or not of this list.
pub fn read_cursor<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    parse(std::str::from_utf8(&bytes).ok()?).ok()
}

/// The caller chooses the name of a parameter, so the answer shows at most 40 characters of it, and only letters and
/// digits.
fn shown(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '?' }).collect()
}

/// A segment of the path by its name in the route; `None` if the route has no such segment or the segment is not UTF-8.
pub async fn path_segment(parts: &mut Parts, name: &str) -> Option<String> {
    let [segment] = path_segments(parts, [name]).await;
    segment
}

/// Several segments of the path by their names in the route.
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

/// Reads a body of at most [`BODY_LIMIT`] bytes. A larger declared length is refused before anything is read.
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
    // Most bodies have arrived already, and a timer is expensive.
    let read = match read.as_mut().now_or_never() {
        Some(read) => Ok(read),
        None => tokio::time::timeout(BODY_TIME, read).await,
    };
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(Code::TooLarge)),
        Ok(Err(_)) => Err(Problem::new(Code::IncompleteBody)),
        Err(_) => Err(Problem::new(Code::Timeout)),
    }
}

/// Reads a body as JSON. An empty body gives the type's default.
///
/// # Errors
/// As [`read_body`], and `invalid-body` with the line and column.
pub async fn read_json<T: DeserializeOwned + Default>(request: Request) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    // serde's messages quote values of the body, so the answer names only the position.
    let refuse = |line, column| {
        let reason = format!(
            "the body is not the JSON object that this call expects, at line {line} column {column}; see /docs"
        );
        Problem::because(Code::InvalidBody, reason)
    };
    // serde also accepts an array, and reads its items as the members of the object in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refuse(1, 1));
    }
    serde_json::from_slice(&body).map_err(|error| refuse(error.line(), error.column()))
}

/// Parses a time for [`Params::take`].
///
/// # Errors
/// The expected format.
pub fn timestamp(text: &str) -> Result<Timestamp, crate::domain::InvalidTimestamp> {
    // The `+` of a time zone arrives as a space if it was not percent-encoded.
    Timestamp::parse(&text.replace(' ', "+"))
}
