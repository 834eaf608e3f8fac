//! The install page and its parts, served from the binary. The token is in the URL's fragment, which browsers never
//! send. So the page is the same for everyone, and nothing in it is secret.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use tower_http::compression::CompressionLayer;

use super::problem::{Code, Problem};
use super::{AppState, etag};
use crate::config::Brand;

const PAGE: &str = include_str!("install.html");

const ROOT: &str = include_str!("root.html");

const SCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE: &str = "text/css; charset=utf-8";

/// One module to embed in other pages, assembled from parts that can be read separately.
const MODULE: &str = concat!(
    include_str!("esim-status/ask.js"),
    include_str!("esim-status/follow.js"),
    include_str!("esim-status/words.js"),
    "\nconst LOOK = `",
    include_str!("esim-status/look.css"),
    "`;\n\n",
    include_str!("esim-status/tools.js"),
    include_str!("esim-status/element.js"),
);

/// The parts: name, content type, text.
const ASSETS: [(&str, &str, &str); 4] = [
    ("esim-status.js", SCRIPT, MODULE),
    // For browsers without constructable style sheets. The policy forbids style elements.
    ("esim-status.css", STYLE, include_str!("esim-status/look.css")),
    ("install.js", SCRIPT, include_str!("install.js")),
    ("install.css", STYLE, include_str!("install.css")),
];

/// Everything comes from this origin, nothing is inline, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page and its parts. Compression is safe here: they contain no secrets, so their compressed length
/// reveals none.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(root))
        .route("/install", get(install))
        .route("/assets/{file}", get(asset))
        .layer(CompressionLayer::new())
}

/// `GET /install`: the page, the same for every user. The token stays in the browser.
async fn install(State(app): State<AppState>) -> Response {
    let Brand { name, color, support_url } = &app.brand;
    let name = if name.is_empty() { "Your eSIM" } else { name.as_str() };
    let page = PAGE
        .replace("{{brand_color}}", &escape(color))
        .replace("{{support_url}}", &escape(support_url))
        .replace("{{brand_name}}", &escape(name));
    html(page)
}

/// `GET /`: what this is and where to go, for those who open the base URL.
async fn root() -> Response {
    html(ROOT.to_owned())
}

fn html(page: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page).into_response()
}

/// `GET /assets/{file}`: a part of the page, or the module that other pages embed.
async fn asset(request: Request) -> Result<Response, Problem> {
    static TAGS: LazyLock<[HeaderValue; 4]> =
        LazyLock::new(|| ASSETS.map(|(.., text)| etag::of_text(text)));
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let found = ASSETS.iter().zip(TAGS.iter()).find(|((known, ..), _)| *known == name);
    let ((_, content_type, text), tag) = found.ok_or_else(|| Problem::new(Code::UnknownPath))?;
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

/// Escapes a text for HTML, as an attribute's value or as content.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
