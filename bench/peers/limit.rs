//! The limit: an HTTP server that authenticates the sender and parses the body, but stores nothing. Reads return a
//! fixed profile.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use esim_status_bench::deliveries::PATH;
use esim_status_bench::peer::{self, Answer, Keys};

/// An answer of the same length as the service's.
const PROFILE: &str = r#"{"iccid":"8944000000000195777","state":"INSTALLED","enabled":true,"rawState":"INSTALLED","provider":"gigastore","since":"2026-11-23T10:20:30.123456Z","seq":2,"lastDeliveryAt":"2026-11-23T10:20:30.123456Z","deliveries":2,"installsSeen":1,"registered":false,"checks":{"iccidLuhn":true,"eidMod97":false},"imsi":"234000000019577","eid":"89049032000000019577000000019577","uid":null,"activatedAt":null,"lastSeen":null}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let routes = Router::new()
        .route(PATH, post(receive))
        .route("/v1/profiles/{iccid}", get(show))
        .with_state(Keys::from_environment()?);
    peer::serve(routes).await
}

async fn receive(State(keys): State<Keys>, headers: HeaderMap, body: Bytes) -> Response {
    let report = keys.check(&headers, &body).and_then(|report| {
        let known = report.claim().ok_or(StatusCode::BAD_REQUEST);
        known.map(|_| Answer { delivery_id: peer::new_id(), outcome: "moved" })
    });
    peer::answer(report)
}

async fn show(State(keys): State<Keys>, headers: HeaderMap) -> Response {
    match keys.check_reader(&headers) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], PROFILE).into_response(),
        Err(status) => status.into_response(),
    }
}
