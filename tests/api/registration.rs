//! `PUT /v1/profiles/{iccid}`: a backend registers a profile, before or after its first webhook, once or many times.
//! Also the encryption of install credentials and the rotation of data keys.
//!
//! A real service receives eSIM objects and webhooks, also concurrently; the tests search its answers and every column
//! of its database for credentials. `tests/logs.rs` searches its log.

use std::time::Duration;

use esim_status::domain::Timestamp;
use esim_status::registry::{SealedAnew, seal_anew};
use esim_status::service::{Service, StartError};
use esim_status::store::{Session, Vault};
use esim_status_testing::{Answer, Database, TestApp, settings};
use futures_util::future::{join, join_all};
use reqwest::Method;
use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::esim::{
    IMSI, MATCHING_ID, PAGE_TOKEN, activation_code, erase, object, object_with, places_of, put,
    register, relay, wait_for_waiting, with_event_ids,
};
use super::sse::Events;
use super::{ICCID, iccid};

#[tokio::test]
async fn a_profile_registered_several_times_has_one_transition() {
    let app = TestApp::start().await;
    let first = register(&app, &object(ICCID)).await;
    assert_eq!(first.status, 201);
    let profile = first.json();
    for (member, expected) in [
        ("state", json!("RELEASED")),
        ("rawState", json!("RELEASED")),
        ("enabled", Value::Null),
        ("provider", json!("gigastore")),
        ("seq", json!(1)),
        ("registered", json!(true)),
        ("deliveries", json!(0)),
        ("lastDeliveryAt", Value::Null),
        ("installsSeen", json!(0)),
        ("imsi", json!(IMSI)),
        ("uid", json!("customer-4711")),
        ("activatedAt", Value::Null),
        ("lastSeen", Value::Null),
    ] {
        assert_eq!(profile[member], expected, "{member}");
    }
    for _ in 0..3 {
        let again = register(&app, &object(ICCID)).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, profile.clone()));
    }
    assert_eq!(app.transitions(ICCID).await.len(), 1);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_webhook_after_a_registration_continues_from_its_state() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "repeated");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["seq"], &profile["deliveries"]), (&json!(2), &json!(2)));
    assert_eq!(app.transitions(ICCID).await[1]["kind"], "normal");
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_registration_after_a_webhook_adds_data_and_does_not_change_the_state() {
    let app = TestApp::start().await;
    for (number, word) in
        ["INSTALLED", "DISABLED", "RELEASED", "CREATED", "ERROR"].iter().enumerate()
    {
        let iccid = iccid(number);
        app.report(&iccid, word).await;
        let before = app.profile(&iccid).await;
        for registered in ["RELEASED", "INSTALLED", "DELETED"] {
            let answer = register(&app, &object_with(&iccid, "state", registered)).await;
            assert_eq!(answer.status, 200);
            let after = answer.json();
            for member in
                ["state", "enabled", "rawState", "since", "seq", "deliveries", "lastDeliveryAt"]
            {
                assert_eq!(after[member], before[member], "{word} {registered} {member}");
            }
            assert_eq!((&after["registered"], &after["imsi"]), (&json!(true), &json!(IMSI)));
        }
        assert_eq!(app.transitions(&iccid).await.len(), 1, "{word}");
    }
}

#[tokio::test]
async fn a_profile_without_webhooks_takes_the_state_of_each_newer_registration() {
    let app = TestApp::start().await;
    let rows = [
        ("CREATED", "PREPARING", Value::Null),
        ("released", "RELEASED", Value::Null),
        ("INSTALLED", "INSTALLED", json!(true)),
        ("DISABLED", "DISABLED", json!(false)),
        // An unknown state becomes PREPARING, because telling the user to wait is always safe.
        ("SOMETHING_NEW", "PREPARING", Value::Null),
        ("RELEASED", "RELEASED", Value::Null),
    ];
    for (index, (word, state, enabled)) in rows.into_iter().enumerate() {
        let profile = register(&app, &object_with(ICCID, "state", word)).await.json();
        assert_eq!((&profile["state"], &profile["enabled"]), (&json!(state), &enabled), "{word}");
        assert_eq!((&profile["seq"], &profile["rawState"]), (&json!(index + 1), &json!(word)));
        assert_eq!((&profile["deliveries"], &profile["lastDeliveryAt"]), (&json!(0), &Value::Null));
    }
    app.assert_straight(ICCID).await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let profile = register(&app, &object(ICCID)).await.json();
    assert_eq!((&profile["state"], &profile["seq"]), (&json!("INSTALLED"), &json!(7)));
}

