//! Who may read what: API keys of backends, access tokens of users.
//!
//! A real service over a socket, with two live API keys and two live token secrets. The tests send good and forged
//! credentials, some of them assembled by hand, and compare the answers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esim_status::delivery::Secrets;
use esim_status_testing::{API_KEY, Answer, TOKEN_SECRET, TestApp, unix_now};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{ICCID, iccid};

const NEXT_KEY: &str = "kx81-vq02-mz77-ra40";
const NEXT_SECRET: &str = "e55d0b7c91a24f38b6d2";

/// Claims that are valid for a minute, with these changes.
fn claims(changes: Value) -> Value {
    let mut claims = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() + 60 });
    if let Value::Object(changes) = changes {
        for (name, value) in changes {
            claims[name] = value;
        }
    }
    claims
}

/// A token assembled by hand: any header, signed by HMAC-SHA256 with any key.
fn forge(header: &Value, claims: &Value, key: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn assert_unauthenticated(answer: &Answer, name: &str) {
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "unauthenticated"), "{name}");
    assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="esim-status""#, "{name}");
}

async fn with_two_profiles() -> TestApp {
    let app = TestApp::start_with(|settings| {
        settings.access.api_keys = Secrets::parse("test", [API_KEY, NEXT_KEY]).unwrap().into();
        settings.access.token_secrets =
            Secrets::parse("test", [TOKEN_SECRET, NEXT_SECRET]).unwrap();
    })
    .await;
    let body = json!({ "iccid": ICCID, "profileState": "INSTALLED", "eid": "89049032123451234512345678901235",
                       "imsi": "260216611193634" });
    assert_eq!(app.deliver(body.to_string()).await.outcome(), "moved");
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    app
}

#[tokio::test]
async fn every_live_api_key_and_nothing_else_opens_every_endpoint() {
    let app = with_two_profiles().await;
    let paths = [
        format!("/v1/profiles/{ICCID}"),
        format!("/v1/profiles/{ICCID}/transitions"),
        format!("/v1/profiles/{ICCID}/deliveries"),
        format!("/v1/profiles/{ICCID}/evidence"),
        "/v1/profiles".to_owned(),
        "/v1/deliveries".to_owned(),
        "/v1/summary".to_owned(),
    ];
    let (cut, longer) = (&API_KEY[1..], format!("{API_KEY}x"));
    for path in &paths {
        for key in [API_KEY, NEXT_KEY] {
            assert_eq!(app.anybody.with_bearer(key).get(path).await.status, 200, "{path}");
        }
        assert_unauthenticated(&app.anybody.get(path).await, path);
        for key in ["", cut, &longer, "null", TOKEN_SECRET, &format!("{API_KEY}, {API_KEY}")] {
            assert_unauthenticated(&app.anybody.with_bearer(key).get(path).await, path);
        }
        for query in ["access_token", "token", "key", "authorization"] {
            let path = format!("{path}?{query}={API_KEY}");
            assert_unauthenticated(&app.anybody.get(&path).await, &path);
        }
    }
}

#[tokio::test]
async fn only_a_single_authorization_header_of_the_bearer_scheme_is_accepted() {
    let app = with_two_profiles().await;
    for (values, status) in [
        (vec![format!("Bearer {API_KEY}")], 200),
        (vec![format!("bearer {API_KEY}")], 200),
        (vec![format!("BEARER   {API_KEY}")], 200),
        (vec![format!("Basic {API_KEY}")], 401),
        (vec![format!("Token {API_KEY}")], 401),
        (vec![API_KEY.to_owned()], 401),
        (vec![format!("Bearer{API_KEY}")], 401),
        (vec!["Bearer".to_owned()], 401),
        (vec!["Bearer ".to_owned()], 401),
        (vec![format!("Bearer {API_KEY}"), format!("Bearer {API_KEY}")], 401),
        (vec![format!("Bearer {API_KEY}"), "Bearer x".to_owned()], 401),
    ] {
        let mut request = app.anybody.request(Method::GET, "/v1/profiles");
        for value in &values {
            request = request.header("authorization", value);
        }
        assert_eq!(Answer::of(request).await.status.as_u16(), status, "{values:?}");
    }
    let garbled = reqwest::header::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    let request = app.anybody.request(Method::GET, "/v1/profiles").header("authorization", garbled);
    assert_unauthenticated(&Answer::of(request).await, "not ASCII");
}

