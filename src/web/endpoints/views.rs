//! Endpoints as the API shows them.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::changes::cursor_of;
use crate::config::ConfiguredEndpoint;
use crate::domain::{ChangeKind, DisabledBecause, Timestamp};
use crate::store::endpoints::Endpoint;

/// How an endpoint does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::web) enum Status {
    /// Changes are delivered to it.
    Active,
    /// It has not accepted anything for a while. It is called again at `retryAt`.
    Failing,
    /// Nothing is delivered to it: see `disabledBecause`.
    Disabled,
    /// It is from a configuration file that no longer has it.
    NotConfigured,
}

/// An endpoint, and how it does.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Its name.
    pub(in crate::web) id: String,
    /// Where changes are sent.
    pub(in crate::web) url: String,
    /// The kinds of changes that it wants; none: all.
    pub(in crate::web) kinds: Vec<ChangeKind>,
    /// The providers of whose profiles it wants changes; none: all.
    pub(in crate::web) providers: Vec<String>,
    /// What it is for.
    pub(in crate::web) description: Option<String>,
    /// Whether it comes from the operator's configuration file.
    pub(in crate::web) configured: bool,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::web) created_at: Timestamp,
    pub(in crate::web) status: Status,
    /// Why it is disabled. `request`: a backend asked for that. `gone`: it answered 410. `failing`: it accepted nothing for five days.
    /// `lost-place`: the database has not given out its cursor, because a part of it was restored or changed by hand; replay it.
    #[schema(inline)]
    pub(in crate::web) disabled_because: Option<DisabledBecause>,
    /// Since when it is disabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) disabled_at: Option<Timestamp>,
    /// The last change that it is done with, but for the profiles in `heldProfiles`.
    pub(in crate::web) cursor: String,
    /// How many changes come after that one, whether it wants them or not.
    pub(in crate::web) behind: i64,
    /// When the first of them happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) behind_since: Option<Timestamp>,
    /// How many changes it has accepted.
    pub(in crate::web) delivered: i64,
    /// When it last accepted one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) delivered_at: Option<Timestamp>,
    /// How often in a row it has accepted nothing.
    pub(in crate::web) failures: u32,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) failing_since: Option<Timestamp>,
    /// When the next attempt is due, if it has to wait.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) retry_at: Option<Timestamp>,
    /// How the last request failed that it did not accept.
    pub(in crate::web) last_error: Option<String>,
    /// How many profiles have changes that it does not accept, while it accepts those of others. They are retried separately.
    pub(in crate::web) held_profiles: i64,
    /// How many changes were given up after five days, while the endpoint accepted those of other profiles.
    pub(in crate::web) given_up: i64,
    /// Until when secrets before the present one also sign: each for a day.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::web) previous_secret_until: Option<Timestamp>,
    /// The secret that signs the requests. Only the answer that creates it shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_…")]
    pub(in crate::web) secret: Option<String>,
}

/// All endpoints.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoints)]
pub struct EndpointsView {
    /// The endpoints, oldest first.
    pub(super) items: Vec<EndpointView>,
}

impl EndpointView {
    /// Shows an endpoint. `configured` are those of the configuration file of this process.
    pub(super) fn of(endpoint: Endpoint, configured: &[ConfiguredEndpoint]) -> Self {
        let is_gone =
            endpoint.is_configured && configured.iter().all(|known| known.id != endpoint.id);
        let status = match endpoint.disabled {
            Some(_) => Status::Disabled,
            None if is_gone => Status::NotConfigured,
            None if endpoint.failures > 0 => Status::Failing,
            None => Status::Active,
        };
        let definition = endpoint.definition;
        Self {
            id: endpoint.id,
            url: definition.url,
            kinds: definition.filter.kinds,
            providers: definition.filter.providers,
            description: definition.description,
            configured: endpoint.is_configured,
            created_at: endpoint.created_at,
            status,
            disabled_because: endpoint.disabled.map(|(because, _)| because),
            disabled_at: endpoint.disabled.map(|(_, at)| at),
            cursor: cursor_of(endpoint.place),
            behind: endpoint.behind,
            behind_since: endpoint.behind_since,
            delivered: endpoint.delivered,
            delivered_at: endpoint.delivered_at,
            failures: endpoint.failures,
            failing_since: endpoint.failing_since,
            retry_at: endpoint.retry_at,
            last_error: endpoint.last_error,
            held_profiles: endpoint.backlogs,
            given_up: endpoint.given_up,
            previous_secret_until: endpoint.previous_until,
            secret: None,
        }
    }

    /// Shows its secret too.
    pub(super) fn with_secret(self, secret: &SecretString) -> Self {
        Self { secret: Some(secret.expose_secret().to_owned()), ..self }
    }
}
