//! HTTP: every route, grouped by caller.

mod state;

pub mod webhooks;

mod profiles;

mod views;

mod journey;

mod events;

mod followers;

mod qr;

mod registration;

mod tokens;

mod inquiry;

mod intents;

mod evidence;

mod hooks;

pub mod page;

mod deliveries;

mod summary;

mod changes;

mod export;

mod endpoints;

pub mod endpoint_event;

mod console;

mod callers;

mod credential;

mod catalogue;

pub mod problem;

mod middleware;

mod extract;

mod etag;

mod assets;

mod language;

mod docs;

mod health;

pub mod metrics;

use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use http::{HeaderName, HeaderValue, Method, header};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub use followers::Followers;
pub use health::routes as admin_routes;
pub use hooks::{HookTallies, keep as keep_tallies};
pub use state::{AppState, Draining, Parts};

use crate::store::{ReadError, StoreError};
use problem::{Code, Problem};

/// Every documented route of the public listener.
fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(docs::ApiDoc::openapi())
        // providers
        .routes(routes!(webhooks::accept, webhooks::probe))
        .routes(routes!(webhooks::accept_with_secret, webhooks::probe_with_secret))
        // backends, and a user about their own profile
        .routes(routes!(profiles::show, registration::register, registration::erase))
        .routes(routes!(profiles::history))
        .routes(routes!(journey::show))
        .routes(routes!(intents::note))
        .routes(routes!(events::follow))
        .routes(routes!(qr::svg))
        .routes(routes!(qr::png))
        // backends and support
        .routes(routes!(profiles::list))
        .routes(routes!(changes::list))
        .routes(routes!(export::export))
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(endpoints::show, endpoints::change, endpoints::delete))
        .routes(routes!(endpoints::replay))
        .routes(routes!(tokens::create, tokens::end))
        .routes(routes!(inquiry::ask))
        .routes(routes!(deliveries::of_profile))
        .routes(routes!(evidence::show))
        .routes(routes!(deliveries::list))
        .routes(routes!(summary::show))
        .routes(routes!(hooks::list))
        // anybody
        .routes(routes!(evidence::keys))
}

/// The OpenAPI document of this binary.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut openapi = documented().into_openapi();
    docs::name_problem_type(&mut openapi);
    openapi
}

/// The routes of the public listener.
pub fn routes(app: AppState) -> Router {
    let (routes, _) = documented().split_for_parts();
    let routes = routes
        .merge(swagger_ui())
        .merge(webhooks::with_slashes())
        .route("/problems", get(docs::problems))
        .merge(page::routes())
        .merge(console::routes(&app))
        .fallback(middleware::unknown_path)
        .method_not_allowed_fallback(middleware::method_not_allowed);
    let cors = cors(&app);
    let wrapped = wrap(routes, app);
    match cors {
        Some(cors) => wrapped.layer(cors),
        None => wrapped,
    }
}

/// The page of the API. By default it calls a third party's validator on every host but `localhost`; that is turned
/// off.
fn swagger_ui() -> SwaggerUi {
    let config = Config::default().validator_url("none");
    SwaggerUi::new("/docs").url("/openapi.json", openapi()).config(config)
}

/// Wraps all routes of a listener: catches panics, renders problems, and logs and measures requests.
pub fn wrap(routes: Router<AppState>, app: AppState) -> Router {
    // One layer: each separate layer costs every request a box or two.
    let around = ServiceBuilder::new()
        .layer(from_fn_with_state(app.clone(), middleware::around))
        // Most responses are about a person, so they are not cached by default.
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(CatchPanicLayer::custom(middleware::panicked));
    routes.layer(around).with_state(app)
}

/// How long a browser may cache a preflight. Chrome allows no more.
const PREFLIGHT_AGE: Duration = Duration::from_hours(2);

/// Allows calls from browsers of the configured origins only. Credentials are never cookies.
fn cors(app: &AppState) -> Option<CorsLayer> {
    if app.allowed_origins.is_empty() {
        return None;
    }
    let request_id = HeaderName::from_static("x-request-id");
    Some(
        CorsLayer::new()
            .allow_origin(app.allowed_origins.clone())
            .allow_methods([Method::GET, Method::PUT])
            // Tracing and error libraries add headers to each request. No header gives a page more rights than its
            // token does.
            .allow_headers(AllowHeaders::mirror_request())
            .max_age(PREFLIGHT_AGE)
            .expose_headers([header::DATE, header::ETAG, header::RETRY_AFTER, request_id]),
    )
}

/// Between three and five quarters of `time`, so that clients or streams that were interrupted together do not all
/// return together.
fn spread(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.75..1.25))
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let unreadable = |error: &StoreError| matches!(error, StoreError::Corrupt { .. });
        if matches!(&error, ReadError::Failed(error) if unreadable(error)) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a stored profile cannot be read: look at its row");
            return Self::new(Code::Internal);
        }
        if matches!(error, ReadError::Overloaded) {
            tracing::warn!("a read was refused: more reads wait than can be answered in time");
        }
        // The reader logs that the database is unavailable, once for all callers.
        Self::new(Code::Unavailable)
    }
}
