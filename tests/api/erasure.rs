//! `DELETE /v1/profiles/{iccid}`: all data of a profile is deleted, and nothing is stored again until the profile is
//! registered again.
//!
//! After an erasure, the tests search every column of every table for the profile's identifiers. Some hold locks so
//! that an erasure and a webhook overlap.

use std::time::{Duration, Instant};

use esim_status::store::inquiries::{self, Urgency};
use esim_status::store::profiles;
use esim_status::{budget, clock};
use esim_status_testing::{TestApp, wait_until};
use futures_util::future::{join, join_all};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use sqlx::{Connection, Executor};

use super::esim::{
    IMSI, MATCHING_ID, PAGE_TOKEN, activation_code, erase, object, places_of, put, register, relay,
    wait_for_waiting, with_event_ids,
};
use super::sse::Events;
use super::{ICCID, iccid};

const EID: &str = "89049032123451234512345678901235";

/// The columns that hold anything that identifies the person or installs the profile.
async fn traces(app: &TestApp) -> Vec<String> {
    let mut places = Vec::new();
    for text in [ICCID, IMSI, EID, MATCHING_ID, PAGE_TOKEN, "customer-4711"] {
        places.extend(places_of(&app.database, text).await);
    }
    places
}

fn body(state: &str) -> String {
    json!({ "iccid": ICCID, "imsi": IMSI, "profileState": state, "eid": EID }).to_string()
}

/// One profile with every kind of data that the service can store, and another profile that must stay.
async fn fill(app: &TestApp) {
    register(app, &object(ICCID)).await;
    register(app, &json!({ "iccid": iccid(1), "state": "RELEASED" })).await;
    for state in ["RELEASED", "INSTALLED", "INSTALLED", "SOMETHING_NEW", "DISABLED"] {
        assert_eq!(app.deliver(body(state)).await.status, 200);
    }
    // Connections, events of other kinds and malformed bodies are stored with their profile as well.
    let country =
        json!({ "imsi": IMSI, "iccid": ICCID, "previousCountry": null, "newCountry": "PL" });
    assert_eq!(app.deliver(country.to_string()).await.outcome(), "connected");
    let balance = json!({ "imsi": IMSI, "iccid": ICCID, "balanceAmountInByte": 93_618_231 });
    assert_eq!(app.deliver(balance.to_string()).await.outcome(), "ignored");
    // This one names only its customer.
    let activation = json!({ "uid": "customer-4711", "activatedItem": "EU 5 GB" });
    assert_eq!(app.deliver(activation.to_string()).await.outcome(), "ignored");
    let wordless = json!({ "iccid": ICCID, "imsi": IMSI });
    assert_eq!(app.deliver(wordless.to_string()).await.problem(), "malformed");
    app.report(&iccid(1), "INSTALLED").await;
}

#[tokio::test]
async fn an_erasure_leaves_only_a_keyed_hash() {
    let app = TestApp::start().await;
    fill(&app).await;
    let kept = traces(&app).await;
    for place in ["profiles.iccid", "transitions.iccid", "install_credentials.sealed"] {
        assert!(kept.iter().any(|kept| kept == place), "{place} in {kept:?}");
    }
    let answer = erase(&app.backend, ICCID).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (204, ""));
    assert_eq!(traces(&app).await, Vec::<String>::new());

    // The hash cannot be computed from the ICCID alone: it uses this database's own key.
    let hash: Vec<u8> = app.database.scalar("SELECT iccid_hmac FROM erasures").await;
    let key: Vec<u8> = app.database.scalar("SELECT key FROM erasure_key").await;
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(ICCID).finalize();
    assert_eq!(hash, mac.into_bytes().to_vec());

    for path in ["", "/transitions", "/journey", "/qr.svg", "/qr.png", "/events"] {
        for client in [&app.backend, &app.user(ICCID)] {
            let answer = client.get(&format!("/v1/profiles/{ICCID}{path}")).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.problem()),
                (404, "unknown-profile"),
                "{path}"
            );
        }
    }
    let neighbour = app.profile(&iccid(1)).await;
    assert_eq!((&neighbour["state"], &neighbour["seq"]), (&json!("INSTALLED"), &json!(2)));
}