#[tokio::test]
async fn unknown_members_are_ignored_and_optional_members_may_be_absent_null_or_empty() {
    let app = TestApp::start().await;
    let mut more = object(&iccid(0));
    more["plan"] = json!({ "gigabytes": [1, 2.5, null], "nested": { "state": "ERROR" } });
    more["profileState"] = json!("ERROR");
    assert_eq!(register(&app, &more).await.json()["state"], "RELEASED");

    let optional = [
        "imsi",
        "activationCode",
        "appleUniversalLink",
        "installationUrl",
        "lastSeen",
        "activatedAt",
        "uid",
        "active",
    ];
    for (number, member) in optional.iter().enumerate() {
        let (absent, null, empty) =
            (iccid(10 * number + 1), iccid(10 * number + 2), iccid(10 * number + 3));
        let mut without = object(&absent);
        without.as_object_mut().unwrap().remove(*member);
        assert_eq!(register(&app, &without).await.status, 201, "{member}");
        assert_eq!(register(&app, &object_with(&null, member, Value::Null)).await.status, 201);
        assert_eq!(register(&app, &object_with(&empty, member, "")).await.status, 201);
    }
    let minimal = json!({ "iccid": iccid(900), "state": "CREATED" });
    assert_eq!(register(&app, &minimal).await.json()["uid"], Value::Null);
}

#[tokio::test]
async fn times_of_the_object_are_stored_in_utc_and_replaced_by_a_later_object() {
    let app = TestApp::start().await;
    let mut dated = object_with(ICCID, "activatedAt", "2026-11-20T12:00:00+02:00");
    dated["lastSeen"] = json!("2026-11-21T08:30:00.5Z");
    let profile = register(&app, &dated).await.json();
    assert_eq!(profile["activatedAt"], "2026-11-20T10:00:00.000000Z");
    assert_eq!(profile["lastSeen"], "2026-11-21T08:30:00.500000Z");
    dated["lastSeen"] = json!("2026-11-22T08:30:00Z");
    let profile = register(&app, &dated).await.json();
    assert_eq!(profile["lastSeen"], "2026-11-22T08:30:00.000000Z");
    assert_eq!(profile["seq"], 1);
}

#[tokio::test]
async fn an_object_removes_nothing_that_an_earlier_one_has_added() {
    let app = TestApp::start().await;
    let mut full = object(ICCID);
    full["activatedAt"] = json!("2026-11-20T10:00:00Z");
    full["lastSeen"] = json!("2026-11-21T08:30:00Z");
    let brought = register(&app, &full).await.json();
    register(&app, &json!({ "iccid": ICCID, "state": "RELEASED" })).await;
    let listed = app.backend.get("/v1/profiles?uid=customer-4711").await.json();
    let profile = &listed["items"][0];
    for member in ["uid", "activatedAt", "lastSeen"] {
        assert!(profile[member].is_string(), "{listed:#}");
        assert_eq!(profile[member], brought[member], "{member}");
    }
}

