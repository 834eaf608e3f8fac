//! The console: pages on which a person at support finds a profile, sees what became of it, and helps its user.
//!
//! They are rendered here from what the calls of the API read, and work without a script. Everybody who sees them has signed in with an API
//! key for the console ([`session`]); every page of a profile and every list of profiles is logged with the name of that key.

mod session;

mod form;

mod shell;

mod sign_in;

mod search;

mod profile;

mod timeline;

mod question;

mod words;

mod body;

mod worklists;

mod overview;

mod endpoints;

mod replay;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};

use super::AppState;
use super::assets::{self, Asset, SCRIPT, STYLE};
use super::problem::{Code, Problem};
use session::Session;

/// The routes of the console.
pub(super) fn routes(app: &AppState) -> Router<AppState> {
    Router::new()
        .nest("/console", below())
        // A nested router does not have the slash at the end.
        .route("/console/", get(search::show).post(search::search))
        .layer(from_fn_with_state(app.clone(), shell::around))
}

fn below() -> Router<AppState> {
    Router::new()
        .route("/", get(search::show).post(search::search))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/profiles/{profile}", get(profile::show))
        .route("/profiles/{profile}/changes", get(profile::changes))
        .route("/profiles/{profile}/evidence", get(profile::evidence))
        .route("/profiles/{profile}/link", post(profile::link))
        .route("/profiles/{profile}/ask", post(profile::ask))
        .route("/profiles/{profile}/erase", post(profile::erase))
        .route("/profiles/{profile}/body", post(body::of_profile))
        .route("/body", post(body::of_outcome))
        .route("/refused", get(worklists::refused))
        .route("/overdue", get(worklists::overdue))
        .route("/hooks", get(overview::hooks))
        .route("/endpoints", get(endpoints::list))
        .route("/endpoints/{id}", get(endpoints::show))
        .route("/endpoints/{id}/on", post(endpoints::switch_on))
        .route("/endpoints/{id}/off", post(endpoints::switch_off))
        .route("/endpoints/{id}/replay", post(replay::replay))
        .route("/funnel", get(overview::funnel))
        .route("/assets/{file}", get(asset))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
}

/// Answers a path that is no page. Somebody who has not signed in is led to the form as from every page, and learns nothing.
async fn unknown_path(_: Session) -> Problem {
    let detail =
        "The console has no page at this address: go to the search, or to one of the pages above.";
    Problem::because(Code::UnknownPath, detail)
}

/// Answers a page that is asked for by another method.
async fn method_not_allowed(_: Session) -> Problem {
    Problem::new(Code::MethodNotAllowed)
}

/// The parts of the pages.
static FILES: LazyLock<[Asset; 2]> = LazyLock::new(|| {
    [
        Asset::new("console.css", STYLE, include_str!("console.css")),
        Asset::new("console.js", SCRIPT, include_str!("console.js")),
    ]
});

/// `GET /console/assets/{file}`: a part of the pages.
async fn asset(request: Request) -> Result<Response, Problem> {
    assets::answer(&*FILES, &request)
}
