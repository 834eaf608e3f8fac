//! Country Change events: the only evidence that an eSIM works. It stands beside the install state and never changes it.

use esim_status::{clock, reread};
use esim_status_testing::history::assert_counted;
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::esim::{object, register};
use super::sse::Events;
use super::{ICCID, iccid};

async fn connect(app: &TestApp, iccid: &str, country: &Value) -> String {
    let body = json!({ "iccid": iccid, "imsi": "260060147200183", "previousCountry": null, "newCountry": country });
    let answer = app.deliver(body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["outcome"].as_str().unwrap().to_owned()
}

async fn journey(app: &TestApp) -> Value {
    app.backend.get(&format!("/v1/profiles/{ICCID}/journey")).await.json()
}

#[tokio::test]
async fn a_profile_has_its_first_connection_its_last_and_the_present_country() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let before = app.profile(ICCID).await;
    for member in ["firstConnectedAt", "lastConnectedAt", "country"] {
        assert_eq!(before[member], Value::Null, "{member}");
    }
    assert_eq!(connect(&app, ICCID, &json!("PL")).await, "connected");
    let first = app.profile(ICCID).await;
    assert_eq!((&first["country"], &first["imsi"]), (&json!("PL"), &json!("260060147200183")));
    assert_eq!(first["firstConnectedAt"], first["lastConnectedAt"]);
    assert_eq!(connect(&app, ICCID, &json!("de")).await, "connected");
    // A country that cannot be read leaves the known one.
    assert_eq!(connect(&app, ICCID, &json!("Germany")).await, "connected");
    let last = app.profile(ICCID).await;
    assert_eq!((&last["country"], &last["state"]), (&json!("DE"), &json!("INSTALLED")));
    assert_eq!(last["firstConnectedAt"], first["firstConnectedAt"]);
    assert_ne!(last["lastConnectedAt"], first["lastConnectedAt"]);
    assert_eq!((&last["seq"], &last["deliveries"]), (&json!(1), &json!(4)));
    app.assert_straight(ICCID).await;
    // What was applied is not listed as not applied, but support finds it.
    let unapplied = app.backend.get("/v1/deliveries").await.json();
    assert_eq!(unapplied["items"], json!([]));
    let listed = app.backend.get("/v1/deliveries?outcome=connected").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

/// They come over different hooks, perhaps to different replicas, and a phone may send its install notification late.
#[tokio::test]
async fn a_connection_that_came_before_its_profile_is_placed() {
    let app = TestApp::start().await;
    assert_eq!(connect(&app, ICCID, &json!("PL")).await, "ignored");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    // Nobody speaks of the profile of this one.
    assert_eq!(connect(&app, &iccid(1), &json!("PL")).await, "ignored");
    let mut connection = app.database.connect().await;
    let state = app.service.app();
    let since = clock::now().plus_seconds(-60);
    for _ in 0..2 {
        let (pool, key, providers) = (&state.registrations, &state.erasure_key, &state.providers);
        reread::place(&mut connection, pool, key, providers, since).await.unwrap();
    }
    let profile = app.profile(ICCID).await;
    assert_eq!(profile["country"], "PL", "{profile:#}");
    assert!(profile["firstConnectedAt"].is_string(), "{profile:#}");
    assert_eq!((&profile["seq"], &profile["deliveries"]), (&json!(1), &json!(2)));
    let path = format!("/v1/profiles/{ICCID}/deliveries");
    let kept = app.backend.get(&path).await.json();
    let outcomes: Vec<_> =
        kept["items"].as_array().unwrap().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, ["moved", "connected"]);
    let left = app.backend.get("/v1/deliveries?outcome=ignored").await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_counted(&app.database).await;
}

#[tokio::test]
async fn what_cannot_be_placed_moves_nothing_and_is_kept() {
    let app = TestApp::start().await;
    assert_eq!(connect(&app, ICCID, &json!("PL")).await, "ignored");
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 404);
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(connect(&app, ICCID, &Value::Null).await, "ignored");
    assert_eq!(app.profile(ICCID).await["country"], Value::Null);
    let path = format!("/v1/profiles/{ICCID}/deliveries");
    let kept = app.backend.get(&path).await.json();
    assert_eq!(kept["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_journey_says_connected_only_where_that_can_be_known_and_only_on_evidence() {
    let app = TestApp::start().await;
    let keys = |journey: &Value| {
        let steps = journey["steps"].as_array().unwrap().iter();
        let part = |part: &Value| {
            format!("{} {}", part["key"].as_str().unwrap(), part["status"].as_str().unwrap())
        };
        steps.map(part).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(register(&app, &object(ICCID)).await.status, 201);
    assert_eq!(keys(&journey(&app).await), "ready done, installed current");
    // Once the provider has told of another profile's connection, this one may be told of too.
    assert_eq!(app.report(&iccid(1), "INSTALLED").await, "moved");
    assert_eq!(connect(&app, &iccid(1), &json!("PL")).await, "connected");
    let ready = journey(&app).await;
    assert_eq!(keys(&ready), "ready done, installed current, connected upcoming");
    // The report of the install was lost: a connection is evidence of it.
    assert_eq!(connect(&app, ICCID, &json!("PL")).await, "connected");
    let connected = journey(&app).await;
    assert_eq!(keys(&connected), "ready done, installed done, connected done");
    assert_eq!((&connected["step"], &connected["state"]), (&json!("done"), &json!("RELEASED")));
    assert!(connected["install"].is_null(), "{connected}");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(keys(&journey(&app).await), "ready done, installed done, connected done");
}

#[tokio::test]
async fn a_stream_and_a_long_poll_learn_of_a_connection() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let user = app.invited(ICCID).await;
    let mut events = Events::open(&user, "self").await;
    let first = events.event().await;
    assert_eq!((first.event.as_str(), first.id), ("profile", Some(1)));
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();
    let poll = user.request(Method::GET, "/v1/profiles/self?wait=30").header("if-none-match", &tag);
    let (answer, ()) = tokio::join!(Answer::of(poll), async {
        assert_eq!(connect(&app, ICCID, &json!("PL")).await, "connected");
    });
    assert_eq!((answer.status.as_u16(), &answer.json()["country"]), (200, &json!("PL")));
    let told = events.event().await;
    assert_eq!(
        (told.event.as_str(), told.id, &told.data["country"]),
        ("profile", None, &json!("PL"))
    );
    // The same country again is no change for a long poll, and the next transition comes as ever.
    let tag = answer.header("etag").to_owned();
    assert_eq!(connect(&app, ICCID, &json!("PL")).await, "connected");
    let again = user.request(Method::GET, "/v1/profiles/self").header("if-none-match", &tag);
    assert_eq!(Answer::of(again).await.status, 304);
    assert_eq!(app.report(ICCID, "DISABLED").await, "moved");
    loop {
        let next = events.event().await;
        if next.event == "transition" {
            assert_eq!((next.id, &next.data["profile"]["country"]), (Some(2), &json!("PL")));
            break;
        }
        assert_eq!((next.event.as_str(), next.id), ("profile", None));
    }
}
