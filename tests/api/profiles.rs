//! `GET /v1/profiles/{iccid}` and `GET /v1/profiles/{iccid}/transitions`.
//!
//! A real service receives webhooks; then backends and users read the profile and its history, with entity tags and
//! cursors.

use esim_status_testing::{Answer, TestApp};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ICCID, iccid};

fn of(page: &Value, member: &str) -> Vec<Value> {
    page["items"].as_array().unwrap().iter().map(|item| item[member].clone()).collect()
}

#[tokio::test]
async fn a_profile_has_every_documented_member() {
    let app = TestApp::start().await;
    let eid = "89049032123451234512345678901235";
    let body = json!({ "iccid": ICCID, "profileState": "INSTALLED", "eid": eid, "imsi": "260216611193634" });
    assert_eq!(app.deliver(body.to_string()).await.outcome(), "moved");
    let mut profile = app.profile(ICCID).await;
    for member in ["since", "lastDeliveryAt"] {
        let text = profile[member].take();
        let text = text.as_str().unwrap();
        assert!(text.ends_with('Z') && text.len() == "2026-11-23T10:20:30.123456Z".len(), "{text}");
    }
    let expected = json!({
        "iccid": ICCID, "state": "INSTALLED", "enabled": true, "rawState": "INSTALLED", "provider": "gigastore",
        "since": null, "seq": 1, "lastDeliveryAt": null, "deliveries": 1, "installsSeen": 1, "registered": false,
        "firstConnectedAt": null, "lastConnectedAt": null, "country": null, "overdue": null,
        "checks": { "iccidLuhn": true, "eidMod97": true },
        "imsi": "260216611193634", "eid": eid, "device": null, "uid": null, "activatedAt": null, "lastSeen": null,
        "reference": null, "expectedFrom": null, "replaces": null, "replacedBy": null,
    });
    assert_eq!(profile, expected);
}

#[tokio::test]
async fn an_iccid_in_the_path_is_parsed_as_strictly_as_in_a_webhook() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    for (segment, code) in [
        ("89972123300991848961F", "200"),
        ("89972123300991848962", "unknown-profile"),
        ("self", "invalid-parameter"),
        ("1", "invalid-parameter"),
        ("89972123300991848961%20", "invalid-parameter"),
        ("89972123300991848961%00", "invalid-parameter"),
        ("%ff", "invalid-parameter"),
        ("8997212330099184896100000", "invalid-parameter"),
    ] {
        for rest in ["", "/transitions", "/deliveries"] {
            let answer = app.backend.get(&format!("/v1/profiles/{segment}{rest}")).await;
            let told = if answer.status == 200 { "200".to_owned() } else { answer.problem() };
            assert_eq!(told, code, "{segment}{rest}");
        }
    }
}

#[tokio::test]
async fn the_history_is_paged_by_seq() {
    let app = TestApp::start().await;
    for state in ["RELEASED", "DOWNLOADED", "INSTALLED", "DISABLED", "RELEASED"] {
        assert_eq!(app.report(ICCID, state).await, "moved");
    }
    let path = format!("/v1/profiles/{ICCID}/transitions");
    let rows: [(&str, Vec<i64>, Value); 8] = [
        ("", vec![1, 2, 3, 4, 5], Value::Null),
        ("?after=0", vec![1, 2, 3, 4, 5], Value::Null),
        ("?limit=2", vec![1, 2], json!("2")),
        ("?after=2&limit=2", vec![3, 4], json!("4")),
        ("?limit=2&after=4", vec![5], Value::Null),
        ("?after=3&limit=2", vec![4, 5], Value::Null),
        ("?after=5", vec![], Value::Null),
        ("?after=9223372036854775807", vec![], Value::Null),
    ];
    for (query, seqs, next) in rows {
        let page = app.backend.get(&format!("{path}{query}")).await.json();
        assert_eq!(
            (of(&page, "seq"), &page["nextCursor"]),
            (seqs.iter().map(|n| json!(n)).collect(), &next),
            "{query}"
        );
    }
    let page = app.backend.get(&format!("{path}?after=1&limit=1")).await.json();
    let mut transition = page["items"][0].clone();
    assert!(transition["receivedAt"].take().is_string());
    let expected = json!({
        "seq": 2, "fromState": "RELEASED", "toState": "DOWNLOADED", "enabled": null, "rawState": "DOWNLOADED",
        "kind": "normal", "source": "webhook", "receivedAt": null, "provider": "gigastore",
    });
    assert_eq!(transition, expected);
}

#[tokio::test]
async fn an_invalid_parameter_is_named() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let profile = format!("/v1/profiles/{ICCID}");
    for (query, named) in [
        ("?limit=0", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=201", "limit"),
        ("?limit=1e9", "limit"),
        ("?limit=1000000000", "limit"),
        ("?limit=99999999999999999999", "limit"),
        ("?limit=%D9%A1", "limit"),
        ("?limit=1&limit=1", "limit"),
        ("?after=-1", "after"),
        ("?after=x", "after"),
        ("?after=1.5", "after"),
        ("?after=9223372036854775808", "after"),
        ("?afer=1", "afer"),
        ("?limit=1&cursor=1", "cursor"),
        ("?%00=1", "?"),
        ("?=1", ""),
    ] {
        let answer = app.backend.get(&format!("{profile}/transitions{query}")).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (400, "invalid-parameter"),
            "{query}"
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(&format!("{named}: ")), "{query}: {detail}");
    }
    let many = (0..1_000).map(|number| format!("p{number}")).collect::<Vec<_>>().join("&");
    let answer = app.backend.get(&format!("{profile}?{many}")).await;
    assert_eq!(answer.problem(), "invalid-parameter");
    assert!(answer.json()["detail"].as_str().unwrap().contains("more than 32"), "{answer:?}");
    let answer = app.backend.get(&format!("{profile}?verbose=1")).await;
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("verbose: "));
}

