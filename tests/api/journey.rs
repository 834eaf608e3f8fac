//! `GET /v1/profiles/{iccid}/journey`: what the user should do next, and the links and codes to do it with.
//!
//! A real service receives webhooks and registrations in many orders; the tests compare the journey that follows.

use esim_status_testing::TestApp;
use serde_json::{Value, json};

use super::esim::{MATCHING_ID, activation_code, object, object_with, register};
use super::{ICCID, iccid};

/// The steps of the journey as `key status`, in one line.
fn way(journey: &Value) -> String {
    let parts = journey["steps"].as_array().expect("the journey has steps");
    let part = |part: &Value| {
        format!("{} {}", part["key"].as_str().unwrap(), part["status"].as_str().unwrap())
    };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

async fn journey_of(app: &TestApp, iccid: &str) -> Value {
    let answer = app.backend.get(&format!("/v1/profiles/{iccid}/journey")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

#[tokio::test]
async fn every_state_and_history_leads_to_its_step() {
    let app = TestApp::start().await;
    let again = ["INSTALLED", "RELEASED"];
    let (four, five) = (again.repeat(4), again.repeat(5));
    let five_on_device = &five[..9];
    let preparing = "ready current, installed upcoming";
    let ready = "ready done, installed current";
    let fetched = "ready done, downloaded done, installed current";
    let installed = "ready done, installed done";
    let off = "ready done, installed done, turned-on current";
    let failed = "ready done, installed problem";
    let rows: [(&[&str], &str, bool, &str); 31] = [
        (&["CREATED"], "wait", false, preparing),
        (&["AVAILABLE"], "wait", false, preparing),
        (&["ALLOCATED"], "wait", false, preparing),
        (&["LINKED"], "wait", false, preparing),
        (&["CONFIRMED"], "wait", false, preparing),
        (&["RELEASED"], "install", true, ready),
        (&["CREATED", "RELEASED"], "install", true, ready),
        (&["RELEASED", "UNKNOWN"], "install", true, ready),
        (&["RELEASED", "DOWNLOADED"], "finish", false, fetched),
        (&["DOWNLOADED", "RELEASED"], "install", true, ready),
        (
            &["RELEASED", "DOWNLOADED", "INSTALLED"],
            "done",
            false,
            "ready done, downloaded done, installed done",
        ),
        (&["RELEASED", "INSTALLED"], "done", false, installed),
        (&["INSTALLED"], "done", false, installed),
        (&["enabled"], "done", false, installed),
        (&["INSTALLED", "SOMETHING_NEW"], "done", false, installed),
        (&["INSTALLED", "DISABLED"], "turn-on", false, off),
        (&["DISABLED"], "turn-on", false, off),
        (&["INSTALLED", "DISABLED", "INSTALLED"], "done", false, installed),
        (&["INSTALLED", "RELEASED"], "reinstall", true, ready),
        (&["INSTALLED", "DISABLED", "RELEASED"], "reinstall", true, ready),
        (&["INSTALLED", "RELEASED", "DOWNLOADED"], "finish", false, fetched),
        (&four, "reinstall", true, ready),
        (five_on_device, "done", false, installed),
        (&five, "contact-support", false, failed),
        (&["INSTALLED", "DELETED"], "contact-support", false, failed),
        (&["DELETED", "INSTALLED"], "done", false, installed),
        (&["ERROR"], "contact-support", false, failed),
        (&["ERROR", "SOMETHING_NEW"], "contact-support", false, failed),
        (&["ERROR", "RELEASED"], "install", true, ready),
        (&["UNAVAILABLE"], "contact-support", false, failed),
        (&["RELEASED", "QUARANTINE"], "contact-support", false, failed),
    ];
    for (number, (words, step, can_install, steps)) in rows.into_iter().enumerate() {
        let iccid = iccid(number);
        for word in words {
            app.report(&iccid, word).await;
        }
        register(&app, &object(&iccid)).await;
        let (journey, profile) = (journey_of(&app, &iccid).await, app.profile(&iccid).await);
        assert_eq!(journey["step"], step, "{words:?}");
        assert_eq!(journey.get("install").is_some(), can_install, "{words:?}");
        assert_eq!(way(&journey), steps, "{words:?}");
        for member in ["iccid", "state", "since", "lastDeliveryAt", "installsSeen"] {
            assert_eq!(journey[member], profile[member], "{words:?} {member}");
        }
        assert_eq!(journey["installLimit"], 5);
        let texts = format!("{}. {}", journey["title"], journey["detail"]).to_lowercase();
        assert!(journey["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(journey["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert!(!texts.contains("on right now") && !texts.contains("connected"), "{texts}");
        assert_eq!(journey.to_string().contains(MATCHING_ID), can_install, "{words:?}");
    }
}

#[tokio::test]
async fn the_journey_of_a_removed_profile_counts_installs_against_the_limit() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for seen in 1..=4 {
        app.report(ICCID, "INSTALLED").await;
        app.report(ICCID, "RELEASED").await;
        let journey = journey_of(&app, ICCID).await;
        assert_eq!(
            (&journey["step"], &journey["installsSeen"]),
            (&json!("reinstall"), &json!(seen))
        );
        let detail = journey["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("{seen} of 5")), "{detail}");
    }
    app.report(ICCID, "INSTALLED").await;
    assert_eq!(journey_of(&app, ICCID).await["step"], "done");
    app.report(ICCID, "RELEASED").await;
    assert_eq!(journey_of(&app, ICCID).await["step"], "contact-support");
}

#[tokio::test]
async fn the_steps_have_the_times_of_the_history() {
    let app = TestApp::start().await;
    for word in ["RELEASED", "DOWNLOADED", "INSTALLED"] {
        app.report(ICCID, word).await;
    }
    let history = app.transitions(ICCID).await;
    let journey = journey_of(&app, ICCID).await;
    for (part, transition) in journey["steps"].as_array().unwrap().iter().zip(&history) {
        assert_eq!(part["at"], transition["receivedAt"], "{journey:#}");
    }
    // The current step and later steps have no time yet.
    app.report(ICCID, "RELEASED").await;
    let (journey, removed) = (journey_of(&app, ICCID).await, app.transitions(ICCID).await);
    assert_eq!(journey["steps"][0]["at"], removed[3]["receivedAt"]);
    assert_eq!(journey["steps"][1].get("at"), None, "{journey:#}");
}

#[tokio::test]
async fn without_an_activation_code_the_journey_has_a_step_but_no_install_data() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let journey = journey_of(&app, ICCID).await;
    assert_eq!((&journey["step"], journey.get("install")), (&json!("install"), None));

    register(&app, &object_with(ICCID, "activationCode", Value::Null)).await;
    assert_eq!(journey_of(&app, ICCID).await.get("install"), None);

    // A later object adds the code; an object without it does not remove it.
    register(&app, &object(ICCID)).await;
    register(&app, &json!({ "iccid": ICCID, "state": "RELEASED" })).await;
    let journey = journey_of(&app, ICCID).await;
    assert_eq!(journey["install"]["activationCode"], activation_code());
}

#[tokio::test]
async fn an_object_without_a_credential_removes_none() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    for member in ["activationCode", "installationUrl"] {
        register(&app, &object_with(ICCID, member, Value::Null)).await;
        let install = &journey_of(&app, ICCID).await["install"];
        assert_eq!(install["activationCode"], activation_code(), "{member}");
        assert!(install["links"]["provider"].is_string(), "{member}");
    }
}

#[tokio::test]
async fn the_install_data_is_read_from_the_activation_code() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let code = activation_code();
    assert_eq!(
        journey_of(&app, ICCID).await["install"],
        json!({
            "activationCode": code,
            "smdpAddress": "smdp.example.test",
            "matchingId": MATCHING_ID,
            "confirmationCodeRequired": false,
            "links": {
                "apple": format!("https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={code}"),
                "android": format!("https://esimsetup.android.com/esim_qrcode_provisioning?carddata={code}"),
                "provider": object(ICCID)["installationUrl"],
            },
            "qr": format!("/v1/profiles/{ICCID}/qr.svg"),
        })
    );
    let rows = [
        ("LPA:1$rsp.Example.COM$aB-9$1.3.6.1.4.1$1", "rsp.Example.COM", "aB-9", true),
        ("lpa:1$smdp.example.test$", "smdp.example.test", "", false),
        ("LPA:1$smdp.example.test$A$$1", "smdp.example.test", "A", true),
        ("LPA:1$smdp.example.test$A$1.2$", "smdp.example.test", "A", false),
    ];
    for (code, address, matching_id, confirmation) in rows {
        register(&app, &object_with(ICCID, "activationCode", code)).await;
        let install = journey_of(&app, ICCID).await["install"].clone();
        let code = code.replace("lpa:", "LPA:");
        assert_eq!(install["activationCode"], code);
        assert_eq!(
            (&install["smdpAddress"], &install["matchingId"]),
            (&json!(address), &json!(matching_id))
        );
        assert_eq!(install["confirmationCodeRequired"], confirmation, "{code}");
        for phone in ["apple", "android"] {
            let link = install["links"][phone].as_str().unwrap();
            assert_eq!(
                link,
                format!("https://esimsetup.{phone}.com/esim_qrcode_provisioning?carddata={code}")
            );
        }
    }
}

#[tokio::test]
async fn the_providers_own_link_is_preferred_if_it_is_usable() {
    let app = TestApp::start().await;
    let code = activation_code();
    let built = format!("https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={code}");
    let own = format!(
        "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={code}&from=provider"
    );
    let rows = [
        (own.as_str(), own.as_str()),
        (
            "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=LPA:1$<SM-DP+ Address>$<Activation Code>",
            &built,
        ),
        ("https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=<code>", &built),
        ("http://esimsetup.apple.com/esim_qrcode_provisioning", &built),
        ("javascript:alert(1)", &built),
        ("not a link", &built),
        ("", &built),
    ];
    for (number, (given, expected)) in rows.into_iter().enumerate() {
        let iccid = iccid(number);
        register(&app, &object_with(&iccid, "appleUniversalLink", given)).await;
        let links = journey_of(&app, &iccid).await["install"]["links"].clone();
        assert_eq!(links["apple"], expected, "{given}");
    }
    for (number, given) in
        ["javascript:alert(1)", "http://install.example.test/", "<url>"].iter().enumerate()
    {
        let iccid = iccid(100 + number);
        register(&app, &object_with(&iccid, "installationUrl", *given)).await;
        let links = journey_of(&app, &iccid).await["install"]["links"].clone();
        assert_eq!(links.get("provider"), None, "{given}");
    }
}

#[tokio::test]
async fn backend_and_user_see_the_same_journey_except_the_path_of_the_qr_code() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let user = app.user(ICCID);
    let mut backends = journey_of(&app, ICCID).await;
    let answer = user.get("/v1/profiles/self/journey").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let by_iccid = user.get(&format!("/v1/profiles/{ICCID}/journey")).await.json();
    let mut users = answer.json();
    assert_eq!(by_iccid, users);

    for (client, journey) in [(&app.backend, &backends), (&user, &users)] {
        let qr = journey["install"]["qr"].as_str().unwrap();
        let image = client.get(qr).await;
        assert_eq!((image.status.as_u16(), image.header("content-type")), (200, "image/svg+xml"));
    }
    assert_eq!(users["install"]["qr"], "/v1/profiles/self/qr.svg");
    backends["install"]["qr"].take();
    users["install"]["qr"].take();
    assert_eq!(backends, users);
}

#[tokio::test]
async fn other_users_profiles_and_unknown_profiles_have_no_journey() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let absent = iccid(1);
    let path = |iccid: &str| format!("/v1/profiles/{iccid}/journey");
    for answer in [
        app.backend.get(&path(&absent)).await,
        app.user(&absent).get(&path("self")).await,
        app.user(&absent).get(&path(ICCID)).await,
        app.user(ICCID).get(&path(&absent)).await,
    ] {
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, "unknown-profile"));
    }
    assert_eq!(app.anybody.get(&path(ICCID)).await.problem(), "unauthenticated");
    let odd = app.backend.get(&(path(ICCID) + "?language=de")).await;
    assert_eq!(odd.problem(), "invalid-parameter");
}
