//! `POST /webhooks/{provider}/{topic}`: the hooks that providers deliver to.
//!
//! Order of work: path → headers → body, bounded → authentication of the raw bytes → strict parse → durable write (by a
//! writer, to the database or to the spool) → answer. Nothing touches the database before the sender is authenticated,
//! and nothing is answered 2xx before it is durable.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

use super::AppState;
use super::extract::{path_segment, path_segments, read_body};
use super::middleware::{ReceivedAt, new_id, unknown_path};
use super::problem::{Code, Problem, ProblemDocument};
use crate::delivery::{Delivery, NotAuthentic};
use crate::domain::Outcome;
use crate::hook::Hook;
use crate::ingest::{Accepted, Arrival, Receipt, Spooled, Submission, SubmitError};
use crate::providers::Provider;
use crate::telemetry::{self, Seldom};

/// The hook that a request's path names, and the secret segment of the path, if it has one.
#[derive(Debug)]
pub struct HookPath {
    hook: Arc<Hook>,
    secret: Option<String>,
}

impl FromRequestParts<AppState> for HookPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let names = ["provider", "topic", "secret", "rest"];
        let [provider, topic, secret, rest] = path_segments(parts, names).await;
        let (provider, topic) = (provider.unwrap_or_default(), topic.unwrap_or_default());
        let hook = app.hooks.get(format!("{provider}/{topic}").as_str()).ok_or_else(|| {
            if parts.method == Method::POST {
                note_unknown(app, &provider);
            }
            Problem::new(Code::UnknownHook)
        })?;
        let secret = match rest {
            // The secret has a slash in it, as base64 may have, or a portal has added one at the end.
            Some(rest) => {
                secret.map(|it| format!("{it}/{}", rest.strip_suffix('/').unwrap_or(&rest)))
            }
            None => secret,
        };
        Ok(Self { hook: Arc::clone(hook), secret })
    }
}

/// Counts and logs a webhook to a path that is no hook, if it names a provider: that provider's portal may have a wrong
/// URL, and all that it sends is lost. Strangers who try paths name none.
fn note_unknown(app: &AppState, provider: &str) {
    static SELDOM: Seldom = Seldom::new();
    let Some(provider) = app.providers.find(provider).map(Provider::slug) else { return };
    telemetry::count_unknown_hook(provider, 1);
    if let Some(left_out) = SELDOM.due() {
        tracing::warn!(provider, left_out, "webhook to a path that is no hook");
    }
}

/// Limits the log lines, separately for each reason, because anyone can send such webhooks at any rate.
static NOT_AUTHENTIC: [Seldom; NotAuthentic::ALL.len()] =
    [const { Seldom::new() }; NotAuthentic::ALL.len()];

// All webhooks come here, also through `accept_with_secret`, which is a separate handler only because the OpenAPI document needs
// both paths. The next line is a text of that document.
/// Receives one webhook. The sender authenticates by a signature or a secret header.
#[utoipa::path(
    post, path = "/webhooks/{provider}/{topic}", operation_id = "receive", tag = "webhooks",
    params(("provider" = String, Path), ("topic" = String, Path)),
    request_body(content = String, content_type = "application/json", description = "The provider's body, as raw bytes"),
    responses(WebhookResponses)
)]
pub(super) async fn accept(
    State(app): State<AppState>,
    HookPath { hook, secret }: HookPath,
    ReceivedAt(received_at): ReceivedAt,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_plain_body(&parts.headers, body).await;
    let body = body.inspect_err(|problem| app.tallies.log_unread(&hook.path, problem))?;
    let id = new_id(received_at);
    let delivery = Delivery::new(id, received_at, hook.path.clone(), secret, parts.headers, body)
        .also_storing(hook.provider.headers());
    let delivery = hook.authenticator.check(delivery).map_err(|refusal| {
        telemetry::count_not_authentic(&hook.path, refusal.as_str());
        app.tallies.refused(&hook.path, received_at, refusal);
        if let Some(left_out) = NOT_AUTHENTIC[refusal as usize].due() {
            tracing::warn!(
                hook = %hook.path,
                reason = refusal.as_str(),
                left_out,
                "webhook not authenticated"
            );
        }
        Problem::new(Code::NotAuthentic)
    })?;
    let parsed = hook.read(&delivery);
    let submission =
        Submission { delivery, provider: hook.provider.slug(), parsed, arrival: Arrival::Direct };

    let accepted = app.ingest.submit(submission).await.map_err(|error| match error {
        SubmitError::Rejected => Problem::new(Code::Internal),
        SubmitError::Overloaded
        | SubmitError::ShuttingDown
        | SubmitError::SpoolFull
        | SubmitError::Unavailable => {
            Problem::because(Code::Unavailable, format!("{error}; retry the webhook"))
        }
    })?;
    let malformed = |reason, id| Err(Problem::because(Code::Malformed, reason).of_delivery(id));
    app.tallies.accepted(&hook.path, received_at);
    match accepted {
        Accepted::Committed(Receipt { delivery_id, outcome, reason }) => {
            if outcome == Outcome::Malformed {
                return malformed(reason.unwrap_or_default(), delivery_id);
            }
            Ok(Json(WebhookAnswer { delivery_id, outcome }).into_response())
        }
        Accepted::Spooled(Spooled { delivery_id, malformed: Some(reason) }) => {
            malformed(reason, delivery_id)
        }
        Accepted::Spooled(Spooled { delivery_id, malformed: None }) => {
            let outcome = SpooledOutcome::Spooled;
            let answer = SpooledAnswer { delivery_id, outcome };
            Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
        }
    }
}

