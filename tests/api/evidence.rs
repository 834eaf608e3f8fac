//! `GET /v1/profiles/{iccid}/evidence`: what is recorded about a profile, with the hashes of what was received and a signature;
//! and `GET /.well-known/jwks.json`, the keys to check it with.
//!
//! The tests send webhooks, keep what they sent, and compare the sheet with it. Signatures are made with ring, and checked here by
//! jsonwebtoken, which has another implementation.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use esim_status::config::random_key;
use esim_status::signing::SigningKeys;
use esim_status::store::partitions;
use esim_status_testing::{API_KEY, Answer, HOOK_SECRET, TOKEN_SECRET, TestApp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{Connection, Executor};

use super::esim::{
    IMSI, MATCHING_ID, PAGE_TOKEN, erase, object, object_with, register, relay, wait_for_waiting,
    with_event_ids,
};
use super::{ICCID, iccid};

const KEY: &str = "3r/KIJTxvgeD4Cy+zmmEiP9UaX3oLgVaqSKATbk7iuA=";
const NEXT_KEY: &str = "dvugPp/aDkLxg+472s5N+yLVNWubo+lXu9xCnQyAg5E=";
const EID: &str = "89049032123451234512345678901235";

fn keys(keys: &[&str]) -> SigningKeys {
    SigningKeys::new(keys.iter().map(|key| random_key("test", key).unwrap()))
}

async fn signing_app() -> TestApp {
    TestApp::start_with(|settings| {
        with_event_ids(settings);
        settings.evidence_keys = keys(&[KEY]);
    })
    .await
}

fn path() -> String {
    format!("/v1/profiles/{ICCID}/evidence")
}

async fn read(app: &TestApp) -> Value {
    let answer = app.backend.get(&path()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn page(app: &TestApp) -> Answer {
    let answer = app.backend.get_with(&path(), "accept", "text/html").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    answer
}

async fn key_set(app: &TestApp) -> Value {
    let answer = app.anybody.get("/.well-known/jwks.json").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("cache-control")),
        (200, "public, max-age=300")
    );
    answer.json()
}

fn sha256(body: &str) -> String {
    hex::encode(Sha256::digest(body))
}

fn of_each<'a>(items: &'a Value, member: &str) -> Vec<&'a Value> {
    items.as_array().unwrap_or_else(|| panic!("{items}")).iter().map(|it| &it[member]).collect()
}

/// What the signature covers, if it is valid under the published key that it names.
fn verified(key_set: &Value, signed: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(signed).ok()?;
    let keys = key_set["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"].as_str() == header.kid.as_deref())?;
    let key = DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    // A sheet is no token: it has no audience and does not expire.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(signed, &key, &validation).ok().map(|it| it.claims)
}

/// Sends a whole life: registered, downloaded, installed, the same event again, the same state again, and what cannot be applied.
/// Returns what was answered to each, with the body that was sent.
async fn live(app: &TestApp) -> Vec<(Answer, String)> {
    let mut order = object(ICCID);
    order["reference"] = json!("A-4711");
    register(app, &order).await;
    let with_eid = json!({ "iccid": ICCID, "profileState": "INSTALLED", "eid": EID, "imsi": IMSI });
    let installed = with_eid.to_string();
    let mut sent = Vec::new();
    let body = json!({ "iccid": ICCID, "profileState": "DOWNLOADED" }).to_string();
    sent.push((app.deliver(body.clone()).await, body));
    for _ in 0..2 {
        sent.push((relay(app, "evt-1", &installed).await, installed.clone()));
    }
    for body in [
        // The same content, but not the same bytes.
        format!("{{ \"iccid\" : \"{ICCID}\",\n  \"profileState\":\"INSTALLED\" }}\n"),
        json!({ "iccid": ICCID, "profileState": "TELEPORTED" }).to_string(),
        json!({ "iccid": ICCID, "previousCountry": null, "newCountry": "PL" }).to_string(),
        json!({ "iccid": ICCID, "profileState": null }).to_string(),
    ] {
        sent.push((app.deliver(body.clone()).await, body));
    }
    // Names no profile, so it is on no sheet.
    assert_eq!(app.deliver("{").await.problem(), "malformed");
    sent
}

/// Stores a delivery that came too late, as one of them that waited in another replica's spool does. Returns its body.
async fn come_late(app: &TestApp) -> String {
    let body = json!({ "iccid": ICCID, "profileState": "RELEASED" }).to_string();
    let statement = "WITH came AS (
             INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
             VALUES (gen_random_uuid(), now() - interval '1 second', 'gigastore/esim-status', 'gigastore', $1, 'late', '{}', $2)
             RETURNING *
         ), raised AS (UPDATE profiles SET seq = seq + 1 WHERE iccid = $1 RETURNING seq, state)
         INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider, delivery_id)
         SELECT $1, seq, state, 'RELEASED', 'RELEASED', 'late', received_at, provider, id FROM came, raised";
    let mut connection = app.database.connect().await;
    let insert = sqlx::query(statement).bind(ICCID).bind(body.as_bytes());
    insert.execute(&mut connection).await.unwrap();
    body
}