/// As a newer release may have left it, which was rolled back.
#[tokio::test]
async fn a_profile_whose_row_cannot_be_read_is_erased_all_the_same() {
    let app = TestApp::start().await;
    fill(&app).await;
    let mut connection = app.database.connect().await;
    let allow = "ALTER TABLE profiles DROP CONSTRAINT profiles_state_check";
    connection.execute(allow).await.unwrap();
    let spoil = "UPDATE profiles SET state = 'LENT', eid = 'zz' WHERE iccid = $1";
    sqlx::query(spoil).bind(ICCID).execute(&mut connection).await.unwrap();
    let path = format!("/v1/profiles/{ICCID}");
    assert_eq!(app.backend.get(&path).await.problem(), "internal");
    let seq: i64 = app.database.scalar("SELECT seq FROM profiles WHERE eid = 'zz'").await;

    let answer = erase(&app.backend, ICCID).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(traces(&app).await, Vec::<String>::new());
    assert_eq!(app.backend.get(&path).await.problem(), "unknown-profile");
    // A new history begins after the old one, and not among its positions.
    assert_eq!(app.database.scalar::<i64>("SELECT last_seq FROM erasures").await, seq);
    register(&app, &object(ICCID)).await;
    assert_eq!(app.profile(ICCID).await["seq"], seq + 1);
}

#[tokio::test]
async fn a_profile_that_is_unknown_or_already_erased_cannot_be_erased() {
    let app = TestApp::start().await;
    let unknown = erase(&app.backend, ICCID).await;
    assert_eq!((unknown.status.as_u16(), &*unknown.problem()), (404, "unknown-profile"));
    fill(&app).await;
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(erase(&app.backend, ICCID).await.problem(), "unknown-profile");
    let odd = erase(&app.backend, "12345").await;
    assert_eq!((odd.status.as_u16(), &*odd.problem()), (400, "invalid-parameter"));
    let odd = erase(&app.backend, &format!("{ICCID}?force=1")).await;
    assert_eq!((odd.status.as_u16(), &*odd.problem()), (400, "invalid-parameter"));
}

#[tokio::test]
async fn what_names_only_the_customer_is_erased_with_the_customers_last_profile() {
    let app = TestApp::start().await;
    let of = |iccid: &str| json!({ "iccid": iccid, "state": "RELEASED", "uid": "customer-4711" });
    register(&app, &of(ICCID)).await;
    register(&app, &of(&iccid(1))).await;
    for uid in ["customer-4711", "customer-4712"] {
        let body = json!({ "uid": uid, "activatedItem": "EU 5 GB" });
        assert_eq!(app.deliver(body.to_string()).await.outcome(), "ignored");
    }
    let left = async || {
        let bodies =
            "SELECT string_agg(convert_from(body, 'UTF8'), ' ' ORDER BY id) FROM deliveries";
        let noted = "SELECT string_agg(uid, ' ' ORDER BY delivery_id) FROM customer_deliveries";
        let (bodies, noted): (String, String) =
            (app.database.scalar(bodies).await, app.database.scalar(noted).await);
        ["customer-4711", "customer-4712"].map(|uid| (bodies.contains(uid), noted.contains(uid)))
    };
    register(&app, &of(&iccid(2))).await;
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(left().await, [(true, true), (true, true)]);
    // Of two that overlap, one is the last.
    let (second, third) = (iccid(1), iccid(2));
    let (one, other) = join(erase(&app.backend, &second), erase(&app.backend, &third)).await;
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (204, 204));
    assert_eq!(left().await, [(false, false), (true, true)]);
}