/// Reads a body and refuses a compressed one. The signature covers the bytes on the wire, and a small body may
/// decompress to a huge one.
async fn read_plain_body(headers: &HeaderMap, body: Body) -> Result<bytes::Bytes, Problem> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_coding =
        |word: &[u8]| CODINGS.iter().any(|it| it.eq_ignore_ascii_case(word.trim_ascii()));
    if words.any(is_coding) {
        return Err(Problem::new(Code::UnsupportedEncoding));
    }
    read_body(headers, body).await
}

/// The codings that change the bytes of a body (IANA, HTTP Content Coding Registry). Some senders put other words into
/// the header, such as `UTF-8`, or nothing. Those are ignored.
const CODINGS: [&[u8]; 12] = [
    b"gzip",
    b"x-gzip",
    b"deflate",
    b"compress",
    b"x-compress",
    b"br",
    b"zstd",
    b"dcb",
    b"dcz",
    b"exi",
    b"aes128gcm",
    b"pack200-gzip",
];

/// The result of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAnswer {
    /// The id of the stored delivery.
    delivery_id: Uuid,
    /// What the service did with the delivery.
    outcome: Outcome,
}

/// The answer to a delivery that is durable in the spool, but not in the database yet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpooledAnswer {
    /// The id that the delivery will have in the database.
    delivery_id: Uuid,
    /// Always `spooled`. The outcome is decided when the delivery is written to the database.
    outcome: SpooledOutcome,
}

/// Stands for an outcome that is not known yet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpooledOutcome {
    /// The delivery waits in the spool for the database.
    Spooled,
}

/// Receives one webhook. The sender authenticates by the secret in the URL.
#[utoipa::path(
    post, path = "/webhooks/{provider}/{topic}/{secret}", operation_id = "receive_with_secret", tag = "webhooks",
    params(("provider" = String, Path), ("topic" = String, Path), ("secret" = String, Path)),
    request_body(content = String, content_type = "application/json", description = "The provider's body, as raw bytes"),
    responses(WebhookResponses)
)]
pub(super) async fn accept_with_secret(
    app: State<AppState>,
    hook: HookPath,
    received_at: ReceivedAt,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    accept(app, hook, received_at, request).await
}

/// Answers a GET, by which some portals check a URL before they save it.
#[utoipa::path(
    get, path = "/webhooks/{provider}/{topic}", tag = "webhooks",
    params(("provider" = String, Path), ("topic" = String, Path)),
    responses((status = 200, description = "The hook exists"), (status = 404, body = ProblemDocument))
)]
pub(super) async fn probe(_: HookPath) -> StatusCode {
    StatusCode::OK
}

/// Answers the same GET with a secret in the path. The secret is not checked.
#[utoipa::path(
    get, path = "/webhooks/{provider}/{topic}/{secret}", tag = "webhooks",
    params(("provider" = String, Path), ("topic" = String, Path), ("secret" = String, Path)),
    responses((status = 200, description = "The hook exists"), (status = 404, body = ProblemDocument))
)]
pub(super) async fn probe_with_secret(_: HookPath) -> StatusCode {
    StatusCode::OK
}

/// The patterns of the webhook paths, as metrics name them.
pub(super) const ROUTES: [&str; 2] =
    ["/webhooks/{provider}/{topic}", "/webhooks/{provider}/{topic}/{secret}"];

/// The same routes with a slash at the end, which some portals add to a URL, and with slashes in the secret. No hook has
/// a path of one segment, and a webhook to one is counted as lost.
pub(super) fn with_slashes() -> Router<AppState> {
    Router::new()
        .route("/webhooks/{provider}", any(no_hook))
        .route("/webhooks/{provider}/", any(no_hook))
        .route("/webhooks/{provider}/{topic}/", post(accept).get(probe))
        .route(
            "/webhooks/{provider}/{topic}/{secret}/",
            post(accept_with_secret).get(probe_with_secret),
        )
        .route(
            "/webhooks/{provider}/{topic}/{secret}/{*rest}",
            post(accept_with_secret).get(probe_with_secret),
        )
}

/// Answers as any unknown path.
async fn no_hook(State(app): State<AppState>, request: axum::extract::Request) -> Problem {
    let (mut parts, _) = request.into_parts();
    if parts.method == Method::POST {
        note_unknown(&app, &path_segment(&mut parts, "provider").await.unwrap_or_default());
    }
    unknown_path().await
}

/// The possible answers to a webhook, for the OpenAPI document.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes the responses, which handlers build otherwise")]
enum WebhookResponses {
    /// The delivery is committed to the database
    #[response(status = 200)]
    Committed(WebhookAnswer),
    /// The delivery is durable in the spool because the database is unavailable. It will be applied later
    #[response(status = 202)]
    Spooled(SpooledAnswer),
    /// `malformed`: stored but not applied; or `incomplete-body`: not stored
    #[response(status = 400)]
    Malformed(ProblemDocument),
    /// `not-authentic`
    #[response(status = 401)]
    NotAuthentic(ProblemDocument),
    /// `unknown-hook`
    #[response(status = 404)]
    UnknownHook(ProblemDocument),
    /// `timeout`
    #[response(status = 408)]
    Timeout(ProblemDocument),
    /// `too-large`
    #[response(status = 413)]
    TooLarge(ProblemDocument),
    /// `unsupported-encoding`
    #[response(status = 415)]
    UnsupportedEncoding(ProblemDocument),
    /// `internal`: not stored; the cause is in the log
    #[response(status = 500)]
    Internal(ProblemDocument),
    /// `unavailable`: retry the request
    #[response(status = 503)]
    Unavailable(ProblemDocument),
}