#[tokio::test]
async fn every_webhook_of_a_life_is_on_the_sheet_with_the_hash_of_its_bytes() {
    let app = signing_app().await;
    let sent = live(&app).await;
    let late = come_late(&app).await;
    let sheet = read(&app).await["sheet"].take();

    let transitions = &sheet["transitions"];
    assert_eq!(of_each(transitions, "seq"), [1, 2, 3, 4]);
    assert_eq!(
        of_each(transitions, "toState"),
        ["RELEASED", "DOWNLOADED", "INSTALLED", "RELEASED"]
    );
    assert_eq!(of_each(transitions, "kind")[3], "late");
    assert_eq!(of_each(transitions, "source")[..2], ["registration", "webhook"]);
    let hashes =
        [Value::Null, sha256(&sent[0].1).into(), sha256(&sent[1].1).into(), sha256(&late).into()];
    assert_eq!(of_each(transitions, "bodySha256"), hashes.each_ref());
    let id = |index: usize| sent[index].0.json()["deliveryId"].clone();
    assert_eq!(of_each(transitions, "deliveryId")[..3], [&Value::Null, &id(0), &id(1)]);
    assert_eq!(of_each(transitions, "eventId")[1..3], [&Value::Null, &json!("evt-1")]);
    assert_eq!(of_each(transitions, "hook")[1..3], ["gigastore/esim-status", "gigastore/relayed"]);

    let others = &sheet["otherDeliveries"];
    let outcomes = ["duplicate", "repeated", "unrecognised", "connected", "malformed"];
    assert_eq!(of_each(others, "outcome"), outcomes);
    let hashes: Vec<_> = sent[2..].iter().map(|(_, body)| Value::from(sha256(body))).collect();
    assert_eq!(of_each(others, "bodySha256"), hashes.iter().collect::<Vec<_>>());
    let ids: Vec<_> = (2..sent.len()).map(id).collect();
    assert_eq!(of_each(others, "deliveryId"), ids.iter().collect::<Vec<_>>());
    assert_eq!(others[0]["eventId"], "evt-1");

    let profile = app.profile(ICCID).await;
    for member in [
        "iccid",
        "provider",
        "state",
        "rawState",
        "since",
        "reference",
        "firstConnectedAt",
        "country",
    ] {
        assert_eq!(sheet[member], profile[member], "{member}");
    }
    assert_eq!((&sheet["state"], &sheet["reference"]), (&json!("INSTALLED"), &json!("A-4711")));
    assert_eq!(sheet["registeredAt"], transitions[0]["receivedAt"]);
    assert!(sheet["issuedAt"].as_str() > sheet["since"].as_str(), "{sheet:#}");
    assert_eq!(
        (&sheet["transitionsComplete"], &sheet["otherDeliveriesComplete"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(sheet["deliveriesGone"], 0);
}

#[tokio::test]
async fn the_signature_is_over_the_text_of_the_sheet_and_fails_if_one_byte_is_changed() {
    let app = signing_app().await;
    live(&app).await;
    let (answer, key_set) = (app.backend.get(&path()).await, key_set(&app).await);
    assert_eq!((answer.header("cache-control"), answer.header("vary")), ("no-store", "accept"));
    let json = answer.json();
    let signed = json["signed"].as_str().unwrap();
    assert_eq!(verified(&key_set, signed).as_ref(), Some(&json["sheet"]));

    let parts: Vec<_> = signed.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(answer.text.contains(&payload), "{payload}");
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let kid = &key_set["keys"][0]["kid"];
    assert_eq!(header, json!({ "alg": "EdDSA", "kid": kid, "typ": "esim-status-evidence+jws" }));

    let forge =
        |payload: &str| format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(payload), parts[2]);
    assert!(verified(&key_set, &forge(&payload)).is_some());
    // A prime, so that every kind of place is hit.
    for place in (0..payload.len()).step_by(37) {
        let mut bytes = payload.clone().into_bytes();
        bytes[place] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert_eq!(verified(&key_set, &forge(&text)), None, "{place}");
        }
    }
    let page = page(&app).await;
    assert_eq!((page.header("cache-control"), page.header("vary")), ("no-store", "accept"));
    let (_, rest) = page.text.split_once("<code class=\"signature\">").unwrap();
    let (printed, _) = rest.split_once("</code>").unwrap();
    let mut printed = verified(&key_set, printed).unwrap();
    printed["issuedAt"] = json["sheet"]["issuedAt"].clone();
    assert_eq!(printed, json["sheet"]);
}

#[tokio::test]
async fn the_key_set_has_public_keys_only_and_a_key_that_was_replaced_still_verifies() {
    let old = signing_app().await;
    assert_eq!(old.report(ICCID, "INSTALLED").await, "moved");
    let before = read(&old).await;
    let new = TestApp::start_on(old.database.clone(), |settings| {
        settings.evidence_keys = keys(&[NEXT_KEY, KEY]);
    })
    .await;
    let (after, key_set, of_old) = (read(&new).await, key_set(&new).await, key_set(&old).await);
    let signed = |answer: &Value| answer["signed"].as_str().unwrap().to_owned();
    for answer in [&before, &after] {
        assert_eq!(verified(&key_set, &signed(answer)).as_ref(), Some(&answer["sheet"]));
    }
    assert!(verified(&of_old, &signed(&after)).is_none());
    let header = jsonwebtoken::decode_header(signed(&after)).unwrap();
    assert_eq!(header.kid.as_deref(), key_set["keys"][0]["kid"].as_str());
    assert_eq!(key_set["keys"][1], of_old["keys"][0]);
    for key in key_set["keys"].as_array().unwrap() {
        let mut members: Vec<_> = key.as_object().unwrap().keys().collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
    }
}

#[tokio::test]
async fn without_a_key_the_sheet_is_not_signed_and_says_so() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(key_set(&app).await, json!({ "keys": [] }));
    let answer = read(&app).await;
    assert_eq!((&answer["signed"], &answer["sheet"]["state"]), (&Value::Null, &json!("INSTALLED")));
    let page = page(&app).await.text;
    assert!(page.contains("not signed") && page.contains("ESIM_STATUS_EVIDENCE_KEYS"), "{page}");
}

