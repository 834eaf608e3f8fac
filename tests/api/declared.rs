//! Declared providers: one that only this test declares, over HTTP; and which declarations are refused.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use esim_status::config::{self, ServeArgs, Settings};
use esim_status::delivery::{Authenticator, Scheme, Secrets};
use esim_status::hook::Hook;
use esim_status::providers::{Declared, Provider, Providers};
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::ICCID;

/// Adds a hook of a declared provider.
pub fn hook_of(settings: &mut Settings, slug: &str, path: &str, scheme: Scheme) {
    let provider = settings.providers.find(slug).unwrap();
    let (path, authenticator): (Arc<str>, _) = (Arc::from(path), Authenticator::new(scheme).into());
    let hook = Hook { path: path.clone(), provider, authenticator, takes_tests: false };
    settings.hooks.insert(path, hook.into());
}

/// `ConnectedYou`'s documented sample of a Profile Lifecycle event, with values of our own, and with an event id, which it lacks.
/// <https://esim-docs.reseller.connectedyou.io/readme-1/api-docs/webhooks/profile-lifecycle>
const LIFECYCLE: &str = r#"
[[providers]]
slug = "connectedyou"
iccid = "/iccid"
state = "/status"
eid = "/eid"
event_id = "/event_id"
occurred_at = { pointer = "/event_timestamp", unit = "rfc3339" }
only_if = { "/event_type" = "PROFILE_LIFECYCLE" }
states = { DOWNLOADED = "DOWNLOADED", INSTALLED = "INSTALLED", ENABLED = { state = "INSTALLED", enabled = true }, DISABLED = "DISABLED", DELETED = "DELETED" }

[[providers.samples]]
body = '''
{
  "iccid": "8910300000019600001",
  "event_type": "PROFILE_LIFECYCLE",
  "event_timestamp": "2025-06-01T02:02:33.103000Z",
  "eid": "89049032007008882600000000000001",
  "status": "ENABLED"
}
'''
iccid = "8910300000019600001"
eid = "89049032007008882600000000000001"
state = "INSTALLED"
enabled = true
occurred_at = "2025-06-01T02:02:33.103Z"
"#;

/// The providers of a service whose configuration file is this text.
fn providers_of(text: &str) -> Result<Providers, String> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("esim-status.toml");
    fs::write(&path, text).unwrap();
    config::providers(&ServeArgs { config: Some(path), ..ServeArgs::defaults() })
}

#[tokio::test]
async fn a_provider_that_nobody_wrote_code_for_is_declared_from_a_documented_sample() {
    const TOKEN: &str = "e1d07c5b92f846a3087e";
    let app = TestApp::start_with(|settings| {
        settings.providers = providers_of(LIFECYCLE).unwrap();
        let name = http::HeaderName::from_static("x-webhook-token");
        let scheme = Scheme::Header { name, secrets: Secrets::parse("test", [TOKEN]).unwrap() };
        hook_of(settings, "connectedyou", "connectedyou/lifecycle", scheme);
    })
    .await;
    let deliver = async |body: Value| {
        let request = app.anybody.request(Method::POST, "/webhooks/connectedyou/lifecycle");
        let request = request.header("x-webhook-token", TOKEN);
        Answer::of(request.body(body.to_string())).await
    };
    let event = |status: &str, second: u32, id: Option<&str>| {
        json!({
            "iccid": ICCID, "event_type": "PROFILE_LIFECYCLE", "event_id": id,
            "event_timestamp": format!("2025-06-01T02:02:{second:02}.049000Z"),
            "eid": "89049032007008882600000000000001", "status": status,
        })
    };
    for (status, second, id, outcome) in [
        ("DOWNLOADED", 10, None, "moved"),
        ("INSTALLED", 20, Some("e-1"), "moved"),
        ("INSTALLED", 20, Some("e-1"), "duplicate"),
        ("ENABLED", 30, Some("e-2"), "moved"),
        ("INSTALLED", 20, None, "late"),
        ("ENABLED", 30, None, "repeated"),
        ("DISABLED", 32, Some("e-3"), "moved"),
        // An id with other content.
        ("DELETED", 50, Some("e-3"), "duplicate"),
        ("DELETED", 50, Some("e-4"), "moved"),
    ] {
        assert_eq!(deliver(event(status, second, id)).await.outcome(), outcome, "{status} {id:?}");
    }
    // No other test of this binary reuses an id of this provider.
    let metrics = app.admin.get("/metrics").await.text;
    let series = r#"esim_status_reused_event_ids_total{provider="connectedyou"} 1"#;
    assert!(metrics.lines().any(|line| line == series), "{metrics}");
    let profile = app.profile(ICCID).await;
    assert_eq!(
        (&profile["state"], &profile["provider"]),
        (&json!("DELETED"), &json!("connectedyou"))
    );
    assert_eq!(profile["eid"], "89049032007008882600000000000001");
    app.assert_straight(ICCID).await;
    let mut other = event("ENABLED", 55, None);
    other["event_type"] = json!("DATA_USAGE");
    assert_eq!(deliver(other).await.outcome(), "ignored");
    let mut number = event("ENABLED", 55, None);
    number["iccid"] = json!(8_997_212_330_099_184_896_u64);
    let refused = deliver(number).await;
    assert_eq!(refused.problem(), "malformed");
    assert!(refused.json()["detail"].to_string().contains("may have been rounded"));
    // A backend cannot register its profiles: nobody knows its eSIM object.
    let registered =
        app.backend.request(Method::PUT, &format!("/v1/profiles/{ICCID}?provider=connectedyou"));
    assert_eq!(Answer::of(registered.body("{}")).await.problem(), "invalid-parameter");
    let journey = app.backend.get(&format!("/v1/profiles/{ICCID}/journey")).await;
    assert_eq!(journey.status, 200, "{journey:?}");
}

