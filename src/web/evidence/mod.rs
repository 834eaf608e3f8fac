//! The evidence sheet of one profile, for a dispute: what was recorded, from which webhooks, and a signature that others
//! can check.

mod accept;

mod page;

mod sheet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::callers::BackendSubject;
use super::extract::Params;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::domain::{Iccid, Timestamp};
use crate::store::evidence;
use sheet::SheetView;

/// The `typ` of the signatures.
const KIND: &str = "esim-status-evidence+jws";

/// An evidence sheet and its signature.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignedEvidence)]
pub struct SignedView<'a> {
    /// What the service has recorded. Not for verifying: the signature is over the text of the sheet, which a JSON parser
    /// does not keep. The payload of `signed` has it.
    #[schema(value_type = SheetView)]
    sheet: &'a RawValue,
    /// The sheet as a compact JWS (RFC 7515) with `EdDSA` (Ed25519), of the type `esim-status-evidence+jws`; its `kid` names
    /// a key of `/.well-known/jwks.json`. Null if no key is configured: see `ESIM_STATUS_EVIDENCE_KEYS`.
    signed: Option<&'a str>,
}

/// Returns all that is recorded about a profile and of the webhooks about it, as of one moment, and signs it.
///
/// With `Accept: text/html`, the same as a page to print, which is complete in itself.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/evidence", tag = "evidence",
    security(("apiKey" = [])),
    params(("iccid" = String, Path, pattern = "^[0-9]{18,22}$")),
    responses(
        (status = 200, content((SignedView = "application/json"), (String = "text/html")), description = "The sheet"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`"),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    subject: BackendSubject,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.finish()?;
    let BackendSubject { iccid, received_at } = subject;
    let sheet = Sheet::read(&app, &iccid, received_at).await?;
    let mut response = if accept::prefers_html(&headers) {
        sheet.page(&app)
    } else {
        Json(SignedView { sheet: &sheet.text, signed: sheet.signed.as_deref() }).into_response()
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// A sheet, and its text with the signature.
pub(super) struct Sheet {
    view: SheetView,
    text: Box<RawValue>,
    signed: Option<String>,
}

impl Sheet {
    /// Reads and signs what is recorded about a profile at this moment.
    ///
    /// # Errors
    /// `unknown-profile`, and those of a read.
    pub async fn read(app: &AppState, iccid: &Iccid, now: Timestamp) -> Result<Self, Problem> {
        let read = async |connection: &mut _| evidence::read(connection, iccid).await;
        let found = app.reads.run(read).await?.ok_or_else(|| Problem::new(Code::UnknownProfile))?;
        let view = SheetView::of(found, now);
        let text = serde_json::value::to_raw_value(&view).map_err(|error| unwritten(&error))?;
        let signed = app.evidence_keys.sign(KIND, text.get().as_bytes());
        Ok(Self { view, text, signed })
    }

    /// The answer with the page to print.
    pub fn page(&self, app: &AppState) -> Response {
        page::answer(&self.view, self.signed.as_deref(), &app.public_url)
    }
}

fn unwritten(error: &serde_json::Error) -> Problem {
    let error = error as &dyn std::error::Error;
    tracing::error!(error, "an evidence sheet could not be written as JSON");
    Problem::new(Code::Internal)
}

/// The public keys of evidence sheets (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeySet)]
pub struct KeySetView {
    /// The keys, the one that signs first; empty if none is configured.
    keys: Vec<KeyView>,
}

/// A public key (RFC 8037).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    /// The type of the key.
    #[schema(example = "OKP")]
    kty: &'static str,
    /// Its curve.
    #[schema(example = "Ed25519")]
    crv: &'static str,
    /// The public key, in the base64 of URLs.
    x: String,
    /// Its thumbprint (RFC 7638), which signatures name.
    kid: String,
    /// The algorithm of its signatures.
    #[schema(example = "EdDSA")]
    alg: &'static str,
    /// What it is for.
    #[schema(example = "sig")]
    r#use: &'static str,
}

/// Lists the public keys with which signed evidence sheets can be verified.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "evidence",
    responses((status = 200, body = KeySetView))
)]
pub async fn keys(State(app): State<AppState>) -> Response {
    let keys = app.evidence_keys.public().map(|key| KeyView {
        kty: "OKP",
        crv: "Ed25519",
        x: key.x.to_owned(),
        kid: key.id.to_owned(),
        alg: "EdDSA",
        r#use: "sig",
    });
    let cacheable = [(header::CACHE_CONTROL, "public, max-age=300")];
    (cacheable, Json(KeySetView { keys: keys.collect() })).into_response()
}