#[tokio::test]
async fn an_activation_code_is_normalised_and_an_invalid_one_is_left_out() {
    let app = TestApp::start().await;
    let journey =
        async |iccid: &str| app.backend.get(&format!("/v1/profiles/{iccid}/journey")).await.json();
    for (number, code) in
        ["1$smdp.example.test$A", " lpa:1$smdp.example.test$A\r\n"].iter().enumerate()
    {
        let iccid = iccid(number);
        let answer = register(&app, &object_with(&iccid, "activationCode", *code)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["remarks"]),
            (201, &json!([])),
            "{code:?}"
        );
        assert_eq!(journey(&iccid).await["install"]["activationCode"], "LPA:1$smdp.example.test$A");
    }
    for (number, code) in
        ["LPA:1$$marker", "LPA:1$smdp.example.test$marker\u{1b}[31m"].iter().enumerate()
    {
        let iccid = iccid(number + 10);
        let answer = register(&app, &object_with(&iccid, "activationCode", *code)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let remarks = answer.json()["remarks"].to_string();
        assert!(remarks.contains("activationCode was left out: it must be"), "{remarks}");
        assert!(!answer.text.contains("marker"), "{}", answer.text);
        assert_eq!(journey(&iccid).await["install"], Value::Null);
    }
    // An invalid activation code does not remove a known one.
    register(&app, &object_with(&iccid(0), "activationCode", "nonsense")).await;
    assert_eq!(journey(&iccid(0)).await["install"]["activationCode"], "LPA:1$smdp.example.test$A");
}

/// The state of the customer's profile does not change, and support must be able to see why.
#[tokio::test]
async fn a_registered_profile_names_the_twin_that_webhooks_without_the_check_digit_went_to() {
    let app = TestApp::start().await;
    let short = &ICCID[..ICCID.len() - 1];
    let twin = async |iccid: &str| app.profile(iccid).await["twin"].clone();
    let alone = register(&app, &object(ICCID)).await.json();
    assert_eq!(alone["twin"], Value::Null);
    assert_eq!(app.report(short, "INSTALLED").await, "moved");
    assert_eq!((twin(ICCID).await, twin(short).await), (json!(short), Value::Null));
    assert_eq!(register(&app, &object(ICCID)).await.json()["twin"], short);
    // With a twin, the answer is never a 304: the ETag does not cover the twin.
    let tag = app.backend.get(&format!("/v1/profiles/{ICCID}")).await.header("etag").to_owned();
    let again = app.backend.get_with(&format!("/v1/profiles/{ICCID}"), "if-none-match", &tag).await;
    assert_eq!(again.json()["twin"], short);
    // Users do not see the twin's ICCID, and a profile that has received webhooks itself has no twin.
    assert_eq!(app.user(ICCID).get("/v1/profiles/self").await.json()["twin"], Value::Null);
    app.report(ICCID, "INSTALLED").await;
    assert_eq!(twin(ICCID).await, Value::Null);
}

