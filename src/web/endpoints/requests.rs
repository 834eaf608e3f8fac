//! What backends say about endpoints.

use serde::Deserialize;
use utoipa::ToSchema;

use super::super::AppState;
use super::super::problem::Problem;
use crate::domain::{ChangeKind, EndpointUrl, Filter, check_description};
use crate::store::endpoints::{Definition, Endpoint};

/// A new endpoint.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NewEndpoint {
    /// Where changes are sent: `https://…`, at a public address unless the operator allows others.
    #[schema(required, value_type = String, example = "https://shop.example.org/webhooks/esim")]
    pub(super) url: Option<String>,
    /// The kinds of changes that it wants; none: all.
    pub(super) kinds: Vec<ChangeKind>,
    /// The providers of whose profiles it wants changes; none: all. It is notified of erasures whatever the provider was.
    pub(super) providers: Vec<String>,
    /// What it is for, in at most 200 characters.
    pub(super) description: Option<String>,
    /// Behind which change it begins: a cursor of `GET /v1/changes`, a time, `beginning`, or `now`, which is the default.
    pub(super) after: Option<String>,
}

/// What is to change about an endpoint. What is absent stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = EndpointChange)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChangedEndpoint {
    /// Where changes are sent.
    pub(super) url: Option<String>,
    /// The kinds of changes that it wants; none: all.
    pub(super) kinds: Option<Vec<ChangeKind>>,
    /// The providers of whose profiles it wants changes; none: all.
    pub(super) providers: Option<Vec<String>>,
    /// What it is for, in at most 200 characters; empty: nothing.
    pub(super) description: Option<String>,
    /// `false` ends the deliveries, `true` begins them again where they ended.
    pub(super) enabled: Option<bool>,
    /// `true` gives it a new secret, which the answer shows. For a day, every secret that signed before also signs.
    pub(super) rotate_secret: bool,
}

impl ChangedEndpoint {
    /// What the endpoint is with this change; `None` if it stays what it is.
    pub(super) fn definition_of(&self, endpoint: &Endpoint) -> Option<Definition> {
        let now = &endpoint.definition;
        let filter = Filter {
            kinds: self.kinds.as_ref().unwrap_or(&now.filter.kinds).clone(),
            providers: self.providers.as_ref().unwrap_or(&now.filter.providers).clone(),
        };
        let url = self.url.as_ref().unwrap_or(&now.url).clone();
        let description = self.description.as_ref().or(now.description.as_ref()).cloned();
        Some(Definition { url, filter, description }).filter(|definition| definition != now)
    }
}

/// Where an endpoint is to continue.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// Behind which change: a cursor of `GET /v1/changes`, a time, `beginning`, or `now`, which leaves out what is waiting. With a
    /// time, it continues with the first change that happened then or later.
    #[schema(required, value_type = String)]
    pub(super) after: Option<String>,
}

/// Checks what a backend says about an endpoint.
pub(super) fn check(app: &AppState, definition: Definition) -> Result<Definition, Problem> {
    let url = EndpointUrl::parse(&definition.url, &app.reach);
    let url = url.map_err(|error| Problem::parameter("url", error))?.as_str().to_owned();
    if definition.filter.providers.iter().any(|slug| app.providers.find(slug).is_none()) {
        let known = app.providers.slugs().join(", ");
        return Err(Problem::parameter("providers", format!("each must be one of: {known}")));
    }
    let description = check_description(definition.description);
    let description = description.map_err(|wanted| Problem::parameter("description", wanted))?;
    let Filter { kinds, providers } = definition.filter;
    Ok(Definition { url, filter: Filter::new(kinds, providers), description })
}
