//! Reading again what was kept and not understood, by a declaration that has learned it.
//!
//! A real service receives webhooks of a declared provider; then another declaration reads them again.

use std::fs;
use std::path::PathBuf;

use esim_status::clock;
use esim_status::config::{self, ServeArgs, Settings};
use esim_status::delivery::{Authenticator, Scheme, Secrets, StandardSecrets};
use esim_status::providers::Providers;
use esim_status::reread::{self, Counts, Selection, Understood};
use esim_status::store::{ErasureKey, Session};
use esim_status_testing::history::assert_counted;
use esim_status_testing::{Answer, HOOK_SECRET, TestApp};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;

use super::declared::hook_of;
use super::esim::{erase, object, register};
use super::sse::Events;
use super::{ICCID, iccid};

const HOOK: &str = "acme/status";

/// The declaration, before and after it has learned that `PAIRED` is a word for a state, that `move` events are reports, that newer
/// bodies name the profile elsewhere, and that the number of an order is no event id.
fn providers(learned: bool) -> Providers {
    let (word, kinds, place, event_id) = if learned {
        (
            r#"PAIRED = "INSTALLED","#,
            r#"["state", "move"]"#,
            r#"["/iccid", "/esim/iccid"]"#,
            r#""/id""#,
        )
    } else {
        ("", r#""state""#, r#""/iccid""#, r#"["/order", "/id"]"#)
    };
    let text = format!(
        r#"
        [[providers]]
        slug = "acme"
        iccid = {place}
        state = "/status"
        event_id = {event_id}
        occurred_at = {{ pointer = "/at", unit = "seconds" }}
        only_if = {{ "/kind" = {kinds} }}
        states = {{ {word} LOADED = "DOWNLOADED", GONE = "DELETED" }}
        [[providers.samples]]
        body = '{{"kind":"state","iccid":"8910300000019600001","status":"LOADED"}}'
        iccid = "8910300000019600001"
        state = "DOWNLOADED"
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("esim-status.toml");
    fs::write(&path, text).unwrap();
    config::providers(&ServeArgs { config: Some(path), ..ServeArgs::defaults() }).unwrap()
}

async fn service() -> TestApp {
    TestApp::start_with(|settings| {
        settings.providers = providers(false);
        let secrets = Secrets::parse("test", [HOOK_SECRET]).unwrap();
        hook_of(settings, "acme", HOOK, Scheme::UrlSecret(secrets));
    })
    .await
}

async fn deliver(app: &TestApp, body: &Value) -> String {
    let path = format!("/webhooks/{HOOK}/{HOOK_SECRET}");
    let request = app.anybody.request(Method::POST, &path).body(body.to_string());
    let answer = Answer::of(request).await;
    answer.json()["outcome"].as_str().unwrap_or("malformed").to_owned()
}

/// What becomes of each, as `unrecognised → moved INSTALLED`.
async fn read_again(app: &TestApp, apply: bool) -> Vec<String> {
    let (passed, counts) = read_again_and_count(app, apply).await;
    assert_eq!((counts.busy, counts.unapplied), (0, 0));
    passed
}

async fn read_again_and_count(app: &TestApp, apply: bool) -> (Vec<String>, Counts) {
    read_hook_again(app, HOOK, apply).await
}

async fn read_hook_again(app: &TestApp, hook: &str, apply: bool) -> (Vec<String>, Counts) {
    let mut connection = app.database.connect().await;
    let key = ErasureKey::default();
    key.load(&mut connection).await.unwrap();
    let providers = providers(true);
    let from = Selection { hook, since: clock::now().plus_seconds(-3_600), providers: &providers };
    let mut passed = Vec::new();
    let tell = |Understood { was, is, state, .. }: Understood| {
        let state = state.map(|state| state.to_string()).unwrap_or_default();
        passed.push(format!("{was} → {is} {state}"));
    };
    let counts = if apply {
        let connector = app.database.connector();
        let mut writing = connector.connect(Session::Registrations).await.unwrap();
        reread::apply(&mut connection, &mut writing, &key, &from, tell).await.unwrap()
    } else {
        reread::preview(&mut connection, &key, &from, tell).await.unwrap()
    };
    (passed, counts)
}

#[tokio::test]
async fn what_came_under_the_event_id_of_another_event_is_applied_once_the_id_is_declared_rightly()
{
    let app = service().await;
    let of_order = |number: usize, status: &str, at: i64, id: Option<&str>| {
        let mut event = event(&iccid(number), status, at);
        event["order"] = json!("order-7");
        if let Some(id) = id {
            event["id"] = json!(id);
        }
        event
    };
    for (body, outcome) in [
        (of_order(0, "LOADED", 10, Some("a")), "moved"),
        (of_order(0, "GONE", 30, Some("b")), "duplicate"),
        (of_order(1, "LOADED", 10, Some("c")), "duplicate"),
        (of_order(1, "LOADED", 10, Some("c")), "duplicate"),
        (of_order(2, "LOADED", 10, None), "duplicate"),
        // The sender has tried again: nothing is missing.
        (of_order(0, "LOADED", 10, Some("a")), "duplicate"),
    ] {
        assert_eq!(deliver(&app, &body).await, outcome, "{body}");
    }
    let expected = [
        "duplicate → moved DELETED",
        "duplicate → moved DOWNLOADED",
        "duplicate → duplicate DOWNLOADED",
        "duplicate → moved DOWNLOADED",
    ];
    assert_eq!(read_again(&app, true).await, expected);
    assert_eq!(read_again(&app, true).await, Vec::<String>::new());
    for (number, state, deliveries) in
        [(0, "DELETED", 2), (1, "DOWNLOADED", 1), (2, "DOWNLOADED", 1)]
    {
        let profile = app.profile(&iccid(number)).await;
        assert_eq!(
            (&profile["state"], &profile["deliveries"]),
            (&state.into(), &deliveries.into())
        );
        app.assert_straight(&iccid(number)).await;
    }
    assert_counted(&app.database).await;
}

#[tokio::test]
async fn what_was_foreign_is_applied_once_its_profile_is_registered_with_the_sender() {
    let app = service().await;
    for profile in [0, 1] {
        assert_eq!(deliver(&app, &event(&iccid(profile), "LOADED", 10)).await, "moved");
        assert_eq!(app.report(&iccid(profile), "INSTALLED").await, "foreign");
    }
    register(&app, &object(&iccid(0))).await;
    let read = async || read_hook_again(&app, "gigastore/esim-status", true).await.0;
    assert_eq!(read().await, ["foreign → moved INSTALLED"]);
    assert_eq!(read().await, Vec::<String>::new());
    let states = [0, 1].map(async |number| app.profile(&iccid(number)).await["state"].clone());
    assert_eq!(join_all(states).await, ["INSTALLED", "DOWNLOADED"]);
    assert_counted(&app.database).await;
}

fn event(iccid: &str, status: &str, at: i64) -> Value {
    json!({ "kind": "state", "iccid": iccid, "status": status, "at": 1_790_000_000 + at })
}

#[tokio::test]
async fn a_word_that_was_learned_is_applied_by_its_event_time_once() {
    let app = service().await;
    assert_eq!(deliver(&app, &event(&iccid(0), "LOADED", 10)).await, "moved");
    let mut events = Events::open(&app.backend, &iccid(0)).await;
    assert_eq!(events.event().await.event, "profile");
    for (profile, status, at, outcome) in [
        (0, "PAIRED", 20, "unrecognised"),
        (1, "PAIRED", 20, "unrecognised"),
        (1, "GONE", 30, "moved"),
        (2, "PAIRED", 20, "unrecognised"),
        (2, "PAIRED", 20, "unrecognised"),
        (3, "UNHEARD", 20, "unrecognised"),
    ] {
        assert_eq!(deliver(&app, &event(&iccid(profile), status, at)).await, outcome);
    }
    let expected = [
        "unrecognised → moved INSTALLED",
        "unrecognised → late INSTALLED",
        "unrecognised → moved INSTALLED",
        "unrecognised → repeated INSTALLED",
    ];
    assert_eq!(read_again(&app, false).await, expected);
    assert_eq!(app.profile(&iccid(0)).await["state"], "DOWNLOADED", "a look changes nothing");

    assert_eq!(read_again(&app, true).await, expected);
    let states = [0, 1, 2].map(async |number| app.profile(&iccid(number)).await);
    let states: Vec<_> = join_all(states).await.iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["INSTALLED", "DELETED", "INSTALLED"]);
    for (number, deliveries) in [(0, 2), (1, 2), (2, 2)] {
        let profile = app.profile(&iccid(number)).await;
        assert_eq!(profile["deliveries"], deliveries, "{profile:#}");
        let path = format!("/v1/profiles/{}/transitions", iccid(number));
        let history = app.backend.get(&path).await.json();
        let sources: Vec<_> =
            history["items"].as_array().unwrap().iter().map(|it| it["source"].clone()).collect();
        assert_eq!(sources.iter().filter(|it| **it == "reread").count(), 1, "{history:#}");
    }
    let change = events.event().await;
    assert_eq!(change.event, "transition");
    assert_eq!(
        (&change.data["toState"], &change.data["source"]),
        (&json!("INSTALLED"), &json!("reread"))
    );
    assert_counted(&app.database).await;
    assert!(read_again(&app, true).await.is_empty());
    assert!(read_again(&app, false).await.is_empty());
}

#[tokio::test]
async fn what_was_ignored_or_malformed_is_applied_too_and_an_event_that_came_twice_counts_once() {
    let app = service().await;
    let mut ignored = event(&iccid(0), "LOADED", 10);
    ignored["kind"] = json!("move");
    assert_eq!(deliver(&app, &ignored).await, "ignored");
    let elsewhere = |id: &str, status: &str| json!({ "kind": "state", "id": id, "esim": { "iccid": iccid(1) }, "status": status, "at": 1_790_000_000 });
    for _ in 0..2 {
        assert_eq!(deliver(&app, &elsewhere("e-1", "LOADED")).await, "malformed");
    }
    assert_eq!(deliver(&app, &elsewhere("e-2", "UNHEARD")).await, "malformed");
    assert_eq!(
        read_again(&app, true).await,
        [
            "ignored → moved DOWNLOADED",
            "malformed → moved DOWNLOADED",
            "malformed → duplicate DOWNLOADED"
        ]
    );
    for number in [0, 1] {
        let profile = app.profile(&iccid(number)).await;
        assert_eq!((&profile["state"], &profile["deliveries"]), (&json!("DOWNLOADED"), &json!(1)));
    }
    assert_counted(&app.database).await;
    assert!(read_again(&app, true).await.is_empty());
}

#[tokio::test]
async fn without_an_event_time_only_a_newer_report_overtakes() {
    let app = service().await;
    let event = |number: usize, status: &str| json!({ "kind": "state", "iccid": iccid(number), "status": status });
    for (number, status, outcome) in [
        (0, "LOADED", "moved"),
        (0, "PAIRED", "unrecognised"),
        (0, "UNHEARD", "unrecognised"),
        (1, "LOADED", "moved"),
        (1, "PAIRED", "unrecognised"),
        (1, "LOADED", "repeated"),
        (2, "PAIRED", "unrecognised"),
        (2, "GONE", "moved"),
    ] {
        assert_eq!(deliver(&app, &event(number, status)).await, outcome);
    }
    // As a connection an hour later would.
    let mut connection = app.database.connect().await;
    let later = "UPDATE profiles SET last_delivery_at = last_delivery_at + interval '1 hour'";
    connection.execute(later).await.unwrap();
    let expected = ["moved", "late", "late"].map(|it| format!("unrecognised → {it} INSTALLED"));
    assert_eq!(read_again(&app, false).await, expected);
    assert_eq!(read_again(&app, true).await, expected);
    assert_eq!(app.profile(&iccid(0)).await["state"], "INSTALLED");
}

/// The sender may never send it again, so it is kept although its profile cannot be read, or written.
#[tokio::test]
async fn what_could_not_be_applied_is_kept_and_applied_once_that_is_fixed() {
    let app = service().await;
    let mut connection = app.database.connect().await;
    let later = |number: usize, id: &str| {
        let mut event = event(&iccid(number), "GONE", 20);
        event["id"] = json!(id);
        event
    };
    for number in 0..3 {
        assert_eq!(deliver(&app, &event(&iccid(number), "LOADED", 10)).await, "moved");
    }
    for (number, spoil, fix) in [
        // As a release that knows more words may have written it.
        (
            0,
            format!("UPDATE profiles SET eid = 'zz' WHERE iccid = '{}'", iccid(0)),
            "UPDATE profiles SET eid = NULL WHERE eid = 'zz'",
        ),
        (
            1,
            "ALTER TABLE profiles ADD CONSTRAINT none_is_deleted CHECK (state <> 'DELETED')"
                .to_owned(),
            "ALTER TABLE profiles DROP CONSTRAINT none_is_deleted",
        ),
    ] {
        connection.execute(sqlx::AssertSqlSafe(spoil)).await.unwrap();
        let bodies = [later(number, &format!("e{number}")), event(&iccid(2), "LOADED", 10)];
        let outcomes = join_all(bodies.iter().map(|body| deliver(&app, body))).await;
        assert_eq!(outcomes, ["unrecognised", "repeated"]);
        connection.execute(fix).await.unwrap();
        let path = format!("/v1/profiles/{}/deliveries", iccid(number));
        let kept = app.backend.get(&path).await.json()["items"][0].clone();
        assert_eq!(kept["body"], later(number, &format!("e{number}")).to_string());
        assert!(kept["reason"].as_str().unwrap().contains("esim-status reread"), "{kept}");
    }
    assert_eq!(read_again(&app, true).await, ["unrecognised → moved DELETED"; 2]);
    for number in 0..2 {
        let profile = app.profile(&iccid(number)).await;
        assert_eq!((&profile["state"], &profile["deliveries"]), (&json!("DELETED"), &json!(2)));
        app.assert_straight(&iccid(number)).await;
        // Its event id is reserved now.
        assert_eq!(deliver(&app, &later(number, &format!("e{number}"))).await, "duplicate");
    }
    assert!(read_again(&app, true).await.is_empty());
    assert_counted(&app.database).await;
}

#[tokio::test]
async fn a_profile_that_cannot_be_read_or_written_stops_no_other_one() {
    let app = service().await;
    for number in 0..3 {
        assert_eq!(deliver(&app, &event(&iccid(number), "LOADED", 10)).await, "moved");
        assert_eq!(deliver(&app, &event(&iccid(number), "PAIRED", 20)).await, "unrecognised");
    }
    let spoil = format!(
        "UPDATE profiles SET eid = 'zz' WHERE iccid = '{}';
         ALTER TABLE profiles ADD CONSTRAINT is_not_installed CHECK (state <> 'INSTALLED' OR iccid <> '{}')",
        iccid(0),
        iccid(1)
    );
    let mut connection = app.database.connect().await;
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(spoil))).await.unwrap();
    let (passed, counts) = read_again_and_count(&app, false).await;
    // Only the write would show the constraint.
    assert_eq!(passed, ["unrecognised → moved INSTALLED"; 2]);
    assert_eq!(counts, Counts { looked_at: 3, busy: 0, unapplied: 1 });
    let (passed, counts) = read_again_and_count(&app, true).await;
    assert_eq!(passed, ["unrecognised → moved INSTALLED"]);
    assert_eq!(counts, Counts { looked_at: 3, busy: 0, unapplied: 2 });
    assert_eq!(app.profile(&iccid(2)).await["state"], "INSTALLED");

    let fix =
        "UPDATE profiles SET eid = NULL; ALTER TABLE profiles DROP CONSTRAINT is_not_installed";
    connection.execute(sqlx::raw_sql(fix)).await.unwrap();
    assert_eq!(read_again(&app, true).await, ["unrecognised → moved INSTALLED"; 2]);
    for number in 0..3 {
        app.assert_straight(&iccid(number)).await;
    }
}