#[tokio::test]
async fn an_invalid_member_is_named_and_the_object_is_neither_stored_nor_echoed() {
    let app = TestApp::start().await;
    let with = |member: &str, value: Value| object_with(ICCID, member, value).to_string();
    let whole = object(ICCID).to_string();
    let mut stateless = object(ICCID);
    stateless.as_object_mut().unwrap().remove("state");
    let mut nameless = object(ICCID);
    nameless.as_object_mut().unwrap().remove("iccid");
    let rows = [
        (object(ICCID).to_string().replace(&format!("\"{ICCID}\""), ICCID), "iccid"),
        (with("iccid", json!("8997-marker")), "iccid"),
        (with("iccid", json!(iccid(7))), "iccid"),
        (nameless.to_string(), "iccid"),
        (stateless.to_string(), "state"),
        (with("state", json!(4711)), "state"),
        (with("state", json!(" ")), "state"),
        (with("imsi", json!(1_010_987_654_321_u64)), "imsi"),
        (with("activationCode", json!({ "marker": 1 })), "activationCode"),
        (with("appleUniversalLink", json!(["marker"])), "appleUniversalLink"),
        (with("installationUrl", json!(4711)), "installationUrl"),
        (with("uid", json!(4711)), "uid"),
        (with("uid", json!("marker".repeat(50))), "uid"),
        (with("activatedAt", json!(4711)), "activatedAt"),
        (with("lastSeen", json!([])), "lastSeen"),
        (String::new(), "empty"),
        ("[]".to_owned(), "object"),
        ("\"marker\"".to_owned(), "object"),
        (format!("{whole} marker"), "line 1"),
        (whole.replace("\"active\"", "\"state\""), "twice"),
        (whole.replace("customer-4711", "marker\\u0000"), "NUL"),
        (whole.replace("\"active\":true", &format!("\"a\":{}", "[".repeat(40))), "nested"),
    ];
    for (body, named) in rows {
        let answer = put(&app.backend, ICCID, body.clone()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "invalid-body"), "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{named}: {detail}");
        for secret in ["marker", "4711", MATCHING_ID, PAGE_TOKEN, IMSI, ICCID] {
            assert!(!answer.text.contains(secret), "{body}: {}", answer.text);
        }
    }
    let large = with("padding", json!("x".repeat(70_000)));
    let answer = put(&app.backend, ICCID, large).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (413, "too-large"));

    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 404);
    assert_eq!(places_of(&app.database, ICCID).await, Vec::<String>::new());
    assert_eq!(places_of(&app.database, MATCHING_ID).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_path_and_the_parameters_are_checked() {
    let app = TestApp::start().await;
    for (path, named) in [
        ("12345", "iccid"),
        ("self", "iccid"),
        (&format!("{ICCID}?provider=nobody"), "provider"),
        (&format!("{ICCID}?state=RELEASED"), "state"),
        (&format!("{ICCID}?provider=gigastore&provider=gigastore"), "provider"),
    ] {
        let answer = put(&app.backend, path, object(ICCID).to_string()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "invalid-parameter"));
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{answer:?}");
    }
    let path = format!("{ICCID}?provider=gigastore");
    assert_eq!(put(&app.backend, &path, object(ICCID).to_string()).await.status, 201);
}

#[tokio::test]
async fn an_iccid_with_the_filler_f_is_the_same_profile() {
    let app = TestApp::start().await;
    let (nineteen, filled) = ("8997212330099184896", "8997212330099184896F");
    assert_eq!(put(&app.backend, nineteen, object(filled).to_string()).await.status, 201);
    assert_eq!(put(&app.backend, filled, object(nineteen).to_string()).await.status, 200);
    assert_eq!(app.profile(filled).await["iccid"], nineteen);
}

/// There is only one provider, so the test gives the profile to another one with an UPDATE.
#[tokio::test]
async fn deliveries_of_another_provider_than_the_registered_one_are_foreign() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let mut connection = app.database.connect().await;
    connection.execute("UPDATE profiles SET provider = 'elsewhere'").await.unwrap();
    let before = app.profile(ICCID).await;
    for state in ["INSTALLED", "DISABLED", "SOMETHING_NEW"] {
        assert_eq!(app.report(ICCID, state).await, "foreign");
    }
    assert_eq!(app.profile(ICCID).await, before);
    assert_eq!(app.transitions(ICCID).await.len(), 1);
    let kept = app.backend.get("/v1/deliveries?outcome=foreign").await.json();
    assert_eq!(kept["items"].as_array().unwrap().len(), 3);
    assert!(kept["items"][0]["reason"].as_str().unwrap().contains("elsewhere"), "{kept:#}");

    // A new registration gives the profile back to the hook's provider.
    register(&app, &object(ICCID)).await;
    assert_eq!(app.profile(ICCID).await["provider"], "gigastore");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}

