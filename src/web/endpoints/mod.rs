//! Endpoints: where backends have the changes of all profiles delivered to, as signed webhooks of this service.

mod requests;

mod views;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use secrecy::SecretString;
use uuid::Uuid;

use super::AppState;
use super::callers::Backend;
use super::changes::{After, not_given_out, place_of, read_after};
use super::extract::{Params, path_segment, read_json};
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::delivery::StandardSecrets;
use crate::domain::{DisabledBecause, Filter, Timestamp};
use crate::registry::{self, EndpointChange};
use crate::store::changes::{self, Place};
use crate::store::endpoints::{self, Definition, Endpoint};
use crate::store::{EndpointSecrets, Sealed, StoreError};
use requests::{ChangedEndpoint, NewEndpoint, Replay, check};
pub(super) use views::{EndpointView, Status};

use views::EndpointsView;

/// The max number of endpoints.
const MAX_ENDPOINTS: i64 = 100;

/// How long the secrets before a new one also sign, in seconds.
const BOTH_SIGN_SECONDS: i64 = 86_400;

/// The endpoint that the path names, for a backend.
#[derive(Debug)]
pub struct EndpointId {
    id: String,
    received_at: Timestamp,
}

impl FromRequestParts<AppState> for EndpointId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let Backend { received_at } = Backend::from_request_parts(parts, app).await?;
        Ok(Self { id: id_of(parts).await?, received_at })
    }
}

/// The endpoint that the path names.
///
/// # Errors
/// `unknown-endpoint` if it cannot be the name of one.
pub(super) async fn id_of(parts: &mut Parts) -> Result<String, Problem> {
    let id = path_segment(parts, "id").await;
    let id = id.filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic()));
    id.ok_or_else(|| Problem::new(Code::UnknownEndpoint))
}

/// Lists all endpoints, and how each does.
#[utoipa::path(
    get, path = "/v1/endpoints", tag = "endpoints",
    security(("apiKey" = [])),
    responses(
        (status = 200, body = EndpointsView),
        Refusals,
    )
)]
pub async fn list(
    State(app): State<AppState>,
    _: Backend,
    params: Params,
) -> Result<Json<EndpointsView>, Problem> {
    params.finish()?;
    let items = read(&app).await?;
    Ok(Json(EndpointsView { items }))
}

/// Reads all endpoints, and how each does.
///
/// # Errors
/// Those of a read.
pub(super) async fn read(app: &AppState) -> Result<Vec<EndpointView>, Problem> {
    let found = app.reads.run(async |connection| endpoints::list(connection, None).await).await?;
    let items = found.into_iter().map(|endpoint| EndpointView::of(endpoint, &app.endpoints));
    Ok(items.collect())
}

