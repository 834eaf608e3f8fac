//! Asking the provider about profiles of which a webhook may have been lost.
//!
//! A stand-in plays Gigastore's API over HTTP, with its documented calls and with failures. A real service asks it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use esim_status::clock;
use esim_status::config::ApiSettings;
use esim_status::domain::Patience;
use esim_status::store::inquiries;
use esim_status_testing::{Answer, TestApp, wait_until};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::esim::{erase, object, object_with, places_of, register};
use super::overdue::look_with;
use super::sse::Events;
use super::{ICCID, iccid};

/// How the stand-in answers searches.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    TooMany,
    Broken,
    Html,
    /// Does not accept the token that it gave.
    Forgetful,
    /// Takes this long.
    Slow(Duration),
}

/// A stand-in for the provider's API.
#[derive(Debug, Clone)]
struct StandIn(Arc<Mutex<Inside>>);

#[derive(Debug)]
struct Inside {
    mood: Mood,
    states: HashMap<String, String>,
    tokens: u32,
    /// How the sign-in is answered instead of with a token, if at all.
    sign_in: Option<(StatusCode, &'static str)>,
    /// When it was called, and with which path's last part.
    calls: Vec<(Instant, &'static str)>,
    asked: Vec<String>,
}

impl StandIn {
    /// Starts it, and returns how to reach it.
    async fn start() -> (Self, ApiSettings) {
        let inside = Inside {
            mood: Mood::Well,
            states: HashMap::new(),
            tokens: 0,
            sign_in: None,
            calls: Vec::new(),
            asked: Vec::new(),
        };
        let this = Self(Arc::new(Mutex::new(inside)));
        let routes = Router::new()
            .route("/reseller/authenticate", post(authenticate))
            .route("/gigastore/activations/search-customers", post(search))
            .with_state(this.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(axum::serve(listener, routes).into_future());
        let (user, password) = ("reseller".to_owned(), "secret-of-the-api".into());
        (this, ApiSettings { url, user, password, calls_a_minute: 6_000 })
    }

    fn says(&self, iccid: &str, state: &str) {
        self.0.lock().unwrap().states.insert(iccid.to_owned(), state.to_owned());
    }

    fn is(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    fn tokens(&self) -> u32 {
        self.0.lock().unwrap().tokens
    }

    async fn was_asked(&self, times: usize) {
        wait_until("the provider is asked", || async { self.asked().len() >= times }).await;
    }
}

async fn authenticate(State(api): State<StandIn>, headers: HeaderMap) -> Response {
    let mut inside = api.0.lock().unwrap();
    inside.calls.push((Instant::now(), "authenticate"));
    // reseller:secret-of-the-api
    if headers["authorization"] != "Basic cmVzZWxsZXI6c2VjcmV0LW9mLXRoZS1hcGk=" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some((status, text)) = inside.sign_in {
        return (status, text).into_response();
    }
    inside.tokens += 1;
    Json(json!({ "accessToken": format!("token-{}", inside.tokens), "expiresIn": 86_400 }))
        .into_response()
}

async fn search(State(api): State<StandIn>, headers: HeaderMap, body: Bytes) -> Response {
    let question: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&question["searchKey"], &question["searchMode"]),
        (&json!("ICCID"), &json!("isExact"))
    );
    let iccid = question["searchQuery"].as_str().unwrap().to_owned();
    let (mood, state) = {
        let mut inside = api.0.lock().unwrap();
        inside.calls.push((Instant::now(), "search"));
        inside.asked.push(iccid.clone());
        if headers["authorization"] != format!("Bearer token-{}", inside.tokens) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        (inside.mood, inside.states.get(&iccid).cloned())
    };
    match mood {
        Mood::Well => {}
        Mood::TooMany => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
        }
        Mood::Broken => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Html => return "<html>Sorry</html>".into_response(),
        Mood::Forgetful => return StatusCode::UNAUTHORIZED.into_response(),
        Mood::Slow(time) => tokio::time::sleep(time).await,
    }
    let esims: Vec<_> =
        state.iter().map(|state| object_with(&iccid, "state", state.clone())).collect();
    Json(json!({ "customers": [{ "uid": "customer-4711", "relatedEsims": esims }], "total": 1 }))
        .into_response()
}

async fn start() -> (TestApp, StandIn) {
    let (api, settings) = StandIn::start().await;
    let app = TestApp::start_with(|it| it.api = Some(settings)).await;
    (app, api)
}

async fn ask(app: &TestApp, iccid: &str) -> Answer {
    let path = format!("/v1/profiles/{iccid}/inquiry");
    Answer::of(app.backend.request(Method::POST, &path)).await
}

async fn run(app: &TestApp, statement: &'static str) {
    app.database.connect().await.execute(statement).await.unwrap();
}

async fn due_in_seconds(app: &TestApp) -> Option<f64> {
    let due = "SELECT extract(epoch FROM due_at - now())::float8 FROM inquiries";
    app.database.scalar::<Option<f64>>(due).await
}

#[tokio::test]
async fn a_lost_install_is_found_because_support_asks_and_reaches_the_page() {
    let (app, api) = start().await;
    register(&app, &object(ICCID)).await;
    let user = app.invited(ICCID).await;
    let mut events = Events::open(&user, "self").await;
    events.event().await;
    api.says(ICCID, "INSTALLED");
    assert_eq!(ask(&app, ICCID).await.status, 202);
    let told = events.event().await;
    assert_eq!(
        (&told.data["toState"], &told.data["source"]),
        (&json!("INSTALLED"), &json!("provider-api"))
    );
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["state"], &profile["deliveries"]), (&json!("INSTALLED"), &json!(0)));
    let recent = app
        .backend
        .get(&format!("/v1/profiles?updatedSince={}", clock::now().plus_seconds(-60)))
        .await;
    assert_eq!(recent.json()["items"][0]["state"], "INSTALLED");
    assert!(profile["lastDeliveryAt"].is_string());
    assert_eq!(app.report(ICCID, "DISABLED").await, "moved");
    let sources: Vec<_> =
        app.transitions(ICCID).await.iter().map(|it| it["source"].clone()).collect();
    assert_eq!(sources, ["registration", "provider-api", "webhook"]);
    // What was answered is settled, and one token serves for all.
    wait_until("there is nothing more to ask", || async {
        app.database.scalar::<i64>("SELECT count(*) FROM inquiries").await == 0
    })
    .await;
    assert_eq!((api.asked(), api.tokens()), (vec![ICCID.to_owned()], 1));
    // A token that the API has forgotten is replaced, and the question is sent again.
    api.0.lock().unwrap().tokens = 7;
    register(&app, &object(&iccid(1))).await;
    api.says(&iccid(1), "INSTALLED");
    assert_eq!(ask(&app, &iccid(1)).await.status, 202);
    wait_until("the answer is applied", || async {
        app.profile(&iccid(1)).await["state"] == "INSTALLED"
    })
    .await;
    assert_eq!((api.asked().len(), api.tokens()), (3, 8));

    for (path, code) in [(iccid(9), "unknown-profile"), ("1".to_owned(), "invalid-parameter")] {
        assert_eq!(ask(&app, &path).await.problem(), code);
    }
    let alone = TestApp::start().await;
    register(&alone, &object(ICCID)).await;
    assert_eq!(ask(&alone, ICCID).await.problem(), "cannot-ask");
}