#[tokio::test]
async fn users_may_neither_register_nor_erase_nor_create_tokens() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let user = app.user(ICCID);
    for whose in [ICCID, "self"] {
        let own = format!("/v1/profiles/{whose}");
        for (method, path) in [
            (Method::PUT, own.clone()),
            (Method::DELETE, own.clone()),
            (Method::POST, format!("{own}/tokens")),
        ] {
            let request = user.request(method, &path).body(object(ICCID).to_string());
            let answer = Answer::of(request).await;
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (403, "forbidden"), "{path}");
        }
    }
    let (foreign, absent) = (put(&user, &iccid(1), "{}").await, erase(&user, &iccid(1)).await);
    assert_eq!((&*foreign.problem(), &*absent.problem()), ("unknown-profile", "unknown-profile"));
    let nobody = put(&app.anybody, ICCID, object(ICCID).to_string()).await;
    assert_eq!(nobody.problem(), "unauthenticated");
    assert_eq!(erase(&app.anybody, ICCID).await.problem(), "unauthenticated");
    assert_eq!(app.profile(ICCID).await["seq"], 1);
}

#[tokio::test]
async fn install_credentials_are_only_in_the_journey_and_the_qr_code() {
    let app = TestApp::start().await;
    let registered = register(&app, &object(ICCID)).await;
    app.report(ICCID, "RELEASED").await;
    let user = app.user(ICCID);
    let mut answers = vec![registered];
    for path in ["", "/transitions", "/deliveries"] {
        answers.push(app.backend.get(&format!("/v1/profiles/{ICCID}{path}")).await);
    }
    for path in ["/v1/profiles", "/v1/profiles?uid=customer-4711", "/v1/deliveries", "/v1/summary"]
    {
        answers.push(app.backend.get(path).await);
    }
    answers.push(app.backend.post(&format!("/v1/profiles/{ICCID}/tokens"), "").await);
    answers.push(user.get("/v1/profiles/self").await);
    answers.push(user.get("/v1/profiles/self/transitions").await);
    answers.push(app.admin.get("/metrics").await);
    for answer in &answers {
        assert_eq!(answer.status.as_u16() / 100, 2, "{answer:?}");
        for secret in [MATCHING_ID, PAGE_TOKEN, "LPA:1$"] {
            assert!(!answer.text.contains(secret), "{answer:?}");
        }
    }
    for client in [&app.backend, &user] {
        let mut events = Events::open(client, ICCID).await;
        let first = events.event().await.data.to_string();
        app.report(ICCID, "DOWNLOADED").await;
        let second = events.event().await.data.to_string();
        app.report(ICCID, "RELEASED").await;
        assert!(!format!("{first}{second}").contains(MATCHING_ID));
    }
    let journey = user.get("/v1/profiles/self/journey").await;
    assert_eq!(journey.json()["install"]["activationCode"], activation_code());
    for member in ["imsi", "eid", "uid", IMSI, "customer-4711"] {
        assert!(!journey.text.contains(member), "{member}");
    }
}

fn key(seed: u8) -> Zeroizing<[u8; 32]> {
    let mut byte = seed;
    Zeroizing::new(std::array::from_fn(|_| {
        byte = byte.wrapping_mul(5).wrapping_add(seed);
        byte
    }))
}

pub(crate) fn vault(seeds: &[u8]) -> Vault {
    Vault::new(seeds.iter().copied().map(key))
}

#[tokio::test]
async fn credentials_are_encrypted_in_the_database_only_if_there_is_a_data_key() {
    let secrets = [MATCHING_ID, PAGE_TOKEN];
    let app = TestApp::start_with(|settings| settings.vault = vault(&[1])).await;
    register(&app, &object(ICCID)).await;
    for secret in secrets {
        assert_eq!(places_of(&app.database, secret).await, Vec::<String>::new(), "{secret}");
    }
    // The server that installs the profile is no secret.
    let places = places_of(&app.database, "smdp.example.test").await;
    assert_eq!(places, ["install_credentials.host"]);
    let journey = app.backend.get(&format!("/v1/profiles/{ICCID}/journey")).await.json();
    assert_eq!(journey["install"]["activationCode"], activation_code());

    // The same search finds unencrypted credentials, so it would have found them above.
    let open = TestApp::start().await;
    register(&open, &object(ICCID)).await;
    for secret in secrets {
        assert_eq!(places_of(&open.database, secret).await, ["install_credentials.sealed"]);
    }
}

