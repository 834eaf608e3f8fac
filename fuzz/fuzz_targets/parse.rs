//! Any bytes as a body: the results of the strict JSON reader and of the adapters are compared with a second
//! implementation of their rules. A body that is a report is then passed to the state machine repeatedly.

#![no_main]

#[expect(dead_code, reason = "only adapters need all of it")]
#[path = "../../src/providers/json.rs"]
mod json;

mod reasons;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use esim_status_fuzz::delivery::{AuthenticDelivery, Authenticator, Delivery, Scheme};
use esim_status_fuzz::domain::{
    ActivationCode, Connection, Eid, Imsi, Outcome, Registration, Report, Timestamp,
};
use esim_status_fuzz::providers::{
    self, Content, Malformed, Provider, Providers, Reading, Registrar,
};
use esim_status_fuzz::story::Story;
use esim_status_fuzz::tree::Tree;
use http::HeaderMap;
use json::Object;
use libfuzzer_sys::fuzz_target;
use reasons::assert_known;
use serde_json::Value;
use uuid::Uuid;

/// If the first member has this name, `serde_json` parses the string of the member as JSON. The service is not
/// affected, because it never asks for a `Value`, but the comparison would fail.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// The max depth of a body.
const MAX_DEPTH: usize = 32;

static PROVIDERS: LazyLock<Providers> =
    LazyLock::new(|| Providers::built_in().expect("the built-in declarations hold"));

static OPEN: LazyLock<Authenticator> = LazyLock::new(|| Authenticator::new(Scheme::None));

fuzz_target!(|body: &[u8]| {
    let tree: Option<Tree> = serde_json::from_slice(body).ok();
    let tree = assert_read_strictly(body, tree);
    for provider in PROVIDERS.all() {
        assert_webhook(provider, body, tree.as_ref());
        if let Some(registrar) = provider.registrar() {
            assert_esim_object(registrar, body, tree.as_ref());
        }
    }
});

fn noon() -> Timestamp {
    Timestamp::parse("2026-11-23T12:00:00Z").expect("a time")
}

fn delivery(body: &[u8]) -> AuthenticDelivery {
    let (hook, headers) = (Arc::from("test/test"), HeaderMap::new());
    let body = Bytes::copy_from_slice(body);
    OPEN.check(Delivery::new(Uuid::nil(), noon(), hook, None, headers, body)).expect("an open hook")
}

/// The reader accepts exactly what the rules allow, and loses, adds or changes nothing. Returns the tree of an accepted
/// body.
fn assert_read_strictly(body: &[u8], tree: Option<Tree>) -> Option<Tree> {
    let allowed = tree.filter(|tree| {
        tree.members().is_some()
            && tree.depth() <= MAX_DEPTH
            && !tree.has_duplicates()
            && !tree.has_nul()
    });
    let object = match Object::parse(body) {
        Ok(object) => object,
        Err(reason) => {
            assert_known(&reason);
            assert_eq!(allowed, None, "refused: {reason}");
            return None;
        }
    };
    let tree = allowed.expect("an accepted body is allowed");
    let members = tree.members().expect("an object");
    for (name, value) in members {
        assert!(is_same(object.member(name), value), "a value differs from the body");
    }
    assert_reference_agrees(body, members);
    Some(tree)
}

fn is_same(read: Option<&json::Value>, sent: &Tree) -> bool {
    match (read, sent) {
        (Some(json::Value::Text(read)), Tree::Text(sent)) => read == sent,
        (Some(json::Value::Number(read)), Tree::Number(sent)) => {
            // `serde_json` may round the last bit differently.
            read.parse::<f64>().is_ok_and(|read| {
                (read - sent).abs() <= sent.abs().mul_add(1e-14, f64::MIN_POSITIVE)
            })
        }
        (Some(json::Value::Bool(read)), Tree::Bool(sent)) => read == sent,
        (Some(json::Value::Null), Tree::Null) => true,
        (Some(json::Value::Array(read)), Tree::Array(sent)) => {
            read.len() == sent.len()
                && read.iter().zip(sent).all(|(read, sent)| is_same(Some(read), sent))
        }
        (Some(json::Value::Object(read)), Tree::Object(sent)) => {
            sent.iter().all(|(name, sent)| is_same(read.member(name), sent))
        }
        _ => false,
    }
}

fn assert_reference_agrees(body: &[u8], members: &[(String, Tree)]) {
    if body.windows(8).any(|it| it == b"RawValue")
        || members.iter().any(|(name, _)| name == RAW_VALUE)
    {
        return;
    }
    let reference: Value = serde_json::from_slice(body).expect("strict JSON is JSON");
    let reference = reference.as_object().expect("an object");
    assert_eq!(reference.len(), members.len());
    for (name, value) in members {
        let same = match (&reference[name], value) {
            (Value::String(theirs), Tree::Text(ours)) => theirs == ours,
            (Value::Null, Tree::Null)
            | (Value::Bool(_), Tree::Bool(_))
            | (Value::Number(_), Tree::Number(_)) => true,
            (Value::Array(theirs), Tree::Array(ours)) => theirs.len() == ours.len(),
            (Value::Object(theirs), Tree::Object(ours)) => theirs.len() == ours.len(),
            _ => false,
        };
        assert!(same, "a value differs from the reference");
    }
}