/// What names a profile that was erased must not come back, not even if it is registered again.
#[tokio::test]
async fn a_delivery_from_before_an_erasure_is_left_alone() {
    let app = service().await;
    let mut elsewhere = event(ICCID, "PAIRED", 20);
    elsewhere["kind"] = json!("another");
    elsewhere["sim"] = elsewhere["iccid"].take();
    assert_eq!(deliver(&app, &elsewhere).await, "ignored");
    assert_eq!(deliver(&app, &event(ICCID, "PAIRED", 20)).await, "unrecognised");
    let before = clock::now();
    erase(&app.backend, ICCID).await.is(204);
    let left = "SELECT count(*) FROM deliveries";
    assert_eq!(app.database.scalar::<i64>(left).await, 0, "no body names the profile any more");
    // As if the erasure had missed one.
    let millis = before.as_datetime().unix_timestamp_nanos() / 1_000_000;
    let missed = "INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
                  VALUES ($1::text::uuid, $2::text::timestamptz, 'acme/status', 'acme', 'unrecognised', '{}', convert_to($3, 'UTF8'))";
    sqlx::query(missed)
        .bind(format!("{millis:012x}7000800000000000000a"))
        .bind(before.to_string())
        .bind(event(ICCID, "PAIRED", 20).to_string())
        .execute(&mut app.database.connect().await)
        .await
        .unwrap();
    for is_registered_again in [false, true] {
        if is_registered_again {
            register(&app, &object(ICCID)).await;
        }
        assert!(read_again(&app, false).await.is_empty());
        assert!(read_again(&app, true).await.is_empty());
    }
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["state"], &profile["deliveries"]), (&json!("RELEASED"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_at_the_same_time_and_webhooks_beside_them_apply_each_once() {
    const PROFILES: usize = 40;
    let app = service().await;
    for number in 0..PROFILES {
        assert_eq!(deliver(&app, &event(&iccid(number), "LOADED", 10)).await, "moved");
        assert_eq!(deliver(&app, &event(&iccid(number), "PAIRED", 20)).await, "unrecognised");
    }
    let webhooks = join_all(
        (0..PROFILES).map(async |number| deliver(&app, &event(&iccid(number), "GONE", 30)).await),
    );
    let again = async || read_again(&app, true).await.len();
    let (webhooks, first, second) = tokio::join!(webhooks, again(), again());
    assert_eq!(first + second, PROFILES);
    assert!(webhooks.iter().all(|outcome| outcome == "moved"), "{webhooks:?}");
    for number in 0..PROFILES {
        assert_eq!(app.profile(&iccid(number)).await["state"], "DELETED");
        app.assert_straight(&iccid(number)).await;
    }
    let moved = "SELECT count(*) FROM deliveries WHERE outcome = 'unrecognised'";
    assert_eq!(app.database.scalar::<i64>(moved).await, 0);
    assert_counted(&app.database).await;
}

#[tokio::test]
async fn an_event_that_was_applied_again_is_not_applied_a_third_time_under_an_id_that_names_its_profile()
 {
    let hook = || {
        let secrets = StandardSecrets::parse("test", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        Scheme::StandardWebhooks(secrets.unwrap())
    };
    let with_hook = |learned: bool| {
        move |settings: &mut Settings| {
            settings.providers = providers(learned);
            hook_of(settings, "acme", HOOK, hook());
        }
    };
    let deliver = async |app: &TestApp, id: &str, body: &Value| {
        let body = body.to_string();
        let credentials =
            Authenticator::new(hook()).credentials_for(id, clock::now(), body.as_bytes());
        let request = app.anybody.request(Method::POST, &format!("/webhooks/{HOOK}"));
        Answer::of(request.headers(credentials.headers.into_iter().collect()).body(body)).await
    };
    let app = TestApp::start_with(with_hook(false)).await;
    let id = format!("evt-{}-1", iccid(0));
    let elsewhere = json!({ "kind": "state", "esim": { "iccid": iccid(0) }, "status": "LOADED" });
    assert_eq!(deliver(&app, &id, &elsewhere).await.problem(), "malformed");
    assert_eq!(read_again(&app, true).await, ["malformed → moved DOWNLOADED"]);
    // With the new declaration the sender's retry is understood, and so is what came before it.
    let learned = TestApp::start_on(app.database.clone(), with_hook(true)).await;
    let newer = json!({ "kind": "state", "iccid": iccid(0), "status": "PAIRED" });
    assert_eq!(deliver(&learned, "evt-2", &newer).await.outcome(), "moved");
    assert_eq!(deliver(&learned, &id, &elsewhere).await.outcome(), "duplicate");
    assert_eq!(learned.profile(&iccid(0)).await["state"], "INSTALLED");
}
