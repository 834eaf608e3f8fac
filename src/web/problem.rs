//! Every error answer: a problem document (RFC 9457) from one closed catalogue.
//!
//! A handler returns a [`Problem`]; the outermost layer renders it, because only there the request id and the public URL are
//! at hand. The cause of a 5xx is logged where it happens and is never part of an answer.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub use super::catalogue::{CATALOGUE, Code, Entry};
use crate::registry::EraseError;
use crate::store::{Fault, StoreError, fault_of};
use crate::telemetry::Seldom;

/// An error answer before it is rendered.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    delivery_id: Option<Uuid>,
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct ProblemDocument {
    /// A link to what this problem is.
    #[schema(example = "http://127.0.0.1:8080/problems#malformed")]
    r#type: String,
    /// What it is, in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Its stable name: kebab-case, from a closed catalogue.
    #[schema(example = "malformed")]
    code: &'static str,
    /// What is wrong here, and what to do.
    detail: String,
    /// The id of this request, as in the header `X-Request-Id` and in the log.
    request_id: String,
    /// Under which id the delivery was kept, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<Uuid>,
}

impl Problem {
    /// The problem with the catalogue's remedy as its detail.
    pub fn new(code: Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.entry().remedy), delivery_id: None }
    }

    /// The problem with a detail of its own.
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), delivery_id: None }
    }

    /// A parameter, or a part of the path, that makes no sense.
    pub fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::because(Code::InvalidParameter, format!("{name}: {why}"))
    }

    /// Names the delivery that was kept all the same.
    #[must_use]
    pub fn of_delivery(mut self, id: Uuid) -> Self {
        self.delivery_id = Some(id);
        self
    }

    /// The document, for this request.
    pub fn render(&self, public_url: &str, request_id: &str) -> Response {
        let entry = self.code.entry();
        let document = ProblemDocument {
            r#type: format!("{public_url}/problems#{}", entry.name),
            title: entry.title,
            status: entry.status.as_u16(),
            code: entry.name,
            detail: self.detail.clone().into_owned(),
            request_id: request_id.to_owned(),
            delivery_id: self.delivery_id,
        };
        let mut response = (entry.status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let extra = match self.code {
            Code::NotAuthentic => (header::WWW_AUTHENTICATE, r#"Webhook realm="esim-status""#),
            Code::Unauthenticated => (header::WWW_AUTHENTICATE, r#"Bearer realm="esim-status""#),
            Code::Unavailable => (header::RETRY_AFTER, "1"),
            // What is left of the body is not worth reading.
            Code::TooLarge | Code::Timeout | Code::IncompleteBody => (header::CONNECTION, "close"),
            _ => return response,
        };
        headers.insert(extra.0, HeaderValue::from_static(extra.1));
        response
    }

    /// The problem's line in the catalogue.
    pub fn entry(&self) -> &'static Entry {
        self.code.entry()
    }
}

/// Leaves the rendering to the outermost layer.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.entry().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        /// Every request fails while the database is away.
        static SELDOM: Seldom = Seldom::new();

        let cause = &error as &dyn std::error::Error;
        match &error {
            StoreError::Busy => Self::new(Code::Unavailable),
            StoreError::Crowded => Self::because(
                Code::Unavailable,
                "too many requests of this kind are being answered; try again in a moment",
            ),
            StoreError::Database(database) if fault_of(database) != Fault::Data => {
                if let Some(left_out) = SELDOM.due() {
                    tracing::error!(error = cause, left_out, "the database failed: is it up?");
                }
                Self::new(Code::Unavailable)
            }
            // Logged with the profile where it was opened.
            StoreError::UnknownDataKey(_) | StoreError::Corrupt { column: "sealed" } => {
                Self::because(
                    Code::Internal,
                    "what is stored to install this profile cannot be opened; registering the profile again replaces it",
                )
            }
            _ => {
                tracing::error!(error = cause, "the database's content, or a statement, is wrong");
                Self::new(Code::Internal)
            }
        }
    }
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Store(error) => error.into(),
            EraseError::Spool(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the spool did not erase"
                );
                Self::new(Code::Unavailable)
            }
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}
