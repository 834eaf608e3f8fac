//! Every error is a problem document (RFC 9457) from the catalogue, and every answer has an `X-Request-Id`.
//!
//! The tests send wrong requests to both listeners of a real service, and rename a table under it to cause 5xx answers.

use esim_status::web::problem::CATALOGUE;
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::ICCID;

#[tokio::test]
async fn every_error_is_a_problem_from_the_catalogue() {
    let app = TestApp::start().await;
    let hook = TestApp::hook_path();
    let profile = format!("/v1/profiles/{ICCID}");
    let rows: [(Method, &str, u16, &str); 18] = [
        (Method::GET, "/nowhere", 404, "unknown-path"),
        (Method::GET, "/nothing/here", 404, "unknown-path"),
        (Method::GET, "/docs/nothing", 404, "unknown-path"),
        (Method::GET, "/%00%ff", 404, "unknown-path"),
        (Method::POST, "/../../etc/passwd", 404, "unknown-path"),
        (Method::GET, "/v1", 404, "unknown-path"),
        (Method::GET, "/v2/profiles", 404, "unknown-path"),
        (Method::GET, "/livez", 404, "unknown-path"),
        (Method::GET, "/metrics", 404, "unknown-path"),
        (Method::GET, "/webhooks/gigastore/nothing", 404, "unknown-hook"),
        (Method::PATCH, &hook, 405, "method-not-allowed"),
        (Method::POST, "/v1/profiles", 405, "method-not-allowed"),
        (Method::PATCH, &profile, 405, "method-not-allowed"),
        (Method::DELETE, "/v1/summary", 405, "method-not-allowed"),
        (Method::POST, "/problems", 405, "method-not-allowed"),
        (Method::POST, &hook, 400, "malformed"),
        (Method::GET, &profile, 404, "unknown-profile"),
        (Method::GET, "/v1/profiles?limit=0", 400, "invalid-parameter"),
    ];
    for (method, path, status, code) in rows {
        let answer = Answer::of(app.backend.request(method.clone(), path)).await;
        // `problem` also checks the content type, the members and the request id.
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, code), "{method} {path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{method} {path}");
        let kind = answer.json()["type"].as_str().unwrap().to_owned();
        assert_eq!(kind, format!("http://{}/problems#{code}", app.service.public));
    }
    for (method, path, code) in [
        (Method::GET, "/nothing", "unknown-path"),
        (Method::GET, "/v1/profiles", "unknown-path"),
        (Method::POST, "/livez", "method-not-allowed"),
    ] {
        let answer = Answer::of(app.admin.request(method, path)).await;
        assert_eq!(answer.problem(), code, "on the admin listener: {path}");
    }
}

#[tokio::test]
async fn a_valid_request_id_is_echoed_and_an_invalid_one_is_replaced() {
    let app = TestApp::start().await;
    let given = |id: &[u8]| {
        let id = HeaderValue::from_bytes(id).unwrap();
        Answer::of(app.backend.request(Method::GET, "/nothing").header("x-request-id", id))
    };
    for plain in ["a", "01a2089c-74b1-7041-a866-e272b80f6578", "Root_1.2-3", &"x".repeat(64)] {
        let answer = given(plain.as_bytes()).await;
        assert_eq!(answer.header("x-request-id"), plain);
        assert_eq!(answer.json()["requestId"], plain);
    }
    let long = "x".repeat(65);
    for nasty in [
        "",
        long.as_str(),
        "a b",
        "a\tb",
        "<script>",
        "a\"b",
        "a,b",
        "../x",
        "{}",
        "é",
        "${jndi:x}",
        "%0d%0a",
    ] {
        let answer = given(nasty.as_bytes()).await;
        let id = answer.header("x-request-id");
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{nasty}: {id}");
        assert_eq!(answer.json()["requestId"], id);
    }
    assert!(uuid::Uuid::parse_str(given(b"\xff\xfe").await.header("x-request-id")).is_ok());
}

#[tokio::test]
async fn every_answer_has_a_unique_request_id() {
    let app = TestApp::start().await;
    app.report(ICCID, "INSTALLED").await;
    let own = format!("/v1/profiles/{ICCID}");
    let mut ids = Vec::new();
    for path in [
        &own,
        "/v1/profiles",
        "/v1/summary",
        "/openapi.json",
        "/docs/",
        "/problems",
        "/nothing",
        &TestApp::hook_path(),
    ] {
        ids.push(app.backend.get(path).await.header("x-request-id").to_owned());
    }
    ids.push(
        app.backend.get_with(&own, "if-none-match", "*").await.header("x-request-id").to_owned(),
    );
    ids.push(app.deliver("{").await.header("x-request-id").to_owned());
    for path in ["/livez", "/readyz", "/metrics"] {
        ids.push(app.admin.get(path).await.header("x-request-id").to_owned());
    }
    assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()), "{ids:?}");
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn the_catalogue_is_closed_and_published() {
    let app = TestApp::start().await;
    let page = app.anybody.get("/problems").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    for (index, entry) in CATALOGUE.iter().enumerate() {
        let name = entry.name;
        assert!(page.text.contains(&format!("<dt id={name}>")), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        assert_eq!(entry.code as usize, index, "{name} is at the index of its code");
        assert!(entry.remedy.ends_with('.') && !entry.title.ends_with('.'), "{name}");
        assert!(CATALOGUE[..index].iter().all(|other| other.name != name), "{name} is listed once");
    }
}

#[tokio::test]
async fn a_5xx_never_shows_its_cause() {
    let app = TestApp::start().await;
    app.report(ICCID, "INSTALLED").await;
    let mut connection = app.database.connect().await;
    let statement = "ALTER TABLE profiles RENAME TO elsewhere";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    let body = format!(r#"{{"iccid":"{ICCID}","profileState":"DISABLED"}}"#);
    let answers = [
        app.backend.get(&format!("/v1/profiles/{ICCID}")).await,
        app.backend.get("/v1/profiles").await,
        app.deliver(body).await,
    ];
    // A summary leaves out what it cannot read.
    let summary = app.backend.get("/v1/summary").await;
    assert_eq!((summary.status.as_u16(), &summary.json()["missing"]), (200, &json!(["stuck"])));
    for answer in answers {
        assert!(["unavailable", "internal"].contains(&&*answer.problem()), "{answer:?}");
        let mut problem = answer.json();
        problem["requestId"] = Value::Null;
        let text = problem.to_string().to_lowercase();
        for cause in ["relation", "exist", "sql", "postgres", "elsewhere", "42p01", "table"] {
            assert!(!text.contains(cause), "{text}");
        }
    }
}
