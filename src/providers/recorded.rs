//! Compares every body in `tests/fixtures/<provider>/` with its expected reading, in `readings.snap` beside them.
//!
//! To add a case, add a file: `<case>.json`, or `<case>.bin` if it is not JSON. If the adapter reads headers, put them
//! into `<case>.headers`, one `name: value` a line. After an intended change, run `INSTA_UPDATE=always cargo test recorded` and check the
//! difference.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use super::{Content, Malformed, Provider, Providers, Reading};
use crate::delivery::{AuthenticDelivery, Authenticator, Delivery, EventId, Scheme, may_be_stored};
use crate::domain::{Connection, Country, Eid, Iccid, Imsi, Timestamp};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A longer word is shown by its length.
const LONG: usize = 80;

fn delivery(provider: &dyn Provider, headers: HeaderMap, body: Vec<u8>) -> AuthenticDelivery {
    let received_at = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
    let (hook, body) = (Arc::from("test/test"), Bytes::from(body));
    let delivery = Delivery::new(Uuid::nil(), received_at, hook, None, headers, body);
    Authenticator::new(Scheme::None).check(delivery.also_storing(provider.headers())).unwrap()
}

/// The headers in the file beside a recorded body; none if there is no such file.
fn recorded_headers(case: &Path) -> HeaderMap {
    let text = fs::read_to_string(case.with_extension("headers")).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_once(": ").expect("name: value"));
    lines
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

/// The recorded bodies of a provider.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut cases: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json" || it == "bin"))
        .collect();
    cases.sort();
    cases
}

/// The reading as lines of text, with identifiers in full.
fn shown(reading: &Result<Reading, Malformed>) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    match reading {
        Err(Malformed { reason, iccid }) => {
            writeln!(text, "  malformed: {reason}")?;
            writeln!(text, "  iccid: {}", iccid.as_ref().map_or("-", Iccid::as_str))?;
        }
        Ok(Reading { content: Content::Ignored { reason, iccid, uid }, event_id }) => {
            writeln!(text, "  ignored: {reason}")?;
            writeln!(text, "  iccid: {}", iccid.as_ref().map_or("-", Iccid::as_str))?;
            if let Some(uid) = uid {
                writeln!(text, "  uid: {uid}")?;
            }
            event_id_shown(&mut text, event_id.as_ref())?;
        }
        Ok(Reading { content: Content::Connection(connection), event_id }) => {
            let Connection { iccid, imsi, country, remarks, .. } = connection;
            writeln!(text, "  connected: {}", country.as_ref().map_or("-", Country::as_str))?;
            writeln!(text, "  iccid: {}", iccid.as_str())?;
            writeln!(text, "  imsi: {}", imsi.as_ref().map_or("-", Imsi::as_str))?;
            event_id_shown(&mut text, event_id.as_ref())?;
            for remark in remarks {
                writeln!(text, "  remark: {remark}")?;
            }
        }
        Ok(Reading { content: Content::Report(report), event_id }) => {
            match report.claim {
                Some(claim) => writeln!(text, "  claim: {} {:?}", claim.state, claim.enabled)?,
                None => writeln!(text, "  claim: -")?,
            }
            match report.raw_state.len() {
                ..=LONG => writeln!(text, "  raw_state: {:?}", report.raw_state)?,
                long => writeln!(text, "  raw_state: {long} bytes")?,
            }
            writeln!(text, "  iccid: {}", report.iccid.as_str())?;
            writeln!(text, "  eid: {}", report.eid.as_ref().map_or("-", Eid::as_str))?;
            writeln!(text, "  imsi: {}", report.imsi.as_ref().map_or("-", Imsi::as_str))?;
            if let Some(device) = &report.device {
                writeln!(text, "  device: {}", device.to_json())?;
            }
            if let Some(at) = report.occurred_at {
                writeln!(text, "  occurred_at: {at}")?;
            }
            event_id_shown(&mut text, event_id.as_ref())?;
            for remark in &report.remarks {
                writeln!(text, "  remark: {remark}")?;
            }
        }
    }
    Ok(text)
}

fn event_id_shown(text: &mut String, event_id: Option<&EventId>) -> std::fmt::Result {
    event_id.map_or(Ok(()), |event_id| writeln!(text, "  event_id: {}", event_id.as_str()))
}

fn assert_readings(provider: &dyn Provider) {
    let folder = Path::new(FIXTURES).join(provider.slug());
    let cases = cases(&folder);
    assert!(
        !cases.is_empty(),
        "the provider {slug} has no recorded bodies: add one <case>.json to tests/fixtures/{slug}/ for each thing that \
         it sends, run `INSTA_UPDATE=always cargo test --lib recorded`, and check what readings.snap says of them",
        slug = provider.slug(),
    );
    let mut text = String::new();
    for case in cases {
        let reading =
            provider.parse(&delivery(provider, recorded_headers(&case), fs::read(&case).unwrap()));
        if let Some(report) = reading.as_ref().ok().and_then(Reading::report) {
            assert_eq!(report.provider, provider.slug());
        }
        let name = case.file_name().unwrap().to_str().unwrap();
        writeln!(text, "{name}\n{}", shown(&reading).unwrap()).unwrap();
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("readings", text));
}

#[test]
fn the_recorded_bodies_of_every_provider_are_read_as_expected() {
    Providers::built_in().unwrap().all().for_each(assert_readings);
}

#[test]
fn every_declared_header_can_be_stored() {
    for provider in Providers::built_in().unwrap().all() {
        for name in provider.headers() {
            assert!(HeaderName::from_lowercase(name.as_bytes()).is_ok(), "{name}");
            assert!(may_be_stored(name), "{name} may hold credentials and is not stored");
        }
    }
}

#[test]
fn every_provider_reads_what_it_composes() {
    let (iccid, eid) = ("89972123300991848961", "89049032123451234512345678901235");
    let imsi = "001010123456789";
    let at = Timestamp::parse("2026-11-23T09:59:00Z").unwrap();
    for provider in Providers::built_in().unwrap().all() {
        let Some(simulator) = provider.simulator() else { continue };
        for raw_state in simulator.lifecycle() {
            let sample = super::Sample { iccid, raw_state, eid: Some(eid), imsi: Some(imsi), at };
            let body = simulator.compose(&sample);
            let reading =
                provider.parse(&delivery(provider, HeaderMap::new(), body.clone().into_bytes()));
            let report = reading.as_ref().ok().and_then(Reading::report);
            let Some(report) = report else { panic!("{reading:?}") };
            assert_eq!((report.iccid.as_str(), report.raw_state.as_str()), (iccid, raw_state));
            assert!(report.claim.is_some(), "{raw_state}");
            // Not every provider names the device or the subscription. One that does is read.
            let composed = |text| body.contains(text).then_some(text);
            assert_eq!(report.eid.as_ref().map(Eid::as_str), composed(eid));
            assert_eq!(report.imsi.as_ref().map(Imsi::as_str), composed(imsi));
        }
        let Some(body) = simulator.compose_connection(iccid, Some(imsi), "PL") else { continue };
        let content = provider.parse(&delivery(provider, HeaderMap::new(), body.into_bytes()));
        let Ok(Reading { content: Content::Connection(connected), .. }) = content else {
            panic!("{content:?}")
        };
        assert_eq!((connected.iccid.as_str(), connected.country), (iccid, Country::parse("PL")));
        assert_eq!(connected.imsi.as_ref().map(Imsi::as_str), Some(imsi));
    }
}