/// Creates an endpoint. The answer is the only one that shows its secret.
///
/// Each change is a `POST` with a CloudEvent (see the schema `ProfileChanged`), signed as Standard Webhooks describes. Any 2xx accepts
/// it. Anything else, and no answer within 15 seconds, is retried for five days with growing pauses; `Retry-After` is respected; 410
/// disables the endpoint. The changes of one profile come in their order. A change can come more than once, with the same
/// `webhook-id`. The deliveries continue where
/// they ended, whatever was down in between; but an endpoint that is down for more than a week misses erasures.
#[utoipa::path(
    post, path = "/v1/endpoints", tag = "endpoints",
    security(("apiKey" = [])),
    request_body = NewEndpoint,
    responses(
        (status = 201, body = EndpointView, description = "Created, with `secret`"),
        Refusals,
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 409, body = ProblemDocument, description = "`endpoint-refused`"),
        (status = 413, body = ProblemDocument, description = "`too-large`"),
    )
)]
pub async fn create(
    State(app): State<AppState>,
    Backend { received_at: now }: Backend,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.finish()?;
    let NewEndpoint { url, kinds, providers, description, after } = read_json(request).await?;
    let url = url.ok_or_else(|| Problem::parameter("url", "is missing"))?;
    let definition = Definition { url, filter: Filter { kinds, providers }, description };
    let definition = check(&app, definition)?;
    let place = place(&app, after.as_deref().unwrap_or("now")).await?;
    let id = format!("ep_{}", Uuid::new_v4().simple());
    let secrets = EndpointSecrets::new(fresh_secret());
    let sealed = secrets.seal(&app.vault, &id)?;
    let created = app.registrations.run(async |connection| {
        let limits = (now, MAX_ENDPOINTS);
        if !endpoints::create(connection, &id, &definition, &sealed, place, limits).await? {
            return Ok(None);
        }
        endpoints::find(connection, &id).await
    });
    let Some(created) = created.await? else {
        return Err(Problem::because(
            Code::EndpointRefused,
            format!("there are {MAX_ENDPOINTS} endpoints already: delete one that is not used"),
        ));
    };
    tracing::info!(endpoint = id, "an endpoint was created");
    let view = EndpointView::of(created, &app.endpoints).with_secret(&secrets.current);
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/endpoints/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Shows an endpoint and how it does.
#[utoipa::path(
    get, path = "/v1/endpoints/{id}", tag = "endpoints",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The `id` of an endpoint")),
    responses(
        (status = 200, body = EndpointView),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-endpoint`"),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    EndpointId { id, .. }: EndpointId,
    params: Params,
) -> Result<Json<EndpointView>, Problem> {
    params.finish()?;
    find(&app, &id).await.map(Json)
}

/// Reads an endpoint, and how it does.
///
/// # Errors
/// `unknown-endpoint`, and those of a read.
pub(super) async fn find(app: &AppState, id: &str) -> Result<EndpointView, Problem> {
    let found = app.reads.run(async |connection| endpoints::find(connection, id).await).await?;
    let found = found.ok_or_else(|| Problem::new(Code::UnknownEndpoint))?;
    Ok(EndpointView::of(found, &app.endpoints))
}

/// Changes an endpoint. One of the operator's configuration file can only be enabled and disabled.
#[utoipa::path(
    patch, path = "/v1/endpoints/{id}", tag = "endpoints",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The `id` of an endpoint")),
    request_body(content = Option<ChangedEndpoint>, description = "The body may be empty, and then nothing changes"),
    responses(
        (status = 200, body = EndpointView, description = "Changed; with `secret` if there is a new one"),
        Refusals,
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 404, body = ProblemDocument, description = "`unknown-endpoint`"),
        (status = 409, body = ProblemDocument, description = "`endpoint-refused`"),
        (status = 413, body = ProblemDocument, description = "`too-large`"),
    )
)]
pub async fn change(
    State(app): State<AppState>,
    EndpointId { id, received_at: now }: EndpointId,
    params: Params,
    request: Request,
) -> Result<Json<EndpointView>, Problem> {
    params.finish()?;
    let change = read_json(request).await?;
    apply(&app, &id, &change, now).await.map(Json)
}

/// Enables an endpoint, or disables it as its owner would.
///
/// # Errors
/// `unknown-endpoint`, and those of a write.
pub(super) async fn enable(
    app: &AppState,
    id: &str,
    enabled: bool,
    now: Timestamp,
) -> Result<EndpointView, Problem> {
    let change = ChangedEndpoint { enabled: Some(enabled), ..ChangedEndpoint::default() };
    apply(app, id, &change, now).await
}

/// Changes an endpoint. Returns it, with its secret if that is a new one.
async fn apply(
    app: &AppState,
    id: &str,
    change: &ChangedEndpoint,
    now: Timestamp,
) -> Result<EndpointView, Problem> {
    let rotated = change.rotate_secret.then(fresh_secret);
    let decide = |endpoint: &Endpoint| {
        let definition = change.definition_of(endpoint);
        if endpoint.is_configured && (definition.is_some() || rotated.is_some()) {
            return Err(Problem::because(
                Code::EndpointRefused,
                "this endpoint is in the operator's configuration file: change it there, and restart the service",
            ));
        }
        // What was accepted once may be what the operator no longer allows: such an endpoint can still be disabled.
        let definition = definition.map(|definition| check(app, definition)).transpose()?;
        let secrets = rotated.as_ref().map(|current| rotate(app, endpoint, current, now));
        // What the service has disabled can also be disabled by its owner: then a replay leaves it so.
        let is_news = |enabled: &bool| match endpoint.disabled {
            None => !enabled,
            Some((because, _)) => *enabled || because != DisabledBecause::Request,
        };
        let enabled = change.enabled.filter(is_news);
        Ok(EndpointChange { definition, secrets: secrets.transpose()?, enabled })
    };
    let changed = registry::change_endpoint(&app.registrations, id, now, decide).await??;
    let changed = changed.ok_or_else(|| Problem::new(Code::UnknownEndpoint))?;
    let view = EndpointView::of(changed, &app.endpoints);
    Ok(match rotated {
        Some(secret) => view.with_secret(&secret),
        None => view,
    })
}

/// Deletes an endpoint. What waits for it is not delivered. One of the operator's configuration file can be deleted once it is no
/// longer there.
#[utoipa::path(
    delete, path = "/v1/endpoints/{id}", tag = "endpoints",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The `id` of an endpoint")),
    responses(
        (status = 204, description = "Deleted"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-endpoint`"),
        (status = 409, body = ProblemDocument, description = "`endpoint-refused`"),
    )
)]
pub async fn delete(
    State(app): State<AppState>,
    EndpointId { id, .. }: EndpointId,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    if app.endpoints.iter().any(|endpoint| endpoint.id == id) {
        return Err(Problem::because(
            Code::EndpointRefused,
            "this endpoint is in the operator's configuration file: remove it there, restart the service, and then delete it; or disable it",
        ));
    }
    let deleted =
        app.registrations.run(async |connection| endpoints::delete(connection, &id).await);
    if !deleted.await? {
        return Err(Problem::new(Code::UnknownEndpoint));
    }
    tracing::info!(endpoint = id, "an endpoint was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Has an endpoint continue behind another change: further back to get changes again, or further on to leave some out. Also enables it,
/// unless a backend disabled it.
#[utoipa::path(
    post, path = "/v1/endpoints/{id}/replay", tag = "endpoints",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The `id` of an endpoint")),
    request_body = Replay,
    responses(
        (status = 200, body = EndpointView),
        Refusals,
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`, `invalid-body`"),
        (status = 404, body = ProblemDocument, description = "`unknown-endpoint`"),
        (status = 413, body = ProblemDocument, description = "`too-large`"),
    )
)]
pub async fn replay(
    State(app): State<AppState>,
    EndpointId { id, received_at: now }: EndpointId,
    params: Params,
    request: Request,
) -> Result<Json<EndpointView>, Problem> {
    params.finish()?;
    let Replay { after } = read_json(request).await?;
    let after = after.ok_or_else(|| Problem::parameter("after", "is missing"))?;
    let replay = match place(&app, &after).await? {
        place if after == "now" => endpoints::Replay::AtTheEnd(place),
        place => endpoints::Replay::Behind(place),
    };
    continue_with(&app, &id, replay, now).await.map(Json)
}

/// Has an endpoint continue elsewhere.
///
/// # Errors
/// `unknown-endpoint`, and those of a write.
pub(super) async fn continue_with(
    app: &AppState,
    id: &str,
    replay: endpoints::Replay,
    now: Timestamp,
) -> Result<EndpointView, Problem> {
    let replayed = registry::replay_endpoint(&app.registrations, id, replay, now).await?;
    let replayed = replayed.ok_or_else(|| Problem::new(Code::UnknownEndpoint))?;
    Ok(EndpointView::of(replayed, &app.endpoints))
}

/// The place that `after` names, which this database must have given out.
///
/// # Errors
/// `invalid-parameter`, and those of a read.
pub(super) async fn place(app: &AppState, after: &str) -> Result<Place, Problem> {
    let after = read_after(after).map_err(|wanted| Problem::parameter("after", wanted))?;
    let place = place_of(app, after).await?;
    if let After::Place(_) = after {
        let read = app.reads.run(async |connection| changes::list(connection, place, 1).await);
        read.await?.ok_or_else(not_given_out)?;
    }
    Ok(place)
}

fn fresh_secret() -> SecretString {
    StandardSecrets::text(rand::random())
}

/// The sealed secrets of an endpoint with a new one, and until when those before also sign. If they cannot be opened, because their data
/// key is gone, only the new one signs.
fn rotate(
    app: &AppState,
    endpoint: &Endpoint,
    current: &SecretString,
    now: Timestamp,
) -> Result<(Sealed, Timestamp), StoreError> {
    let sealed = endpoint.sealed.as_ref();
    let present =
        sealed.and_then(|sealed| EndpointSecrets::open(&app.vault, &endpoint.id, sealed).ok());
    let (current, until) = (current.clone(), now.plus_seconds(BOTH_SIGN_SECONDS));
    let secrets = match present {
        Some(present) => present.rotated(current, until, now),
        None => EndpointSecrets::new(current),
    };
    Ok((secrets.seal(&app.vault, &endpoint.id)?, until))
}