#[tokio::test]
async fn a_user_sees_their_own_profile_without_the_members_for_backends() {
    let app = with_two_profiles().await;
    let user = app.user(ICCID);
    for name in [ICCID, "self"] {
        let profile = user.get(&format!("/v1/profiles/{name}")).await;
        assert_eq!(profile.header("cache-control"), "private, no-cache");
        let profile = profile.json();
        let mut members: Vec<_> = profile.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        let expected = [
            "checks",
            "country",
            "deliveries",
            "enabled",
            "firstConnectedAt",
            "iccid",
            "installsSeen",
            "lastConnectedAt",
            "lastDeliveryAt",
            "overdue",
            "provider",
            "rawState",
            "registered",
            "seq",
            "since",
            "state",
        ];
        assert_eq!(members, expected);
        assert_eq!(profile["checks"], json!({ "iccidLuhn": true }));
        let history = user.get(&format!("/v1/profiles/{name}/transitions")).await.json();
        assert_eq!(history["items"][0]["toState"], "INSTALLED");
    }
}

#[tokio::test]
async fn a_user_cannot_tell_another_users_profile_from_an_unknown_one() {
    let app = with_two_profiles().await;
    let user = app.user(ICCID);
    let mut answers = Vec::new();
    for other in [&*iccid(1), &*iccid(2), "1", "x", "%ff", &format!("{ICCID}0")] {
        for rest in ["", "/transitions"] {
            let answer = user.get(&format!("/v1/profiles/{other}{rest}")).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.problem()),
                (404, "unknown-profile"),
                "{other}"
            );
            let mut problem = answer.json();
            problem["requestId"].take();
            answers.push(problem);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    let never_seen = app.user(&iccid(2)).get("/v1/profiles/self").await;
    assert_eq!(never_seen.problem(), "unknown-profile");
}

/// What a user may do, and nothing else: an endpoint that is not here must refuse users.
const FOR_USERS: [(&str, &str); 7] = [
    ("get", ""),
    ("get", "/events"),
    ("get", "/journey"),
    ("get", "/qr.png"),
    ("get", "/qr.svg"),
    ("get", "/transitions"),
    ("put", "/intents/{intent}"),
];