#[test]
fn a_declaration_is_refused_with_its_file_and_line_and_what_to_do() {
    let second = LIFECYCLE.replace("\"connectedyou\"", "\"other\"");
    for (text, line, expected) in [
        (LIFECYCLE.replace("\"INSTALLED\"\nenabled = true", "\"DELETED\""), 12, "does not hold"),
        (LIFECYCLE.replace("\"/status\"", "\"status\""), 5, "a JSON Pointer begins with a slash"),
        (LIFECYCLE.replace("\"DISABLED\", DEL", "\"ASLEEP\", DEL"), 10, "a state must be one of"),
        (LIFECYCLE.replace("rfc3339", "iso8601"), 8, "seconds"),
        (
            LIFECYCLE.replace("[[providers.samples]]", "[[providers.sample]]"),
            12,
            "unknown field `sample`",
        ),
        (LIFECYCLE.replace("\"connectedyou\"", "\"gigastore\""), 2, "choose another slug"),
        (format!("{LIFECYCLE}{LIFECYCLE}"), 28, "is declared at"),
        (
            format!("{LIFECYCLE}{}", second.replace("ENABLED\"\n}", "PAUSED\"\n}")),
            38,
            "becomes unrecognised",
        ),
        ("[[provider]]".to_owned(), 1, "unknown field `provider`"),
    ] {
        let refused = providers_of(&text).unwrap_err();
        for part in ["esim-status.toml", &format!("line {line}:"), expected] {
            assert!(refused.contains(part), "`{part}` is not in: {refused}");
        }
        assert!(!refused.contains("8910300000019600001"), "{refused}");
    }
    assert_eq!(
        providers_of(LIFECYCLE).unwrap().slugs(),
        ["gigastore", "esim-access", "esim-go", "simlessly", "connectedyou", "roamify"]
    );
}

#[test]
fn a_file_in_the_folder_of_providers_replaces_a_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    let load = || {
        config::providers(&ServeArgs { providers_dir: Some(path.clone()), ..ServeArgs::defaults() })
    };
    let samples = |slug| {
        let providers = load().unwrap();
        providers.declared().find(|it| it.slug() == slug).map(Declared::samples)
    };
    fs::write(path.join("README.md"), "[[providers]]").unwrap();
    assert!(samples("roamify").unwrap() > 5);
    let roamify = LIFECYCLE.replace("\"connectedyou\"", "\"roamify\"");
    fs::write(path.join("roamify.toml"), &roamify).unwrap();
    fs::write(path.join("connectedyou.toml"), LIFECYCLE).unwrap();
    assert_eq!((samples("roamify"), samples("connectedyou")), (Some(1), Some(1)));
    fs::write(path.join("z.toml"), &roamify).unwrap();
    let refused = load().unwrap_err();
    assert!(refused.contains("z.toml, line 2: the provider roamify is declared at"), "{refused}");
    let args = ServeArgs { providers_dir: Some(path.join("none")), ..ServeArgs::defaults() };
    let refused = config::providers(&args).unwrap_err();
    assert!(refused.starts_with("ESIM_STATUS_PROVIDERS_DIR: the folder "), "{refused}");
}
