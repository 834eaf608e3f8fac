//! The event that an endpoint gets for each change: CloudEvents 1.0, in its JSON format.

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::changes::ChangeView;
use crate::domain::Timestamp;
use crate::store::changes::Change;

/// The body of a request to an endpoint: a CloudEvent (<https://cloudevents.io>, version 1.0) about one change. Its content type is
/// `application/cloudevents+json`, and it is signed as Standard Webhooks describes (<https://www.standardwebhooks.com>).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProfileChanged)]
pub struct ProfileChanged {
    /// `1.0`.
    specversion: &'static str,
    /// The same for every delivery of this change, also in the header `webhook-id`. It contains no ICCID.
    #[schema(example = "chg_4711_191f0a3c2d8e0")]
    id: String,
    /// The public URL of the service.
    source: String,
    /// `profile.changed`.
    r#type: &'static str,
    /// The reference under which the profile was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// When it changed.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// `application/json`.
    datacontenttype: &'static str,
    /// The change, as `GET /v1/changes` lists it.
    data: ChangeView,
}

/// A request to an endpoint before it is signed.
#[derive(Debug)]
pub struct Message {
    /// The id of the event.
    pub id: String,
    /// The body.
    pub body: Bytes,
}

/// The content type of the body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The event of a change.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn message(change: Change, public_url: &str) -> serde_json::Result<Message> {
    // The time makes the id that of another change where a backup of the database gives the same position again.
    let id = format!("chg_{}_{:x}", change.position, change.at.unix_micros());
    let reference = change.profile.as_ref().and_then(|stored| stored.order.reference.as_ref());
    let event = ProfileChanged {
        specversion: "1.0",
        id: id.clone(),
        source: public_url.to_owned(),
        r#type: "profile.changed",
        subject: reference.map(|reference| reference.as_str().to_owned()),
        time: change.at,
        datacontenttype: "application/json",
        data: ChangeView::from(change),
    };
    Ok(Message { id, body: serde_json::to_vec(&event)?.into() })
}
