//! `GET /v1/profiles/{iccid}/qr.svg` and `qr.png`: the activation code as a QR code.
//!
//! The tests decode the images with an independent QR decoder (`rqrr`) and measure their quiet zones and modules.

use esim_status_testing::{Client, TestApp};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::esim::{activation_code, object, object_with, register};
use super::{ICCID, iccid};

/// The quiet zone that QR readers need, in modules (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;

/// A square greyscale image.
struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// The text that an independent decoder reads.
    fn decode(&self) -> String {
        let mut prepared =
            rqrr::PreparedImage::prepare_from_greyscale(self.width, self.width, |x, y| {
                self.pixels[y * self.width + x]
            });
        let grids = prepared.detect_grids();
        assert_eq!(grids.len(), 1, "one QR code of {} pixels", self.width);
        grids[0].decode().expect("the QR code can be decoded").1
    }

    /// The width of the white margin in pixels: the smallest of the four sides.
    fn margin(&self) -> usize {
        let is_dark = |index: usize| self.pixels[index] < 128;
        let dark: Vec<_> = (0..self.pixels.len()).filter(|index| is_dark(*index)).collect();
        let sides = dark.iter().flat_map(|index| {
            let (x, y) = (index % self.width, index / self.width);
            [x, y, self.width - 1 - x, self.width - 1 - y]
        });
        sides.min().expect("the image has dark pixels")
    }

    /// The width of one module in pixels: a finder pattern is seven modules wide.
    fn module(&self) -> usize {
        let row = self.margin() * self.width;
        let from = self.pixels[row..row + self.width].iter().position(|p| *p < 128).unwrap();
        let dark = self.pixels[row + from..].iter().take_while(|p| **p < 128).count();
        assert_eq!(dark % 7, 0);
        dark / 7
    }

    /// Reads a PNG.
    fn of_png(bytes: &[u8]) -> Self {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().expect("a PNG");
        assert_eq!(reader.info().bit_depth, png::BitDepth::One);
        let mut pixels = vec![0; reader.output_buffer_size().expect("the PNG has a size")];
        let frame = reader.next_frame(&mut pixels).expect("the PNG is complete");
        assert_eq!(frame.color_type, png::ColorType::Grayscale);
        assert_eq!(frame.width, frame.height);
        Self { width: usize::try_from(frame.width).unwrap(), pixels }
    }

    /// Renders the squares of an SVG, each module `scale` pixels wide. Any other shape fails the test.
    fn of_svg(svg: &str, scale: usize) -> Self {
        let between = |from: &str, to: &str| {
            let rest =
                &svg[svg.find(from).unwrap_or_else(|| panic!("no {from}: {svg}")) + from.len()..];
            rest[..rest.find(to).expect("the value is terminated")].to_owned()
        };
        let view_box = between("viewBox=\"", "\"");
        let side: usize =
            view_box.strip_prefix("0 0 ").unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(view_box, format!("0 0 {side} {side}"));
        let ground = format!("<rect width=\"{side}px\" height=\"{side}px\" fill=\"#ffffff\"/>");
        assert!(svg.to_lowercase().contains(&ground), "white background: {svg}");
        assert_eq!(svg.matches("<path").count(), 1);
        assert!(between("<path", "/>").to_lowercase().contains("fill=\"#000000\""));

        let width = side * scale;
        let mut pixels = vec![u8::MAX; width * width];
        for square in between("d=\"", "\"").split('M').filter(|square| !square.is_empty()) {
            let corner = square.strip_suffix("h1v1h-1z").or(square.strip_suffix("h1v1h-1"));
            let (x, y) = corner.expect("one module").split_once(',').expect("a corner");
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            for row in y * scale..(y + 1) * scale {
                pixels[row * width + x * scale..row * width + (x + 1) * scale].fill(0);
            }
        }
        Self { width, pixels }
    }
}

async fn png_of(client: &Client, path: &str) -> Picture {
    let response = client.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((&*header("content-type"), &*header("cache-control")), ("image/png", "no-store"));
    Picture::of_png(&response.bytes().await.unwrap())
}

/// Fifty codes of every form that the grammar allows, from the shortest to much longer than providers use.
fn codes() -> Vec<String> {
    let letters = "aZ09-bY18-cX27-dW36-eV45-fU54-";
    (0..50usize)
        .map(|number| {
            let matching_id: String =
                letters.chars().cycle().skip(number).take(number * 7).collect();
            let address = match number % 3 {
                0 => "a.io".to_owned(),
                1 => format!("rsp-{number}.Example.test"),
                _ => format!("{}.smdp.example.test", "x".repeat(number)),
            };
            let tail = ["", "$", "$1.3.6.1.4.1.31746", "$$1", "$1.3.6.1$1"][number % 5];
            // Codes in upper case only are encoded in a denser mode.
            let code = format!("LPA:1${address}${matching_id}{tail}");
            if number % 4 == 0 { code.to_uppercase() } else { code }
        })
        .collect()
}