#[tokio::test]
async fn after_the_retention_the_history_stays_without_hashes_and_the_sheet_says_so() {
    let app = signing_app().await;
    let sent = live(&app).await;
    let mut connection = app.database.connect().await;
    let in_a_while = esim_status::clock::now().plus_seconds(86_400 * 200);
    partitions::drop_expired(&mut connection, in_a_while).await.unwrap();
    let sheet = read(&app).await["sheet"].take();
    let transitions = &sheet["transitions"];
    assert_eq!(of_each(transitions, "toState"), ["RELEASED", "DOWNLOADED", "INSTALLED"]);
    for member in ["bodySha256", "hook", "eventId"] {
        assert_eq!(of_each(transitions, member), [&Value::Null; 3], "{member}");
    }
    // Only the registration never had one.
    assert_eq!(sheet["deliveriesGone"], 2);
    assert_eq!(transitions[1]["deliveryId"], sent[0].0.json()["deliveryId"]);
    assert_eq!(sheet["otherDeliveries"], json!([]));
    let page = page(&app).await.text;
    assert_eq!(page.matches("the webhook is no longer kept").count(), 2, "{page}");
}

#[tokio::test]
async fn only_backends_get_a_sheet_and_only_about_a_profile_that_exists() {
    let app = signing_app().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    for (client, iccid, status, problem) in [
        (&app.user(ICCID), ICCID, 403, "forbidden"),
        (&app.user(ICCID), "self", 403, "forbidden"),
        (&app.user(ICCID), &*iccid(1), 404, "unknown-profile"),
        (&app.anybody, ICCID, 401, "unauthenticated"),
        (&app.backend, &iccid(1), 404, "unknown-profile"),
        (&app.backend, "self", 400, "invalid-parameter"),
    ] {
        for accept in ["application/json", "text/html"] {
            let path = format!("/v1/profiles/{iccid}/evidence");
            let answer = client.get_with(&path, "accept", accept).await;
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, problem), "{path}");
        }
    }
    let answer = app.backend.get(&format!("{}?limit=1", path())).await;
    assert_eq!(answer.problem(), "invalid-parameter");
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(app.backend.get(&path()).await.problem(), "unknown-profile");
}

#[tokio::test]
async fn a_history_of_more_than_a_page_is_on_the_sheet_whole() {
    let app = signing_app().await;
    for number in 0..230 {
        let state = if number % 2 == 0 { "INSTALLED" } else { "DISABLED" };
        assert_eq!(app.report(ICCID, state).await, "moved");
    }
    let sheet = read(&app).await["sheet"].take();
    let seqs: Vec<_> = (1..=230).collect();
    assert_eq!(of_each(&sheet["transitions"], "seq"), seqs);
    assert!(of_each(&sheet["transitions"], "bodySha256").iter().all(|it| it.is_string()));
    assert_eq!(sheet["transitionsComplete"], true);
}