fn assert_webhook(provider: &dyn Provider, body: &[u8], tree: Option<&Tree>) {
    let reading = provider.parse(&delivery(body));
    match (&reading, tree) {
        (Ok(Reading { content: Content::Report(report), .. }), Some(tree)) => {
            assert_eq!(report.provider, provider.slug());
            let (words, scopes) = scopes(provider, tree);
            assert_reported(report, &scopes, words);
            assert_retold(provider, report);
        }
        (Ok(Reading { content: Content::Connection(connection), .. }), Some(tree)) => {
            assert_eq!(connection.provider, provider.slug());
            assert_connected(provider, connection, tree);
        }
        (Ok(Reading { content: Content::Ignored { iccid, uid, reason }, .. }), Some(tree)) => {
            assert_known(reason);
            assert!(uid.as_ref().is_none_or(|uid| iccid.is_none() && uid.len() <= 256));
            let (_, scopes) = scopes(provider, tree);
            assert!(iccid.as_ref().is_none_or(|iccid| is_iccid(iccid.as_str(), &scopes)));
        }
        (Err(Malformed { reason, iccid }), tree) => {
            assert_known(reason);
            let found = iccid.as_ref().zip(tree);
            assert_eq!(found.is_some(), iccid.is_some(), "an ICCID comes from an object");
            let is_sent = |iccid, tree| is_iccid(iccid, &scopes(provider, tree).1);
            assert!(found.is_none_or(|(iccid, tree)| is_sent(iccid.as_str(), tree)));
        }
        (Ok(_), None) => panic!("accepted, although it is not a strict JSON object"),
    }
}

/// The members with a provider's word for the state, and the objects in which its members may be.
fn scopes<'a>(provider: &dyn Provider, tree: &'a Tree) -> (&'static [&'static str], Vec<&'a Tree>) {
    match provider.slug() {
        "esim-access" => {
            (&["smdpStatus", "esimStatus"], tree.member("content").into_iter().collect())
        }
        "esim-go" => (
            &["profileStatus", "event", "alertType"],
            [Some(tree), tree.member("device")].into_iter().flatten().collect(),
        ),
        "simlessly" => (&["notificationType", "NotificationType"], vec![tree]),
        "roamify" => {
            (&["status"], [Some(tree), tree.member("data")].into_iter().flatten().collect())
        }
        _ => (&["profileState"], vec![tree]),
    }
}

fn is_iccid(iccid: &str, scopes: &[&Tree]) -> bool {
    (18..=22).contains(&iccid.len())
        && iccid.bytes().all(|b| b.is_ascii_digit())
        && scopes
            .iter()
            .filter_map(|tree| tree.text("iccid"))
            .any(|sent| matches!(sent.strip_prefix(iccid), Some("" | "F" | "f")))
}

/// Everything in the connection was in the body, and the country is not shown.
fn assert_connected(provider: &dyn Provider, connection: &Connection, tree: &Tree) {
    assert!(is_iccid(connection.iccid.as_str(), &[tree]));
    if let Some(imsi) = &connection.imsi {
        assert_eq!(Some(imsi.as_str()), tree.text("imsi"));
    }
    if let Some(country) = connection.country {
        let sent = match provider.slug() {
            "esim-go" => tree.member("country").and_then(|country| country.text("code")),
            _ => tree.text("newCountry"),
        };
        let sent = sent.expect("the body has a country");
        assert!(sent.trim().eq_ignore_ascii_case(country.as_str()));
    }
    connection.remarks.iter().for_each(|remark| assert_known(remark));
    let shown = format!("{connection:?}");
    assert!(!shown.contains(connection.iccid.as_str()));
}

