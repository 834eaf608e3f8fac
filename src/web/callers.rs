//! The extractors that authenticate and authorize callers. There is no other authorization: the signature of a handler
//! says which callers it accepts.

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;

use super::AppState;
use super::extract::path_segment;
use super::middleware::ReceivedAt;
use super::problem::{Code, Problem};
use crate::access::Caller;
use crate::domain::{Iccid, Timestamp};

/// A caller that is a backend. Users are refused with `forbidden`.
#[derive(Debug)]
pub struct Backend;

/// The profile that a request is about, for endpoints that only backends may call. A user is refused: with `forbidden`
/// for their own profile, with `unknown-profile` for any other.
#[derive(Debug)]
pub struct BackendSubject {
    /// The profile.
    pub iccid: Iccid,
    /// When the request was received.
    pub received_at: Timestamp,
}

/// The profile that a request is about, for endpoints that its user may call too.
#[derive(Debug)]
pub struct Subject {
    /// The profile.
    pub iccid: Iccid,
    /// Who made the request.
    pub caller: Caller,
    /// When the request was received.
    pub received_at: Timestamp,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let ReceivedAt(now) = ReceivedAt::from_request_parts(parts, app).await?;
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let credential = match (values.next(), values.next()) {
            (Some(only), None) => only.to_str().ok().and_then(bearer),
            _ => None,
        };
        credential
            .and_then(|credential| app.access.caller(credential, now))
            .ok_or_else(|| Problem::new(Code::Unauthenticated))
    }
}

/// The credential of `Bearer <credential>`. The name of the scheme is case-insensitive.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}

impl FromRequestParts<AppState> for Backend {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Backend => Ok(Self),
            Caller::User { .. } => Err(Problem::new(Code::Forbidden)),
        }
    }
}

impl FromRequestParts<AppState> for Subject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let segment = path_segment(parts, "iccid").await.unwrap_or_default();
        let iccid = match &caller {
            Caller::User { iccid: own, .. } if segment == "self" => own.clone(),
            // A user cannot tell a profile of somebody else from one that does not exist.
            Caller::User { iccid: own, .. } => Iccid::parse(&segment)
                .ok()
                .filter(|asked| asked == own)
                .ok_or_else(|| Problem::new(Code::UnknownProfile))?,
            Caller::Backend => Iccid::parse(&segment).map_err(|error| {
                Problem::because(Code::InvalidParameter, format!("{error}, in the path"))
            })?,
        };
        if let Caller::User { .. } = &caller {
            let stored = app.reader.find(&iccid).await?;
            let stored = stored.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
            if !caller.may_see(stored.tokens_from) {
                return Err(Problem::new(Code::Unauthenticated));
            }
        }
        let ReceivedAt(received_at) = ReceivedAt::from_request_parts(parts, app).await?;
        Ok(Self { iccid, caller, received_at })
    }
}

impl FromRequestParts<AppState> for BackendSubject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let Subject { iccid, caller, received_at } =
            Subject::from_request_parts(parts, app).await?;
        match caller {
            Caller::Backend => Ok(Self { iccid, received_at }),
            Caller::User { .. } => Err(Problem::new(Code::Forbidden)),
        }
    }
}
