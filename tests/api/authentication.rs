//! How each kind of hook authenticates its sender; and that every refusal is the same 401.
//!
//! A real service has one hook of each kind, each in the middle of a rotation of secrets. The tests send valid
//! credentials, and many that are missing, wrong, malformed or duplicated.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esim_status::clock::now;
use esim_status::config::Settings;
use esim_status::delivery::{
    AccessKey, Authenticator, Encoding, Scheme, Secrets, SentCredentials, StandardSecrets,
};
use esim_status::hook::Hook;
use esim_status::providers::Gigastore;
use esim_status_testing::{Answer, HOOK_SECRET, TestApp, unix_now};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;
use sha2::Sha256;

use super::ICCID;

const OLD: &str = "9f2c41d07be8835a6610fe7c";
const NEW: &str = "kx81-vq02-mz77-ra40";
const OLD_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_KEY: &str = "whsec_R2nFo0uI1xqVZ7bYtE5mKwHc9LsDaPqj";
const KINDS: [&str; 6] = ["url-secret", "header", "hmac-hex", "hmac-both", "standard", "simlessly"];
/// Wrong secrets that have the length and format of the live ones.
const WRONG: [&str; 2] = ["9f2c41d07be8835a6610fe7d", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"];

/// The authenticator of a hook of this kind with these secrets. The first secret signs.
fn authenticator(kind: &str, plain: &[&str], standard: &[&str]) -> Authenticator {
    let secrets = Secrets::parse("test", plain).unwrap();
    let hmac = |header, encoding, prefix: &str, secrets| {
        let header = http::HeaderName::from_static(header);
        Scheme::HmacSha256 { header, encoding, prefix: prefix.to_owned(), secrets }
    };
    Authenticator::new(match kind {
        "url-secret" => Scheme::UrlSecret(secrets),
        "header" => {
            Scheme::Header { name: http::HeaderName::from_static("x-hook-secret"), secrets }
        }
        "hmac-hex" => hmac("x-signature", Encoding::Hex, "sha256=", secrets),
        "hmac-both" => hmac("x-signature-sha256", Encoding::Either, "", secrets),
        "simlessly" => {
            Scheme::Simlessly { access_key: AccessKey::parse("ak-204417").unwrap(), secrets }
        }
        _ => Scheme::StandardWebhooks(StandardSecrets::parse("test", standard).unwrap()),
    })
}

/// One hook of each kind, each in the middle of a rotation.
fn every_kind(settings: &mut Settings) {
    for kind in KINDS {
        let path: Arc<str> = Arc::from(format!("gigastore/{kind}"));
        let authenticator = authenticator(kind, &[NEW, OLD], &[NEW_KEY, OLD_KEY]).into();
        let hook =
            Hook { path: path.clone(), provider: &Gigastore, authenticator, takes_tests: false };
        settings.hooks.insert(path, hook.into());
    }
}

/// Three of four secrets from `openssl rand -base64 32` contain a slash or a plus; people append them to the URL
/// unencoded.
#[tokio::test]
async fn a_secret_with_slashes_in_the_url_works_pasted_and_encoded() {
    const SECRET: &str = "q7+/Zk3d/1Vt8Wm==";
    let path: Arc<str> = Arc::from("gigastore/base64");
    let app = TestApp::start_with(|settings| {
        let authenticator = authenticator("url-secret", &[SECRET], &[NEW_KEY]).into();
        let hook =
            Hook { path: path.clone(), provider: &Gigastore, authenticator, takes_tests: false };
        settings.hooks.insert(path.clone(), hook.into());
    })
    .await;
    for segment in
        [SECRET, "q7+%2FZk3d%2F1Vt8Wm==", "q7%2B/Zk3d/1Vt8Wm%3D%3D", "q7+/Zk3d/1Vt8Wm==/"]
    {
        let path = format!("/webhooks/gigastore/base64/{segment}");
        assert_eq!(app.anybody.post(&path, body()).await.status, 200, "{segment}");
        assert_eq!(app.anybody.get(&path).await.status, 200, "{segment}");
    }
    for wrong in ["q7+/Zk3d", "q7+", "q7+/Zk3d/1Vt8Wm==//", "q7+/Zk3d/1Vt8Wm==/x"] {
        let answer = app.anybody.post(&format!("/webhooks/gigastore/base64/{wrong}"), body()).await;
        assert_refused(&answer, wrong);
    }
    let metrics = app.admin.get("/metrics").await.text;
    assert!(!metrics.contains("{*rest}") && !metrics.contains("Zk3d"));
}

fn body() -> String {
    json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string()
}

async fn send(app: &TestApp, kind: &str, credentials: SentCredentials, body: String) -> Answer {
    let segment = credentials.url_segment.map(|segment| format!("/{segment}")).unwrap_or_default();
    let request =
        app.anybody.request(Method::POST, &format!("/webhooks/gigastore/{kind}{segment}"));
    Answer::of(request.headers(credentials.headers.into_iter().collect()).body(body)).await
}

/// Sends these headers, which may occur twice and contain any bytes.
async fn send_raw(app: &TestApp, kind: &str, headers: &[(&str, &[u8])]) -> Answer {
    let mut request = app.anybody.request(Method::POST, &format!("/webhooks/gigastore/{kind}"));
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    Answer::of(request.body(body())).await
}

/// All refusals have the same text.
fn assert_refused(answer: &Answer, name: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "not-authentic"), "{name}");
    assert_eq!(answer.header("www-authenticate"), r#"Webhook realm="esim-status""#, "{name}");
    let (problem, expected) = (
        answer.json(),
        "Check the secret, the signature and the sender's clock. `esim-status doctor` tests every hook.",
    );
    assert_eq!(problem["detail"], expected, "{name}");
    assert_eq!(problem.as_object().map(serde_json::Map::len), Some(6), "{name}: {problem}");
}

