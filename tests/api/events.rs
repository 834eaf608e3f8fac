//! `GET /v1/profiles/{iccid}/events`: the event stream is live and resumable, and delivers each change exactly once.
//!
//! Followers read real streams over sockets while profiles change, connections are cut, and services stop and start.

use std::time::Duration;

use esim_status_testing::turn::beside_others;
use esim_status_testing::{Client, Database, TestApp, unix_now, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::esim::{erase, object, register};
use super::sse::Events;
use super::{ICCID, iccid};

/// A state for each number; consecutive numbers give different states, so each report moves the profile.
fn word(number: usize) -> &'static str {
    ["RELEASED", "INSTALLED", "DISABLED", "INSTALLED"][number % 4]
}

/// Moves the profile `count` times.
async fn advance(app: &TestApp, from: usize, count: usize) {
    for number in from..from + count {
        assert_eq!(app.report(ICCID, word(number)).await, "moved");
    }
}

/// Reads transitions up to this `seq`, and asserts that they are consecutive.
async fn read_to(events: &mut Events, after: i64, last: i64) {
    for seq in after + 1..=last {
        let event = events.event().await;
        assert_eq!((event.id, &*event.event), (Some(seq), "transition"));
        assert_eq!(event.data["seq"], seq);
    }
}

#[tokio::test]
async fn a_stream_sends_the_profile_first_and_then_each_change() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for (client, whose) in [(&app.backend, ICCID), (&app.user(ICCID), "self")] {
        let seq = app.profile(ICCID).await["seq"].as_i64().unwrap();
        let mut events = Events::open(client, whose).await;
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(events.headers[name], value);
        }
        assert!(events.headers.contains_key("x-request-id"));
        let seen_by_caller = async || client.get(&format!("/v1/profiles/{whose}")).await.json();
        let first = events.event().await;
        assert_eq!((first.id, &*first.event), (Some(seq), "profile"));
        assert_eq!(first.data, seen_by_caller().await);

        for (number, next) in [(1, seq + 1), (2, seq + 2)] {
            advance(&app, number, 1).await;
            let event = events.event().await;
            assert_eq!((event.id, &*event.event), (Some(next), "transition"));
            let mut transition = app.transitions(ICCID).await.pop().unwrap();
            transition["profile"] = seen_by_caller().await;
            assert_eq!(event.data, transition);
        }
    }
}

#[tokio::test]
async fn a_change_reaches_a_follower_within_250_ms() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let mut events = Events::open(&app.backend, ICCID).await;
    events.event().await;
    let mut times = Vec::new();
    for number in 1..=10 {
        advance(&app, number, 1).await;
        let committed = Instant::now();
        events.event().await;
        times.push(committed.elapsed());
    }
    // A busy machine may delay any of them, but polling would delay all of them, and a lost notification one of them by
    // half a minute.
    let (quickest, slowest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    let within = Duration::from_millis(250);
    assert!(*quickest < within && *slowest < within + turn.slack(), "{times:?}");
}

#[tokio::test]
async fn deliveries_that_change_nothing_send_no_event() {
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let mut events = Events::open(&app.backend, ICCID).await;
    events.event().await;
    for state in ["RELEASED", "SOMETHING_NEW", "RELEASED"] {
        app.report(ICCID, state).await;
    }
    app.deliver("{").await;
    app.report(&iccid(1), "INSTALLED").await;
    register(&app, &object(ICCID)).await;
    advance(&app, 1, 1).await;
    read_to(&mut events, 1, 2).await;
}

#[tokio::test]
async fn an_idle_stream_sends_heartbeats() {
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let mut events = Events::open(&app.backend, ICCID).await;
    events.event().await;
    let begun = Instant::now();
    let beat = events.frame().await.unwrap();
    assert_eq!((beat.id, &*beat.event, beat.comment.is_some()), (None, "", true));
    let took = begun.elapsed();
    assert!((Duration::from_secs(12)..Duration::from_secs(20)).contains(&took), "{took:?}");
    advance(&app, 1, 1).await;
    read_to(&mut events, 1, 2).await;
}