/// Everything in the report was in the body.
fn assert_reported(report: &Report, scopes: &[&Tree], words: &[&str]) {
    assert!(is_iccid(report.iccid.as_str(), scopes));
    let mut sent = scopes.iter().flat_map(|tree| words.iter().filter_map(|word| tree.member(word)));
    assert!(sent.any(|sent| match sent {
        Tree::Text(sent) => *sent == report.raw_state || sent.trim().starts_with(&report.raw_state),
        // A number may be a word of a declared provider. The tree has it rounded.
        Tree::Number(_) => true,
        _ => false,
    }));
    assert!(!report.raw_state.trim().is_empty());
    let is_sent = |name, value| scopes.iter().any(|tree| tree.text(name) == Some(value));
    let is_eid = |eid| is_sent("eid", eid) || is_sent("EID", eid);
    assert!(report.eid.as_ref().is_none_or(|eid| is_eid(eid.as_str())));
    assert!(report.imsi.as_ref().is_none_or(|imsi| is_sent("imsi", imsi.as_str())));
    if let Some(device) = &report.device {
        for (name, part) in [("make", device.make()), ("model", device.model())] {
            let sent = |tree: &&Tree| tree.text(name).map(str::trim) == part;
            assert!(part.is_none() || scopes.iter().any(sent));
        }
        assert!(device.tac().is_none_or(|tac| tac.len() == 8));
        assert_eq!(format!("{device:?}"), "Device(…)");
    }
    assert!(report.remarks.len() <= 3);
    report.remarks.iter().for_each(|remark| assert_known(remark));
    let shown = format!("{report:?}");
    assert!(
        report.raw_state.contains(report.iccid.as_str()) || !shown.contains(report.iccid.as_str())
    );
}

/// The same report repeated is one transition; alternating with other reports, each one moves the profile.
fn assert_retold(provider: &dyn Provider, report: &Report) {
    let mut story = Story::default();
    let told = |story: &mut Story, report: &Report, seconds: i64| {
        let received_at = report.received_at.plus_seconds(seconds);
        story.observe(&Report { received_at, ..report.clone() })
    };
    let first = told(&mut story, report, 0);
    assert_eq!(first == Outcome::Unrecognised, report.claim.is_none());
    for seconds in 1..4 {
        let again = told(&mut story, report, seconds);
        assert!(matches!(again, Outcome::Repeated | Outcome::Unrecognised));
    }
    assert!(story.history.len() <= 1);
    let simulator = provider.simulator();
    let words =
        simulator.iter().flat_map(|it| it.lifecycle().into_iter().map(move |word| (*it, word)));
    for ((simulator, word), seconds) in words.zip(4..) {
        let sample = providers::Sample {
            iccid: report.iccid.as_str(),
            raw_state: word,
            eid: report.eid.as_ref().map(Eid::as_str),
            imsi: report.imsi.as_ref().map(Imsi::as_str),
            at: noon(),
        };
        let composed = provider.parse(&delivery(simulator.compose(&sample).as_bytes()));
        let Some(step) = composed.as_ref().ok().and_then(Reading::report) else {
            panic!("{} does not parse what it composes", provider.slug());
        };
        told(&mut story, step, seconds);
        told(&mut story, report, seconds);
    }
    // A word that nobody knows creates no profile, and not every provider can be played.
    let Some(profile) = story.profile else { return assert_eq!(report.claim, None) };
    assert_eq!((profile.eid, profile.imsi), (report.eid.clone(), report.imsi.clone()));
}

fn assert_esim_object(registrar: &dyn Registrar, body: &[u8], tree: Option<&Tree>) {
    let registration = match (registrar.parse_esim_object(body, noon()), tree) {
        (Ok(registration), Some(tree)) => {
            assert_registered(&registration, tree);
            registration
        }
        (Ok(_), None) => panic!("accepted, although it is not a strict JSON object"),
        (Err(malformed), _) => {
            assert_eq!(malformed.iccid, None);
            return assert_known(&malformed.reason);
        }
    };
    let mut story = Story::default();
    story.register(&registration.report);
    story.register(&registration.report);
    story.observe(&registration.report);
    story.register(&registration.report);
    assert_eq!(story.history.len(), 1);
}

fn assert_registered(registration: &Registration, tree: &Tree) {
    assert_reported(&registration.report, &[tree], &["state"]);
    assert!(registration.report.claim.is_some(), "a registration always claims a state");
    let text = |name| tree.text(name);
    let uid = registration.uid.as_deref();
    assert!(uid.is_none_or(|uid| uid.len() <= 256 && Some(uid) == text("uid")));
    let credentials = &registration.credentials;
    if let Some(code) = &credentials.activation_code {
        assert_eq!(text("activationCode").map(ActivationCode::parse), Some(Ok(code.clone())));
    }
    for (link, name) in [
        (&credentials.apple_link, "appleUniversalLink"),
        (&credentials.installation_url, "installationUrl"),
    ] {
        assert!(link.is_none() || link.as_deref() == text(name));
        assert!(
            link.as_ref()
                .is_none_or(|link| url::Url::parse(link).is_ok_and(|url| url.scheme() == "https"))
        );
    }
    let shown = format!("{registration:?}");
    let named = format!("{:?}{:?}", registration.uid, registration.report.raw_state);
    let code = credentials.activation_code.as_ref().map(ActivationCode::as_str);
    let hidden = [code, credentials.installation_url.as_deref()].into_iter().flatten();
    for secret in hidden.filter(|secret| !named.contains(secret)) {
        assert!(!shown.contains(secret), "a credential is shown");
    }
}