async fn assert_nothing_happened(app: &TestApp) {
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 0);
}

#[tokio::test]
async fn each_kind_accepts_every_live_secret_and_no_other() {
    let app = TestApp::start_with(every_kind).await;
    for kind in KINDS {
        let missing = send(&app, kind, SentCredentials::default(), body()).await;
        assert_refused(&missing, kind);
        let wrong = authenticator(kind, &WRONG[..1], &WRONG[1..]);
        let wrong =
            send(&app, kind, wrong.credentials_for("msg_1", now(), body().as_bytes()), body())
                .await;
        assert_refused(&wrong, kind);
    }
    assert_nothing_happened(&app).await;
    for kind in KINDS {
        for (plain, standard) in [(OLD, OLD_KEY), (NEW, NEW_KEY)] {
            let sender = authenticator(kind, &[plain], &[standard]);
            let credentials =
                sender.credentials_for(&format!("msg_{plain}"), now(), body().as_bytes());
            let answer = send(&app, kind, credentials, body()).await;
            assert!(["moved", "repeated"].contains(&&*answer.outcome()), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_signature_is_valid_for_its_own_body_only() {
    let app = TestApp::start_with(every_kind).await;
    for kind in &KINDS[2..] {
        let sender = authenticator(kind, &[NEW], &[NEW_KEY]);
        let credentials = sender.credentials_for("msg_1", now(), body().as_bytes());
        let answer = send(&app, kind, credentials, body().replace("INSTALLED", "RELEASED")).await;
        assert_refused(&answer, kind);
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn a_secret_in_the_url_that_is_altered_or_of_another_kind_is_refused() {
    let app = TestApp::start_with(every_kind).await;
    let url_secret = "/webhooks/gigastore/url-secret";
    for path in [
        url_secret.to_owned(),
        format!("{url_secret}/{}", &NEW[1..]),
        format!("{url_secret}/{NEW}x"),
        format!("{url_secret}/%20{NEW}"),
        format!("{url_secret}/{NEW}%00"),
        format!("{url_secret}/{}", NEW.to_uppercase()),
        format!("{url_secret}/{HOOK_SECRET}"),
        format!("{url_secret}?secret={NEW}"),
        format!("/webhooks/gigastore/header/{NEW}"),
        format!("/webhooks/gigastore/hmac-hex/{NEW}"),
        format!("/webhooks/gigastore/standard/{NEW}"),
    ] {
        assert_refused(&app.anybody.post(&path, body()).await, &path);
    }
    assert_nothing_happened(&app).await;
    // A percent-encoded secret is the same secret.
    let encoded = format!("{url_secret}/{}", NEW.replace('-', "%2D"));
    assert_eq!(app.anybody.post(&encoded, body()).await.outcome(), "moved");
}

#[tokio::test]
async fn a_malformed_or_duplicate_secret_or_mac_header_is_refused() {
    let app = TestApp::start_with(every_kind).await;
    let mut mac = Hmac::<Sha256>::new_from_slice(NEW.as_bytes()).unwrap();
    mac.update(body().as_bytes());
    let mac = mac.finalize().into_bytes();
    let (hex, base64) = (hex::encode(mac), STANDARD.encode(mac));
    let prefixed = format!("sha256={hex}");
    let rows: Vec<(&str, &str, Vec<Vec<u8>>)> = vec![
        ("header", "x-hook-secret", vec![NEW.into(), NEW.into()]),
        ("header", "x-hook-secret", vec![NEW.into(), b"other".to_vec()]),
        ("header", "x-hook-secret", vec![Vec::new()]),
        ("header", "x-hook-secret", vec![format!("{NEW},{NEW}").into()]),
        ("header", "x-hook-secret", vec![b"\xff\xfe".to_vec()]),
        ("hmac-hex", "x-signature", vec![prefixed.clone().into(), prefixed.clone().into()]),
        ("hmac-hex", "x-signature", vec![hex.clone().into()]),
        ("hmac-hex", "x-signature", vec![format!("sha1={hex}").into()]),
        ("hmac-hex", "x-signature", vec![format!("sha256={base64}").into()]),
        ("hmac-hex", "x-signature", vec![prefixed[..70].into()]),
        ("hmac-hex", "x-signature", vec![format!("{prefixed}00").into()]),
        ("hmac-hex", "x-signature", vec![format!("sha256={}", "g".repeat(64)).into()]),
        ("hmac-hex", "x-signature", vec![b"sha256=".to_vec()]),
        ("hmac-hex", "x-signature", vec![format!("sha256={}", "a".repeat(12_000)).into()]),
        ("hmac-both", "x-signature-sha256", vec![base64[..40].into()]),
        ("hmac-both", "x-signature-sha256", vec![b"\xe9".repeat(64)]),
    ];
    for (number, (kind, header, values)) in rows.into_iter().enumerate() {
        let headers: Vec<_> = values.iter().map(|value| (header, &value[..])).collect();
        assert_refused(&send_raw(&app, kind, &headers).await, &format!("{kind}, row {number}"));
    }
    assert_nothing_happened(&app).await;
    for (kind, header, value) in [
        ("hmac-hex", "x-signature", &prefixed),
        ("hmac-both", "x-signature-sha256", &hex),
        ("hmac-both", "x-signature-sha256", &hex.to_uppercase()),
        ("hmac-both", "x-signature-sha256", &base64),
    ] {
        assert_eq!(
            send_raw(&app, kind, &[(header, value.as_bytes())]).await.status,
            200,
            "{value}"
        );
    }
}

/// The correct signature for any id and timestamp.
fn sign(id: &[u8], timestamp: &[u8]) -> String {
    let key = STANDARD.decode(&NEW_KEY["whsec_".len()..]).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    for part in [id, b".", timestamp, b".", body().as_bytes()] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

async fn send_signed(app: &TestApp, id: &[u8], timestamp: &[u8], signature: &str) -> Answer {
    let headers = [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature.as_bytes()),
    ];
    send_raw(app, "standard", &headers).await
}

#[tokio::test]
async fn a_timestamp_must_be_plain_digits_and_at_most_five_minutes_off() {
    let app = TestApp::start_with(every_kind).await;
    let now = unix_now();
    let full_width: String = (now.to_string().bytes())
        .filter_map(|digit| char::from_u32(0xFF10 + u32::from(digit - b'0')))
        .collect();
    for timestamp in [
        format!("+{now}"),
        format!("-{now}"),
        format!("0{now}"),
        format!("{now}.0"),
        format!("{now}000"),
        format!("{now}\t0"),
        format!("{now:x}"),
        full_width,
        "9".repeat(400),
        i64::MIN.to_string(),
        i64::MAX.to_string(),
        "0".to_owned(),
        String::new(),
        (now - 301).to_string(),
        // A little beyond the tolerance, because the clock advances before the request arrives.
        (now + 310).to_string(),
    ] {
        let signature = sign(b"msg_1", timestamp.as_bytes());
        let answer = send_signed(&app, b"msg_1", timestamp.as_bytes(), &signature).await;
        assert_refused(&answer, &timestamp);
    }
    assert_nothing_happened(&app).await;
    for (id, timestamp) in [("msg_2", now - 290), ("msg_3", now + 299)] {
        let timestamp = timestamp.to_string();
        let signature = sign(id.as_bytes(), timestamp.as_bytes());
        let answer = send_signed(&app, id.as_bytes(), timestamp.as_bytes(), &signature).await;
        assert_eq!(answer.status, 200, "{id}");
    }
}

#[tokio::test]
async fn an_event_id_must_be_short_visible_ascii_without_a_dot() {
    let app = TestApp::start_with(every_kind).await;
    let timestamp = unix_now().to_string();
    let long = "m".repeat(10_240);
    for (name, id) in [
        ("a dot", "msg.1".as_bytes()),
        ("10 kB", long.as_bytes()),
        ("a space", b"msg 1"),
        ("a tab", b"msg\t1"),
        ("not ASCII", "müsg".as_bytes()),
        ("not UTF-8", b"msg\xff"),
        ("empty", b""),
    ] {
        let signature = sign(id, timestamp.as_bytes());
        assert_refused(&send_signed(&app, id, timestamp.as_bytes(), &signature).await, name);
    }
    assert_nothing_happened(&app).await;
}

#[tokio::test]
async fn one_of_a_few_signatures_must_match_and_long_lists_are_refused() {
    let app = TestApp::start_with(every_kind).await;
    let timestamp = unix_now().to_string();
    let right = sign(b"msg_1", timestamp.as_bytes());
    let mac = &right["v1,".len()..];
    for (name, signature) in [
        ("empty", String::new()),
        ("no version", mac.to_owned()),
        ("another version", format!("v2,{mac}")),
        ("asymmetric", format!("v1a,{mac}")),
        ("truncated", right[..right.len() - 2].to_owned()),
        ("in upper case", right.to_uppercase()),
        ("comma instead of space", format!("{right},{right}")),
        ("2,000 candidates", "v1,x ".repeat(2_000)),
        ("2,000 and the right one", format!("{}{right}", "v1,x ".repeat(2_000))),
    ] {
        let answer = send_signed(&app, b"msg_1", timestamp.as_bytes(), &signature).await;
        assert_refused(&answer, name);
    }
    let (timestamp, signature) = (timestamp.as_bytes(), right.as_bytes());
    for twice in [
        ("webhook-id", &b"msg_1"[..]),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ] {
        let headers = [
            ("webhook-id", &b"msg_1"[..]),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
            twice,
        ];
        assert_refused(&send_raw(&app, "standard", &headers).await, twice.0);
    }
    assert_nothing_happened(&app).await;
    let among = format!("v1a,abc v1,AAAA {right} v2,xyz");
    assert_eq!(send_signed(&app, b"msg_1", timestamp, &among).await.outcome(), "moved");
}
