//! `POST /v1/profiles/{iccid}/tokens`: creating access tokens, and what a token permits until it expires or is revoked.
//!
//! Tokens come from the service itself, or are signed by the tests as a backend would sign them.

use esim_status::delivery::Secrets;
use esim_status_testing::{Answer, Client, TOKEN_SECRET, TestApp, unix_now};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use super::esim::{object, register};
use super::sse::Events;
use super::{ICCID, iccid};

/// How far the clocks of the signer and the service may differ, in seconds.
const LEEWAY: u64 = 30;

async fn make(app: &TestApp, body: impl Into<reqwest::Body>) -> Answer {
    app.backend.post(&format!("/v1/profiles/{ICCID}/tokens"), body).await
}

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("a JWT has three parts");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

fn sign_with(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

async fn status(app: &TestApp, token: impl Into<String>) -> u16 {
    app.anybody.with_bearer(token).get("/v1/profiles/self").await.status.as_u16()
}

#[tokio::test]
async fn a_token_is_valid_for_15_minutes_unless_the_request_says_otherwise() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for (body, ttl) in [
        ("", 900),
        ("  \n", 900),
        ("{}", 900),
        (r#"{"ttlSeconds":null}"#, 900),
        (r#"{"ttlSeconds":1}"#, 1),
        (r#"{"ttlSeconds":86400}"#, 86_400),
    ] {
        let before = unix_now();
        let answer = make(&app, body).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
        let made = answer.json();
        let token = made["token"].as_str().unwrap();
        let claims = claims(token);
        assert_eq!((&claims["aud"], &claims["sub"]), (&json!("esim-status"), &json!(ICCID)));
        let expires = claims["exp"].as_u64().unwrap();
        assert!((before + ttl..=unix_now() + ttl).contains(&expires), "{body}: {claims}");
        let at =
            esim_status::domain::Timestamp::parse(made["expiresAt"].as_str().unwrap()).unwrap();
        assert_eq!(at.unix_seconds().unsigned_abs(), expires);
        // Without a public URL in the settings, the link has the address of the service.
        let base = format!("http://{}", app.service.public);
        assert_eq!(made["installUrl"], format!("{base}/install#{token}"));
        assert_eq!(status(&app, token).await, 200, "{body}");
    }
}

#[tokio::test]
async fn the_install_link_has_the_public_url() {
    let public = "https://esim.example.test/sub".to_owned();
    let app = TestApp::start_with(|settings| settings.public_url = Some(public)).await;
    register(&app, &object(ICCID)).await;
    let made = make(&app, "").await.json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["installUrl"], format!("https://esim.example.test/sub/install#{token}"));
}

#[tokio::test]
async fn an_invalid_lifetime_or_body_is_refused_and_not_echoed() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for (body, code) in [
        (r#"{"ttlSeconds":0}"#, "invalid-parameter"),
        (r#"{"ttlSeconds":-4711}"#, "invalid-parameter"),
        (r#"{"ttlSeconds":86401}"#, "invalid-parameter"),
        (r#"{"ttlSeconds":9223372036854775807}"#, "invalid-parameter"),
        (r#"{"ttlSeconds":9223372036854775808}"#, "invalid-body"),
        (r#"{"ttlSeconds":900.5}"#, "invalid-body"),
        (r#"{"ttlSeconds":"4711"}"#, "invalid-body"),
        (r#"{"ttlSeconds":60,"ttlSeconds":4711}"#, "invalid-body"),
        (r#"{"ttl":4711}"#, "invalid-body"),
        (r#"{"ttlSeconds":60} 4711"#, "invalid-body"),
        ("[4711]", "invalid-body"),
        ("null", "invalid-body"),
        ("{", "invalid-body"),
        ("4711", "invalid-body"),
    ] {
        let answer = make(&app, body).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, code), "{body}: {answer:?}");
        assert!(!answer.text.contains("4711"), "{}", answer.text);
    }
    let unknown = app.backend.post(&format!("/v1/profiles/{}/tokens", iccid(1)), "").await;
    assert_eq!((unknown.status.as_u16(), &*unknown.problem()), (404, "unknown-profile"));
    let path = format!("/v1/profiles/{ICCID}/tokens?ttlSeconds=60");
    assert_eq!(app.backend.post(&path, "").await.problem(), "invalid-parameter");
}

#[tokio::test]
async fn a_token_expires_with_a_tolerance_of_30_s_for_clocks() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let now = unix_now();
    let own = |exp: u64| json!({ "aud": "esim-status", "sub": ICCID, "exp": exp });
    for (exp, expected) in [
        (now + 600, 200),
        (now - LEEWAY + 10, 200),
        (now - LEEWAY, 401),
        (now - 3_600, 401),
        (0, 401),
        // Some backends write "never" as a time beyond any calendar.
        (i64::MAX.unsigned_abs(), 200),
    ] {
        assert_eq!(status(&app, TestApp::token(&own(exp))).await, expected, "{exp}");
    }
    for (not_before, expected) in [(now - 60, 200), (now + LEEWAY - 10, 200), (now + 60, 401)] {
        let mut claims = own(now + 600);
        claims["nbf"] = json!(not_before);
        assert_eq!(status(&app, TestApp::token(&claims)).await, expected, "{not_before}");
    }
}

#[tokio::test]
async fn a_backend_may_sign_its_own_tokens_and_any_other_signature_is_refused() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let exp = unix_now() + 600;
    let good = json!({ "aud": "esim-status", "sub": ICCID, "exp": exp });
    let with = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        TestApp::token(&claims)
    };
    let without = |member: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(member);
        TestApp::token(&claims)
    };
    let whole = TestApp::token(&good);
    let (head, signature) = whole.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let encode = |text: &str| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text)
    };
    let unsigned = encode(r#"{"alg":"none","typ":"JWT"}"#);
    let rows = [
        (whole.clone(), 200, "as documented"),
        (with("iat", json!(exp - 600)), 200, "with the time of its creation"),
        (with("name", json!("Ada")), 200, "with a claim of the backend's own"),
        (with("aud", json!(["shop", "esim-status"])), 200, "for several audiences"),
        (
            with("exp", json!(f64::from(u32::try_from(exp).unwrap()) + 0.5)),
            200,
            "with a fraction of a second, which RFC 7519 allows",
        ),
        (with("aud", json!("shop")), 401, "for another audience"),
        (with("aud", json!([])), 401, "for no audience"),
        (without("aud"), 401, "without an audience"),
        (without("exp"), 401, "without an expiry"),
        (without("sub"), 401, "without a subject"),
        (with("sub", json!("4711")), 401, "whose subject is not an ICCID"),
        (with("sub", json!(89_972_123_300_991_i64)), 401, "whose subject is a number"),
        (with("exp", json!(exp.to_string())), 401, "whose expiry is a string"),
        (with("exp", json!(-1)), 401, "that expired before 1970"),
        (sign_with(&good, Algorithm::HS256, "d58b3f0eac17b8460f2e"), 401, "with another secret"),
        (sign_with(&good, Algorithm::HS384, TOKEN_SECRET), 401, "signed by HS384"),
        (sign_with(&good, Algorithm::HS512, TOKEN_SECRET), 401, "signed by HS512"),
        (format!("{unsigned}.{payload}."), 401, "with alg none"),
        (format!("{unsigned}.{payload}.{signature}"), 401, "with alg none and a signature"),
        (format!("{header}.{payload}."), 401, "without its signature"),
        (format!("{header}.{payload}"), 401, "in two parts"),
        (
            format!("{header}.{}.{signature}", encode(&with("exp", json!(exp + 1)))),
            401,
            "tampered with",
        ),
        (format!("{whole}x"), 401, "too long"),
        (String::from("."), 401, "empty"),
    ];
    for (token, expected, what) in rows {
        let answer = app.anybody.with_bearer(token).get("/v1/profiles/self").await;
        assert_eq!(answer.status.as_u16(), expected, "a token {what}");
        if expected == 401 {
            assert_eq!(answer.problem(), "unauthenticated");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        }
    }
    let in_the_query = app.anybody.get(&format!("/v1/profiles/self?token={whole}")).await;
    assert_eq!(in_the_query.problem(), "unauthenticated");
}

#[tokio::test]
async fn while_secrets_are_rotated_the_first_signs_and_all_verify() {
    let (new, old) = ("a9c0e8d7b6f5a4938271", "c47a2e9d06b8435fe1a0");
    let app = TestApp::start_with(|settings| {
        settings.access.token_secrets = Secrets::parse("token", [new, old]).unwrap();
    })
    .await;
    register(&app, &object(ICCID)).await;
    let claims = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() + 600 });
    for secret in [new, old] {
        assert_eq!(status(&app, sign_with(&claims, Algorithm::HS256, secret)).await, 200);
    }
    let made = make(&app, "").await.json()["token"].as_str().unwrap().to_owned();
    let rotated = TestApp::start_on(app.database.clone(), |settings| {
        settings.access.token_secrets = Secrets::parse("token", [new]).unwrap();
    })
    .await;
    assert_eq!(status(&rotated, made).await, 200);
    assert_eq!(status(&rotated, sign_with(&claims, Algorithm::HS256, old)).await, 401);
}

#[tokio::test]
async fn a_token_reads_only_its_own_profile() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    register(&app, &object(&iccid(1))).await;
    let token = make(&app, "").await.json()["token"].as_str().unwrap().to_owned();
    let user = app.anybody.with_bearer(token);
    for path in ["", "/transitions", "/journey", "/qr.svg"] {
        for whose in ["self", ICCID] {
            assert_eq!(user.get(&format!("/v1/profiles/{whose}{path}")).await.status, 200);
        }
        for whose in [iccid(1), iccid(2), "garbage".to_owned()] {
            let answer = user.get(&format!("/v1/profiles/{whose}{path}")).await;
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, "unknown-profile"));
        }
    }
    for path in ["/v1/profiles", "/v1/deliveries", "/v1/summary", "/v1/profiles/self/deliveries"] {
        let answer = user.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (403, "forbidden"), "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    // Valid for another two seconds or so, including the leeway.
    let claims = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() - LEEWAY + 3 });
    let user: Client = app.anybody.with_bearer(TestApp::token(&claims));
    let mut events = Events::open(&user, "self").await;
    assert_eq!(events.event().await.event, "profile");
    app.report(ICCID, "INSTALLED").await;
    assert_eq!(events.event().await.data["toState"], "INSTALLED");
    assert!(events.ending().await.contains("token"));
    assert_eq!(user.get("/v1/profiles/self").await.problem(), "unauthenticated");
    assert_eq!(user.get("/v1/profiles/self/events").await.problem(), "unauthenticated");
}

#[tokio::test]
async fn a_backend_revokes_all_tokens_of_a_profile_and_new_ones_are_valid_immediately() {
    let app = TestApp::start().await;
    for number in [ICCID.to_owned(), iccid(1)] {
        register(&app, &object(&number)).await;
    }
    let (old, neighbour) = (app.invited(ICCID).await, app.invited(&iccid(1)).await);
    let mut events = Events::open(&old, "self").await;
    events.event().await;
    let end = async |client: &Client, number: &str| {
        let path = format!("/v1/profiles/{number}/tokens");
        Answer::of(client.request(Method::DELETE, &path)).await
    };
    assert_eq!(end(&old, ICCID).await.problem(), "forbidden");
    assert_eq!(end(&app.backend, &iccid(2)).await.problem(), "unknown-profile");
    let ended = end(&app.backend, ICCID).await;
    assert_eq!((ended.status.as_u16(), &*ended.text), (204, ""));
    assert!(events.ending().await.contains("no longer valid"));
    assert_eq!(old.get("/v1/profiles/self").await.problem(), "unauthenticated");
    for client in [app.invited(ICCID).await, neighbour] {
        assert_eq!(client.get("/v1/profiles/self").await.status, 200);
    }
    // Webhooks for the profile are still accepted.
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}