#[tokio::test]
async fn deliveries_without_a_profile_are_erased_too() {
    let app = TestApp::start().await;
    // A report with an unknown state creates no profile, but is stored.
    assert_eq!(app.deliver(body("SOMETHING_NEW")).await.outcome(), "unrecognised");
    assert!(!traces(&app).await.is_empty());
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(traces(&app).await, Vec::<String>::new());
}

#[tokio::test]
async fn malformed_bodies_that_contain_the_iccid_are_erased() {
    let app = TestApp::start().await;
    fill(&app).await;
    let whole = body("INSTALLED");
    for broken in [whole.replace('}', ",}"), whole.clone() + "x", format!("[{whole}]")] {
        assert_eq!(app.deliver(broken).await.problem(), "malformed");
    }
    let other = json!({ "iccid": iccid(1) }).to_string() + "x";
    assert_eq!(app.deliver(other).await.problem(), "malformed");
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(traces(&app).await, Vec::<String>::new());
    let left = "SELECT count(*) FROM deliveries WHERE outcome = 'malformed'";
    assert_eq!(app.database.scalar::<i64>(left).await, 1);
}

#[tokio::test]
async fn a_webhook_after_the_erasure_is_ignored_and_its_body_is_not_stored() {
    let app = TestApp::start().await;
    fill(&app).await;
    erase(&app.backend, ICCID).await.is(204);
    let country =
        json!({ "imsi": IMSI, "iccid": ICCID, "previousCountry": null, "newCountry": "PL" });
    for late in [body("DISABLED"), body("INSTALLED"), body("SOMETHING_NEW"), country.to_string()] {
        assert_eq!(app.deliver(late).await.outcome(), "ignored");
        assert_eq!(traces(&app).await, Vec::<String>::new());
    }
    let filled = body("INSTALLED").replace(ICCID, &format!("{ICCID}F"));
    assert_eq!(app.deliver(filled).await.outcome(), "ignored");
    assert_eq!(traces(&app).await, Vec::<String>::new());
    assert_eq!(erase(&app.backend, ICCID).await.problem(), "unknown-profile");
    // The log of deliveries shows that these webhooks arrived, but not which profile they were about.
    let kept = app.backend.get("/v1/deliveries?outcome=ignored").await.json();
    for delivery in kept["items"].as_array().unwrap() {
        assert!(delivery["iccid"].is_null() && delivery["body"] == "", "{delivery:#}");
        assert!(delivery["reason"].as_str().unwrap().contains("erased"), "{delivery:#}");
    }
    assert_eq!(kept["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_late_event_with_an_id_is_ignored_whether_the_id_is_known_or_new() {
    let app = TestApp::start_with(with_event_ids).await;
    register(&app, &object(ICCID)).await;
    let installed = body("INSTALLED");
    assert_eq!(relay(&app, "evt-1", &installed).await.outcome(), "moved");
    assert_eq!(relay(&app, "evt-1", &installed).await.outcome(), "duplicate");
    // Some senders make their ids of the ICCID.
    let telling = format!("{ICCID}-1");
    assert_eq!(relay(&app, &telling, &body("DISABLED")).await.outcome(), "moved");
    assert_eq!(relay(&app, &telling, &body("DISABLED")).await.outcome(), "duplicate");
    let telling_too = format!("{ICCID}-2");
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(traces(&app).await, Vec::<String>::new());
    for id in ["evt-1", "evt-2", "evt-2", &telling, &telling_too] {
        assert_eq!(relay(&app, id, &installed).await.outcome(), "ignored", "{id}");
        assert_eq!(traces(&app).await, Vec::<String>::new(), "{id}");
    }
    // An event id that was seen before the profile was registered again is still a duplicate.
    register(&app, &object(ICCID)).await;
    assert_eq!(relay(&app, "evt-1", &installed).await.outcome(), "duplicate");
    assert_eq!(relay(&app, &telling, &body("DISABLED")).await.outcome(), "duplicate");
    assert_eq!(relay(&app, "evt-3", &installed).await.outcome(), "moved");
}

#[tokio::test]
async fn a_new_registration_starts_a_new_history_and_webhooks_count_again() {
    let app = TestApp::start().await;
    fill(&app).await;
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(app.deliver(body("INSTALLED")).await.outcome(), "ignored");
    assert_eq!(register(&app, &object(ICCID)).await.status, 201);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM erasures").await, 0);
    let profile = app.profile(ICCID).await;
    for member in ["deliveries", "installsSeen"] {
        assert_eq!(profile[member], 0, "{member}");
    }
    assert!(profile["eid"].is_null() && profile["lastDeliveryAt"].is_null());
    assert_eq!(app.deliver(body("INSTALLED")).await.outcome(), "moved");
    let journey = app.invited(ICCID).await.get("/v1/profiles/self/journey").await;
    assert_eq!(journey.json()["step"], "done");
    // No cursor and no ETag of the erased history, which had at most five transitions, is valid for the new one.
    let seqs: Vec<_> = app.transitions(ICCID).await.iter().map(|it| it["seq"].as_i64()).collect();
    assert_eq!(seqs.len(), 2);
    assert!(seqs[0] > Some(3) && seqs[1] == seqs[0].map(|seq| seq + 1), "{seqs:?}");
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(traces(&app).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_access_token_from_before_the_erasure_is_invalid_after_a_new_registration() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let (old, unsaid) = (app.invited(ICCID).await, app.user(ICCID));
    let tag = old.get("/v1/profiles/self").await.header("etag").to_owned();
    let mut events = Events::open(&old, "self").await;
    events.event().await;
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(old.get("/v1/profiles/self").await.problem(), "unknown-profile");
    // The profile of the next customer.
    register(&app, &object(ICCID)).await;
    let new = app.invited(ICCID).await;
    for path in ["", "/journey", "/transitions", "/events", "/qr.svg", "/qr.png", "?wait=5"] {
        let path = format!("/v1/profiles/self{path}");
        for token in [&old, &unsaid] {
            let answer = token.get_with(&path, "if-none-match", &tag).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.problem()),
                (401, "unauthenticated"),
                "{path}"
            );
            assert!(!answer.text.contains(MATCHING_ID), "{path}");
        }
    }
    let own = new.get_with("/v1/profiles/self", "if-none-match", &tag).await;
    assert_eq!((own.status.as_u16(), &own.json()["state"]), (200, &json!("RELEASED")));
    let journey = new.get("/v1/profiles/self/journey").await.json();
    assert_eq!(journey["install"]["activationCode"], activation_code());
    // A stream opened before the erasure has ended, or receives nothing of the new history.
    let said = events.ending().await;
    assert!(!said.contains("event:"), "{said}");
}

/// The erasure is in progress: it holds the profile's row and has not committed.
#[tokio::test]
async fn a_webhook_during_an_erasure_does_not_bring_the_profile_back() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let mut connection = app.database.connect().await;
    // A lock on the last table that an erasure writes to holds the erasure up.
    let mut held = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_ids IN SHARE MODE").execute(&mut *held).await.unwrap();
    let erasing = erase(&app.backend, ICCID);
    let (erased, outcome) = tokio::join!(erasing, async {
        wait_for_waiting(&app.database, 1).await;
        let delivering = app.deliver(body("INSTALLED"));
        let (answer, ()) = tokio::join!(delivering, async {
            wait_for_waiting(&app.database, 2).await;
            held.commit().await.unwrap();
        });
        answer.outcome()
    });
    assert_eq!((erased.status.as_u16(), &*outcome), (204, "ignored"));
    assert_eq!(traces(&app).await, Vec::<String>::new());
}

