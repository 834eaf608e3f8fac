//! Hostile bodies, sent with valid credentials: none causes a 5xx, changes a state or creates a profile.
//!
//! Each body of a long table is delivered to a real service. An authentic but malformed body must be stored byte for
//! byte.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ICCID, iccid};

/// A report that would change the state of [`ICCID`], with one more member.
fn with(member: &str) -> Vec<u8> {
    format!(r#"{{"iccid":"{ICCID}","profileState":"RELEASED",{member}}}"#).into_bytes()
}

fn reporting(iccid: &str) -> Vec<u8> {
    format!(r#"{{"iccid":{iccid},"profileState":"RELEASED"}}"#).into_bytes()
}

fn claiming(state: &str) -> Vec<u8> {
    format!(r#"{{"iccid":"{ICCID}","profileState":{state}}}"#).into_bytes()
}

/// Malformed bodies, each with words that the problem's detail must contain.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = reporting(&format!("\"{ICCID}\""));
    let good = std::str::from_utf8(&good).unwrap();
    let nested = |depth: usize| format!(r#""x":{}{}"#, "[".repeat(depth), "]".repeat(depth));
    let objects =
        |depth: usize| format!(r#""x":{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    vec![
        ("empty", Vec::new(), "empty"),
        ("white space", b" \r\n\t ".to_vec(), "empty"),
        (
            "not JSON",
            b"iccid=89972123300991848961&profileState=RELEASED".to_vec(),
            "the body is not one",
        ),
        ("truncated", good.as_bytes()[..good.len() - 1].to_vec(), "line 1"),
        ("byte order mark", format!("\u{feff}{good}").into_bytes(), "byte order mark"),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect(), "line 1"),
        ("trailing text", format!("{good} x").into_bytes(), "trailing characters"),
        ("two objects", format!("{good}{good}").into_bytes(), "trailing characters"),
        ("two lines", format!("{good}\n{good}").into_bytes(), "line 2 column 1"),
        ("array", format!("[{good}]").into_bytes(), "the body is not one"),
        ("string", format!("{good:?}").into_bytes(), "the body is not one"),
        ("number", ICCID.into(), "the body is not one"),
        ("null", b"null".to_vec(), "the body is not one"),
        ("trailing comma", with(""), "trailing comma"),
        ("comment", with("/* */\"x\":1"), "line 1"),
        ("NaN", with(r#""x":NaN"#), "line 1"),
        ("a number of 1e999", with(r#""x":1e999"#), "line 1"),
        ("no member", b"{}".to_vec(), "iccid is missing"),
        ("duplicate member", with(&format!(r#""iccid":"{}""#, iccid(1))), "given twice"),
        ("duplicate state", with(r#""profileState":"ERROR""#), "given twice"),
        (
            "duplicate, spelt with an escape",
            with(&format!(r#""\u0069ccid":"{}""#, iccid(1))),
            "given twice",
        ),
        ("duplicate inside", with(r#""x":{"a":1,"a":2}"#), "given twice"),
        ("depth 33", with(&nested(33)), "32 deep"),
        ("depth 30,000", with(&nested(30_000)), "line 1"),
        ("objects, depth 8,000", with(&objects(8_000)), "line 1"),
        ("never closed", with(&"[".repeat(60_000)), "line 1"),
        ("NUL escaped", with(r#""x":"\u0000""#), "NUL"),
        ("NUL in a name", with(r#""\u0000":1"#), "NUL"),
        ("NUL in the state", claiming(r#""RELEASED\u0000""#), "NUL"),
        ("NUL raw", with("\"x\":\"\0\""), "line 1"),
        ("lone surrogate", with(r#""x":"\ud800""#), "line 1"),
        ("surrogates swapped", with(r#""x":"\udc00\ud800""#), "line 1"),
        ("invalid UTF-8", [&with("\"x\":\"")[..], b"\xff\xfe\"}"].concat(), "line 1"),
        (
            "overlong UTF-8",
            [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xc0\x80\"}"].concat(),
            "line 1",
        ),
        ("ICCID as a number", reporting(ICCID), "iccid must be a string"),
        ("ICCID null", reporting("null"), "iccid must be a string"),
        ("ICCID in an array", reporting(&format!("[\"{ICCID}\"]")), "iccid must be a string"),
        ("ICCID empty", reporting("\"\""), "18 to 22 digits"),
        ("ICCID of 17 digits", reporting("\"89972123300991848\""), "18 to 22 digits"),
        ("ICCID of 23 digits", reporting("\"89972123300991848961000\""), "18 to 22 digits"),
        ("ICCID with a leading space", reporting(&format!("\" {ICCID}\"")), "18 to 22 digits"),
        ("ICCID with spaces inside", reporting("\"8997 2123 3009 9184 8961\""), "18 to 22 digits"),
        ("ICCID with two F", reporting("\"8997212330099184896FF\""), "18 to 22 digits"),
        (
            "ICCID in full-width digits",
            reporting("\"８９９７２１２３３００９９１８４８９６１\""),
            "18 to 22 digits",
        ),
        ("ICCID with SQL", reporting("\"'; DROP TABLE profiles; --\""), "18 to 22 digits"),
        ("IMSI as a number", with(r#""imsi":260216611193634"#), "imsi must be a string"),
        (
            "EID as a number",
            with(r#""eid":89049032123451234512345678901235"#),
            "eid must be a string",
        ),
        (
            "state missing",
            format!(r#"{{"iccid":"{ICCID}"}}"#).into_bytes(),
            "profileState is missing",
        ),
        (
            "state of the API, not of the webhook",
            format!(r#"{{"iccid":"{ICCID}","state":"RELEASED"}}"#).into_bytes(),
            "profileState is missing",
        ),
        ("state null", claiming("null"), "profileState must be a string"),
        ("state a number", claiming("1"), "profileState must be a string"),
        ("state an object", claiming("{}"), "profileState must be a string"),
        ("state empty", claiming("\"\""), "profileState must be a string"),
        ("state of spaces", claiming("\"  \""), "profileState must be a string"),
    ]
}

#[tokio::test]
async fn a_malformed_body_changes_nothing_is_explained_and_is_stored_byte_for_byte() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let before = app.profile(ICCID).await;

    let mut expected = Vec::new();
    for (name, body, told) in malformed() {
        let answer = app.deliver(body.clone()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "malformed"), "{name}");
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(told), "{name}: {detail}");
        assert!(!detail.contains("8997") && !detail.contains("RELEASED"), "{name}: {detail}");
        expected.push((name, problem["deliveryId"].clone(), detail.to_owned(), body));
    }

    assert_eq!(app.profile(ICCID).await, before);
    app.assert_straight(ICCID).await;
    assert_eq!(app.backend.get("/v1/profiles").await.json()["items"], json!([before]));
    let kept = app.backend.get("/v1/deliveries?outcome=malformed&limit=200").await.json();
    let kept: Vec<_> = kept["items"].as_array().unwrap().iter().rev().collect();
    assert_eq!(kept.len(), expected.len());
    for (kept, (name, id, detail, body)) in kept.into_iter().zip(expected) {
        assert_eq!((&kept["id"], &kept["reason"]), (&id, &json!(detail)), "{name}");
        assert_eq!(raw_body(kept), body, "{name}");
    }
}

/// The bytes of a stored delivery, from either of their two encodings.
fn raw_body(delivery: &Value) -> Vec<u8> {
    match delivery["body"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(delivery["bodyBase64"].as_str().unwrap()).unwrap(),
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_compressed_is_refused_before_it_is_parsed() {
    let app = TestApp::start().await;
    let million = format!("[{}1]", "1,".repeat(1_000_000));
    for (name, body) in [
        ("depth 100,000", with(&format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)))),
        ("an array of a million", million.clone().into_bytes()),
        ("the same in an ignored member", with(&format!(r#""x":{million}"#))),
        ("a name of 100 kB", with(&format!(r#""{}":1"#, "x".repeat(100_000)))),
        ("white space", vec![b' '; 3 << 20]),
    ] {
        let answer = app.deliver(body).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (413, "too-large"), "{name}");
    }
    // The header of a gzip member is enough: the service must not decompress it.
    let bomb = [&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"[..], &vec![0; 30_000]].concat();
    let request = app.anybody.request(Method::POST, &TestApp::hook_path());
    let answer = Answer::of(request.header("content-encoding", "gzip").body(bomb)).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (415, "unsupported-encoding"));
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
}

#[tokio::test]
async fn unusual_but_valid_bodies_are_accepted() {
    let app = TestApp::start().await;
    let quoted = |iccid: &str| reporting(&format!("\"{iccid}\""));
    for (name, body, iccid) in [
        ("ICCID with the filler F", quoted("8997212330099184896F"), "8997212330099184896"),
        ("ICCID with f", quoted("899721233009918489f"), "899721233009918489"),
        ("ICCID of 18 digits", quoted("899721233009918480"), "899721233009918480"),
        ("ICCID of 22 digits", quoted("8997212330099184896100"), "8997212330099184896100"),
        ("ICCID that fails Luhn", quoted("89972123300991848960"), "89972123300991848960"),
        ("depth 32", with(&format!(r#""x":{}{}"#, "[".repeat(31), "]".repeat(31))), ICCID),
    ] {
        assert_eq!(app.deliver(body).await.outcome(), "moved", "{name}");
        assert_eq!(app.profile(iccid).await["state"], "RELEASED", "{name}");
    }
    assert_eq!(app.profile("89972123300991848960").await["checks"]["iccidLuhn"], false);
    for (name, body) in [
        ("white space around", [b" \r\n", &with("\"x\":1")[..], b"\r\n\r\n"].concat()),
        ("a long array in an ignored member", with(&format!(r#""x":[{}1]"#, "1,".repeat(30_000)))),
        ("a huge number in an ignored member", with(&format!(r#""x":{}"#, "9".repeat(300)))),
        (
            "5,000 ignored members",
            with(&(0..5_000).map(|n| format!("\"{n:x}\":1")).collect::<Vec<_>>().join(",")),
        ),
        ("a member named __proto__", with(r#""__proto__":{"profileState":"ERROR"}"#)),
        ("escapes", with(r#""x":"\ud83d\ude00 \u202e""#)),
        (
            "another spelling of the names",
            format!(r#"{{"\u0069ccid":"{ICCID}","profile\u0053tate":"RELEASED"}}"#).into_bytes(),
        ),
    ] {
        assert_eq!(app.deliver(body).await.outcome(), "repeated", "{name}");
    }
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn control_characters_in_any_field_are_stored_exactly() {
    let app = TestApp::start().await;
    let nasty = "\n\r\u{1b}[31mred\u{1b}[0m\u{202e}desrever\u{2028}\u{feff}";
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let body =
        json!({ "iccid": ICCID, "profileState": nasty, "eid": nasty, "imsi": nasty, nasty: nasty });
    assert_eq!(app.deliver(body.to_string()).await.outcome(), "unrecognised");
    let path = format!("/v1/profiles/{ICCID}/deliveries?limit=1");
    let kept = app.backend.get(&path).await.json();
    assert_eq!(kept["items"][0]["body"], body.to_string());

    let spaced = format!("\n\t{}\u{2003}", "released");
    assert_eq!(app.report(ICCID, &spaced).await, "moved");
    assert_eq!(app.profile(ICCID).await["rawState"], spaced);
}

#[tokio::test]
async fn a_state_of_60_kb_is_an_unknown_state() {
    let app = TestApp::start().await;
    let word = "É".repeat(30_000);
    assert_eq!(app.report(ICCID, &word).await, "unrecognised");
    let kept = app.backend.get("/v1/deliveries?outcome=unrecognised").await.json();
    assert!(kept["items"][0]["body"].as_str().unwrap().contains(&word));
}