#[tokio::test]
async fn a_follower_that_reconnects_gets_missed_changes_once_and_in_order() {
    let app = TestApp::start().await;
    advance(&app, 0, 7).await;
    let mut followers = Vec::new();
    for last in 1..=7 {
        let mut events = Events::resume(&app.backend, ICCID, &last.to_string()).await;
        let first = events.event().await;
        assert_eq!((first.id, &*first.event), (None, "profile"));
        assert_eq!(first.data["seq"], 7);
        read_to(&mut events, last, 7).await;
        followers.push(events);
    }
    // The next event is the next change, with nothing in between.
    advance(&app, 7, 1).await;
    for events in &mut followers {
        read_to(events, 7, 8).await;
    }
}

#[tokio::test]
async fn a_history_longer_than_one_page_is_resumed_completely() {
    let app = TestApp::start().await;
    advance(&app, 0, 260).await;
    let mut events = Events::resume(&app.user(ICCID), "self", "3").await;
    assert_eq!(events.event().await.event, "profile");
    read_to(&mut events, 3, 260).await;
}

#[tokio::test]
async fn an_event_id_that_was_never_sent_is_ignored() {
    let app = TestApp::start().await;
    advance(&app, 0, 3).await;
    let odd = [
        "4",
        "999",
        "9223372036854775807",
        "9223372036854775808",
        "-1",
        "-0",
        "+2",
        " ",
        "",
        "2.0",
        "1e0",
        "0x2",
        "two",
        "2, 3",
        "\u{0662}",
        "2;DROP TABLE transitions",
        "null",
    ];
    for id in odd {
        let mut events = Events::resume(&app.backend, ICCID, id).await;
        let first = events.event().await;
        assert_eq!((first.id, &*first.event), (Some(3), "profile"), "{id}");
        assert_eq!(first.data["seq"], 3);
    }
    // Resuming from 0 sends the whole history.
    for id in ["0", "00", "000000000000000000000"] {
        let mut events = Events::resume(&app.backend, ICCID, id).await;
        assert_eq!(events.event().await.event, "profile");
        read_to(&mut events, 0, 3).await;
    }
    let mut events = Events::resume(&app.backend, ICCID, "999").await;
    events.event().await;
    advance(&app, 3, 1).await;
    read_to(&mut events, 3, 4).await;
}

