//! The endpoints for support: `GET /v1/profiles/{iccid}/deliveries` and `GET /v1/deliveries`.
//!
//! The service receives one webhook for each outcome, then the lists are read with filters and page by page.

use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ICCID, iccid};

fn outcomes(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    items.iter().filter_map(|item| item["outcome"].as_str()).collect()
}

async fn with_one_of_each() -> TestApp {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "repeated");
    assert_eq!(app.report(ICCID, "TELEPORTED").await, "unrecognised");
    let balance = json!({ "iccid": ICCID, "balanceAmountInByte": 93_618_231 });
    assert_eq!(app.deliver(balance.to_string()).await.outcome(), "ignored");
    let no_state = json!({ "iccid": ICCID, "profileState": null });
    assert_eq!(app.deliver(no_state.to_string()).await.problem(), "malformed");
    assert_eq!(app.deliver("{").await.problem(), "malformed");
    app
}

#[tokio::test]
async fn a_profiles_deliveries_are_listed_newest_first_with_any_outcome() {
    let app = with_one_of_each().await;
    let path = format!("/v1/profiles/{ICCID}/deliveries");
    let all = app.backend.get(&path).await.json();
    let expected = ["malformed", "ignored", "unrecognised", "repeated", "moved"];
    assert_eq!(outcomes(&all), expected);

    let (mut paged, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = app.backend.get(&format!("{path}?{query}")).await.json();
        paged.extend(outcomes(&page).into_iter().map(str::to_owned));
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, expected);
}

#[tokio::test]
async fn deliveries_that_were_not_applied_are_found_by_outcome_and_provider() {
    let app = with_one_of_each().await;
    let rows: [(&str, &[&str]); 7] = [
        ("", &["malformed", "malformed", "ignored", "unrecognised"]),
        ("?provider=gigastore", &["malformed", "malformed", "ignored", "unrecognised"]),
        ("?provider=other", &[]),
        ("?outcome=malformed", &["malformed", "malformed"]),
        ("?outcome=malformed&provider=gigastore&limit=1", &["malformed"]),
        ("?outcome=moved", &["moved"]),
        ("?outcome=late", &[]),
    ];
    for (query, expected) in rows {
        let page = app.backend.get(&format!("/v1/deliveries{query}")).await.json();
        assert_eq!(outcomes(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn deliveries_that_name_only_a_customer_are_found_by_it() {
    let app = TestApp::start().await;
    let activation = |uid: &str, item: u8| {
        json!({ "uid": uid, "activatedItem": format!("EU {item} GB") }).to_string()
    };
    // A `uid` that no registration can have is not noted, and its delivery is kept all the same.
    let long = "u".repeat(257);
    for (uid, item) in [("u1", 1), ("u2", 2), ("u1", 3), (&long, 4), ("u1", 5)] {
        assert_eq!(app.deliver(activation(uid, item)).await.outcome(), "ignored");
    }
    let rows: [(&str, &[u8]); 5] = [
        ("uid=u1", &[5, 3, 1]),
        ("uid=u1&provider=gigastore&limit=1", &[5]),
        ("uid=u1&provider=other", &[]),
        ("uid=u2", &[2]),
        ("uid=U1", &[]),
    ];
    for (query, items) in rows {
        let page = app.backend.get(&format!("/v1/deliveries?{query}")).await.json();
        let bodies =
            page["items"].as_array().unwrap().iter().map(|it| it["body"].as_str().unwrap());
        let expected = items.iter().map(|item| {
            activation(query.split('&').next().unwrap().trim_start_matches("uid="), *item)
        });
        assert!(bodies.eq(expected), "{query}: {page}");
    }
    let first = app.backend.get("/v1/deliveries?uid=u1&limit=2").await.json();
    let next = format!("uid=u1&limit=2&cursor={}", first["nextCursor"].as_str().unwrap());
    let rest = app.backend.get(&format!("/v1/deliveries?{next}")).await.json();
    assert_eq!(rest["items"][0]["body"], activation("u1", 1));
    assert_eq!(rest["nextCursor"], json!(null));
    let kept = app.backend.get("/v1/deliveries?outcome=ignored").await.json();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn a_delivery_shows_its_headers_and_body_but_no_credentials() {
    let app = TestApp::start().await;
    let body = json!({ "iccid": ICCID, "profileState": "TELEPORTED" }).to_string();
    let request = app.anybody.request(Method::POST, &TestApp::hook_path());
    let request = (request.header("content-type", "application/json"))
        .header("user-agent", "vendor/1.0")
        .header("authorization", "Bearer something-secret")
        .header("cookie", "a=something-secret")
        .header("x-forwarded-for", "203.0.113.7");
    assert_eq!(Answer::of(request.body(body.clone())).await.outcome(), "unrecognised");
    let mut delivery = app.backend.get("/v1/deliveries").await.json()["items"][0].clone();
    assert!(delivery["id"].take().is_string() && delivery["receivedAt"].take().is_string());
    let expected = json!({
        "id": null, "receivedAt": null, "hook": "gigastore/esim-status", "provider": "gigastore", "iccid": ICCID,
        "outcome": "unrecognised", "reason": "profileState is a word that this service does not know", "eventId": null,
        "headers": { "content-type": "application/json", "user-agent": "vendor/1.0" }, "body": body,
    });
    assert_eq!(delivery, expected);
}

#[tokio::test]
async fn an_invalid_parameter_is_named() {
    let app = with_one_of_each().await;
    for path in ["/v1/deliveries".to_owned(), format!("/v1/profiles/{ICCID}/deliveries")] {
        for (query, named) in [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=1e9", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=ODk5NzIxMjMzMDA5OTE4NDg5NjE", "cursor"),
            ("limit=1&limit=2", "limit"),
            ("state=ERROR", "state"),
        ] {
            let answer = app.backend.get(&format!("{path}?{query}")).await;
            assert_eq!(answer.problem(), "invalid-parameter", "{path}?{query}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with(&format!("{named}: ")), "{path}?{query}: {detail}");
        }
    }
    for (query, named) in [
        ("outcome=lost", "outcome"),
        ("outcome=MOVED", "outcome"),
        ("provider=%00", "provider"),
        ("uid=u1&outcome=ignored", "uid"),
    ] {
        let answer = app.backend.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(answer.problem(), "invalid-parameter", "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(named), "{query}");
    }
}

#[tokio::test]
async fn a_profile_without_deliveries_is_unknown() {
    let app = with_one_of_each().await;
    let answer = app.backend.get(&format!("/v1/profiles/{}/deliveries", iccid(1))).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, "unknown-profile"));
}