/// A service on the same database with these data keys.
async fn with_keys(database: &Database, seeds: &[u8]) -> TestApp {
    let vault = vault(seeds);
    TestApp::start_on(database.clone(), |settings| settings.vault = vault).await
}

#[tokio::test]
async fn data_keys_are_rotated_without_losing_a_credential() {
    let plain = TestApp::start().await;
    let database = plain.database.clone();
    register(&plain, &object(&iccid(0))).await;
    let first = with_keys(&database, &[1]).await;
    register(&first, &object(&iccid(1))).await;
    let second = with_keys(&database, &[2, 1]).await;
    register(&second, &object(&iccid(2))).await;
    let code_of = async |app: &TestApp, number| {
        app.backend.get(&format!("/v1/profiles/{}/journey", iccid(number))).await
    };
    for number in 0..3 {
        let journey = code_of(&second, number).await.json();
        assert_eq!(journey["install"]["activationCode"], activation_code(), "{number}");
    }
    assert_eq!(places_of(&database, MATCHING_ID).await, ["install_credentials.sealed"]);

    let mut connection = database.connector().connect(Session::Writer).await.unwrap();
    let now = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
    let mut seal = async |vault: Vault| seal_anew(&mut connection, &vault, now).await.unwrap();
    assert_eq!(seal(Vault::default()).await, SealedAnew::default());
    // A credential whose key is missing does not prevent others from being sealed: the first profile's was not
    // encrypted.
    let done = seal(vault(&[2])).await;
    assert_eq!((done.sealed, done.left, done.missing_keys.len()), (1, 1, 1));
    assert_eq!(seal(vault(&[2, 1])).await, SealedAnew { sealed: 1, ..SealedAnew::default() });
    assert_eq!(seal(vault(&[2, 1])).await, SealedAnew::default());
    assert_eq!(places_of(&database, MATCHING_ID).await, Vec::<String>::new());

    // The old key can be removed now. A service that has only the old key answers an error that does not mention keys.
    let third = with_keys(&database, &[2]).await;
    for number in 0..3 {
        let journey = code_of(&third, number).await.json();
        assert_eq!(journey["install"]["activationCode"], activation_code(), "{number}");
    }
    let behind = code_of(&first, 1).await;
    assert!(behind.status.is_server_error(), "{behind:?}");
    assert!(!behind.problem().is_empty() && !behind.text.contains("key"), "{behind:?}");
}

#[tokio::test]
async fn losing_all_data_keys_prevents_the_start_and_losing_one_affects_only_its_profiles() {
    let app = TestApp::start_with(|settings| settings.vault = vault(&[1])).await;
    register(&app, &object(ICCID)).await;
    let database = app.database.clone();
    assert!(app.stop().await.all_answered);
    for lost in [Vault::default(), vault(&[2])] {
        let mut settings = settings(&database);
        settings.vault = lost;
        let error = Service::start(settings).await.unwrap_err();
        assert!(matches!(&error, StartError::DataKeys(keys) if keys.len() == 1), "{error:?}");
        assert!(error.to_string().contains("add the keys back"), "{error}");
    }
    // Another profile is sealed with an available key: the service starts, and only the first profile cannot be
    // installed.
    let both = with_keys(&database, &[2, 1]).await;
    register(&both, &object(&iccid(1))).await;
    let one = with_keys(&database, &[2]).await;
    let journey = |iccid: String| {
        let client = one.backend.clone();
        async move { client.get(&format!("/v1/profiles/{iccid}/journey")).await }
    };
    assert_eq!(journey(iccid(1)).await.json()["install"]["activationCode"], activation_code());
    let answer = journey(ICCID.to_owned()).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (500, "internal"));
    assert!(answer.text.contains("register the profile again"), "{answer:?}");
    register(&one, &object(ICCID)).await;
    assert_eq!(
        journey(ICCID.to_owned()).await.json()["install"]["activationCode"],
        activation_code()
    );
}