#[tokio::test]
async fn a_change_reaches_followers_of_another_replica() {
    let one = TestApp::start().await;
    let two = TestApp::start_on(one.database.clone(), |_| ()).await;
    register(&one, &object(ICCID)).await;
    let mut followers = Vec::new();
    for app in [&one, &two, &two] {
        let mut events = Events::open(&app.user(ICCID), "self").await;
        assert_eq!(events.event().await.id, Some(1));
        followers.push(events);
    }
    for (number, app) in [&one, &two, &one, &two].into_iter().enumerate() {
        let begun = Instant::now();
        advance(app, number + 1, 1).await;
        for events in &mut followers {
            let seq = i64::try_from(number).unwrap() + 1;
            read_to(events, seq, seq + 1).await;
        }
        // Much sooner than the slow periodic poll, which is the fallback.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

/// Terminates every connection that listens for changes in this database; returns how many there were.
async fn cut_listeners(database: &Database) -> i64 {
    let query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query ILIKE '%LISTEN%' AND pid <> pg_backend_pid()";
    database.scalar(query).await
}

#[tokio::test]
async fn a_cut_listener_connection_costs_followers_no_change() {
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let mut follower = Events::open(&app.backend, ICCID).await;
    let mut late = Events::open(&app.backend, ICCID).await;
    follower.event().await;
    late.event().await;
    let mut seq = 1;
    for round in 0..5 {
        wait_until("the service listens", async || cut_listeners(&app.database).await > 0).await;
        let begun = Instant::now();
        // The notification of the first change may be lost while nobody listens.
        advance(&app, round * 2 + 1, 2).await;
        read_to(&mut follower, seq, seq + 2).await;
        seq += 2;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    // A follower that did not read in the meantime has missed nothing either.
    read_to(&mut late, 1, seq).await;
}

#[tokio::test]
async fn a_stream_resumes_after_a_restart_of_the_service() {
    let first = TestApp::start().await;
    let database = first.database.clone();
    advance(&first, 0, 3).await;
    let mut events = Events::open(&first.user(ICCID), "self").await;
    assert_eq!(events.event().await.id, Some(3));
    advance(&first, 3, 1).await;
    read_to(&mut events, 3, 4).await;
    let (ended, comment) = tokio::join!(first.stop(), events.ending());
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    assert!(comment.contains("reconnect"), "{comment}");

    let second = TestApp::start_on(database, |_| ()).await;
    advance(&second, 4, 3).await;
    let mut events = Events::resume(&second.user(ICCID), "self", "4").await;
    assert_eq!(events.event().await.data["seq"], 7);
    read_to(&mut events, 4, 7).await;
}

#[tokio::test]
async fn a_service_that_stops_ends_every_stream_with_a_retry_hint() {
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let mut followers = Vec::new();
    for _ in 0..50 {
        let mut events = Events::open(&app.backend, ICCID).await;
        events.event().await;
        followers.push(events);
    }
    let begun = Instant::now();
    let leaving = join_all(followers.iter_mut().map(Events::ending));
    let (ended, comments) = tokio::join!(app.stop(), leaving);
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    assert_eq!(comments.len(), 50);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused_until_one_is_closed() {
    let app = TestApp::start_with(|settings| settings.max_streams = 2).await;
    advance(&app, 0, 1).await;
    let mut one = Events::open(&app.backend, ICCID).await;
    let two = Events::open(&app.user(ICCID), "self").await;
    let path = format!("/v1/profiles/{ICCID}/events");
    let refused = app.backend.get(&path).await;
    assert_eq!((refused.status.as_u16(), &*refused.problem()), (503, "unavailable"));
    assert!(!refused.header("retry-after").is_empty());
    // Open streams are not affected, and other requests are answered.
    one.event().await;
    advance(&app, 1, 1).await;
    read_to(&mut one, 1, 2).await;
    drop(two);
    wait_until("the closed stream makes room", async || {
        Events::try_open(&app.backend, ICCID, None).await.is_some()
    })
    .await;
    // A refused stream takes no slot.
    for path in [format!("/v1/profiles/{}/events", iccid(1)), format!("{path}?after=1")] {
        for _ in 0..5 {
            let status = app.backend.get(&path).await.status.as_u16();
            assert!(matches!(status, 400 | 404 | 503), "{status}");
        }
    }
    wait_until("there is room for a second", async || {
        Events::try_open(&app.backend, ICCID, None).await.is_some()
    })
    .await;
}

/// One token must not use up the streams that all users share.
#[tokio::test]
async fn one_users_streams_and_polls_are_limited_and_do_not_affect_others() {
    const MAX: usize = 8;
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    app.report(&iccid(1), "RELEASED").await;
    let user = app.user(ICCID);
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();
    let mut streams = Vec::new();
    for _ in 0..MAX {
        streams.push(Events::open(&user, "self").await);
    }
    let poll = "/v1/profiles/self?wait=1";
    for client in [&user, &app.user(ICCID)] {
        for refused in [
            client.get("/v1/profiles/self/events").await,
            client.get_with(poll, "if-none-match", &tag).await,
        ] {
            assert_eq!((refused.status.as_u16(), &*refused.problem()), (503, "unavailable"));
            assert!(!refused.header("retry-after").is_empty());
        }
        // Requests that need not wait are answered.
        assert_eq!(client.get(poll).await.status, 200);
        assert_eq!(client.get("/v1/profiles/self/journey").await.status, 200);
    }
    // Other users and backends are not affected.
    Events::open(&app.user(&iccid(1)), "self").await;
    for _ in 0..2 * MAX {
        streams.push(Events::open(&app.backend, ICCID).await);
    }
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();
    drop(streams);
    wait_until("a closed stream makes room for a poll", async || {
        user.get_with(poll, "if-none-match", &tag).await.status == 304
    })
    .await;
}

#[tokio::test]
async fn streams_and_polls_leave_connections_for_webhooks() {
    let app = TestApp::start_with(|settings| settings.max_connections = 16).await;
    advance(&app, 0, 1).await;
    let mut streams = Vec::new();
    let path = format!("/v1/profiles/{ICCID}/events");
    for _ in 0..12 {
        streams.push(Events::open(&app.backend, ICCID).await);
    }
    assert_eq!(app.backend.get(&path).await.problem(), "unavailable");
    let tag = app.backend.get(&format!("/v1/profiles/{ICCID}")).await.header("etag").to_owned();
    let poll = format!("/v1/profiles/{ICCID}?wait=60");
    let polled = app.backend.get_with(&poll, "if-none-match", &tag).await;
    assert_eq!(polled.problem(), "unavailable");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}

#[tokio::test]
async fn a_caller_without_access_to_a_profile_cannot_follow_it() {
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let expired = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() - 60 });
    let expired = app.anybody.with_bearer(TestApp::token(&expired));
    let (own, other) = (ICCID.to_owned(), iccid(1));
    let rows: [(&Client, &str, u16, &str); 5] = [
        (&app.user(&other), &own, 404, "unknown-profile"),
        (&app.user(&other), "self", 404, "unknown-profile"),
        (&app.backend, &other, 404, "unknown-profile"),
        (&expired, "self", 401, "unauthenticated"),
        (&app.anybody, &own, 401, "unauthenticated"),
    ];
    for (client, whose, status, code) in rows {
        let path = format!("/v1/profiles/{whose}/events");
        let answer = client.get_with(&path, "last-event-id", "1").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, code), "{path}");
    }
}

