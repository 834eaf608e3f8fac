//! What a reseller says about the sale of a profile: its own number of the order, the day of travel, and which profile this one
//! was given out for. A user whose profile was replaced is led to the new one.

use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::esim::{erase, object, object_with, places_of, put, register};
use super::sse::Events;
use super::{ICCID, iccid};

/// An eSIM object with these members added.
fn ordered(iccid: &str, order: &Value) -> Value {
    let mut object = object(iccid);
    for (name, value) in order.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

async fn replace(app: &TestApp, old: &str, new: &str) {
    register(app, &ordered(new, &json!({ "replaces": old }))).await;
}

#[tokio::test]
async fn an_order_is_kept_with_its_profile_and_found_by_its_reference() {
    let app = TestApp::start().await;
    let order = json!({ "reference": "A-4711 ł", "expectedFrom": "2026-12-24" });
    assert_eq!(register(&app, &ordered(ICCID, &order)).await.json()["reference"], "A-4711 ł");
    register(&app, &ordered(&iccid(1), &json!({ "reference": "A-4711" }))).await;
    let path = format!("/v1/profiles/{ICCID}");
    let tag = app.backend.get(&path).await.header("etag").to_owned();
    // What a later registration leaves out stays.
    register(&app, &object(ICCID)).await;
    let kept = app.profile(ICCID).await;
    assert_eq!(
        (&kept["reference"], &kept["expectedFrom"]),
        (&json!("A-4711 ł"), &json!("2026-12-24"))
    );
    assert_eq!((&kept["replaces"], &kept["replacedBy"]), (&Value::Null, &Value::Null));
    assert_eq!(app.backend.get_with(&path, "if-none-match", &tag).await.status, 304);

    let found = app.backend.get("/v1/profiles?reference=A-4711%20%C5%82").await.json();
    assert_eq!(found["items"], json!([kept]));
    for (query, status) in [("reference=A-4712", 200), ("reference=", 400), ("reference=%00", 400)]
    {
        assert_eq!(
            app.backend.get(&format!("/v1/profiles?{query}")).await.status,
            status,
            "{query}"
        );
    }
    // It is the reseller's number, not the user's business.
    let shown = app.user(ICCID).get("/v1/profiles/self").await;
    assert!(!shown.text.contains("4711"), "{}", shown.text);
    // A change of it is a new state for a backend, and none for a user.
    let users = shown.header("etag").to_owned();
    register(&app, &ordered(ICCID, &json!({ "reference": "B" }))).await;
    assert_eq!(app.backend.get_with(&path, "if-none-match", &tag).await.json()["reference"], "B");
    let again = app.user(ICCID);
    assert_eq!(again.get_with("/v1/profiles/self", "if-none-match", &users).await.status, 304);

    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(places_of(&app.database, "A-4711 ł").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_its_reason() {
    let app = TestApp::start().await;
    for (member, value, why) in [
        ("reference", json!(4711), "reference must be a string or null"),
        ("reference", json!("x".repeat(65)), "reference must be a text of 1 to 64 characters"),
        ("expectedFrom", json!("2026-12-24T10:00:00Z"), "expectedFrom must be a day"),
        ("replaces", json!("4711"), "replaces must be an ICCID"),
        ("replaces", json!(ICCID), "replaces names this profile"),
    ] {
        let answer = put(&app.backend, ICCID, object_with(ICCID, member, value).to_string()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "invalid-body"));
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(why), "{detail}");
    }
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 404);
    // 0 is replaced by 1, and 1 by 2: none of them can be given out for a later one.
    for number in 0..3 {
        register(&app, &object(&iccid(number))).await;
    }
    replace(&app, &iccid(0), &iccid(1)).await;
    replace(&app, &iccid(1), &iccid(2)).await;
    for later in [1, 2] {
        let object = object_with(&iccid(0), "replaces", iccid(later));
        let answer = put(&app.backend, &iccid(0), object.to_string()).await;
        assert_eq!(answer.problem(), "invalid-body");
    }
    assert_eq!(app.profile(&iccid(0)).await["replaces"], Value::Null);
}

