//! Outgoing webhooks: `/v1/endpoints`, and what the servers of backends get.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use esim_status::config::{ConfiguredEndpoint, Settings};
use esim_status::delivery::StandardSecrets;
use esim_status::domain::{EndpointUrl, Filter, Reach};
use esim_status::outgoing::Gauges;
use esim_status_testing::receiver::{Received, Receiver, Reply};
use esim_status_testing::{Answer, TestApp, wait_until};
use futures_util::future::join;
use http::header;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::net::TcpListener;

use super::esim::{erase, object, places_of, put, register};
use super::overdue::look;
use super::registration::vault;
use super::{ICCID, iccid};

async fn start() -> TestApp {
    TestApp::start_with(|settings| settings.reach = Reach::this_machine()).await
}

async fn call(app: &TestApp, method: Method, path: &str, body: &Value) -> Answer {
    let request = app.backend.request(method, path).body(body.to_string());
    Answer::of(request).await
}

/// Creates an endpoint, and returns its path and its secret.
async fn create(app: &TestApp, body: &Value) -> (String, String) {
    let created = call(app, Method::POST, "/v1/endpoints", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let json = created.json();
    let path = format!("/v1/endpoints/{}", json["id"].as_str().unwrap());
    assert_eq!(created.header("location"), path);
    (path, json["secret"].as_str().unwrap().to_owned())
}

async fn create_for(app: &TestApp, receiver: &Receiver) -> (String, String) {
    create(app, &json!({ "url": receiver.url() })).await
}

async fn change(app: &TestApp, path: &str, body: &Value) -> Value {
    let changed = call(app, Method::PATCH, path, body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    changed.json()
}

async fn show(app: &TestApp, path: &str) -> Value {
    let shown = app.backend.get(path).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    shown.json()
}

/// Waits until the endpoint says this about itself.
async fn says(app: &TestApp, path: &str, member: &str, value: Value) -> Value {
    wait_until(&format!("{member} is {value}"), async || show(app, path).await[member] == value)
        .await;
    show(app, path).await
}

/// The lines of one profile, each once, in the order in which they were first accepted.
fn lines_of(requests: &[Received], iccid: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for request in requests.iter().filter(|it| it.accepted && it.iccid() == iccid) {
        if !lines.contains(&request.line()) {
            lines.push(request.line());
        }
    }
    lines
}

#[tokio::test]
async fn every_kind_of_change_is_delivered_signed_with_a_stable_id_and_without_an_iccid_beside_the_body()
 {
    let (app, receiver) = (start().await, Receiver::start().await);
    app.report(&iccid(7), "RELEASED").await;
    // What happened before it was created is not for it.
    let (path, secret) = create_for(&app, &receiver).await;
    let mut object = object(ICCID);
    object["reference"] = "order-4711".into();
    register(&app, &object).await;
    receiver.has_accepted(2).await;
    app.report(ICCID, "INSTALLED").await;
    receiver.has_accepted(3).await;
    let country = json!({ "imsi": "001010987654321", "iccid": ICCID, "previousCountry": null, "newCountry": "PL" });
    assert_eq!(app.deliver(country.to_string()).await.outcome(), "connected");
    receiver.has_accepted(4).await;
    app.report(&iccid(1), "RELEASED").await;
    look(&app, 86_400 + 60).await;
    receiver.has_accepted(7).await;
    erase(&app.backend, ICCID).await.is(204);
    let got = receiver.has_accepted(8).await;
    let overdue = |n| format!("overdue {} RELEASED", iccid(n));
    let mut lines = receiver.lines();
    lines[5..7].sort();
    let mut both = [overdue(1), overdue(7)];
    both.sort();
    let [first, second] = both;
    assert_eq!(
        lines,
        [
            format!("transition {ICCID} RELEASED"),
            format!("registered {ICCID}"),
            format!("transition {ICCID} INSTALLED"),
            format!("evidence {ICCID}"),
            format!("transition {} RELEASED", iccid(1)),
            first,
            second,
            format!("erased {ICCID}"),
        ]
    );
    let listed = app.backend.get("/v1/changes").await.json();
    for request in &got {
        assert!(request.is_signed_with(&secret), "{request:?}");
        assert_eq!(request.uri, "/hooks/esim?shop=1");
        assert_eq!(request.header("content-type"), "application/cloudevents+json");
        assert_eq!(request.header("webhook-id"), request.id());
        let event = &request.event;
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "profile.changed");
        assert_eq!(event["source"], format!("http://{}", app.service.public));
        assert_eq!(event["time"], event["data"]["at"]);
        let is_known = request.iccid() == ICCID && event["data"]["kind"] != "erased";
        assert_eq!(event.get("subject"), is_known.then_some(&json!("order-4711")));
        let visible = format!("{} {:?}", request.uri, request.headers);
        assert!(!visible.contains(request.iccid()) && !request.id().contains(request.iccid()));
        assert!(!request.id().contains('.'));
    }
    let erased = &got[7].event["data"];
    assert_eq!(*erased, listed["items"].as_array().unwrap().last().unwrap().clone());
    let mut ids: Vec<_> = got.iter().map(Received::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8);
    let shown = says(&app, &path, "delivered", json!(8)).await;
    assert_eq!((&shown["status"], &shown["behind"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["cursor"], listed["nextCursor"]);
    assert_eq!(shown.get("secret"), None);
    assert_eq!(receiver.requests().len(), 8);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_shown_delays_no_other_and_gets_everything_later_in_order() {
    let app = start().await;
    let (mut bad, good) = (Receiver::start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &bad).await;
    create_for(&app, &good).await;
    bad.answers(|_| Reply::status(500));
    for n in 0..40 {
        app.report(&iccid(n % 10), if n < 10 { "RELEASED" } else { "INSTALLED" }).await;
    }
    good.has_accepted(20).await;
    let shown = says(&app, &path, "status", json!("failing")).await;
    assert_eq!(shown["lastError"], "answered 500 Internal Server Error");
    assert_eq!(shown["behind"], 20);
    assert!(shown["retryAt"].is_string() && shown["failingSince"].is_string(), "{shown:#}");
    assert_eq!(shown["heldProfiles"], 0, "it accepts nothing, so nothing is held apart");
    assert!(bad.requests().len() < 60, "it is not flooded: {}", bad.requests().len());
    bad.close().await;
    wait_until("it cannot be reached", async || {
        let error = show(&app, &path).await["lastError"].as_str().unwrap_or_default().to_owned();
        error.starts_with("the connection failed")
    })
    .await;
    bad.open().await;
    bad.answers(|_| Reply::status(200));
    let got = bad.has_accepted(20).await;
    for n in 0..10 {
        let states = ["RELEASED", "INSTALLED"].map(|to| format!("transition {} {to}", iccid(n)));
        assert_eq!(lines_of(&got, &iccid(n)), states);
        assert_eq!(lines_of(&good.requests(), &iccid(n)), states);
    }
    let shown = says(&app, &path, "status", json!("active")).await;
    assert_eq!((&shown["failures"], &shown["failingSince"]), (&json!(0), &Value::Null));
    assert_eq!(good.requests().len(), 20);
}

#[tokio::test]
async fn a_profile_whose_change_is_not_accepted_delays_no_other_and_is_not_overtaken() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    let poison = iccid(3);
    receiver
        .answers(move |request| Reply::status(if request.iccid() == poison { 400 } else { 200 }));
    for n in 0..6 {
        app.report(&iccid(n), "RELEASED").await;
    }
    receiver.has_accepted(5).await;
    let shown = says(&app, &path, "heldProfiles", json!(1)).await;
    assert_eq!((&shown["status"], &shown["behind"]), (&json!("active"), &json!(0)));
    // Later changes of that profile wait behind the one that is not accepted. Those of others do not.
    app.report(&iccid(3), "INSTALLED").await;
    app.report(&iccid(4), "INSTALLED").await;
    receiver.has_accepted(6).await;
    let refused = |requests: Vec<Received>| -> Vec<String> {
        requests.iter().filter(|it| !it.accepted).map(Received::line).collect()
    };
    assert!(refused(receiver.requests()).iter().all(|line| line.ends_with("RELEASED")));
    receiver.answers(|_| Reply::status(200));
    let got = receiver.has_accepted(8).await;
    let states = ["RELEASED", "INSTALLED"].map(|to| format!("transition {} {to}", iccid(3)));
    assert_eq!(lines_of(&got, &iccid(3)), states);
    let shown = says(&app, &path, "heldProfiles", json!(0)).await;
    assert_eq!((&shown["delivered"], &shown["givenUp"]), (&json!(8), &json!(0)));
    assert_eq!(receiver.accepted().len(), 8, "nothing came twice");
}

/// Refuses the changes of so many profiles, and waits until the endpoint holds each apart.
async fn hold(app: &TestApp, receiver: &Receiver, path: &str, profiles: usize) {
    let poison: HashSet<_> = (0..profiles).map(iccid).collect();
    receiver.answers(move |request| {
        Reply::status(if poison.contains(request.iccid()) { 422 } else { 200 })
    });
    // With good ones between: an endpoint that accepts nothing else fails as a whole, and is called less and less often.
    for n in 0..profiles {
        app.report(&iccid(n), "RELEASED").await;
        app.report(&iccid(1_000 + n), "RELEASED").await;
    }
    says(app, path, "heldProfiles", json!(profiles)).await;
}

#[tokio::test]
async fn many_profiles_that_are_held_apart_do_not_make_their_endpoint_fail() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    hold(&app, &receiver, &path, 20).await;
    let mut connection = app.database.connect().await;
    // Once a change of after this is accepted, no earlier attempt is under way.
    let later = "UPDATE endpoint_backlogs SET retry_at = now() + interval '1 h'";
    connection.execute(later).await.unwrap();
    app.report(&iccid(49), "RELEASED").await;
    wait_until("it is accepted", async || {
        receiver.accepted().iter().any(|it| it.iccid() == iccid(49))
    })
    .await;
    // All are due at the same time, and nothing else.
    let before = receiver.requests().len();
    // The new version wakes the courier, which has nothing to do for half a minute.
    let due = "WITH woken AS (UPDATE endpoints SET version = version + 1)
               UPDATE endpoint_backlogs SET retry_at = now(), failures = 7";
    connection.execute(due).await.unwrap();
    receiver.has_got(before + 20).await;
    wait_until("each has its own pause", async || {
        let waiting =
            "SELECT count(*) FROM endpoint_backlogs WHERE retry_at > now() AND failures > 0";
        app.database.scalar::<i64>(waiting).await == 20
    })
    .await;
    let shown = show(&app, &path).await;
    assert_eq!((&shown["status"], &shown["failures"]), (&json!("active"), &json!(0)));
    // While the endpoint accepts nothing, what was never refused is tried first.
    receiver.answers(|_| Reply::status(503));
    app.report(&iccid(50), "RELEASED").await;
    says(&app, &path, "status", json!("failing")).await;
    let outage = "UPDATE endpoint_backlogs SET retry_at = now(), since = now() - interval '4 days'";
    connection.execute(outage).await.unwrap();
    let lasts = "UPDATE endpoints SET failing_since = now() - interval '3 days', retry_at = now(), version = version + 1";
    connection.execute(lasts).await.unwrap();
    let poison: HashSet<_> = (0..20).map(iccid).collect();
    receiver.answers(move |request| {
        Reply::status(if poison.contains(request.iccid()) { 422 } else { 200 })
    });
    wait_until("the new change is accepted", async || {
        receiver.accepted().iter().any(|it| it.iccid() == iccid(50))
    })
    .await;
    says(&app, &path, "status", json!("active")).await;
    // The three days of the outage do not count, and the day before it does.
    let since = "SELECT count(*) FROM endpoint_backlogs
                 WHERE since BETWEEN now() - interval '25 h' AND now() - interval '23 h'";
    assert_eq!(app.database.scalar::<i64>(since).await, 20);
}

#[tokio::test]
async fn an_owners_change_reaches_what_is_just_being_sent() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    hold(&app, &receiver, &path, 1).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    receiver.answers(move |_| {
        count.fetch_add(1, Relaxed);
        Reply::status(500).after(Duration::from_secs(4))
    });
    let due = "UPDATE endpoint_backlogs SET retry_at = now(), failures = 7";
    app.database.connect().await.execute(due).await.unwrap();
    wait_until("it is being sent", async || asked.load(Relaxed) > 0).await;
    // It will be refused once more, and would be tried again some hours later.
    change(&app, &path, &json!({ "description": "mended" })).await;
    receiver.answers(|_| Reply::status(200));
    says(&app, &path, "heldProfiles", json!(0)).await;
}

#[tokio::test]
async fn a_change_that_alone_is_not_accepted_for_five_days_is_given_up_and_what_follows_it_is_not()
{
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    let poison = iccid(3);
    receiver.answers(move |request| {
        let refuses = request.iccid() == poison && request.line().ends_with("RELEASED");
        Reply::status(if refuses { 422 } else { 200 })
    });
    for (n, state) in [(3, "RELEASED"), (4, "RELEASED"), (3, "INSTALLED")] {
        app.report(&iccid(n), state).await;
    }
    says(&app, &path, "heldProfiles", json!(1)).await;
    let mut connection = app.database.connect().await;
    let past = "UPDATE endpoint_backlogs SET since = since - interval '6 days', failures = 30, retry_at = now()";
    connection.execute(past).await.unwrap();
    // Wakes it.
    app.report(&iccid(5), "RELEASED").await;
    let shown = says(&app, &path, "givenUp", json!(1)).await;
    assert_eq!(shown["status"], "active");
    receiver.has_accepted(3).await;
    says(&app, &path, "heldProfiles", json!(0)).await;
    assert_eq!(
        lines_of(&receiver.requests(), &iccid(3)),
        [format!("transition {} INSTALLED", iccid(3))]
    );
}

#[tokio::test]
async fn gone_disables_an_endpoint_and_it_continues_where_it_ended_once_it_is_enabled() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    receiver.answers(|_| Reply::status(410));
    app.report(ICCID, "RELEASED").await;
    let shown = says(&app, &path, "status", json!("disabled")).await;
    assert_eq!(shown["disabledBecause"], "gone");
    let requests = receiver.requests().len();
    receiver.answers(|_| Reply::status(200));
    app.report(ICCID, "INSTALLED").await;
    assert_eq!(receiver.requests().len(), requests);
    let shown = change(&app, &path, &json!({ "enabled": true })).await;
    assert_eq!((&shown["status"], &shown["disabledBecause"]), (&json!("active"), &Value::Null));
    let got = receiver.has_accepted(2).await;
    let states = ["RELEASED", "INSTALLED"].map(|to| format!("transition {ICCID} {to}"));
    assert_eq!(lines_of(&got, ICCID), states);
    // And by request.
    let shown = change(&app, &path, &json!({ "enabled": false })).await;
    assert_eq!(
        (&shown["status"], &shown["disabledBecause"]),
        (&json!("disabled"), &json!("request"))
    );
}

