//! What a declared provider reads, and which declarations are refused.

use proptest::prelude::*;
use toml::Spanned;

use super::*;
use crate::domain::ProfileState;
use crate::providers::{Content, Providers, Sample};

/// A declaration that uses every key.
const ACME: &str = r#"
[[providers]]
slug = "acme"
iccid = ["/data/sim/iccid", "/iccid"]
state = "/data/status"
eid = "/data/sim/eid"
imsi = "/data/sim/imsi"
event_id = "/id"
occurred_at = { pointer = "/created_at", unit = "milliseconds" }
only_if = { "/type" = ["PROFILE", "profile.v2"], "/version" = "2" }
states = { Ready = "RELEASED", "3" = "INSTALLED", On = { state = "INSTALLED", enabled = true }, Off = "DISABLED", Gone = "DELETED" }
ignored_words = ["Paid"]

[[providers.samples]]
body = '''
{"id":"evt_1","type":"PROFILE","version":2,"created_at":1700000000250,
 "data":{"status":"On","sim":{"iccid":"8991000000000034562","eid":"89049032000000000000000000000001","imsi":"001010123456789"}}}
'''
iccid = "8991000000000034562"
state = "INSTALLED"
enabled = true
eid = "89049032000000000000000000000001"
imsi = "001010123456789"
event_id = "evt_1"
occurred_at = "2023-11-14T22:13:20.25Z"
"#;

const ICCID: &str = "8991000000000034562";

#[derive(serde::Deserialize)]
struct File {
    providers: Vec<Spanned<Declaration>>,
}

fn declare(text: &str) -> Result<Declared, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    file.providers.into_iter().next().unwrap().into_inner().check().map_err(|flaw| flaw.why)
}

fn acme() -> Declared {
    declare(ACME).unwrap()
}

fn noon() -> Timestamp {
    Timestamp::parse("2026-11-23T12:00:00Z").unwrap()
}

fn becomes(declared: &Declared, body: &str) -> String {
    Summary::of(&declared.read(body.as_bytes(), noon())).to_string()
}

/// A body of [`ACME`] with these members instead of its own, and with this status.
fn body(status: &str, others: &str) -> String {
    format!(
        r#"{{"type":"profile","version":2,"data":{{"status":{status},"sim":{{"iccid":"{ICCID}"}}}}{others}}}"#
    )
}