/// Every endpoint of the document is called by a user of the very profile, so a new one cannot forget to refuse them.
#[tokio::test]
async fn endpoints_for_backends_are_forbidden_to_users() {
    let app = with_two_profiles().await;
    let user = app.user(ICCID);
    let document = serde_json::to_value(esim_status::web::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut refused = 0;
    for (pattern, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
        for (method, endpoint) in methods.as_object().unwrap() {
            let rest = pattern.strip_prefix("/v1/profiles/{iccid}");
            let is_for_users = rest.is_some_and(|rest| FOR_USERS.contains(&(method, rest)));
            let documented = endpoint["security"].as_array().unwrap();
            let names_token = documented.iter().any(|it| it.get("accessToken").is_some());
            assert_eq!(names_token, is_for_users, "what the document says of {method} {pattern}");
            if is_for_users {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            for own in ["self", ICCID] {
                let path = pattern.replace("{iccid}", own);
                let answer = Answer::of(user.request(method.clone(), &path)).await;
                let found = (answer.status.as_u16(), &*answer.problem());
                assert_eq!(found, (403, "forbidden"), "{method} {path}");
                let leaks = ["89049032", "26021661"].iter().any(|it| answer.text.contains(it));
                assert!(!leaks, "{method} {path}");
                refused += 1;
            }
            let nobody =
                Answer::of(app.anybody.request(method, &pattern.replace("{iccid}", ICCID)));
            assert_unauthenticated(&nobody.await, pattern);
        }
    }
    assert_eq!(refused, 2 * 19, "the endpoints for backends");
}

#[tokio::test]
async fn a_token_signed_with_any_live_secret_is_valid_until_30_s_after_it_expires() {
    let app = with_two_profiles().await;
    let now = unix_now();
    let hs256 = json!({ "alg": "HS256", "typ": "JWT" });
    for (name, token) in [
        ("the first secret", forge(&hs256, &claims(Value::Null), TOKEN_SECRET.as_bytes())),
        ("the second secret", forge(&hs256, &claims(Value::Null), NEXT_SECRET.as_bytes())),
        ("expired within the leeway", TestApp::token(&claims(json!({ "exp": now - 15 })))),
        (
            "one audience of several",
            TestApp::token(&claims(json!({ "aud": ["other", "esim-status"] }))),
        ),
        ("not before now", TestApp::token(&claims(json!({ "nbf": now })))),
        (
            "other claims",
            TestApp::token(&claims(json!({ "iss": "shop", "iat": now, "x": { "y": 1 } }))),
        ),
        ("ICCID with the filler F", TestApp::token(&claims(json!({ "sub": format!("{ICCID}F") })))),
    ] {
        let answer = app.anybody.with_bearer(token).get("/v1/profiles/self").await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn forged_expired_and_foreign_tokens_all_get_the_same_401() {
    let app = with_two_profiles().await;
    let now = unix_now();
    let good = TestApp::token(&claims(Value::Null));
    let parts: Vec<_> = good.split('.').collect();
    let other_claims = URL_SAFE_NO_PAD.encode(claims(json!({ "sub": iccid(1) })).to_string());
    let with_header = |header: Value| forge(&header, &claims(Value::Null), TOKEN_SECRET.as_bytes());
    let with_claims = |changes: Value| TestApp::token(&claims(changes));
    let without = |name: &str| {
        let mut claims = claims(Value::Null);
        claims.as_object_mut().unwrap().remove(name);
        TestApp::token(&claims)
    };
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for (name, token) in [
        ("expired", with_claims(json!({ "exp": now - 31 }))),
        ("expired at the earliest possible time", with_claims(json!({ "exp": i64::MIN }))),
        ("no exp", without("exp")),
        ("exp is null", with_claims(json!({ "exp": null }))),
        ("exp is a string", with_claims(json!({ "exp": (now + 60).to_string() }))),
        ("no aud", without("aud")),
        ("another aud", with_claims(json!({ "aud": "esim-status2" }))),
        ("no sub", without("sub")),
        ("sub is not an ICCID", with_claims(json!({ "sub": "admin" }))),
        ("sub is a number", with_claims(json!({ "sub": 1 }))),
        ("not yet valid", with_claims(json!({ "nbf": now + 60 }))),
        ("tampered claims", format!("{}.{other_claims}.{}", parts[0], parts[2])),
        ("truncated signature", good[..good.len() - 3].to_owned()),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("alg none", format!("{none}.{}.", parts[1])),
        ("alg none, signed", with_header(json!({ "alg": "none" }))),
        ("alg NONE", format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"NONE"}"#), parts[1])),
        ("alg RS256 with the secret", with_header(json!({ "alg": "RS256", "typ": "JWT" }))),
        ("alg ES256 with the secret", with_header(json!({ "alg": "ES256", "typ": "JWT" }))),
        ("alg HS512 with a short MAC", with_header(json!({ "alg": "HS512", "typ": "JWT" }))),
        ("no alg", with_header(json!({ "typ": "JWT" }))),
        (
            "another secret",
            forge(&json!({ "alg": "HS256" }), &claims(Value::Null), b"0123456789abcdef"),
        ),
        ("an empty secret", forge(&json!({ "alg": "HS256" }), &claims(Value::Null), b"")),
        (
            "the API key as secret",
            forge(&json!({ "alg": "HS256" }), &claims(Value::Null), API_KEY.as_bytes()),
        ),
        ("12 kB", "x".repeat(12_000)),
        ("dots", "..".to_owned()),
    ] {
        let user = app.anybody.with_bearer(token);
        for path in ["/v1/profiles/self", &format!("/v1/profiles/{ICCID}"), "/v1/profiles"] {
            assert_unauthenticated(&user.get(path).await, name);
        }
    }
    for query in ["access_token", "token", "jwt"] {
        let answer = app.anybody.get(&format!("/v1/profiles/self?{query}={good}")).await;
        assert_unauthenticated(&answer, query);
    }
    let cookie =
        app.anybody.get_with("/v1/profiles/self", "cookie", &format!("token={good}")).await;
    assert_unauthenticated(&cookie, "cookie");
}
