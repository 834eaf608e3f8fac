//! Uses the `standardwebhooks` crate as an oracle for [`standard_webhooks`](super::standard_webhooks): both get the
//! same request and must give the same answer, except for the differences that are listed there.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use std::sync::Arc;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Authenticator, Delivery, NotAuthentic, Scheme, StandardSecrets};
use crate::domain::Timestamp;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// A request. Its times are relative to the moment of the check, because the oracle reads the clock itself.
#[derive(Debug, Clone)]
struct Request {
    id: String,
    offset: i64,
    timestamp: TimestampForm,
    entries: Vec<Entry>,
    separator: &'static str,
    body: String,
    /// The index of a header that is repeated.
    twice: Option<usize>,
}

#[derive(Debug, Clone)]
enum TimestampForm {
    Plain,
    Plus,
    Zeros,
    Fraction,
    Milliseconds,
    Negative,
    Other(String),
}

#[derive(Debug, Clone)]
enum Entry {
    Right,
    WrongKey,
    OtherVersion,
    Unpadded,
    Cut(usize),
    Text(String),
}

fn request() -> impl Strategy<Value = Request> {
    let id = prop_oneof![
        6 => "[!-~&&[^.]]{1,40}",
        1 => "[ -~\t]{0,20}",
        1 => "[a-z.]{1,10}",
        1 => "[a-z]{250,260}",
    ];
    let offset = prop_oneof![
        4 => -290..290i64,
        2 => prop::sample::select(vec![-302, -301, -300, -299, 299, 300, 301, 302]),
        1 => -100_000..100_000i64,
    ];
    let timestamp = prop_oneof![
        12 => Just(TimestampForm::Plain),
        1 => Just(TimestampForm::Plus),
        1 => Just(TimestampForm::Zeros),
        1 => Just(TimestampForm::Fraction),
        1 => Just(TimestampForm::Milliseconds),
        1 => Just(TimestampForm::Negative),
        1 => "[0-9+. -]{0,20}".prop_map(TimestampForm::Other),
    ];
    let entry = prop_oneof![
        4 => Just(Entry::Right),
        1 => Just(Entry::WrongKey),
        1 => Just(Entry::OtherVersion),
        1 => Just(Entry::Unpadded),
        1 => (0..47usize).prop_map(Entry::Cut),
        1 => "[ -~]{0,10}".prop_map(Entry::Text),
    ];
    let entries = prop_oneof![
        8 => prop::collection::vec(entry.clone(), 0..4),
        1 => prop::collection::vec(entry, 13..20),
    ];
    let separator = prop_oneof![12 => Just(" "), 1 => Just("  "), 1 => Just("\t"), 1 => Just(",")];
    let twice = prop_oneof![6 => Just(None), 1 => (0..3usize).prop_map(Some)];
    (id, offset, timestamp, entries, separator, any::<String>(), twice).prop_map(
        |(id, offset, timestamp, entries, separator, body, twice)| Request {
            id,
            offset,
            timestamp,
            entries,
            separator,
            body,
            twice,
        },
    )
}