#[tokio::test]
async fn concurrent_erasures_and_webhooks_leave_the_profile_erased() {
    let app = TestApp::start().await;
    for round in 0..8 {
        register(&app, &object(ICCID)).await;
        let states = ["INSTALLED", "DISABLED"];
        let reports = join_all((0..20).map(|index| app.deliver(body(states[index % 2]))));
        let erasures = join_all((0..3).map(|_| erase(&app.backend, ICCID)));
        let (delivered, erased) = join(reports, erasures).await;
        for answer in delivered {
            assert!(
                matches!(&*answer.outcome(), "moved" | "repeated" | "ignored"),
                "{round}: {answer:?}"
            );
        }
        let statuses: Vec<_> = erased.iter().map(|answer| answer.status.as_u16()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
        // There was no registration after the erasure, so the profile stays erased.
        assert_eq!(traces(&app).await, Vec::<String>::new(), "{round}");
        assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM erasures").await, 1);
    }
}

#[tokio::test]
async fn concurrent_erasures_registrations_and_webhooks_leave_no_partial_profile() {
    let app = TestApp::start().await;
    for round in 0..5 {
        let object = object(ICCID).to_string();
        let registrations = join_all((0..5).map(|_| put(&app.backend, ICCID, object.clone())));
        let reports = join_all((0..10).map(|_| app.deliver(body("INSTALLED"))));
        let erasures = join_all((0..5).map(|_| erase(&app.backend, ICCID)));
        let (registered, delivered, erased) = tokio::join!(registrations, reports, erasures);
        for answer in registered.iter().chain(&delivered).chain(&erased) {
            let status = answer.status.as_u16();
            assert!(matches!(status, 200 | 201 | 204 | 404 | 503), "{round}: {answer:?}");
        }
        let known = app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status == 200;
        let remembered = app.database.scalar::<i64>("SELECT count(*) FROM erasures").await == 1;
        assert!(known != remembered, "{round}: known {known}, remembered as erased {remembered}");
        if known {
            app.assert_straight(ICCID).await;
        } else {
            assert_eq!(traces(&app).await, Vec::<String>::new(), "{round}");
        }
    }
}

/// The erasure is slow between two of the tables that it deletes from.
#[tokio::test]
async fn a_registration_during_an_erasure_keeps_its_whole_history() {
    let app = TestApp::start().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
                CREATE TRIGGER slow BEFORE DELETE ON deliveries FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    app.database.connect().await.execute(sqlx::raw_sql(slow)).await.unwrap();
    let deleting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let (erased, registered) = join(erase(&app.backend, ICCID), async {
        wait_until("the erasure deletes", async || app.database.scalar::<i64>(deleting).await > 0)
            .await;
        put(&app.backend, ICCID, object(ICCID).to_string()).await
    })
    .await;
    assert_eq!((erased.status.as_u16(), registered.status.as_u16()), (404, 201));
    assert_eq!(app.transitions(ICCID).await.len(), 1);
    app.assert_straight(ICCID).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM erasures").await, 0);
}

/// A writer of another replica is in a transaction that began before the erasure and so does not see the erasure.
#[tokio::test]
async fn a_transaction_that_begins_before_an_erasure_and_commits_after_it_leaves_nothing_behind() {
    let creates = "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                   VALUES ('89972123300991848961', 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now())";
    let keeps = "INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
                 VALUES (gen_random_uuid(), now(), 'gigastore/esim-status', 'gigastore', '89972123300991848961',
                         'unrecognised', '{}', 'a body that names 89972123300991848961')";
    let cannot_read =
        "INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
                       VALUES (gen_random_uuid(), now(), 'gigastore/esim-status', 'gigastore', NULL,
                               'malformed', '{}', '{\"iccid\":\"89972123300991848961\"')";
    for statement in [creates, keeps, cannot_read] {
        let app = TestApp::start().await;
        let options = app.database.options.clone().application_name("esim-status writer");
        let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let mut writing = writer.begin().await.unwrap();
        sqlx::query(statement).execute(&mut *writing).await.unwrap();
        let remembered = "SELECT count(*) FROM erasures";
        let (answer, ()) = join(erase(&app.backend, ICCID), async {
            wait_until("the erasure is remembered", async || {
                app.database.scalar::<i64>(remembered).await == 1
            })
            .await;
            writing.commit().await.unwrap();
        })
        .await;
        assert_eq!(answer.status, 204, "{statement}: {answer:?}");
        assert_eq!(traces(&app).await, Vec::<String>::new(), "{statement}");
        assert_eq!(app.report(ICCID, "INSTALLED").await, "ignored");
    }
}

/// A replica that is frozen within a transaction, until the server ends that.
#[tokio::test]
async fn erasures_wait_longer_than_a_registration_may_take_and_keep_none_waiting() {
    let app = TestApp::start().await;
    let profiles: Vec<_> = (1..=8).map(iccid).collect();
    for iccid in &profiles {
        app.report(iccid, "INSTALLED").await;
    }
    let options = app.database.options.clone().application_name("esim-status writer");
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let mut writing = writer.begin().await.unwrap();
    sqlx::query("SELECT txid_current()").execute(&mut *writing).await.unwrap();
    let begun = Instant::now();
    let remembered = "SELECT count(*) FROM erasures";
    let (answers, ()) = join(join_all(profiles.iter().map(|it| erase(&app.backend, it))), async {
        wait_until("all erasures wait", async || app.database.scalar::<i64>(remembered).await == 8)
            .await;
        register(&app, &object(ICCID)).await;
        let longer = budget::REGISTRATION_IN_ALL + Duration::from_millis(300);
        wait_until("a registration would be over", async || begun.elapsed() > longer).await;
        writing.rollback().await.unwrap();
    })
    .await;
    for answer in answers {
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 1);
}

#[tokio::test]
async fn an_erasure_of_an_unknown_profile_is_still_remembered() {
    let app = TestApp::start().await;
    assert_eq!(erase(&app.backend, ICCID).await.problem(), "unknown-profile");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "ignored");
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 404);
    register(&app, &object(ICCID)).await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}

