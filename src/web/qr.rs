//! The activation code as a QR code, for a phone that scans it from another screen.

use std::error::Error;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fast_qr::convert::Builder;
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::qr::{QRBuilder, QRCode};
use fast_qr::{ECL, Module};
use http::{HeaderValue, header};
use tokio::task::spawn_blocking;

use super::AppState;
use super::callers::Subject;
use super::extract::Params;
use super::journey::credentials;
use super::problem::{Code, Problem, ProblemDocument, Refusals};
use crate::domain::ActivationCode;

/// The quiet zone around a QR code that readers need, in modules (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;

/// The default size of a PNG, in pixels.
const USUAL_SIZE: usize = 512;

/// Returns the activation code as a QR code in SVG.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/qr.svg", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token")),
    responses(
        (status = 200, body = String, content_type = "image/svg+xml"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`, or `no-activation-code`"),
    )
)]
pub async fn svg(
    State(app): State<AppState>,
    subject: Subject,
    params: Params,
) -> Result<Response, Problem> {
    params.finish()?;
    let code = encode(&activation_code(&app, &subject).await?)?;
    let svg = SvgBuilder::default().margin(QUIET_ZONE).to_str(&code);
    Ok(answer("image/svg+xml", svg.into_bytes()))
}

/// Returns the activation code as a QR code in PNG, as large as fits into `size` pixels.
#[utoipa::path(
    get, path = "/v1/profiles/{iccid}/qr.png", tag = "profiles",
    security(("apiKey" = []), ("accessToken" = [])),
    params(
        ("iccid" = String, Path, pattern = "^([0-9]{18,22}|self)$", description = "The ICCID, or `self` with an access token"),
        ("size" = Option<u32>, Query, minimum = 128, maximum = 2048, description = "Width and height in pixels; default 512"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/png"),
        Refusals,
        (status = 404, body = ProblemDocument, description = "`unknown-profile`, or `no-activation-code`"),
    )
)]
pub async fn png(
    State(app): State<AppState>,
    subject: Subject,
    mut params: Params,
) -> Result<Response, Problem> {
    let size = params.take("size", |text| match text.parse() {
        Ok(size @ 128..=2_048) => Ok(size),
        _ => Err("must be a number of pixels from 128 to 2048"),
    })?;
    params.finish()?;
    let code = encode(&activation_code(&app, &subject).await?)?;
    // Drawing takes some milliseconds, which would delay every other task of this thread.
    let drawn = spawn_blocking(move || draw(&code, size.unwrap_or(USUAL_SIZE))).await;
    match drawn {
        Ok(Ok(png)) => Ok(answer("image/png", png)),
        Ok(Err(error)) => Err(not_drawn(&error)),
        Err(error) => Err(not_drawn(&error)),
    }
}

fn not_drawn(error: &(dyn Error + 'static)) -> Problem {
    tracing::error!(error, "a QR code could not be drawn");
    Problem::new(Code::Internal)
}

async fn activation_code(app: &AppState, subject: &Subject) -> Result<ActivationCode, Problem> {
    if app.reader.find(&subject.iccid).await?.is_none() {
        return Err(Problem::new(Code::UnknownProfile));
    }
    let credentials =
        app.reads.run(async |connection| credentials(&app.vault, connection, &subject.iccid).await);
    let credentials = credentials.await?;
    credentials.activation_code.ok_or_else(|| Problem::new(Code::NoActivationCode))
}

/// Error correction level M restores 15 %. That is enough for a screen, and keeps the modules large.
fn encode(code: &ActivationCode) -> Result<QRCode, Problem> {
    QRBuilder::new(code.as_str()).ecl(ECL::M).build().map_err(|_| Problem::new(Code::Internal))
}

/// Draws the code black on white and centred, with each module a whole number of pixels wide.
fn draw(code: &QRCode, size: usize) -> Result<Vec<u8>, png::EncodingError> {
    let scale = (size / (code.size + 2 * QUIET_ZONE)).max(1);
    let width = size.max(code.size + 2 * QUIET_ZONE);
    let offset = (width - code.size * scale) / 2;
    // One bit per pixel, the highest bit first. Each row begins with a new byte.
    let bytes_a_row = width.div_ceil(8);
    let mut pixels = vec![u8::MAX; width * bytes_a_row];
    for row in 0..code.size * scale {
        for column in 0..code.size * scale {
            if code[row / scale][column / scale].value() == Module::DARK {
                let x = offset + column;
                pixels[(offset + row) * bytes_a_row + x / 8] &= !(0x80 >> (x % 8));
            }
        }
    }
    let mut file = Vec::new();
    let width = u32::try_from(width).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut file, width, width);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

fn answer(content_type: &'static str, image: Vec<u8>) -> Response {
    let mut response = image.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