#[tokio::test]
async fn what_is_too_long_for_a_sheet_is_cut_at_its_beginning_and_the_sheet_says_so() {
    let app = signing_app().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let fill = [
        "INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider)
         SELECT iccid, n, state, state, raw_state, 'normal', now(), provider FROM profiles, generate_series(2, 2000) AS n",
        "INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
         SELECT gen_random_uuid(), now(), 'h', provider, iccid, 'repeated', '{}', '' FROM profiles, generate_series(1, 1000)",
    ];
    let mut connection = app.database.connect().await;
    for statement in fill {
        connection.execute(statement).await.unwrap();
    }
    let parts = async || {
        let sheet = read(&app).await["sheet"].take();
        let rows = |name: &str| sheet[name].as_array().unwrap().len();
        let first = sheet["transitions"][0]["seq"].as_i64().unwrap();
        let complete =
            ["transitionsComplete", "otherDeliveriesComplete"].map(|it| sheet[it] == true);
        (first, rows("transitions"), rows("otherDeliveries"), complete)
    };
    assert_eq!(parts().await, (1, 2_000, 1_000, [true, true]));
    for statement in fill {
        let one_more =
            statement.replace("(2, 2000)", "(2001, 2001)").replace("(1, 1000)", "(1, 1)");
        connection.execute(sqlx::AssertSqlSafe(one_more)).await.unwrap();
    }
    assert_eq!(parts().await, (2, 2_000, 1_000, [false, false]));
    let page = page(&app).await.text;
    assert!(page.contains("not the whole history") && page.contains("These are not all"));
}

#[tokio::test]
async fn the_sheet_is_of_one_moment() {
    let app = signing_app().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    // The profile can be read, and its history only when this transaction has changed both.
    let mut change = connection.begin().await.unwrap();
    change.execute("LOCK TABLE transitions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (sheet, ()) = tokio::join!(read(&app), async {
        wait_for_waiting(&app.database, 1).await;
        for statement in [
            "UPDATE profiles SET seq = 2, state = 'RELEASED', raw_state = 'RELEASED'",
            "INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider)
             SELECT iccid, 2, 'INSTALLED', state, raw_state, 'normal', now(), provider FROM profiles",
        ] {
            change.execute(statement).await.unwrap();
        }
        change.commit().await.unwrap();
    });
    let state = |answer: &Value| {
        let sheet = &answer["sheet"];
        let last = sheet["transitions"].as_array().unwrap().last().unwrap();
        (sheet["state"].clone(), last["toState"].clone())
    };
    assert_eq!(state(&sheet), (json!("INSTALLED"), json!("INSTALLED")));
    assert_eq!(state(&read(&app).await), (json!("RELEASED"), json!("RELEASED")));
}

#[tokio::test]
async fn the_page_shows_hostile_text_as_text_and_loads_nothing() {
    let app = signing_app().await;
    let mut hostile = object_with(ICCID, "state", "<script>alert(1)</script>");
    hostile["reference"] = json!("\"><img src=//x onerror='a()'>&amp;");
    register(&app, &hostile).await;
    let body = json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
    assert_eq!(relay(&app, "<b>evt</b>", &body).await.outcome(), "moved");
    let page = page(&app).await;
    for shown in [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&quot;&gt;&lt;img src=//x onerror=&#39;a()&#39;&gt;&amp;amp;",
        "&lt;b&gt;evt&lt;/b&gt;",
    ] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    let lower = page.text.to_lowercase();
    for never in [
        "<script", "<img", "<b>", "<link", "<a ", "<iframe", " src=\"", " href=", " style=",
        "url(", "@import",
    ] {
        assert!(!lower.contains(never), "{never}: {lower}");
    }
    // The policy allows exactly the style that is in the page, also when the page was saved.
    let (_, rest) = page.text.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = STANDARD.encode(Sha256::digest(style));
    let policy = page.header("content-security-policy");
    let allowed = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    );
    assert_eq!(policy, format!("{allowed}; frame-ancestors 'none'"));
    let inside = allowed.replace('\'', "&#39;");
    assert!(page.text.contains(&format!("content=\"{inside}\"")), "{}", page.text);
    assert!(style.contains("@page { size: A4"), "{style}");
}

#[tokio::test]
async fn a_sheet_has_no_credentials_and_names_neither_device_nor_subscription() {
    let app = signing_app().await;
    live(&app).await;
    let (json, page) = (app.backend.get(&path()).await, page(&app).await);
    let signed = json.json()["signed"].as_str().unwrap().to_owned();
    let payload = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    let secrets = [MATCHING_ID, PAGE_TOKEN, IMSI, EID, API_KEY, HOOK_SECRET, TOKEN_SECRET, KEY];
    for secret in secrets.into_iter().chain(["smdp.example.test", "customer-4711"]) {
        for text in [&json.text, &page.text, &payload] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