#[tokio::test]
async fn if_none_match_follows_rfc_9110() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    app.report(ICCID, "INSTALLED").await;
    let path = format!("/v1/profiles/{ICCID}");
    let tag = app.backend.get(&path).await.header("etag").to_owned();
    let inner = tag.trim_matches('"');
    for (value, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        ("*".to_owned(), 304),
        (format!("\"1\", {tag}"), 304),
        (format!("W/\"1\",W/{tag}"), 304),
        (format!("\"a,b\" , {tag}"), 304),
        (format!("\"{inner}-gzip\""), 304),
        (format!("W/\"{inner};br\""), 304),
        ("\"1\"".to_owned(), 200),
        ("\"2\"".to_owned(), 200),
        (format!("\"{inner}2\""), 200),
        (inner.to_owned(), 200),
        (format!("\"{inner}"), 200),
        (format!("w/{tag}"), 200),
        (String::new(), 200),
        ("\"1\", \"3\"".to_owned(), 200),
    ] {
        let answer = app.backend.get_with(&path, "if-none-match", &value).await;
        assert_eq!(answer.status.as_u16(), status, "{value}");
        assert_eq!(answer.header("etag"), tag, "{value}");
        assert_eq!(answer.header("vary"), "authorization", "{value}");
        assert_eq!(answer.header("cache-control"), "private, no-cache", "{value}");
        assert_eq!(answer.text.is_empty(), status == 304, "{value}");
    }
    let lines = app.backend.request(Method::GET, &path);
    let lines = lines.header("if-none-match", "\"1\"").header("if-none-match", &tag);
    assert_eq!(Answer::of(lines).await.status, 304, "two header lines form one list");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "repeated");
    assert_eq!(app.backend.get_with(&path, "if-none-match", &tag).await.status, 304);
    assert_eq!(app.report(ICCID, "DISABLED").await, "moved");
    assert_eq!(app.backend.get_with(&path, "if-none-match", &tag).await.status, 200);
    let unknown = format!("/v1/profiles/{}", iccid(1));
    let answer = app.backend.get_with(&unknown, "if-none-match", "*").await;
    assert_eq!(answer.problem(), "unknown-profile");
}

#[tokio::test]
async fn a_head_request_is_a_get_without_the_body() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let request = app.backend.request(Method::HEAD, &format!("/v1/profiles/{ICCID}"));
    let answer = Answer::of(request).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (200, ""));
    let get = app.backend.get(&format!("/v1/profiles/{ICCID}")).await;
    assert_eq!(answer.header("etag"), get.header("etag"));
}

/// `self` is the same URL for all users, and a cache revalidates its stored answer by the entity tag.
#[tokio::test]
async fn an_etag_of_one_user_does_not_match_for_another_user_or_a_backend() {
    let app = TestApp::start().await;
    let other = iccid(1);
    app.report(ICCID, "RELEASED").await;
    app.report(&other, "RELEASED").await;
    let (user, stranger) = (app.user(ICCID), app.user(&other));
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();
    assert_eq!(user.get_with("/v1/profiles/self", "if-none-match", &tag).await.status, 304);
    // The same ETag matches under the ICCID, with another token of the same profile.
    let path = format!("/v1/profiles/{ICCID}");
    assert_eq!(app.user(ICCID).get_with(&path, "if-none-match", &tag).await.status, 304);
    let theirs = stranger.get_with("/v1/profiles/self", "if-none-match", &tag).await;
    assert_eq!((theirs.status.as_u16(), &theirs.json()["iccid"]), (200, &other.into()));
    let polled = stranger.get_with("/v1/profiles/self?wait=60", "if-none-match", &tag).await;
    assert_eq!(polled.status, 200);
    let all = app.backend.get_with(&path, "if-none-match", &tag).await;
    assert_eq!(all.status, 200);
    assert_ne!(all.header("etag"), tag);
    for answer in [theirs, polled, all] {
        assert_eq!(answer.header("vary"), "authorization");
        assert!(!answer.header("etag").contains(&ICCID[10..]), "{answer:?}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_fails_only_its_own_profile() {
    let app = TestApp::start().await;
    for number in 0..2 {
        assert_eq!(app.report(&iccid(number), "INSTALLED").await, "moved");
    }
    // A manual correction may leave a row like this.
    let spoil = "UPDATE profiles SET eid = 'zz' WHERE iccid = $1";
    let mut connection = app.database.connect().await;
    sqlx::query(spoil).bind(iccid(0)).execute(&mut connection).await.unwrap();
    // Read concurrently, so that one query serves several requests.
    let paths = (0..40).map(|number| format!("/v1/profiles/{}", iccid(number % 2)));
    let client = &app.backend;
    let answers = join_all(paths.map(|path| async move { client.get(&path).await })).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status.as_u16(), if number % 2 == 0 { 500 } else { 200 }, "{answer:?}");
    }
    assert_eq!(answers[0].problem(), "internal");
}