#[tokio::test]
async fn the_stream_of_an_erased_profile_ends() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let mut one = Events::open(&app.backend, ICCID).await;
    let mut two = Events::open(&app.user(ICCID), "self").await;
    one.event().await;
    two.event().await;
    erase(&app.backend, ICCID).await.is(204);
    for events in [&mut one, &mut two] {
        assert!(events.ending().await.contains("erased"));
    }
    assert_eq!(Events::try_open(&app.user(ICCID), "self", None).await.map(|_| ()), None);

    // The profile returns with a new history, numbered after the old one: a follower of the old one sees all of it.
    register(&app, &object(ICCID)).await;
    let user = app.invited(ICCID).await;
    let mut events = Events::resume(&user, "self", "1").await;
    assert_eq!(events.event().await.event, "profile");
    let transition = events.event().await;
    assert_eq!((&*transition.event, transition.id), ("transition", Some(2)));
    // An id that was never sent is not a valid position to resume from.
    assert_eq!(Events::resume(&user, "self", "7").await.event().await.id, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_keeps_reconnecting_sees_each_of_three_hundred_changes_once() {
    const COUNT: i64 = 300;
    let app = TestApp::start().await;
    advance(&app, 0, 1).await;
    let second = TestApp::start_on(app.database.clone(), |_| ()).await;
    let following = async {
        let mut seen = vec![1];
        let mut reconnects = 0;
        while *seen.last().unwrap() < COUNT {
            let replica = if reconnects % 2 == 0 { &app } else { &second };
            let last = seen.last().unwrap().to_string();
            let mut events = Events::resume(&replica.backend, ICCID, &last).await;
            assert_eq!(events.event().await.event, "profile");
            let until = seen.len() + rand::random_range(0..20);
            while seen.len() <= until && *seen.last().unwrap() < COUNT {
                seen.push(events.event().await.id.unwrap());
            }
            reconnects += 1;
        }
        (seen, reconnects)
    };
    let moving = advance(&app, 1, usize::try_from(COUNT).unwrap() - 1);
    let mut steady = Events::resume(&second.backend, ICCID, "1").await;
    let steadily = async {
        assert_eq!(steady.event().await.event, "profile");
        read_to(&mut steady, 1, COUNT).await;
    };
    let ((seen, reconnects), (), ()) = tokio::join!(following, moving, steadily);
    assert_eq!(seen, (1..=COUNT).collect::<Vec<_>>());
    assert!(reconnects > 10, "{reconnects}");
    assert_straight_to(&app.database, COUNT).await;
}

/// Like [`TestApp::assert_straight`], for a history that is longer than a page.
async fn assert_straight_to(database: &Database, last: i64) {
    let breaks = "SELECT count(*) FROM transitions t
                  LEFT JOIN transitions before ON before.iccid = t.iccid AND before.seq = t.seq - 1
                  WHERE t.from_state IS DISTINCT FROM before.to_state";
    assert_eq!(database.scalar::<i64>(breaks).await, 0);
    for query in ["SELECT max(seq) FROM transitions", "SELECT count(*) FROM transitions"] {
        assert_eq!(database.scalar::<i64>(query).await, last);
    }
}

#[tokio::test]
async fn the_last_event_id_is_also_accepted_in_the_query() {
    let app = TestApp::start().await;
    advance(&app, 0, 3).await;
    for (query, header, first) in [("1", None, 2), ("", Some("2"), 3), ("1", Some("2"), 3)] {
        let path = format!("/v1/profiles/{ICCID}/events?lastEventId={query}");
        let mut events = Events::open_at(&app.backend, &path, header).await.unwrap();
        assert_eq!(events.event().await.event, "profile");
        assert_eq!(events.event().await.id, Some(first), "{query} {header:?}");
    }
}
