//! The calls for support: every webhook about one profile, and the webhooks that were stored but not applied.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::AppState;
use super::callers::{Backend, BackendSubject};
use super::extract::{Params, cursor};
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use super::profiles::plain_text;
use super::views::Page;
use crate::domain::{Outcome, Timestamp};
use crate::store::customer_deliveries;
use crate::store::deliveries::{self, DeliveryRecord};

/// One webhook request as it was stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// The delivery's id.
    id: Uuid,
    /// When the service received the webhook.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The path of the hook that received it, without `/webhooks/`.
    #[schema(example = "gigastore/esim-status")]
    hook: String,
    /// The slug of the hook's provider.
    provider: String,
    /// The profile that the webhook is about, if its ICCID could be read.
    iccid: Option<String>,
    /// What the service did with the webhook.
    outcome: Outcome,
    /// The reason for the outcome, in words.
    reason: Option<String>,
    /// The sender's event id, if it sends one.
    event_id: Option<String>,
    /// The headers that were stored. Credentials and signatures are never among them.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    headers: Option<Box<RawValue>>,
    /// The raw body; null if it is not UTF-8.
    body: Option<String>,
    /// The raw body in base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl From<DeliveryRecord> for DeliveryView {
    fn from(record: DeliveryRecord) -> Self {
        let (body, body_base64) = match String::from_utf8(record.body) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Self {
            id: record.id,
            received_at: record.received_at,
            hook: record.hook,
            provider: record.provider,
            iccid: record.iccid.map(|iccid| iccid.as_str().to_owned()),
            outcome: record.outcome,
            reason: record.reason,
            event_id: record.event_id,
            headers: RawValue::from_string(record.headers).ok(),
            body,
            body_base64,
        }
    }
}

/// Lists every webhook about one profile with its outcome, newest first.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/deliveries", tag = "deliveries",
    security(("apiKey" = [])),
    params(
        ("iccid" = String, Path, pattern = "^[0-9]{18,22}$"),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of an earlier page"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Max number of items; default 50"),
    ),
    responses(
        (status = 200, body = Page<DeliveryView>),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn of_profile(
    State(app): State<AppState>,
    subject: BackendSubject,
    mut params: Params,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    let iccid = subject.iccid;
    let before = params.take_cursor(Uuid::parse_str)?;
    let limit = params.take_limit()?;
    params.finish()?;
    let rows = app.reads.run(async |connection| {
        deliveries::list_of_profile(connection, &iccid, before, limit + 1).await
    });
    let rows = rows.await?;
    // If no delivery of an ICCID was applied, no profile exists, but support still wants to see the deliveries.
    if rows.is_empty() && app.reader.find(&iccid).await?.is_none() {
        return Err(Problem::new(Code::UnknownProfile));
    }
    Ok(Json(Page::of(rows, limit, |last| cursor(&last.id.to_string()))))
}

/// The filters of the list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters, which `list` takes by name")]
pub struct ListParams {
    /// Only deliveries with this outcome; by default, all that were not applied.
    outcome: Option<Outcome>,
    /// The provider's slug.
    provider: Option<String>,
    /// Only deliveries that name this customer of a provider and no profile, such as Gigastore's Balance Activation. Not together
    /// with `outcome`.
    uid: Option<String>,
    /// The `nextCursor` of an earlier page.
    cursor: Option<String>,
    /// Max number of items, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists webhooks that were stored but not applied, those with a given outcome, or those that name a customer and no profile, newest
/// first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries",
    security(("apiKey" = [])),
    params(ListParams),
    responses(
        (status = 200, body = Page<DeliveryView>),
        Refusals,
    )
)]
pub async fn list(
    State(app): State<AppState>,
    _: Backend,
    mut params: Params,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    let outcome = params.take("outcome", str::parse::<Outcome>)?;
    let provider = params.take("provider", plain_text)?;
    let provider = provider.as_deref();
    let uid = params.take("uid", plain_text)?;
    if uid.is_some() && outcome.is_some() {
        return Err(Problem::parameter("uid", "cannot be combined with outcome; leave one out"));
    }
    let before = params.take_cursor(Uuid::parse_str)?;
    let limit = params.take_limit()?;
    params.finish()?;
    // The index of deliveries covers only those that were not applied, and does not contain the provider.
    let is_applied = matches!(outcome, Some(Outcome::Moved | Outcome::Repeated));
    let is_indexed = uid.is_some() || (provider.is_none() && !is_applied);
    let list = async |connection: &mut _| match (uid.as_deref(), outcome) {
        (Some(uid), _) => {
            customer_deliveries::list(connection, uid, provider, before, limit + 1).await
        }
        (None, Some(outcome)) => {
            deliveries::list_with_outcome(connection, outcome, provider, before, limit + 1).await
        }
        (None, None) => deliveries::list_not_applied(connection, provider, before, limit + 1).await,
    };
    let rows = if is_indexed { app.reads.run(list).await? } else { app.scan(list).await? };
    Ok(Json(Page::of(rows, limit, |last| cursor(&last.id.to_string()))))
}
