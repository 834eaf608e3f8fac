//! The install page and its parts, served from the binary. The token is in the URL's fragment, which browsers never
//! send. So the page is the same for everyone who reads the same language, and nothing in it is secret.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Uri, header};
use tower_http::compression::CompressionLayer;

use super::assets::{self, Asset, SCRIPT, STYLE};
use super::middleware::HTML;
use super::problem::Problem;
use super::{AppState, language};
use crate::config::Brand;
use crate::texts::Language;

const PAGE: &str = include_str!("install.html");

const ROOT: &str = include_str!("root.html");

const JSON: &str = "application/json";

/// One module to embed in other pages, assembled from parts that can be read separately.
const MODULE: &str = concat!(
    include_str!("esim-status/ask.js"),
    include_str!("esim-status/follow.js"),
    "\nconst ENGLISH = ",
    include_str!("../../texts/en.json"),
    ";\n",
    include_str!("esim-status/words.js"),
    "\nconst LOOK = `",
    include_str!("esim-status/look.css"),
    "`;\n\n",
    include_str!("esim-status/tools.js"),
    include_str!("esim-status/phone.js"),
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

/// `GET /install`: the page, in the language of its reader. The token stays in the browser.
async fn install(State(app): State<AppState>, uri: Uri, headers: HeaderMap) -> Response {
    let Brand { name, color, support_url } = &app.brand;
    let language = language::of_reader(uri.query(), &headers);
    let early = &language.texts().early;
    let name = if name.is_empty() { early.name } else { name.as_str() };
    let preload = match language {
        Language::English => String::new(),
        other => format!(
            "<link rel=\"preload\" as=\"fetch\" crossorigin href=\"assets/{}\">",
            file_of(other)
        ),
    };
    let page = PAGE
        .replace("{{language}}", language.tag())
        .replace("{{direction}}", language.direction())
        .replace("{{preload}}", &preload)
        .replace("{{loading}}", &escape(early.loading))
        .replace("{{stuck}}", &escape(early.stuck))
        .replace("{{no_script}}", &escape(early.no_script))
        .replace("{{footer}}", &escape(early.footer))
        .replace("{{brand_color}}", &escape(color))
        .replace("{{support_url}}", &escape(support_url))
        .replace("{{brand_name}}", &escape(name));
    let mut response = html(page);
    language::label(response.headers_mut(), language);
    response
}

/// The name of the file that has the texts of `<esim-install>` in a language.
fn file_of(language: Language) -> String {
    format!("esim-status.{}.json", language.tag())
}

/// `GET /`: what this is and where to go, for those who open the base URL.
async fn root() -> Response {
    html(ROOT.to_owned())
}

fn html(page: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HTML),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page).into_response()
}

/// The parts, and the texts of every language but English, which is in the module.
static FILES: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let parts = ASSETS.map(|(name, content_type, text)| Asset::new(name, content_type, text));
    let others = Language::ALL.iter().filter(|it| **it != Language::English);
    parts.into_iter().chain(others.map(|it| Asset::new(file_of(*it), JSON, it.page()))).collect()
});

/// `GET /assets/{file}`: a part of the page, or the module that other pages embed.
async fn asset(request: Request) -> Result<Response, Problem> {
    assets::answer(&FILES, &request)
}

/// Escapes a text for HTML, as an attribute's value or as content.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
