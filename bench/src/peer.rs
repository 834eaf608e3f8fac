//! Shared by the peers in Rust: authenticating callers, parsing the body, and the answers.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Json;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::deliveries::HEADER;

/// The keys that authenticate callers.
#[derive(Debug, Clone)]
pub struct Keys {
    hook: Hmac<Sha256>,
    api: String,
}

impl Keys {
    /// Reads the keys from the environment.
    ///
    /// # Errors
    /// If a key is missing.
    pub fn from_environment() -> anyhow::Result<Self> {
        let hook = variable("HOOK_SECRET")?;
        let bearer = format!("Bearer {}", variable("API_KEY")?);
        Ok(Self { hook: Hmac::new_from_slice(hook.as_bytes())?, api: bearer })
    }

    /// Verifies the HMAC of the raw body, and parses the body.
    ///
    /// # Errors
    /// 401 without a valid signature, 400 for an invalid body.
    pub fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Report, StatusCode> {
        let signature = headers.get(HEADER).ok_or(StatusCode::UNAUTHORIZED)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(signature, &mut mac).map_err(|_| StatusCode::UNAUTHORIZED)?;
        let expected = self.hook.clone().chain_update(body);
        expected.verify_slice(&mac).map_err(|_| StatusCode::UNAUTHORIZED)?;
        let report: Report = serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        let whole = (18..=22).contains(&report.iccid.len())
            && report.iccid.bytes().all(|byte| byte.is_ascii_digit());
        if whole { Ok(report) } else { Err(StatusCode::BAD_REQUEST) }
    }

    /// Verifies the API key.
    ///
    /// # Errors
    /// 401 for a wrong key.
    pub fn check_reader(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let matches = given.is_some_and(|given| constant_time_eq(given, self.api.as_bytes()));
        if matches { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    let differ = left.iter().zip(right).fold(0, |differ, (left, right)| differ | (left ^ right));
    left.len() == right.len() && differ == 0
}

/// The body of a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The ICCID.
    pub iccid: String,
    /// The provider's name of the state.
    pub profile_state: String,
    /// The IMSI.
    pub imsi: Option<String>,
    /// The EID.
    pub eid: Option<String>,
}

impl Report {
    /// The state and whether the profile is enabled. `None` for an unknown state.
    pub fn claim(&self) -> Option<(&'static str, Option<bool>)> {
        Some(match self.profile_state.as_str() {
            "RELEASED" => ("RELEASED", None),
            "DOWNLOADED" => ("DOWNLOADED", None),
            "INSTALLED" | "ENABLED" => ("INSTALLED", Some(true)),
            "DISABLED" => ("DISABLED", Some(false)),
            "DELETED" => ("DELETED", None),
            "ERROR" => ("ERROR", None),
            _ => return None,
        })
    }
}

/// The answer to a webhook.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The id of the stored delivery.
    pub delivery_id: Uuid,
    /// The outcome.
    pub outcome: &'static str,
}

/// A new id. Ids sort by the time of receipt.
#[expect(clippy::disallowed_methods, reason = "a peer reads the clock where it stands")]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The headers that are stored, as JSON.
pub fn kept_headers(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    serde_json::json!({
        "content-type": text(header::CONTENT_TYPE),
        "user-agent": text(header::USER_AGENT),
    })
    .to_string()
}

/// A JSON answer, or a bare status.
pub fn answer<T: Serialize>(result: Result<T, StatusCode>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(status) => status.into_response(),
    }
}

/// Serves on the port from the environment until the process ends.
///
/// # Errors
/// If the port is in use.
pub async fn serve(routes: Router) -> anyhow::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], variable("PORT")?.parse()?));
    let listener = TcpListener::bind(address).await?.tap_io(|socket| {
        // Answers are small and written in one piece, so Nagle's algorithm would only delay them.
        let _ = socket.set_nodelay(true);
    });
    Ok(axum::serve(listener, routes).await?)
}

/// Reads an environment variable.
///
/// # Errors
/// If the variable is missing.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is missing"))
}
