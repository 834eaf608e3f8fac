//! Senders that assign ids to their events: each event is applied once.
//!
//! A hook with Standard Webhooks signatures receives the same event id again: concurrently, with another body, or after
//! waiting for a lock.

use std::sync::Arc;

use esim_status::clock::now;
use esim_status::config::Settings;
use esim_status::delivery::{Authenticator, Scheme, StandardSecrets};
use esim_status::domain::Timestamp;
use esim_status::hook::Hook;
use esim_status::providers::Gigastore;
use esim_status::reread::{self, Selection};
use esim_status_testing::{Answer, TestApp, wait_until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::Connection;

use super::esim::{erase, places_of};
use super::{ICCID, iccid};

const PATH: &str = "gigastore/relayed";

fn authenticator() -> Authenticator {
    let secrets = StandardSecrets::parse("test", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    Authenticator::new(Scheme::StandardWebhooks(secrets.unwrap()))
}

fn with_hook(settings: &mut Settings) {
    let path: Arc<str> = Arc::from(PATH);
    let hook = Hook {
        path: path.clone(),
        provider: &Gigastore,
        authenticator: Arc::new(authenticator()),
        takes_tests: false,
    };
    settings.hooks.insert(path, hook.into());
}

async fn deliver_at(app: &TestApp, id: &str, at: Timestamp, body: &str) -> Answer {
    let credentials = authenticator().credentials_for(id, at, body.as_bytes());
    let request = app.anybody.request(Method::POST, &format!("/webhooks/{PATH}"));
    Answer::of(request.headers(credentials.headers.into_iter().collect()).body(body.to_owned()))
        .await
}

async fn deliver(app: &TestApp, id: &str, body: &str) -> String {
    deliver_at(app, id, now(), body).await.outcome()
}

fn report(iccid: &str, state: &str) -> String {
    json!({ "iccid": iccid, "profileState": state }).to_string()
}

#[tokio::test]
async fn one_event_sent_a_hundred_times_concurrently_is_applied_once() {
    let app = TestApp::start_with(with_hook).await;
    let body = report(ICCID, "INSTALLED");
    let answers = join_all((0..100).map(|_| deliver(&app, "msg_1", &body))).await;
    assert_eq!(answers.iter().filter(|outcome| *outcome == "moved").count(), 1);
    assert_eq!(answers.iter().filter(|outcome| *outcome == "duplicate").count(), 99);

    let later = now().plus_seconds(60);
    assert_eq!(deliver_at(&app, "msg_1", later, &body).await.outcome(), "duplicate");
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["seq"], &profile["deliveries"]), (&1.into(), &1.into()));
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn an_event_id_reused_with_another_body_is_a_duplicate_and_stored() {
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(deliver(&app, "msg_1", &report(ICCID, "INSTALLED")).await, "moved");
    let other_state = report(ICCID, "DISABLED");
    assert_eq!(deliver(&app, "msg_1", &other_state).await, "duplicate");
    assert_eq!(deliver(&app, "msg_1", &report(&iccid(1), "INSTALLED")).await, "duplicate");

    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    let unseen = app.backend.get(&format!("/v1/profiles/{}", iccid(1))).await;
    assert_eq!(unseen.problem(), "unknown-profile");
    let kept = app.backend.get("/v1/deliveries?outcome=duplicate").await.json();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(kept["items"][1]["body"], other_state);
    assert_eq!(kept["items"][1]["eventId"], "msg_1");
    assert_eq!(kept["items"][1]["reason"], "the event id was seen before with other content");
}

/// The sender has signed the id, so no declaration has named the wrong one.
#[tokio::test]
async fn what_was_signed_under_the_event_id_of_another_event_is_not_applied_when_it_is_read_again()
{
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(deliver(&app, "msg_1", &report(ICCID, "INSTALLED")).await, "moved");
    assert_eq!(deliver(&app, "msg_2", &report(ICCID, "RELEASED")).await, "moved");
    let retry = format!(" {}", report(ICCID, "INSTALLED"));
    assert_eq!(deliver(&app, "msg_1", &retry).await, "duplicate");
    let providers = &app.service.app().providers;
    let from = Selection { hook: PATH, since: now().plus_seconds(-60), providers };
    let key = &app.service.app().erasure_key;
    let mut connection = app.database.connect().await;
    let mut understood = Vec::new();
    let counts = reread::preview(&mut connection, key, &from, |it| understood.push(it.is)).await;
    assert_eq!((counts.unwrap().looked_at, understood.len()), (1, 0));
}

#[tokio::test]
async fn the_same_body_with_another_event_id_is_another_event() {
    let app = TestApp::start_with(with_hook).await;
    for (id, state, outcome) in [
        ("msg_1", "INSTALLED", "moved"),
        ("msg_2", "INSTALLED", "repeated"),
        ("msg_3", "RELEASED", "moved"),
        ("msg_4", "INSTALLED", "moved"),
        ("msg_1", "INSTALLED", "duplicate"),
        ("msg_3", "RELEASED", "duplicate"),
    ] {
        assert_eq!(deliver(&app, id, &report(ICCID, state)).await, outcome, "{id}");
    }
    assert_eq!(app.profile(ICCID).await["seq"], 3);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_malformed_body_does_not_use_up_its_event_id() {
    let app = TestApp::start_with(with_hook).await;
    let refused = deliver_at(&app, "msg_1", now(), "{").await;
    assert_eq!(refused.problem(), "malformed");
    assert_eq!(deliver(&app, "msg_1", &report(ICCID, "INSTALLED")).await, "moved");
}

/// No adapter finds the profile in such an event, and its retry is a duplicate.
#[tokio::test]
async fn an_erasure_finds_an_event_of_another_kind_that_came_twice_and_its_event_id() {
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let body = json!({ "uid": "customer-1", "activatedItem": format!("for {ICCID}") }).to_string();
    let id = format!("evt-{ICCID}");
    for outcome in ["ignored", "duplicate"] {
        assert_eq!(deliver(&app, &id, &body).await, outcome);
    }
    // An event about the profile reserves the hash of the same id.
    assert_eq!(deliver(&app, &id, &report(ICCID, "DISABLED")).await, "moved");
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(places_of(&app.database, ICCID).await, Vec::<String>::new());
    // Nothing is applied twice by that.
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM event_ids").await, 1);
}

#[tokio::test]
async fn an_event_that_waited_for_its_profile_is_not_blocked_by_its_own_reserved_id() {
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(deliver(&app, "msg_1", &report(ICCID, "RELEASED")).await, "moved");
    let mut connection = app.database.connect().await;
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM profiles FOR UPDATE").execute(&mut *lock).await.unwrap();

    let body = report(ICCID, "INSTALLED");
    let (outcome, ()) = tokio::join!(deliver(&app, "msg_2", &body), async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("the event waits for the lock", async || {
            app.database.scalar::<i64>(waits).await > 0
        })
        .await;
        lock.commit().await.unwrap();
    });
    // If the first attempt left the id reserved, the second attempt would wait for it.
    assert_eq!(outcome, "moved");
    assert_eq!(deliver(&app, "msg_2", &body).await, "duplicate");
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn event_ids_of_one_hook_do_not_affect_another() {
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(deliver(&app, "msg_1", &report(ICCID, "INSTALLED")).await, "moved");
    let body = report(ICCID, "DISABLED");
    let request = app.anybody.request(Method::POST, &TestApp::hook_path());
    // This hook does not sign the header, so the header is not an event id.
    let answer = Answer::of(request.header("webhook-id", "msg_1").body(body)).await;
    assert_eq!(answer.outcome(), "moved");
}
