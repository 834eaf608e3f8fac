//! `GET /v1/profiles/{iccid}?wait=`: the long poll.
//!
//! Real polls wait with an `If-None-Match` while webhooks, erasures and a shutdown happen on this replica or another
//! one.

use std::pin::{Pin, pin};
use std::time::Duration;

use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use tokio::time::Instant;

use super::esim::{erase, object, object_with, register};
use super::{ICCID, iccid};

/// Polls with these entity tags, and returns the answer and how long it took.
async fn poll(app: &TestApp, tags: &str, wait: &str) -> (Answer, Duration) {
    let begun = Instant::now();
    let path = format!("/v1/profiles/{ICCID}?wait={wait}");
    let request = app.backend.request(Method::GET, &path).header("if-none-match", tags);
    (Answer::of(request).await, begun.elapsed())
}

/// The current entity tag of the profile.
async fn tag(app: &TestApp) -> String {
    app.backend.get(&format!("/v1/profiles/{ICCID}")).await.header("etag").to_owned()
}

/// Asserts that the poll is not answered yet.
async fn assert_waits(poll: Pin<&mut impl Future>) {
    let answered = tokio::time::timeout(Duration::from_millis(200), poll).await;
    assert!(answered.is_err(), "the poll was answered without a change");
}

#[tokio::test]
async fn a_poll_is_answered_as_soon_as_the_profile_changes() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let first = tag(&app).await;
    let mut poll = pin!(poll(&app, &first, "60"));
    assert_waits(poll.as_mut()).await;
    let (_, (answer, took)) = tokio::join!(app.report(ICCID, "INSTALLED"), poll);
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, &*tag(&app).await));
    assert_eq!((&answer.json()["state"], &answer.json()["seq"]), (&"INSTALLED".into(), &2.into()));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_poll_on_another_replica_sees_the_change_too() {
    let one = TestApp::start().await;
    let two = TestApp::start_on(one.database.clone(), |_| ()).await;
    one.report(ICCID, "RELEASED").await;
    // All replicas return the same ETag.
    let first = tag(&one).await;
    let mut poll = pin!(poll(&two, &first, "60"));
    assert_waits(poll.as_mut()).await;
    let (_, (answer, took)) = tokio::join!(one.report(ICCID, "INSTALLED"), poll);
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, &*tag(&one).await));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_poll_with_an_outdated_or_no_etag_is_answered_immediately() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let before = tag(&app).await;
    app.report(ICCID, "INSTALLED").await;
    let now = tag(&app).await;
    let list = format!("W/{before}, \"22\"");
    for tags in [&*before, "\"2\"", &list, "2", "", "garbage"] {
        let (answer, took) = poll(&app, tags, "60").await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, &*now), "{tags}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let begun = Instant::now();
    let untagged = app.backend.get(&format!("/v1/profiles/{ICCID}?wait=60")).await;
    assert_eq!(untagged.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn without_a_change_the_answer_is_304_after_the_wait() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let first = tag(&app).await;
    for tags in [first.clone(), format!("W/{first}"), format!("\"7\", {first}"), "*".to_owned()] {
        let (answer, took) = poll(&app, &tags, "0").await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, &*first), "{tags}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    // Deliveries that change nothing do not end the wait: a repeated state, an unknown state, another profile.
    let mut poll = pin!(poll(&app, &first, "2"));
    assert_waits(poll.as_mut()).await;
    let ((), (answer, took)) = tokio::join!(
        async {
            app.report(ICCID, "RELEASED").await;
            app.report(ICCID, "SOMETHING_NEW").await;
            app.report(&iccid(1), "INSTALLED").await;
        },
        poll
    );
    assert_eq!((answer.status.as_u16(), &*answer.text), (304, ""));
    assert_eq!(
        (answer.header("etag"), answer.header("cache-control")),
        (&*first, "private, no-cache")
    );
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_invalid_wait_is_refused_and_named() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    for wait in ["61", "-1", "1e9", "30s", "0.5", "99999999999999999999", "1&wait=2"] {
        let (answer, took) = poll(&app, "\"1\"", wait).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (400, "invalid-parameter"),
            "{wait}"
        );
        assert!(answer.json()["detail"].as_str().unwrap().contains("wait"), "{answer:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn a_poll_of_an_erased_or_unknown_profile_does_not_wait() {
    let app = TestApp::start().await;
    let (absent, took) = poll(&app, "\"1\"", "60").await;
    assert_eq!((&*absent.problem(), took < Duration::from_secs(1)), ("unknown-profile", true));
    register(&app, &object(ICCID)).await;
    let first = tag(&app).await;
    let mut poll = pin!(poll(&app, &first, "60"));
    assert_waits(poll.as_mut()).await;
    let (_, (answer, took)) = tokio::join!(erase(&app.backend, ICCID), poll);
    assert_eq!(answer.problem(), "unknown-profile");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_service_that_stops_answers_waiting_polls() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let backend = app.backend.clone();
    let path = format!("/v1/profiles/{ICCID}?wait=60");
    let first = tag(&app).await;
    let mut waiting = pin!(backend.get_with(&path, "if-none-match", &first));
    assert_waits(waiting.as_mut()).await;
    let begun = Instant::now();
    let (ended, answer) = tokio::join!(app.stop(), waiting);
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, &*first));
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A backend sees what was registered, so that is a change for it. A user sees only that something was.
#[tokio::test]
async fn a_registration_ends_the_wait() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    for uid in ["customer-1", "customer-2"] {
        let before = tag(&app).await;
        let mut poll = pin!(poll(&app, &before, "60"));
        assert_waits(poll.as_mut()).await;
        register(&app, &object_with(ICCID, "uid", uid)).await;
        assert_eq!(poll.await.0.json()["uid"], uid);
    }
}
