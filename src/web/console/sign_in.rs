//! Signing in with an API key, and out.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::super::AppState;
use super::super::middleware::{ReceivedAt, Waited};
use super::super::problem::{Code, Problem};
use super::form::{Fields, Form};
use super::session::{COOKIE, LASTS, Session};
use super::shell::{Shell, base_path, page, see_other};
use crate::telemetry;

/// How many wrong keys are answered concurrently, how long each answer takes, and how long one waits for its turn. So a replica
/// answers eight wrong keys a second at most. A right key never waits: whoever sends wrong ones keeps nobody out.
static TURNS: Semaphore = Semaphore::const_new(4);
const WRONG_TAKES: Duration = Duration::from_millis(500);
const TIME_LIMIT: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "console/sign-in.html")]
struct SignInPage {
    shell: Shell,
    wrong: &'static str,
}

/// `GET /console/sign-in`: the form.
pub(super) async fn show(State(app): State<AppState>) -> Result<Response, Problem> {
    page(&SignInPage { shell: Shell::of_nobody(&app), wrong: "" })
}

/// `POST /console/sign-in`: begins a session.
pub(super) async fn sign_in(
    State(app): State<AppState>,
    ReceivedAt(now): ReceivedAt,
    fields: Fields,
) -> Result<Response, Problem> {
    let Some((session, name)) = Session::begin(&app.access, fields.get("key"), now) else {
        telemetry::count_problem(Code::Forbidden.entry().name);
        let busy =
            "too many wrong keys come at this moment: check yours, and try again in a few seconds";
        let busy = || Problem::because(Code::Unavailable, busy);
        let turn = timeout(TIME_LIMIT, TURNS.acquire()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        tracing::warn!("somebody tried to sign in to the console without a key for it");
        sleep(WRONG_TAKES).await;
        drop(turn);
        let wrong = "This is no API key for the console. Check it for missing characters, or ask your operator for a key with the scope “support”.";
        let mut answer = page(&SignInPage { shell: Shell::of_nobody(&app), wrong })?;
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer.extensions_mut().insert(Waited);
        return Ok(answer);
    };
    tracing::info!(key = name, "somebody signed in to the console");
    let base = base_path(&app);
    Ok((set_cookie(&app, &session, LASTS), see_other(&base)).into_response())
}

/// `POST /console/sign-out`: ends the session, and has the browser forget it.
pub(super) async fn sign_out(State(app): State<AppState>, form: Form) -> Result<Response, Problem> {
    form.session.end(&app).await?;
    tracing::info!(key = form.session.name, "somebody signed out of the console");
    let to = format!("{}/sign-in", base_path(&app));
    Ok((set_cookie(&app, "", 0), see_other(&to)).into_response())
}

fn set_cookie(app: &AppState, value: &str, seconds: i64) -> [(header::HeaderName, String); 1] {
    // A browser drops a `Secure` cookie that comes without TLS.
    let secure = if app.public_url.starts_with("http://") { "" } else { "; Secure" };
    let path = base_path(app);
    let cookie = format!(
        "{COOKIE}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    [(header::SET_COOKIE, cookie)]
}
