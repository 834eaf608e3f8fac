//! Every error response is a problem document (RFC 9457) from one closed catalogue.
//!
//! A handler returns a [`Problem`]. The outermost layer renders it, because only that layer knows the request id and
//! the public URL. The cause of a 5xx is logged where it happens and is never part of an answer.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

pub use super::catalogue::{CATALOGUE, Code, Entry};
use crate::registry::EraseError;
use crate::store::{Fault, StoreError, fault_of};
use crate::telemetry::Seldom;

/// An error response before it is rendered.
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
    /// A link to the description of this problem.
    #[schema(example = "http://127.0.0.1:8080/problems#malformed")]
    r#type: String,
    /// What the problem is, in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The problem's stable name, in kebab-case, from a closed catalogue. Match on this member.
    #[schema(example = "malformed")]
    code: &'static str,
    /// What is wrong with this request, and what to do.
    detail: String,
    /// The id of this request, the same as in the header `X-Request-Id` and in the service's log.
    request_id: String,
    /// The id of the stored delivery, if the webhook was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<Uuid>,
}

impl Problem {
    /// The problem, with the catalogue's remedy as its detail.
    pub fn new(code: Code) -> Self {
        Self { code, detail: Cow::Borrowed(code.entry().remedy), delivery_id: None }
    }

    /// The problem with its own detail.
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), delivery_id: None }
    }

    /// An invalid parameter, or an invalid segment of the path.
    pub fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::because(Code::InvalidParameter, format!("{name}: {why}"))
    }

    /// Adds the id of the delivery, which was stored although it is refused.
    #[must_use]
    pub fn of_delivery(mut self, id: Uuid) -> Self {
        self.delivery_id = Some(id);
        self
    }

    /// What is wrong with this request, and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Renders the document for this request.
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
            // The rest of the body is not read, so the connection cannot be reused.
            Code::TooLarge | Code::Timeout | Code::IncompleteBody => (header::CONNECTION, "close"),
            _ => return response,
        };
        headers.insert(extra.0, HeaderValue::from_static(extra.1));
        response
    }

    /// The problem's entry in the catalogue.
    pub fn entry(&self) -> &'static Entry {
        self.code.entry()
    }
}

/// What nearly every call of the API may be answered, for the OpenAPI document.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes the responses, which handlers build otherwise")]
pub(super) enum Refusals {
    /// `invalid-parameter`
    #[response(status = 400)]
    InvalidParameter(ProblemDocument),
    /// `unauthenticated`
    #[response(status = 401)]
    Unauthenticated(ProblemDocument),
    /// `forbidden`
    #[response(status = 403)]
    Forbidden(ProblemDocument),
    /// `unavailable`
    #[response(status = 503)]
    Unavailable(ProblemDocument),
}

/// Passes the problem to the outermost layer, which renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.entry().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        /// Every request fails while the database is unavailable.
        static SELDOM: Seldom = Seldom::new();

        let cause = &error as &dyn std::error::Error;
        match &error {
            StoreError::Busy | StoreError::KeyUnknown => Self::new(Code::Unavailable),
            StoreError::Crowded => Self::because(
                Code::Unavailable,
                "too many requests of this kind are in progress; retry in a moment",
            ),
            StoreError::Database(database) if fault_of(database) != Fault::Data => {
                if let Some(left_out) = SELDOM.due() {
                    tracing::error!(error = cause, left_out, "the database failed: is it up?");
                }
                Self::new(Code::Unavailable)
            }
            // `journey::credentials` has logged the error together with the profile.
            StoreError::UnknownDataKey(_) | StoreError::Corrupt { column: "sealed" } => {
                Self::because(
                    Code::Internal,
                    "the stored install credentials of this profile cannot be decrypted; register the profile again to replace them",
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