#[tokio::test]
async fn sealing_again_takes_many_batches() {
    let app = TestApp::start().await;
    let mut connection = app.database.connect().await;
    let plain = json!({ "activation_code": activation_code(), "apple_link": null, "installation_url": null });
    sqlx::query(
        "INSERT INTO install_credentials (iccid, key_id, sealed, updated_at)
         SELECT (89972123300990000000 + n)::text, NULL, convert_to($1, 'UTF8'), now()
         FROM generate_series(1::numeric, 1201) AS n",
    )
    .bind(plain.to_string())
    .execute(&mut connection)
    .await
    .unwrap();
    let mut connection = app.database.connector().connect(Session::Writer).await.unwrap();
    let now = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
    assert_eq!(seal_anew(&mut connection, &vault(&[1]), now).await.unwrap().sealed, 1_201);
    assert_eq!(places_of(&app.database, MATCHING_ID).await, Vec::<String>::new());
}

/// Whether the answer is a 503. If so, waits for as long as its `Retry-After` says.
async fn told_to_wait(answer: &Answer) -> bool {
    if answer.status == 503 {
        let seconds = answer.header("retry-after").parse().expect("a 503 has a Retry-After");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    answer.status == 503
}

#[tokio::test]
async fn fifty_concurrent_registrations_and_webhooks_leave_one_consistent_history() {
    let app = TestApp::start().await;
    let words = ["INSTALLED", "DISABLED", "RELEASED"];
    // Retry after a 503, as backends and providers do.
    let put_patiently = async |index: i32| {
        let object = object_with(ICCID, "uid", format!("customer-{index}")).to_string();
        loop {
            let answer = put(&app.backend, ICCID, object.clone()).await;
            if !told_to_wait(&answer).await {
                return answer;
            }
        }
    };
    let report_patiently = async |index: usize| {
        let body = json!({ "iccid": ICCID, "profileState": words[index % 3] }).to_string();
        loop {
            let answer = app.deliver(body.clone()).await;
            if !told_to_wait(&answer).await {
                return answer.outcome();
            }
        }
    };
    let registrations = join_all((0..50).map(put_patiently));
    let reports = join_all((0..50).map(report_patiently));
    let (registered, outcomes) = join(registrations, reports).await;

    let mut statuses: Vec<_> = registered.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert!(matches!(statuses[..], [200] | [200, 201]), "{statuses:?}");
    assert!(outcomes.iter().all(|outcome| outcome == "moved" || outcome == "repeated"));
    app.assert_straight(ICCID).await;
    let profile = app.profile(ICCID).await;
    assert_eq!(profile["registered"], true);
    // A delivery whose commit was not confirmed in time is retried, and then counts twice.
    assert!(profile["deliveries"].as_i64().unwrap() >= 50, "{profile:#}");
}

#[tokio::test]
async fn a_webhook_during_a_registration_waits_for_it() {
    let app = TestApp::start_with(with_event_ids).await;
    for (number, has_event_id) in [false, true].into_iter().enumerate() {
        let iccid = iccid(number);
        let mut connection = app.database.connect().await;
        // A lock on the last table that a registration writes to holds the registration up.
        let mut held = connection.begin().await.unwrap();
        held.execute("LOCK TABLE erasures IN SHARE MODE").await.unwrap();
        let object = object(&iccid);
        let (registered, delivered) = tokio::join!(register(&app, &object), async {
            wait_for_waiting(&app.database, 1).await;
            let body = json!({ "iccid": iccid, "profileState": "INSTALLED" }).to_string();
            let delivering = async {
                if has_event_id {
                    relay(&app, "evt-1", &body).await
                } else {
                    app.deliver(body).await
                }
            };
            let (answer, ()) = tokio::join!(delivering, async {
                wait_for_waiting(&app.database, 2).await;
                held.commit().await.unwrap();
            });
            answer
        });
        assert_eq!(registered.status, 201);
        assert_eq!(delivered.outcome(), "moved", "event id: {has_event_id}");
        app.assert_straight(&iccid).await;
    }
}