impl Request {
    fn headers(&self, now: i64) -> HeaderMap {
        let at = now + self.offset;
        let timestamp = match &self.timestamp {
            TimestampForm::Plain => at.to_string(),
            TimestampForm::Plus => format!("+{at}"),
            TimestampForm::Zeros => format!("000{at}"),
            TimestampForm::Fraction => format!("{at}.0"),
            TimestampForm::Milliseconds => format!("{at}000"),
            TimestampForm::Negative => format!("-{at}"),
            TimestampForm::Other(text) => text.clone(),
        };
        let signed = timestamp.parse().unwrap_or(at);
        let entries = self.entries.iter().map(|entry| self.signature(entry, signed));
        let signature = entries.collect::<Vec<_>>().join(self.separator);

        let mut headers = HeaderMap::new();
        for (name, value) in HEADERS.into_iter().zip([&self.id, &timestamp, &signature]) {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        if let Some(index) = self.twice {
            headers.append(HEADERS[index], HeaderValue::from_static("another"));
        }
        headers
    }

    fn signature(&self, entry: &Entry, timestamp: i64) -> String {
        let by = |secret: &str| {
            let webhook = standardwebhooks::Webhook::new(secret).unwrap();
            webhook.sign(&self.id, timestamp, self.body.as_bytes()).unwrap()
        };
        match entry {
            Entry::Right => by(SECRET),
            Entry::WrongKey => by(OTHER),
            Entry::OtherVersion => by(SECRET).replacen("v1", "v2", 1),
            Entry::Unpadded => by(SECRET).trim_end_matches('=').to_owned(),
            Entry::Cut(length) => by(SECRET)[..*length].to_owned(),
            Entry::Text(text) => text.clone(),
        }
    }

    fn ours(&self, headers: HeaderMap, now: OffsetDateTime) -> Result<(), NotAuthentic> {
        let secrets = StandardSecrets::parse("test", [SECRET]).unwrap();
        let (hook, received_at) = (Arc::from("test/hook"), Timestamp::from_datetime(now));
        let body = self.body.clone().into();
        let delivery = Delivery::new(Uuid::nil(), received_at, hook, None, headers, body);
        Authenticator::new(Scheme::StandardWebhooks(secrets)).check(delivery).map(drop)
    }

    fn theirs(&self, headers: &HeaderMap) -> bool {
        let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
        webhook.verify(self.body.as_bytes(), headers).is_ok()
    }
}

/// The list in the module's documentation, as code.
fn stricter(headers: &HeaderMap) -> Vec<&'static str> {
    let [id, timestamp, signature] = HEADERS.map(|name| headers[name].to_str().unwrap());
    let mut reasons = Vec::new();
    if headers.len() > HEADERS.len() {
        reasons.push("a header twice");
    }
    if !(1..=256).contains(&id.len()) || id.contains(['.', ' ', '\t']) {
        reasons.push("the shape of the id");
    }
    if timestamp.starts_with(['+', '0']) {
        reasons.push("the shape of the timestamp");
    }
    if signature.split(' ').count() > 16 {
        reasons.push("more than 16 entries");
    }
    reasons
}

/// Reads the clock before and after the question, and asks again if a second has ended in between.
#[expect(clippy::disallowed_methods, reason = "the oracle reads the clock and takes no time")]
fn within_one_second<T>(ask: impl Fn(OffsetDateTime) -> T) -> T {
    loop {
        let before = OffsetDateTime::now_utc();
        let answer = ask(before);
        if OffsetDateTime::now_utc().unix_timestamp() == before.unix_timestamp() {
            return answer;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn we_accept_what_the_oracle_accepts_but_for_the_documented_differences(request in request()) {
        let (headers, ours, theirs) = within_one_second(|now| {
            let headers = request.headers(now.unix_timestamp());
            let (ours, theirs) = (request.ours(headers.clone(), now), request.theirs(&headers));
            (headers, ours, theirs)
        });
        let reasons = stricter(&headers);
        prop_assert_eq!(ours.is_ok(), theirs && reasons.is_empty(), "{:?} {:?} {:?}", ours, theirs, reasons);
    }
}

#[test]
fn the_generator_makes_requests_of_every_kind() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut refused, mut stricter_only) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..2_000 {
        let request = request().new_tree(&mut runner).unwrap().current();
        let (reasons, theirs) = within_one_second(|now| {
            let headers = request.headers(now.unix_timestamp());
            (stricter(&headers), request.theirs(&headers))
        });
        match (theirs, &reasons[..]) {
            (true, []) => accepted += 1,
            (true, [only]) => drop(stricter_only.insert(*only)),
            (true, _) => {}
            (false, _) => refused += 1,
        }
    }
    assert!(accepted > 200 && refused > 200, "{accepted} accepted, {refused} refused");
    assert_eq!(stricter_only.len(), 4, "{stricter_only:?}");
}