#[tokio::test]
async fn a_token_and_a_stream_follow_to_the_profile_that_was_given_out_for_the_old_one() {
    let app = TestApp::start().await;
    let (old, new) = (iccid(1), iccid(2));
    register(&app, &object(&old)).await;
    assert_eq!(app.report(&old, "INSTALLED").await, "moved");
    assert_eq!(app.report(&old, "DELETED").await, "moved");
    let user = app.invited(&old).await;
    let mut events = Events::open(&user, "self").await;
    assert_eq!(events.event().await.data["iccid"], *old);
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();
    let poll = user.request(Method::GET, "/v1/profiles/self?wait=60").header("if-none-match", &tag);
    let code = "LPA:1$smdp.example.test$THE-NEW-ONE";
    let (answer, ()) = tokio::join!(Answer::of(poll), async {
        let mut object = ordered(&new, &json!({ "replaces": old }));
        object["activationCode"] = json!(code);
        register(&app, &object).await;
    });
    assert_eq!(answer.json()["iccid"], *new);
    events.ending().await;
    let mut events = Events::resume(&user, "self", "3").await;
    let first = events.event().await;
    assert_eq!((first.event.as_str(), &first.data["iccid"]), ("profile", &json!(new)));
    assert_eq!(app.report(&new, "INSTALLED").await, "moved");
    assert_eq!(events.event().await.data["profile"]["state"], "INSTALLED");
    assert_eq!(app.report(&new, "RELEASED").await, "moved");

    for path in ["self", &old, &new] {
        let journey = user.get(&format!("/v1/profiles/{path}/journey")).await.json();
        assert_eq!((&journey["iccid"], &journey["step"]), (&json!(new), &json!("reinstall")));
        assert_eq!(journey["install"]["activationCode"], code);
        assert_eq!(user.get(&format!("/v1/profiles/{path}/qr.svg")).await.status, 200);
        let history = user.get(&format!("/v1/profiles/{path}/transitions")).await.json();
        assert_eq!(history["items"].as_array().unwrap().len(), 3);
    }
    // A backend is told of both, and sees each as it is. The user of the new one sees nothing of the old one.
    let (before, after) = (app.profile(&old).await, app.profile(&new).await);
    assert_eq!((&before["replacedBy"], &before["replaces"]), (&json!(new), &Value::Null));
    assert_eq!((&after["replacedBy"], &after["replaces"]), (&Value::Null, &json!(old)));
    assert_eq!(before["state"], "DELETED");
    let heir = app.invited(&new).await;
    assert_eq!(heir.get(&format!("/v1/profiles/{old}")).await.problem(), "unknown-profile");
    assert_eq!(user.get(&format!("/v1/profiles/{}", iccid(3))).await.problem(), "unknown-profile");
}

#[tokio::test]
async fn whoever_is_led_to_another_profile_loses_it_with_the_own_token() {
    let app = TestApp::start().await;
    let [first, second, third] = [1, 2, 3].map(iccid);
    for iccid in [&first, &second, &third] {
        register(&app, &object(iccid)).await;
    }
    let shown = async |user: &esim_status_testing::Client| {
        let answer = user.get("/v1/profiles/self").await;
        answer
            .json()
            .get("iccid")
            .map_or_else(|| answer.problem(), |it| it.as_str().unwrap().to_owned())
    };
    let user = app.invited(&first).await;
    replace(&app, &second, &third).await;
    replace(&app, &first, &second).await;
    assert_eq!(shown(&user).await, third);
    // The erasure of the last leads back to the one before, that of the own profile to nothing.
    let mut events = Events::open(&user, "self").await;
    assert_eq!(events.event().await.data["iccid"], *third);
    erase(&app.backend, &third).await.is(204);
    events.ending().await;
    assert_eq!(shown(&user).await, second);
    let mut events = Events::open(&user, "self").await;
    events.event().await;
    let tokens = format!("/v1/profiles/{first}/tokens");
    assert_eq!(Answer::of(app.backend.request(Method::DELETE, &tokens)).await.status, 204);
    events.ending().await;
    assert_eq!(shown(&user).await, "unauthenticated");

    let user = app.invited(&first).await;
    assert_eq!(shown(&user).await, second);
    let mut events = Events::open(&user, "self").await;
    events.event().await;
    erase(&app.backend, &first).await.is(204);
    events.ending().await;
    assert_eq!(shown(&user).await, "unknown-profile");
    assert_eq!(app.profile(&second).await["replaces"], Value::Null);
    assert_eq!(places_of(&app.database, &first).await, Vec::<String>::new());
}

/// The ICCID of a replaced profile goes to another customer: the replacement is not theirs.
#[tokio::test]
async fn a_new_owner_of_a_replaced_profile_is_not_led_to_the_former_owners() {
    let app = TestApp::start().await;
    let (old, new) = (iccid(1), iccid(2));
    let shown =
        async || app.invited(&old).await.get("/v1/profiles/self").await.json()["iccid"].clone();
    register(&app, &object(&old)).await;
    replace(&app, &old, &new).await;
    assert_eq!(shown().await, *new);
    // The backend takes it back, and says it again.
    register(&app, &ordered(&new, &json!({ "replaces": null }))).await;
    assert_eq!(shown().await, *old);
    replace(&app, &old, &new).await;
    assert_eq!(shown().await, *new);

    erase(&app.backend, &old).await.is(204);
    // An idempotent registration of the new one, from a backend that does not know of the erasure, before and after.
    replace(&app, &old, &new).await;
    register(&app, &object(&old)).await;
    assert_eq!(shown().await, *old);
    replace(&app, &old, &new).await;
    assert_eq!(shown().await, *old);
    // One that was bought later can be given out for it.
    let later = iccid(3);
    register(&app, &object(&later)).await;
    replace(&app, &old, &later).await;
    assert_eq!(shown().await, *later);
}