#[tokio::test]
async fn an_erasure_succeeds_among_thousands_of_malformed_bodies() {
    let app = TestApp::start().await;
    let fill = "INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
                SELECT gen_random_uuid(), now(), 'gigastore/esim-status', 'gigastore', 'malformed', '{}',
                       convert_to('{ \"iccid\": \"' || CASE WHEN n = 2500 THEN '89972123300991848961' ELSE n::text END, 'UTF8')
                FROM generate_series(1, 5000) AS n";
    sqlx::query(fill).execute(&mut app.database.connect().await).await.unwrap();
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 4_999);
}

#[tokio::test]
async fn no_inquiry_outlives_an_erasure_that_overlaps_with_it() {
    for urgency in [Urgency::AtOnce, Urgency::Soon, Urgency::Sometime] {
        let app = TestApp::start().await;
        fill(&app).await;
        let mut connection = app.database.connect().await;
        let read = profiles::read(&mut connection, &[ICCID.to_owned()]).await.unwrap();
        let (profile, _) = read.into_iter().next().unwrap();
        let now = clock::now();
        // Between the deletions and the commit of an erasure.
        let mut erasing = app.database.connect().await;
        erasing.execute("BEGIN").await.unwrap();
        erasing.execute("DELETE FROM profiles").await.unwrap();
        let wanted = inquiries::want(&mut connection, &profile, urgency, now, now);
        let committed = async {
            // A page does not wait.
            if urgency != Urgency::Soon {
                wait_for_waiting(&app.database, 1).await;
            }
            erasing.execute("COMMIT").await.unwrap();
        };
        let (wanted, ()) = tokio::join!(wanted, committed);
        wanted.unwrap();
        assert_eq!(
            app.database.scalar::<i64>("SELECT count(*) FROM inquiries").await,
            0,
            "{urgency:?}"
        );
    }
}