#[tokio::test]
async fn an_endpoint_that_accepts_nothing_for_five_days_is_disabled() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    receiver.answers(|_| Reply::status(500));
    app.report(ICCID, "RELEASED").await;
    says(&app, &path, "status", json!("failing")).await;
    let past = "UPDATE endpoints SET failing_since = failing_since - interval '5 days 1 minute', failures = 10";
    app.database.connect().await.execute(past).await.unwrap();
    let shown = says(&app, &path, "status", json!("disabled")).await;
    assert_eq!(shown["disabledBecause"], "failing");
    // Its owner switches it off too: then a replay does not switch it on.
    let shown = change(&app, &path, &json!({ "enabled": false })).await;
    assert_eq!(shown["disabledBecause"], "request");
    let replay = format!("{path}/replay");
    let replayed = call(&app, Method::POST, &replay, &json!({ "after": "beginning" })).await;
    assert_eq!(replayed.json()["disabledBecause"], "request");
    receiver.answers(|_| Reply::status(200));
    change(&app, &path, &json!({ "enabled": true })).await;
    receiver.has_accepted(1).await;
}

#[tokio::test]
async fn retry_after_is_respected() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    for status in [429_u16, 503] {
        let before = receiver.requests().len();
        receiver.answers(move |_| Reply::status(status).with(header::RETRY_AFTER, "3"));
        app.report(&iccid(status.into()), "RELEASED").await;
        let first = receiver.has_got(before + 1).await[before].at;
        receiver.answers(|_| Reply::status(200));
        let second = receiver.has_got(before + 2).await[before + 1].at;
        assert!(second - first >= Duration::from_millis(2_900), "{:?}", second - first);
        says(&app, &path, "status", json!("active")).await;
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (app, receiver, other) = (start().await, Receiver::start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    let to = other.url();
    receiver.answers(move |_| Reply::status(307).with(header::LOCATION, &to));
    app.report(ICCID, "RELEASED").await;
    let error = "answered 307 Temporary Redirect: redirects are not followed";
    says(&app, &path, "lastError", json!(error)).await;
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn nothing_is_sent_to_a_private_address_not_even_by_a_name_that_resolves_to_it() {
    let app = TestApp::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for url in [
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let refused = call(&app, Method::POST, "/v1/endpoints", &json!({ "url": url })).await;
        assert_eq!(
            (refused.status.as_u16(), refused.problem()),
            (400, "invalid-parameter".to_owned()),
            "{url}"
        );
    }
    let plain = json!({ "url": format!("http://localhost:{port}/") });
    assert_eq!(call(&app, Method::POST, "/v1/endpoints", &plain).await.status, 400);
    let (path, _) = create(&app, &json!({ "url": format!("https://localhost:{port}/") })).await;
    app.report(ICCID, "RELEASED").await;
    wait_until("the request fails", async || show(&app, &path).await["failures"] != 0).await;
    let error = show(&app, &path).await["lastError"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("its name resolves to no address that endpoints may have"),
        "{error}"
    );
    // What the operator allowed once and no longer allows is not called either.
    let url = format!(
        "UPDATE endpoints SET url = 'http://127.0.0.1:{port}/', retry_at = NULL, version = version + 1"
    );
    app.database.connect().await.execute(sqlx::AssertSqlSafe(url)).await.unwrap();
    wait_until("that is refused too", async || {
        let error = show(&app, &path).await["lastError"].as_str().unwrap().to_owned();
        error.starts_with("its URL must begin with https://")
    })
    .await;
    let connected = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(connected.is_err(), "somebody connected");
}

#[tokio::test]
async fn a_new_secret_and_the_one_before_both_sign_until_the_day_is_over() {
    let receiver = Receiver::start().await;
    let app = TestApp::start_with(|settings| {
        settings.reach = Reach::this_machine();
        settings.vault = vault(&[7]);
    })
    .await;
    let (path, old) = create_for(&app, &receiver).await;
    let rotated = change(&app, &path, &json!({ "rotateSecret": true })).await;
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert!(new != old && rotated["previousSecretUntil"].is_string());
    app.report(ICCID, "RELEASED").await;
    let both = receiver.has_accepted(1).await;
    assert!(both[0].is_signed_with(&old) && both[0].is_signed_with(&new));
    let past = "UPDATE endpoints SET previous_until = now()";
    app.database.connect().await.execute(past).await.unwrap();
    app.report(ICCID, "INSTALLED").await;
    receiver.has_accepted(2).await;
    // The round that delivered this one may have begun before.
    app.report(ICCID, "DISABLED").await;
    let one = receiver.has_accepted(3).await;
    assert!(!one[2].is_signed_with(&old) && one[2].is_signed_with(&new));
    // They are nowhere in plain text.
    for secret in [old, new] {
        let secret = secret.strip_prefix("whsec_").unwrap().to_owned();
        assert_eq!(places_of(&app.database, &secret).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_endpoint_gets_the_kinds_and_providers_that_it_wants() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let wanted = json!({ "url": receiver.url(), "kinds": ["registered", "erased", "registered"], "providers": ["simlessly"] });
    let (path, _) = create(&app, &wanted).await;
    assert_eq!(show(&app, &path).await["kinds"], json!(["registered", "erased"]));
    register(&app, &object(ICCID)).await;
    erase(&app.backend, ICCID).await;
    // Of another provider, but all are notified of erasures.
    receiver.has_accepted(1).await;
    assert_eq!(receiver.lines(), [format!("erased {ICCID}")]);
    let shown =
        change(&app, &path, &json!({ "kinds": [], "providers": [], "description": "shop" })).await;
    assert_eq!((&shown["kinds"], &shown["providers"]), (&json!([]), &json!([])));
    assert_eq!(shown["description"], "shop");
    app.report(&iccid(1), "RELEASED").await;
    receiver.has_accepted(2).await;
    assert_eq!(receiver.lines()[1], format!("transition {} RELEASED", iccid(1)));
    for (body, why) in [
        (
            json!({ "url": "https://shop.example.org", "providers": ["unknown"] }),
            "invalid-parameter",
        ),
        (json!({ "url": "https://shop.example.org", "kinds": ["unknown"] }), "invalid-body"),
        (json!({ "url": "https://shop.example.org", "secret": "whsec_" }), "invalid-body"),
        (
            json!({ "url": "https://shop.example.org", "description": "a".repeat(201) }),
            "invalid-parameter",
        ),
        (json!({ "url": "https://shop.example.org", "after": "tomorrow" }), "invalid-parameter"),
        (json!({ "url": "shop.example.org" }), "invalid-parameter"),
        (json!({}), "invalid-parameter"),
    ] {
        let refused = call(&app, Method::POST, "/v1/endpoints", &body).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (400, why), "{body}");
    }
}

#[tokio::test]
async fn a_replay_delivers_again_with_the_same_ids_or_leaves_out() {
    let (app, receiver) = (start().await, Receiver::start().await);
    app.report(&iccid(1), "RELEASED").await;
    let from_the_beginning = json!({ "url": receiver.url(), "after": "beginning" });
    let (path, _) = create(&app, &from_the_beginning).await;
    for state in ["RELEASED", "DOWNLOADED", "INSTALLED"] {
        app.report(ICCID, state).await;
    }
    let first = receiver.has_accepted(4).await;
    // Those of several profiles come concurrently.
    let (theirs, ours): (Vec<_>, Vec<_>) = first.into_iter().partition(|it| it.iccid() != ICCID);
    let after = theirs[0].event["data"]["cursor"].clone();
    says(&app, &path, "behind", json!(0)).await;
    let replay = format!("{path}/replay");
    let replayed = call(&app, Method::POST, &replay, &json!({ "after": after })).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text);
    let again = receiver.has_accepted(7).await;
    let ids = |requests: &[Received]| -> Vec<String> {
        requests.iter().map(|request| request.id().to_owned()).collect()
    };
    assert_eq!(ids(&again[4..]), ids(&ours));
    // What waits is left out.
    receiver.answers(|_| Reply::status(500));
    app.report(&iccid(2), "RELEASED").await;
    says(&app, &path, "status", json!("failing")).await;
    call(&app, Method::POST, &replay, &json!({ "after": "now" })).await;
    receiver.answers(|_| Reply::status(200));
    app.report(&iccid(3), "RELEASED").await;
    receiver.has_accepted(8).await;
    assert_eq!(receiver.lines()[7], format!("transition {} RELEASED", iccid(3)));
    for (body, code) in
        [(json!({}), 400), (json!({ "after": "x" }), 400), (json!({ "before": 1 }), 400)]
    {
        assert_eq!(call(&app, Method::POST, &replay, &body).await.status, code, "{body}");
    }
    // `4711.00000000`, which has not been given out.
    let beyond = "NDcxMS4wMDAwMDAwMA";
    let refused = call(&app, Method::POST, &replay, &json!({ "after": beyond })).await;
    assert_eq!(refused.problem(), "invalid-parameter");
}

#[tokio::test]
async fn a_replay_from_its_own_place_leaves_nothing_out_and_one_from_now_all_that_waits() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    hold(&app, &receiver, &path, 3).await;
    let shown = says(&app, &path, "behind", json!(0)).await;
    for (after, held) in [(&shown["cursor"], 3), (&json!("now"), 0)] {
        let body = json!({ "after": after });
        let replayed = call(&app, Method::POST, &format!("{path}/replay"), &body).await.json();
        assert_eq!((&replayed["heldProfiles"], &replayed["behind"]), (&json!(held), &json!(0)));
    }
}

#[tokio::test]
async fn two_replicas_deliver_everything_once_and_one_continues_where_the_other_ended() {
    let receiver = Receiver::start().await;
    let one = start().await;
    let two =
        TestApp::start_on(one.database.clone(), |settings| settings.reach = Reach::this_machine())
            .await;
    create_for(&one, &receiver).await;
    for n in 0..20 {
        one.report(&iccid(n), "RELEASED").await;
        two.report(&iccid(n), "INSTALLED").await;
    }
    receiver.has_accepted(40).await;
    one.stop().await;
    for n in 0..20 {
        two.report(&iccid(n), "RELEASED").await;
    }
    let got = receiver.has_accepted(60).await;
    for n in 0..20 {
        let states = ["RELEASED", "INSTALLED"].map(|to| format!("transition {} {to}", iccid(n)));
        assert_eq!(lines_of(&got, &iccid(n)), states);
    }
    let mut times: HashMap<&str, usize> = HashMap::new();
    for request in &got {
        *times.entry(request.id()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

fn configured(settings: &mut Settings, receiver: &Receiver) {
    settings.reach = Reach::this_machine();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    settings.endpoints = vec![ConfiguredEndpoint {
        id: "shop".to_owned(),
        url: EndpointUrl::parse(&receiver.url(), &settings.reach).unwrap(),
        filter: Filter::default(),
        description: None,
        secrets: Arc::new(StandardSecrets::parse("test", [secret]).unwrap()),
    }];
}

#[tokio::test]
async fn an_endpoint_of_the_configuration_file_is_served_and_can_only_be_enabled_and_disabled() {
    let receiver = Receiver::start().await;
    let app = TestApp::start_with(|settings| configured(settings, &receiver)).await;
    let path = "/v1/endpoints/shop";
    wait_until("it exists", async || app.backend.get(path).await.status == 200).await;
    app.report(ICCID, "RELEASED").await;
    let got = receiver.has_accepted(1).await;
    assert!(got[0].is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    for body in [json!({ "url": "https://shop.example.org" }), json!({ "rotateSecret": true })] {
        let refused = call(&app, Method::PATCH, path, &body).await;
        assert_eq!(
            (refused.status.as_u16(), refused.problem()),
            (409, "endpoint-refused".to_owned())
        );
    }
    assert_eq!(call(&app, Method::DELETE, path, &json!({})).await.status, 409);
    change(&app, path, &json!({ "enabled": false })).await;
    app.report(ICCID, "INSTALLED").await;
    // Its place and its state survive a restart; then it is in no file any more.
    let database = app.database.clone();
    app.stop().await;
    let app = TestApp::start_on(database.clone(), |settings| configured(settings, &receiver)).await;
    assert_eq!(show(&app, path).await["status"], "disabled");
    change(&app, path, &json!({ "enabled": true })).await;
    receiver.has_accepted(2).await;
    app.stop().await;
    let app = TestApp::start_on(database, |settings| settings.reach = Reach::this_machine()).await;
    assert_eq!(show(&app, path).await["status"], "not-configured");
    assert_eq!(call(&app, Method::DELETE, path, &json!({})).await.status, 204);
    assert_eq!(app.backend.get(path).await.problem(), "unknown-endpoint");
}

#[tokio::test]
async fn an_endpoint_whose_place_the_database_does_not_know_is_disabled_until_it_is_replayed() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    let beyond = "UPDATE endpoints SET position = 4711, mark = NULL, version = version + 1";
    app.database.connect().await.execute(beyond).await.unwrap();
    let shown = says(&app, &path, "status", json!("disabled")).await;
    assert_eq!(shown["disabledBecause"], "lost-place");
    app.report(ICCID, "RELEASED").await;
    let replay = format!("{path}/replay");
    let replayed = call(&app, Method::POST, &replay, &json!({ "after": "beginning" })).await;
    assert_eq!(replayed.json()["status"], "active");
    receiver.has_accepted(1).await;
}

#[tokio::test]
async fn a_deleted_endpoint_gets_nothing_more_and_an_erased_profile_leaves_no_backlog() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    receiver.answers(|request| Reply::status(if request.iccid() == ICCID { 500 } else { 200 }));
    app.report(ICCID, "RELEASED").await;
    app.report(&iccid(1), "RELEASED").await;
    says(&app, &path, "heldProfiles", json!(1)).await;
    receiver.answers(|_| Reply::status(200));
    erase(&app.backend, ICCID).await;
    says(&app, &path, "heldProfiles", json!(0)).await;
    receiver.has_accepted(2).await;
    assert_eq!(
        receiver.lines(),
        [format!("transition {} RELEASED", iccid(1)), format!("erased {ICCID}")]
    );
    let list = app.backend.get("/v1/endpoints").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(call(&app, Method::DELETE, &path, &json!({})).await.status, 204);
    assert_eq!(call(&app, Method::DELETE, &path, &json!({})).await.status, 404);
    assert_eq!(call(&app, Method::PATCH, &path, &json!({})).await.status, 404);
    let before = receiver.requests().len();
    let (_, _) = create_for(&app, &receiver).await;
    app.report(&iccid(1), "INSTALLED").await;
    receiver.has_accepted(3).await;
    assert_eq!(receiver.requests().len(), before + 1, "only the new one was called");
}

#[tokio::test]
async fn an_endpoint_that_dies_in_the_middle_of_a_page_is_failing_and_gets_all_when_it_is_back() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    change(&app, &path, &json!({ "enabled": false })).await;
    for n in 0..60 {
        app.report(&iccid(n), "RELEASED").await;
    }
    // It accepts 30 changes, and then nothing.
    let left = AtomicUsize::new(30);
    receiver.answers(move |_| {
        let accepts = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        Reply::status(if accepts { 200 } else { 502 })
    });
    change(&app, &path, &json!({ "enabled": true })).await;
    let shown = says(&app, &path, "status", json!("failing")).await;
    assert_eq!((&shown["heldProfiles"], &shown["behind"]), (&json!(30), &json!(0)));
    assert!(receiver.requests().len() < 100, "it is not flooded: {}", receiver.requests().len());
    receiver.answers(|_| Reply::status(200));
    let got = receiver.has_accepted(60).await;
    let profiles: HashSet<_> = got.iter().map(Received::iccid).collect();
    assert_eq!(profiles.len(), 60);
    let shown = says(&app, &path, "heldProfiles", json!(0)).await;
    assert_eq!((&shown["status"], &shown["givenUp"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn what_is_no_longer_wanted_or_was_erased_does_not_keep_an_endpoint_failing() {
    let (app, receiver) = (start().await, Receiver::start().await);
    let (path, _) = create_for(&app, &receiver).await;
    receiver.answers(|request| Reply::status(if request.iccid() == ICCID { 500 } else { 200 }));
    app.report(ICCID, "RELEASED").await;
    says(&app, &path, "status", json!("failing")).await;
    let shown = change(&app, &path, &json!({ "kinds": ["overdue"] })).await;
    assert_eq!((&shown["failures"], &shown["failingSince"]), (&json!(0), &Value::Null));
    says(&app, &path, "behind", json!(0)).await;
    change(&app, &path, &json!({ "kinds": ["transition"] })).await;
    app.report(ICCID, "INSTALLED").await;
    says(&app, &path, "status", json!("failing")).await;
    erase(&app.backend, ICCID).await;
    let shown = says(&app, &path, "status", json!("active")).await;
    assert_eq!(shown["failingSince"], Value::Null);
}

#[tokio::test]
async fn two_backends_that_change_an_endpoint_lose_nothing_of_each_other() {
    let app = start().await;
    let (path, first) = create(&app, &json!({ "url": "https://shop.example.org" })).await;
    let (a, b) = (json!({ "description": "shop" }), json!({ "kinds": ["erased"] }));
    join(change(&app, &path, &a), change(&app, &path, &b)).await;
    let shown = show(&app, &path).await;
    assert_eq!((&shown["description"], &shown["kinds"]), (&json!("shop"), &json!(["erased"])));
    // Two backends want a new secret, or one asks again because the answer was lost: both are shown, and all three sign.
    let rotate = json!({ "rotateSecret": true });
    let (one, two) = join(change(&app, &path, &rotate), change(&app, &path, &rotate)).await;
    assert!(one["secret"] != two["secret"] && one["secret"] != first && two["secret"] != first);
    let secrets = [&one["secret"], &two["secret"]].map(|it| it.as_str().unwrap().to_owned());
    let receiver = Receiver::start().await;
    change(&app, &path, &json!({ "url": receiver.url(), "kinds": [] })).await;
    app.report(ICCID, "RELEASED").await;
    let got = receiver.has_accepted(1).await;
    for secret in [&first, &secrets[0], &secrets[1]] {
        assert!(got[0].is_signed_with(secret));
    }
    let unknown = call(&app, Method::GET, "/v1/endpoints/%00", &json!({})).await;
    assert_eq!(unknown.problem(), "unknown-endpoint");
    let emptied = change(&app, &path, &json!({ "description": "" })).await;
    assert_eq!(emptied["description"], Value::Null);
}

#[tokio::test]
async fn a_restart_loses_nothing_and_no_user_may_call() {
    let receiver = Receiver::start().await;
    let app = start().await;
    let (path, _) = create_for(&app, &receiver).await;
    receiver.answers(|_| Reply::status(500));
    app.report(ICCID, "RELEASED").await;
    says(&app, &path, "status", json!("failing")).await;
    assert_eq!(app.user(ICCID).get("/v1/endpoints").await.problem(), "forbidden");
    assert_eq!(app.anybody.get(&path).await.problem(), "unauthenticated");
    let database = app.database.clone();
    app.stop().await;
    receiver.answers(|_| Reply::status(200));
    let app = TestApp::start_on(database, |settings| settings.reach = Reach::this_machine()).await;
    put(&app.backend, ICCID, object(ICCID).to_string()).await;
    let got = receiver.has_accepted(2).await;
    assert_eq!(got[0].line(), format!("transition {ICCID} RELEASED"));
}

/// The value of a gauge of an endpoint; `more` are its other labels.
async fn gauge(app: &TestApp, name: &str, path: &str, more: &str) -> String {
    let id = path.rsplit('/').next().unwrap();
    let series = format!("esim_status_endpoint_{name}{{endpoint=\"{id}\"{more}}} ");
    let metrics = app.admin.get("/metrics").await.text;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{series} is missing")).to_owned()
}

async fn is_disabled(app: &TestApp, path: &str, because: &str) -> bool {
    gauge(app, "disabled", path, &format!(",because=\"{because}\"")).await == "1"
}

#[tokio::test]
async fn the_gauges_show_what_gets_nothing_also_after_a_restart_and_if_nobody_serves_it() {
    let (receiver, platform) = (Receiver::start().await, Receiver::start().await);
    let app = TestApp::start_with(|settings| configured(settings, &receiver)).await;
    let shop = "/v1/endpoints/shop";
    wait_until("it exists", async || app.backend.get(shop).await.status == 200).await;
    let (gone, _) = create_for(&app, &platform).await;
    platform.answers(|_| Reply::status(410));
    app.report(ICCID, "RELEASED").await;
    says(&app, &gone, "status", json!("disabled")).await;
    receiver.has_accepted(1).await;
    let (off, _) = create_for(&app, &platform).await;
    change(&app, &off, &json!({ "enabled": false })).await;
    let database = app.database.clone();
    app.stop().await;

    // This replica has no file with `shop`, so nobody serves it.
    let app = TestApp::start_on(database, |settings| settings.reach = Reach::this_machine()).await;
    app.report(ICCID, "INSTALLED").await;
    let mut connection = app.database.connect().await;
    connection.execute("UPDATE endpoints SET given_up = 2 WHERE id = 'shop'").await.unwrap();
    let gauges = Gauges::default();
    // At first, nobody has given the change a position.
    for table in ["new_changes", "changes"] {
        if table == "changes" {
            assert_eq!(app.backend.get("/v1/changes").await.status, 200);
        }
        let earlier = format!("UPDATE {table} SET at = at - interval '1 h'");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(earlier))).await.unwrap();
        gauges.show(&mut connection).await.unwrap();
        let behind: f64 = gauge(&app, "behind_seconds", shop, "").await.parse().unwrap();
        assert!(behind >= 3_600.0, "{table}: {behind}");
    }
    assert_eq!(gauge(&app, "given_up_changes", shop, "").await, "2");
    assert!(is_disabled(&app, &gone, "gone").await && !is_disabled(&app, &gone, "failing").await);
    assert_eq!(gauge(&app, "behind_seconds", &gone, "").await, "0");
    assert!(is_disabled(&app, &off, "request").await && !is_disabled(&app, &off, "gone").await);

    platform.answers(|_| Reply::status(200));
    change(&app, &gone, &json!({ "enabled": true })).await;
    assert_eq!(call(&app, Method::DELETE, shop, &json!({})).await.status, 204);
    gauges.show(&mut connection).await.unwrap();
    assert!(!is_disabled(&app, &gone, "gone").await);
    assert_eq!(gauge(&app, "behind_seconds", shop, "").await, "0");
    assert_eq!(gauge(&app, "given_up_changes", shop, "").await, "0");
}