#[tokio::test]
async fn a_user_who_looks_has_the_provider_asked_a_minute_later_and_then_more_and_more_seldom() {
    let (app, api) = start().await;
    register(&app, &object(ICCID)).await;
    api.says(ICCID, "RELEASED");
    let user = app.user(ICCID);
    let look = async || assert_eq!(user.get("/v1/profiles/self/journey").await.status, 200);
    for _ in 0..3 {
        look().await;
    }
    let due = due_in_seconds(&app).await.unwrap();
    assert!((50.0..=60.0).contains(&due), "{due}");
    // A backend's look is not a user's.
    register(&app, &object(&iccid(1))).await;
    app.backend.get(&format!("/v1/profiles/{}/journey", iccid(1))).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM inquiries").await, 1);
    for (asked, pause) in [(1, 60.0), (2, 300.0), (3, 1_800.0)] {
        run(&app, "UPDATE inquiries SET due_at = now()").await;
        api.was_asked(asked).await;
        wait_until("the attempt is noted", || async {
            due_in_seconds(&app).await.is_some_and(|due| due > pause - 10.0)
        })
        .await;
        let due = due_in_seconds(&app).await.unwrap();
        assert!(due <= pause, "{due}");
        look().await;
    }
    // After seven days it ends, whoever looks.
    run(&app, "UPDATE inquiries SET due_at = now(), wanted_at = now() - interval '7 days'").await;
    wait_until("it ends", || async { due_in_seconds(&app).await.is_none() }).await;
    look().await;
    assert_eq!((due_in_seconds(&app).await, api.asked().len()), (None, 3));
    // A change begins anew.
    assert_eq!(app.report(ICCID, "DOWNLOADED").await, "moved");
    run(&app, "UPDATE profiles SET last_delivery_at = now() - interval '2 minutes'").await;
    look().await;
    assert!(due_in_seconds(&app).await.is_some());
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(places_of(&app.database, ICCID).await, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_invented_while_the_api_fails_and_all_is_asked_afterwards() {
    let each = [Mood::TooMany, Mood::Broken, Mood::Html, Mood::Forgetful].map(async |mood| {
        let (app, api) = start().await;
        register(&app, &object(ICCID)).await;
        api.says(ICCID, "INSTALLED");
        api.is(mood);
        assert_eq!(ask(&app, ICCID).await.status, 202);
        api.was_asked(1).await;
        assert_eq!(app.profile(ICCID).await["state"], "RELEASED", "{mood:?}");
        api.is(Mood::Well);
        // An answer that cannot be understood may be about this profile alone, so it waits for its next turn.
        let installed = wait_until("the answer is applied", || async {
            run(&app, "UPDATE inquiries SET due_at = now()").await;
            app.profile(ICCID).await["state"] == "INSTALLED"
        });
        installed.await;
        let tokens = if mood == Mood::Forgetful { 2 } else { 1 };
        assert_eq!(api.tokens(), tokens, "{mood:?}");
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_sign_in_that_gives_no_token_is_not_the_fault_of_a_question() {
    let each = [(StatusCode::BAD_REQUEST, ""), (StatusCode::NOT_FOUND, ""), (StatusCode::OK, "{}")];
    let each = each.map(async |answer| {
        let (app, api) = start().await;
        api.0.lock().unwrap().sign_in = Some(answer);
        for number in 0..2 {
            register(&app, &object(&iccid(number))).await;
            api.says(&iccid(number), "INSTALLED");
            assert_eq!(ask(&app, &iccid(number)).await.status, 202);
        }
        let put_off = "SELECT count(*) FROM inquiries WHERE due_at > now() + interval '30 s'";
        wait_until("the question is put off", || async {
            app.database.scalar::<i64>(put_off).await > 0
        })
        .await;
        // The API rests, so nothing is known of the other one. Neither was asked.
        let attempts = "SELECT count(*) FROM inquiries WHERE attempts = 0";
        assert_eq!(app.database.scalar::<i64>(attempts).await, 2, "{answer:?}");
        assert_eq!(app.database.scalar::<i64>(put_off).await, 1, "{answer:?}");
        assert_eq!(api.asked(), Vec::<String>::new());
        // It is asked again after a pause.
        api.0.lock().unwrap().sign_in = None;
        wait_until("the answers are applied", || async {
            run(&app, "UPDATE inquiries SET due_at = now()").await;
            let installed = "SELECT count(*) FROM profiles WHERE state = 'INSTALLED'";
            app.database.scalar::<i64>(installed).await == 2
        })
        .await;
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_webhook_that_comes_while_the_question_is_on_its_way_wins() {
    let (app, api) = start().await;
    register(&app, &object(ICCID)).await;
    api.says(ICCID, "RELEASED");
    api.is(Mood::Slow(Duration::from_secs(3)));
    assert_eq!(ask(&app, ICCID).await.status, 202);
    api.was_asked(1).await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    wait_until("there is nothing more to ask", || async {
        app.database.scalar::<i64>("SELECT count(*) FROM inquiries").await == 0
    })
    .await;
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    assert_eq!(app.transitions(ICCID).await.len(), 2);
}

#[tokio::test]
async fn what_is_overdue_and_what_jumps_is_asked_about_and_whoever_waits_comes_first() {
    let (api, settings) = StandIn::start().await;
    let slow = ApiSettings { calls_a_minute: 60, ..settings };
    let app = TestApp::start_with(|it| it.api = Some(slow)).await;
    for number in 0..20 {
        assert_eq!(app.report(&iccid(number), "ERROR").await, "moved");
    }
    assert_eq!(look_with(&app, &Patience::default(), &["gigastore"], 3_600).await, 20);
    // They were noted by a clock that is an hour ahead.
    run(&app, "UPDATE inquiries SET due_at = now(), wanted_at = now()").await;
    api.was_asked(2).await;
    register(&app, &object(ICCID)).await;
    assert_eq!(ask(&app, ICCID).await.status, 202);
    let before = api.asked().len();
    wait_until("it is asked", || async { api.asked().contains(&ICCID.to_owned()) }).await;
    let place = api.asked().iter().position(|asked| asked == ICCID).unwrap();
    assert!(place <= before + 1, "{place} after {before}");
    // One call a second. The first may have been on its way for a while.
    let calls = api.0.lock().unwrap().calls.clone();
    let took = calls[calls.len() - 1].0 - calls[0].0;
    let least = Duration::from_secs(1) * u32::try_from(calls.len() - 2).unwrap();
    assert!(took >= least, "{} calls in {took:?}", calls.len());
}

/// Has all changes numbered, as they are within a minute.
async fn number(app: &TestApp) {
    assert_eq!(app.backend.get("/v1/changes").await.status, 200);
}

#[tokio::test]
async fn a_jump_is_asked_about_also_if_no_replica_looked_or_its_delivery_was_spooled() {
    let (api, settings) = StandIn::start().await;
    let before = TestApp::start().await;
    let asks = async || {
        TestApp::start_on(before.database.clone(), |it| it.api = Some(settings.clone())).await
    };
    let jump = async |number| {
        assert_eq!(before.report(&iccid(number), "INSTALLED").await, "moved");
        assert_eq!(before.report(&iccid(number), "DOWNLOADED").await, "moved");
        assert_eq!(before.transitions(&iccid(number)).await[1]["kind"], "unexpected");
    };
    // What came before the first replica asked is not asked about.
    jump(0).await;
    number(&before).await;
    let first = asks().await;
    wait_until("it has looked", || async {
        before.database.scalar::<i64>("SELECT count(*) FROM inquiry_scans").await == 1
    })
    .await;
    first.stop().await;
    // As of a delivery that waited in a spool for two days, and of one that waited for too long.
    for (number, days) in [(1, 2), (2, 8)] {
        jump(number).await;
        let mut connection = before.database.connect().await;
        for (table, column) in [
            ("transitions", "received_at"),
            ("profiles", "since"),
            // Otherwise a webhook of the last seconds would win over an answer.
            ("profiles", "last_delivery_at"),
        ] {
            let earlier = format!(
                "UPDATE {table} SET {column} = {column} - make_interval(days => $1) WHERE iccid = $2"
            );
            let earlier = sqlx::query(sqlx::AssertSqlSafe(earlier)).bind(days).bind(iccid(number));
            earlier.execute(&mut connection).await.unwrap();
        }
    }
    number(&before).await;
    // What is answered is not a jump that is asked about.
    api.says(&iccid(1), "PREPARING");
    let second = asks().await;
    wait_until("the answer is applied", || async {
        before.profile(&iccid(1)).await["state"] == "PREPARING"
    })
    .await;
    assert_eq!(before.transitions(&iccid(1)).await[2]["kind"], "unexpected");
    jump(3).await;
    number(&before).await;
    wait_until("the next one is asked", || async { api.asked().contains(&iccid(3)) }).await;
    assert_eq!(api.asked(), [iccid(1), iccid(3)]);
    second.stop().await;
}

/// A wait for a lock would keep the webhooks of those waiting that are locked before it.
#[tokio::test]
async fn a_locked_profile_is_skipped_and_asked_about_once_it_is_free() {
    let app = TestApp::start().await;
    let mut connection = app.database.connect().await;
    let since = clock::now().plus_seconds(-60);
    let want_jumped = async |connection: &mut _| {
        let wanted = inquiries::want_jumped(connection, "gigastore", since);
        assert!(!timeout(Duration::from_secs(10), wanted).await.expect("waits").unwrap());
        app.database.scalar::<String>("SELECT coalesce(string_agg(right(iccid, 3), ' ' ORDER BY iccid), '') FROM inquiries").await
    };
    assert_eq!(want_jumped(&mut connection).await, "");
    for number in 0..3 {
        assert_eq!(app.report(&iccid(number), "INSTALLED").await, "moved");
        assert_eq!(app.report(&iccid(number), "DOWNLOADED").await, "moved");
    }
    number(&app).await;
    let end = |number| iccid(number)[17..].to_owned();
    let mut holder = app.database.connect().await;
    let mut holding = holder.begin().await.unwrap();
    let hold = sqlx::query("SELECT FROM profiles WHERE iccid = $1 FOR UPDATE").bind(iccid(1));
    hold.execute(&mut *holding).await.unwrap();
    // What changed after it waits too: it would be asked about again and again.
    assert_eq!(want_jumped(&mut connection).await, end(0));
    let under_way = inquiries::want_under_way(&mut connection, "gigastore", since);
    let under_way = timeout(Duration::from_secs(10), under_way).await.expect("waits").unwrap();
    assert_eq!(under_way, (2, vec![iccid(1)]));
    holding.rollback().await.unwrap();
    assert_eq!(want_jumped(&mut connection).await, [end(0), end(1), end(2)].join(" "));
}

#[tokio::test]
async fn a_profile_at_which_the_server_fails_keeps_no_other_from_being_asked_about_or_overdue() {
    let (app, api) = start().await;
    for number in [1, 2, 3] {
        assert_eq!(app.report(&iccid(number), "ERROR").await, "moved");
        api.says(&iccid(number), "INSTALLED");
    }
    // Otherwise a webhook of the last seconds would win over an answer.
    run(&app, "UPDATE profiles SET last_delivery_at = last_delivery_at - interval '1 hour'").await;
    for table in ["profiles", "overdue"] {
        app.database.raise_at(&iccid(2), table).await;
    }
    assert_eq!(look_with(&app, &Patience::default(), &[], 3_600).await, 2);
    for number in [2, 1] {
        assert_eq!(ask(&app, &iccid(number)).await.status, 202);
        wait_until("it is asked about", || async { api.asked().contains(&iccid(number)) }).await;
    }
    wait_until("the answer is applied", async || {
        app.profile(&iccid(1)).await["state"] == "INSTALLED"
    })
    .await;
    assert_eq!(app.profile(&iccid(2)).await["state"], "ERROR");
    // It is found once the cause is removed.
    for table in ["profiles", "overdue"] {
        let repair = format!("DROP TRIGGER raise_at_one ON {table}");
        let mut connection = app.database.connect().await;
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(repair))).await.unwrap();
    }
    assert_eq!(look_with(&app, &Patience::default(), &[], 3_600).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_overdue_profiles_share_one_budget_and_each_is_asked_about_once() {
    const PROFILES: usize = 1_000;
    let (app, api) = start().await;
    for some in (0..PROFILES).collect::<Vec<_>>().chunks(8) {
        join_all(some.iter().map(async |number| {
            let iccid = iccid(*number);
            api.says(&iccid, "INSTALLED");
            register(&app, &object(&iccid)).await;
        }))
        .await;
    }
    let found = look_with(&app, &Patience::default(), &["gigastore"], 86_400 + 60).await;
    assert_eq!(found, PROFILES as u64);
    // They were noted by a clock that is a day ahead.
    run(&app, "UPDATE inquiries SET due_at = now(), wanted_at = now()").await;
    for part in (1..=10).map(|tenth| tenth * 100) {
        wait_until("more are installed", async || {
            let installed = "SELECT count(*) FROM profiles WHERE state = 'INSTALLED'";
            app.database.scalar::<i64>(installed).await >= part
        })
        .await;
    }
    let mut asked = api.asked();
    assert_eq!(asked.len(), PROFILES);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), PROFILES, "one was asked about twice");
    let calls = api.0.lock().unwrap().calls.clone();
    let took = calls[calls.len() - 1].0 - calls[0].0;
    // 6,000 a minute. The first may have been on its way for a while.
    let least = Duration::from_millis(10) * u32::try_from(calls.len() - 2).unwrap();
    assert!(took >= least, "{} calls in {took:?}", calls.len());
    assert_eq!(app.backend.get("/v1/profiles?overdue=true").await.json()["items"], json!([]));
}