#[test]
fn words_are_compared_without_case_and_space_and_numbers_are_words() {
    let acme = acme();
    for (status, state) in [
        (r#""Ready""#, "RELEASED"),
        (r#""READY""#, "RELEASED"),
        (r#"" ready\t""#, "RELEASED"),
        (r#""3""#, "INSTALLED"),
        ("3", "INSTALLED"),
        (r#""off""#, "DISABLED"),
    ] {
        let shown = becomes(&acme, &body(status, ""));
        assert!(shown.starts_with(&format!("state = \"{state}\"\n")), "{status}: {shown}");
    }
    let reading = acme.read(body(r#"" ready\t""#, "").as_bytes(), noon()).unwrap();
    assert_eq!(reading.report().unwrap().raw_state, " ready\t", "kept as it was sent");
}

#[test]
fn the_switch_is_known_if_the_declaration_says_so_or_if_the_profile_is_disabled() {
    let claim = |word: &str| acme().words[word].claim.unwrap();
    assert_eq!(claim("3"), Claim { state: ProfileState::Installed, enabled: None });
    assert_eq!(claim("on"), Claim { state: ProfileState::Installed, enabled: Some(true) });
    assert_eq!(claim("off"), Claim { state: ProfileState::Disabled, enabled: Some(false) });
    assert_eq!(claim("gone"), Claim { state: ProfileState::Deleted, enabled: None });
}

#[test]
fn what_reports_no_state_is_told_apart() {
    let acme = acme();
    for (body, outcome, reason) in [
        (body(r#""Paid""#, ""), "ignored", "a word that says nothing"),
        (body(r#""Teleported""#, ""), "unrecognised", "a word that the declaration does not know"),
        (body(r#""On""#, "").replace("profile", "usage"), "ignored", "by its member /type"),
        (body(r#""On""#, "").replace(":2,", ":3,"), "ignored", "by its member /version"),
        ("{}".to_owned(), "ignored", "by its member /type"),
        (body("null", ""), "malformed", "the state is missing: it should be at /data/status"),
        (body("{}", ""), "malformed", "must be a text or a number"),
        (body("true", ""), "malformed", "must be a text or a number"),
        (body(r#""  ""#, ""), "malformed", "must be a text or a number"),
        (body(r#""On""#, "").replace("iccid", "id"), "malformed", "/data/sim/iccid or /iccid"),
        (body(r#""On""#, "").replace(ICCID, "12"), "malformed", "18 to 22 digits"),
        (body(r#""On""#, r#","iccid":"8991000000000034563""#), "malformed", "two different iccids"),
        (body("null", r#","iccid":1"#), "malformed", "two different iccids"),
        ("[]".to_owned(), "malformed", "must begin with {"),
    ] {
        let shown = becomes(&acme, &body);
        assert!(shown.contains(&format!("outcome = \"{outcome}\"\n")), "{body}: {shown}");
        assert!(shown.contains(reason), "{body}: {shown}");
    }
}

#[test]
fn an_iccid_that_is_a_number_is_refused_because_it_may_be_rounded() {
    let number = body(r#""On""#, "").replace(&format!("\"{ICCID}\""), ICCID);
    let reading = acme().read(number.as_bytes(), noon()).unwrap_err();
    assert!(reading.reason.contains("may have been rounded"), "{}", reading.reason);
    assert!(!reading.reason.contains("8991"), "{}", reading.reason);
}

#[test]
fn an_id_or_a_time_that_cannot_be_used_is_left_out_with_a_remark() {
    let acme = acme();
    let long = "x".repeat(257);
    for (member, remark) in [
        (r#""id":"a b""#, "visible ASCII"),
        (&format!(r#""id":"{long}""#), "visible ASCII"),
        (r#""id":["a"]"#, "neither a text nor a number"),
        (&format!(r#""id":"evt-{ICCID}""#), "contains an identifier"),
        (r#""created_at":"soon""#, "is no time in milliseconds"),
        (r#""created_at":1700000000"#, "is before there were eSIMs"),
        (r#""created_at":{}"#, "is neither a text nor a number"),
    ] {
        let body = body(r#""On""#, &format!(",{member}"));
        let reading = acme.read(body.as_bytes(), noon()).unwrap();
        let report = reading.report().unwrap();
        assert_eq!((&reading.event_id, report.occurred_at), (&None, None), "{member}");
        assert!(report.remarks[0].contains(remark), "{member}: {:?}", report.remarks);
        assert_eq!(report.claim.unwrap().state, ProfileState::Installed);
    }
    let body = body(r#""Paid""#, r#","id":7"#);
    let reading = acme.read(body.as_bytes(), noon()).unwrap();
    assert_eq!(reading.event_id.unwrap().as_str(), "7", "also of an ignored event");
}

#[test]
fn what_a_body_becomes_is_shown_in_the_words_of_a_sample() {
    let (_, sample) = ACME.split_once("body = '''\n").unwrap();
    let (body, _) = sample.split_once("'''").unwrap();
    let shown = becomes(&acme(), body);
    let text = ACME.replace(&ACME[ACME.find("iccid = \"8991").unwrap()..], &shown);
    assert!(declare(&text).is_ok(), "{text}");
}

#[test]
fn a_sample_that_does_not_hold_is_refused_with_what_is_different() {
    for (from, to, difference) in [
        ("state = \"INSTALLED\"\nenabled = true", "state = \"RELEASED\"", "enabled, not RELEASED"),
        ("\nenabled = true", "", "INSTALLED and enabled, not INSTALLED;"),
        ("iccid = \"8991000000000034562\"", "iccid = \"8991000000000034563\"", "iccid is another"),
        ("eid = \"89049032", "eid = \"99049032", "eid is another one"),
        ("\nimsi = \"001010123456789\"", "", "imsi was found, which the sample does not say"),
        ("event_id = \"evt_1\"", "event_id = \"evt_2\"", "event_id is evt_1, not evt_2"),
        ("event_id = \"/id\"", "", "event_id was not found"),
        ("20.25Z", "20Z", "occurred_at is 2023-11-14T22:13:20.250000Z, not"),
        ("\"milliseconds\"", "\"seconds\"", "is no time in seconds"),
        ("On = { state = \"INSTALLED\", enabled = true }, ", "", "becomes unrecognised, not"),
        ("\"PROFILE\", ", "", "becomes ignored, not"),
        ("\"/data/sim/iccid\"", "\"/sim/iccid\"", "becomes malformed, not"),
    ] {
        let text = ACME.replacen(from, to, 1);
        assert_ne!(text, ACME, "{from}");
        let refused = declare(&text).unwrap_err();
        assert!(refused.contains("does not hold") && refused.contains(difference), "{refused}");
        assert!(!refused.contains("8991") && !refused.contains("89049032"), "{refused}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_remedy() {
    let (without_samples, _) = ACME.split_once("\n[[providers.samples]]").unwrap();
    for (text, expected) in [
        (without_samples.to_owned(), "needs a sample"),
        (
            format!("{without_samples}\n[[providers.samples]]\nbody = '{{}}'\noutcome = 'ignored'"),
            "needs a sample",
        ),
        (ACME.replace("\"acme\"", "\"Acme Ltd\""), "slug must be"),
        (ACME.replace("\"/data/status\"", "\"data.status\""), "a JSON Pointer begins with a slash"),
        (ACME.replace("{ \"/type\"", "{ \"type\""), "a JSON Pointer begins with a slash"),
        (ACME.replace("[\"PROFILE\", \"profile.v2\"]", "[]"), "the list is empty"),
        (ACME.replace("[\"PROFILE\", \"profile.v2\"]", "7"), "a text in quotation marks"),
        (
            ACME.replace("Ready = \"RELEASED\"", "Ready = \"READY\""),
            "a state must be one of PREPARING",
        ),
        (
            ACME.replace("Off = \"DISABLED\"", "Off = { state = \"DISABLED\", enabled = true }"),
            "`enabled` goes with",
        ),
        (
            ACME.replace("Off = \"DISABLED\"", "Off = { state = \"INSTALLED\", enabled = false }"),
            "is DISABLED",
        ),
        (ACME.replace("Gone = ", "ready = "), "two meanings"),
        (ACME.replace("\"Paid\"", "\"READY\""), "two meanings"),
        (ACME.replace("\"Paid\"", "\" \""), "1 to 64 bytes"),
        (ACME.replace("\"milliseconds\"", "\"ms\""), "rfc3339"),
        (ACME.replace("event_id = \"/id\"", "id = \"/id\""), "unknown field"),
        (ACME.replace("state = \"/data/status\"", ""), "missing field"),
        (format!("{ACME}outcome = \"ignored\""), "either a state or an outcome"),
        (ACME.replace("iccid = \"8991000000000034562\"\n", ""), "says the iccid too"),
        (ACME.replace("20.25Z", "20.25"), "occurred_at of a sample is not an RFC 3339"),
    ] {
        assert_ne!(text, ACME, "{expected}");
        let refused = declare(&text).unwrap_err();
        assert!(refused.contains(expected), "`{expected}` is not in: {refused}");
    }
    let empty = "states = { Ready = \"RELEASED\"";
    let (before, rest) = ACME.split_once(empty).unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let refused = declare(&format!("{before}states = {{}}\n{after}")).unwrap_err();
    assert!(refused.contains("states is empty"), "{refused}");
}

#[test]
fn the_declaration_in_the_documentation_holds() {
    let page = include_str!("../../../docs/providers.md");
    let (_, rest) = page.split_once("```toml\n   [[providers]]").unwrap();
    let (toml, rest) = rest.split_once("```").unwrap();
    let declared = declare(&format!("[[providers]]{}", toml.replace("\n   ", "\n"))).unwrap();
    let (_, sample) = toml.split_once("body = '''\n").unwrap();
    let (body, _) = sample.split_once("'''").unwrap();
    let shown = becomes(&declared, body);
    let (_, printed) = rest.split_once("# by acme\n").unwrap();
    let (printed, _) = printed.split_once("   ```").unwrap();
    assert_eq!(printed.replace("   ", ""), shown, "what doctor prints");
}

#[test]
fn a_life_is_played_from_the_first_sample_and_read_back() {
    let acme = acme();
    let life = ["Ready", "3", "On", "Off", "On", "Gone"];
    assert_eq!(acme.lifecycle(), life);
    let roamify = Providers::built_in().unwrap().declared().next().unwrap();
    let life = ["NEW", "DOWNLOADED", "INSTALLED", "ACTIVATED", "INACTIVE", "ACTIVATED", "DELETED"];
    assert_eq!(roamify.lifecycle(), life);
    let iccid = "89972123300991848961";
    for (word, eid) in [("Off", Some("89049032000000000000000000000002")), ("3", None)] {
        let sample = Sample { iccid, raw_state: word, eid, imsi: None, at: noon() };
        let body = acme.compose(&sample);
        let reading = acme.read(body.as_bytes(), noon()).unwrap();
        let report = reading.report().unwrap();
        assert_eq!((report.iccid.as_str(), report.raw_state.as_str()), (iccid, word));
        assert_eq!((report.eid.as_ref().map(Eid::as_str), &report.imsi), (eid, &None));
        assert_eq!(report.occurred_at, Some(noon()));
        assert_eq!(reading.event_id.unwrap().as_str(), "1795435200000000");
        assert!(body.contains(r#""created_at":1795435200000,"#), "a number stays a number: {body}");
    }
}

#[test]
fn a_body_that_names_nothing_is_a_portals_test() {
    use crate::delivery::{Authenticator, Delivery, Scheme};
    let is_test = |body: &str| {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        let (hook, headers) = (std::sync::Arc::from("acme/events"), http::HeaderMap::new());
        let delivery = Delivery::new(uuid::Uuid::nil(), noon(), hook, None, headers, body);
        acme().is_test(&Authenticator::new(Scheme::None).check(delivery).unwrap())
    };
    assert!(["", " ", "{}", r#"{"event":"ping"}"#].into_iter().all(is_test));
    let faults = ["{", "[]", r#"{"iccid":"1"}"#, r#"{"data":{"status":"On"}}"#];
    assert!(!faults.into_iter().any(is_test));
}

#[test]
fn the_built_in_declarations_hold_and_none_replaces_an_adapter_in_code() {
    let mut providers = Providers::built_in().unwrap();
    assert_eq!(providers.slugs(), ["gigastore", "esim-access", "esim-go", "simlessly", "roamify"]);
    providers.declare(acme()).unwrap();
    providers.declare(declare(&ACME.replace("\"acme\"", "\"roamify\"")).unwrap()).unwrap();
    assert_eq!(
        providers.slugs(),
        ["gigastore", "esim-access", "esim-go", "simlessly", "acme", "roamify"]
    );
    assert_eq!(providers.declared().map(Declared::samples).collect::<Vec<_>>(), [1, 1]);
    let taken = declare(&ACME.replace("\"acme\"", "\"gigastore\"")).unwrap();
    let refused = providers.declare(taken).unwrap_err().to_string();
    assert!(refused.contains("gigastore has an adapter in code"), "{refused}");
}

/// JSON values, some of which have the members that declarations look for.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value as Json;
    let words = ["esim", "status", "usage", "ACTIVATED", "installed", "EXPIRED", "On", ICCID, ""];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        Just(Json::from(8_991_000_000_000_034_562_u64)),
        Just(Json::from(1_700_000_000)),
        prop::sample::select(words.to_vec()).prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        "[0-9]{17,23}F?".prop_map(Json::from),
    ];
    let names = ["event_category", "event_type", "data", "iccid", "status", "timestamp", "id", "x"];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(name, inner, 0..7)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Bodies near Roamify's: the right kind of event, and anything else in the places of its members.
fn near_roamify() -> impl Strategy<Value = serde_json::Value> {
    (any_json(), any_json(), any_json(), any_json()).prop_map(|(iccid, status, timestamp, data)| {
        serde_json::json!({
            "event_category": "esim", "event_type": "status",
            "iccid": iccid, "status": status, "timestamp": timestamp, "data": data,
        })
    })
}

/// Every text and number of a JSON value.
fn leaves(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Number(number) => into.push(number.to_string()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
        serde_json::Value::Object(members) => members.values().for_each(|it| leaves(it, into)),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

proptest! {
    #[test]
    fn whatever_is_read_was_in_the_body_and_reasons_show_nothing_of_it(
        body in prop_oneof![any_json(), near_roamify()],
    ) {
        let roamify = Providers::built_in().unwrap().declared().next().unwrap();
        let reading = roamify.read(body.to_string().as_bytes(), noon());
        let mut texts = Vec::new();
        leaves(&body, &mut texts);
        let was_sent = |iccid: &Iccid| {
            texts.iter().any(|text| matches!(text.strip_prefix(iccid.as_str()), Some("" | "F" | "f")))
        };
        let reasons = match &reading {
            Err(Malformed { reason, iccid }) => {
                prop_assert!(iccid.as_ref().is_none_or(was_sent));
                vec![reason.clone()]
            }
            Ok(Reading { content: Content::Ignored { iccid, reason, .. }, .. }) => {
                prop_assert!(iccid.as_ref().is_none_or(was_sent));
                vec![reason.clone()]
            }
            Ok(reading) => {
                let report = reading.report().unwrap();
                prop_assert!(was_sent(&report.iccid));
                prop_assert!(texts.iter().any(|it| it.trim().starts_with(report.raw_state.trim())));
                let word = report.claim.is_none_or(|claim| roamify.words[&plain(&report.raw_state)].claim == Some(claim));
                prop_assert!(word && report.occurred_at.is_none_or(|at| at.as_datetime().year() >= 2010));
                report.remarks.clone()
            }
        };
        for reason in reasons {
            let shown = texts.iter().filter(|text| text.len() > 8).find(|text| reason.contains(*text));
            prop_assert!(shown.is_none(), "{reason}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = acme().read(&body, noon());
    }

    #[test]
    fn no_declaration_makes_it_panic(place in any::<prop::sample::Index>(), text in "[ -~\n]{0,6}") {
        let at = place.index(ACME.len());
        let _ = declare(&format!("{}{text}{}", &ACME[..at], &ACME[(at + text.len()).min(ACME.len())..]));
    }
}
