//! Constant files that pages load, served from the binary.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::etag;
use super::problem::{Code, Problem};

/// The content type of a script.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The content type of a style sheet.
pub const STYLE: &str = "text/css; charset=utf-8";

/// A file.
pub struct Asset {
    name: String,
    content_type: &'static str,
    text: &'static str,
    tag: HeaderValue,
}

impl Asset {
    /// A file with this name, content type and text.
    pub fn new(name: impl Into<String>, content_type: &'static str, text: &'static str) -> Self {
        Self { name: name.into(), content_type, text, tag: etag::of_text(text) }
    }
}

/// Answers with the file that the last segment of the path names.
///
/// # Errors
/// `unknown-path` if none of them has this name.
pub fn answer(files: &[Asset], request: &Request) -> Result<Response, Problem> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let found = files.iter().find(|file| file.name == name);
    let Asset { content_type, text, tag, .. } =
        found.ok_or_else(|| Problem::new(Code::UnknownPath))?;
    let mut response = if etag::names(request.headers(), tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, *content_type)], *text).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    // Browsers revalidate the file on each visit, and get a 304 until a release changes it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