#[tokio::test]
async fn fifty_codes_of_different_lengths_decode_to_exactly_the_code() {
    let app = TestApp::start().await;
    let codes = codes();
    let mut lengths: Vec<_> = codes.iter().map(String::len).collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert!(
        lengths.len() >= 45 && lengths[0] < 15 && *lengths.last().unwrap() > 350,
        "{lengths:?}"
    );
    for (number, code) in codes.iter().enumerate() {
        let iccid = iccid(number);
        register(&app, &object_with(&iccid, "activationCode", code.as_str())).await;
        let user = app.user(&iccid);
        let picture = png_of(&user, "/v1/profiles/self/qr.png").await;
        assert_eq!((picture.width, &picture.decode()), (512, code));
        assert!(picture.margin() >= QUIET_ZONE * picture.module(), "{code}");

        let svg = user.get("/v1/profiles/self/qr.svg").await;
        assert_eq!(svg.header("content-type"), "image/svg+xml");
        assert_eq!(svg.header("cache-control"), "no-store");
        let picture = Picture::of_svg(&svg.text, 5);
        assert_eq!(&picture.decode(), code);
        assert_eq!(picture.margin(), QUIET_ZONE * 5);
    }
}

#[tokio::test]
async fn an_image_has_the_requested_size_and_scans_at_any_size() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for size in [128, 129, 200, 255, 512, 777, 1_024, 2_048] {
        let path = format!("/v1/profiles/{ICCID}/qr.png?size={size}");
        let picture = png_of(&app.backend, &path).await;
        assert_eq!((picture.width, picture.decode()), (size, activation_code()));
        assert!(picture.margin() >= QUIET_ZONE * picture.module(), "{size}");
        // Only pure black and pure white, without shades that a reader would have to threshold.
        assert!(picture.pixels.iter().all(|pixel| matches!(pixel, 0 | 255)));
    }
    for size in ["127", "0", "-1", "2049", "1e9", "512.0", "large", "99999999999999999999"] {
        let answer = app.backend.get(&format!("/v1/profiles/{ICCID}/qr.png?size={size}")).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "invalid-parameter"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("size"), "{answer:?}");
    }
    let scaled = app.backend.get(&format!("/v1/profiles/{ICCID}/qr.svg?size=512")).await;
    assert_eq!(scaled.problem(), "invalid-parameter");
}

#[tokio::test]
async fn the_longest_accepted_code_fits_into_the_smallest_image() {
    let app = TestApp::start().await;
    let head = "LPA:1$smdp.example.test$";
    let code = format!("{head}{}", "aZ9-".repeat(128)[head.len()..].to_owned());
    assert_eq!(code.len(), 512);
    register(&app, &object_with(ICCID, "activationCode", code.as_str())).await;
    let path = |size: usize| format!("/v1/profiles/{ICCID}/qr.png?size={size}");
    let smallest = png_of(&app.backend, &path(128)).await;
    assert_eq!((smallest.width, smallest.module()), (128, 1));
    assert!(smallest.margin() >= QUIET_ZONE);
    assert_eq!(png_of(&app.backend, &path(1_024)).await.decode(), code);
}

#[tokio::test]
async fn a_profile_without_an_activation_code_has_no_qr_code() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "RELEASED").await;
    register(&app, &object_with(&iccid(1), "activationCode", Value::Null)).await;
    for kind in ["svg", "png"] {
        for number in [0, 1] {
            let answer =
                app.user(&iccid(number)).get(&format!("/v1/profiles/self/qr.{kind}")).await;
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, "no-activation-code"));
        }
        let absent = app.backend.get(&format!("/v1/profiles/{}/qr.{kind}", iccid(2))).await;
        assert_eq!((absent.status.as_u16(), &*absent.problem()), (404, "unknown-profile"));
        let foreign =
            app.user(&iccid(0)).get(&format!("/v1/profiles/{}/qr.{kind}", iccid(1))).await;
        assert_eq!((foreign.status.as_u16(), &*foreign.problem()), (404, "unknown-profile"));
        let nobody = app.anybody.get(&format!("/v1/profiles/{}/qr.{kind}", iccid(1))).await;
        assert_eq!(nobody.problem(), "unauthenticated");
    }
}
