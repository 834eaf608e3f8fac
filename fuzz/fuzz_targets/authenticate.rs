//! Requests to hooks of every scheme: some are random, most have valid credentials and are then edited. The service
//! accepts exactly the requests that the oracle, a second implementation of each scheme's rules, accepts.

#![no_main]

mod oracle;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use bytes::Bytes;
use esim_status_fuzz::delivery::{AuthenticDelivery, Delivery};
use esim_status_fuzz::domain::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use oracle::{Hook, Kind, Request};
use uuid::Uuid;

/// The max number of edits to one request.
const MAX_EDITS: usize = 24;

/// The max length that edits may extend a value to.
const MAX_BYTES: usize = 20_000;

static HOOKS: LazyLock<Vec<Hook>> = LazyLock::new(oracle::hooks);

/// Every header that carries credentials at some hook, two that are stored, and some others.
const NAMES: [&str; 15] = [
    "x-webhook-token",
    "user-agent",
    "x-signature",
    "x-hub-signature-256",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "timestamp",
    "request-id",
    "access-key",
    "sign-method",
    "signature",
    "authorization",
    "content-type",
    "x-request-id",
];

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    hook: u8,
    /// The signer: it has the first secret, the second, a wrong one, or does not sign.
    signer: u8,
    unpadded: bool,
    id: Option<&'a str>,
    received: i64,
    sent: Sent<'a>,
    edits: Vec<Edit<'a>>,
    body: &'a [u8],
}

/// When the request was sent, relative to when it was received.
#[derive(Debug, Arbitrary)]
enum Sent<'a> {
    Now,
    /// Now, with leading zeros.
    Zeros(u8),
    /// Any text, which may not be a time, but is signed.
    Text(&'a str),
    /// About as many minutes before or after as the hook tolerates.
    Edge(bool, i8),
    Anywhere(i64),
}

#[derive(Debug, Arbitrary)]
enum Edit<'a> {
    Path(Option<&'a str>),
    SecretInPath(u8),
    SecretInHeader(u8, u8),
    Add(u8, &'a [u8]),
    AddInFront(u8, &'a [u8]),
    AddSame(u8),
    Remove(u8),
    Swap(u8, u8),
    Append(u8, &'a [u8], u8),
    Prepend(u8, &'a [u8]),
    /// Repeats the first entry of a list this often.
    Repeat(u8, u8),
    CutFront(u8, u8),
    Flip(u8, u16, u8),
    Cut(u8, u16),
    SwapCase(u8, u16),
    FlipBody(u16, u8),
    CutBody(u16),
}

fuzz_target!(|input: Input<'_>| {
    let hook = &HOOKS[usize::from(input.hook) % HOOKS.len()];
    let mut request = input.request(hook);
    for edit in input.edits.iter().take(MAX_EDITS) {
        edit.apply(hook, &mut request);
    }
    let headers = header_map(&mut request);

    let expected = oracle::judge(hook, &request);
    let answer = hook.authenticator.check(request.delivery(headers));
    match answer {
        Ok(authentic) => {
            let allowed = expected.unwrap_or_else(|why| panic!("accepted, but {why}: {request:?}"));
            assert_eq!(authentic.event_id(), allowed.as_deref());
            assert_sealed(hook, &request, &authentic);
        }
        Err(refusal) => {
            assert!(expected.is_err(), "refused as {refusal:?}: {request:?}");
            oracle::assert_reason_holds(hook, &request, refusal);
        }
    }
});

impl Input<'_> {
    /// A request with the credentials that the hook requires, if it is signed.
    fn request(&self, hook: &Hook) -> Request {
        let start = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        let received_at = start.plus_seconds(self.received);
        let now = received_at.unix_seconds();
        let sent_at = match self.sent {
            Sent::Now => now.to_string(),
            Sent::Zeros(count) => format!("{}{now}", "0".repeat(usize::from(count % 9))),
            Sent::Text(text) => text.to_owned(),
            Sent::Edge(before, seconds) => {
                let tolerance = if matches!(hook.kind, Kind::Simlessly) { 600 } else { 300 };
                (now + i64::from(seconds) + if before { -tolerance } else { tolerance }).to_string()
            }
            Sent::Anywhere(seconds) => now.saturating_add(seconds).to_string(),
        };
        let mut request = Request {
            path: None,
            headers: Vec::new(),
            body: self.body.to_vec(),
            received_at: received_at.unix_seconds(),
            received: received_at,
        };
        let signer = usize::from(self.signer % 4);
        if let Some(secret) = hook.keys.get(signer) {
            oracle::prove(hook, secret, self.id.unwrap_or("msg_1"), &sent_at, &mut request);
        }
        if self.unpadded {
            for (_, value) in &mut request.headers {
                while value.last() == Some(&b'=') {
                    value.pop();
                }
            }
        }
        request
    }
}

impl Edit<'_> {
    fn apply(&self, hook: &Hook, request: &mut Request) {
        let name = |index: &u8| NAMES[usize::from(*index) % NAMES.len()].to_owned();
        let headers = &mut request.headers;
        let place = |index: &u8, length: usize| usize::from(*index) % length.max(1);
        let secret = |index: &u8| hook.keys[usize::from(*index) % hook.keys.len()].clone();
        match self {
            Self::Path(text) => request.path = text.map(str::to_owned),
            Self::SecretInPath(index) => {
                request.path = Some(String::from_utf8_lossy(&secret(index)).into_owned());
            }
            Self::SecretInHeader(index, which) => headers.push((name(index), secret(which))),
            Self::Add(index, value) => headers.push((name(index), value.to_vec())),
            Self::AddInFront(index, value) => headers.insert(0, (name(index), value.to_vec())),
            Self::AddSame(index) => {
                headers.extend(headers.get(place(index, headers.len())).cloned());
            }
            Self::Remove(index) if !headers.is_empty() => {
                headers.remove(place(index, headers.len()));
            }
            Self::Swap(one, other) if !headers.is_empty() => {
                let count = headers.len();
                headers.swap(place(one, count), place(other, count));
            }
            Self::FlipBody(at, bit) => flip(&mut request.body, *at, *bit),
            Self::CutBody(length) => request.body.truncate((*length).into()),
            Self::Append(index, ..)
            | Self::Prepend(index, _)
            | Self::Repeat(index, _)
            | Self::CutFront(index, _)
            | Self::Flip(index, ..)
            | Self::Cut(index, _)
            | Self::SwapCase(index, _) => {
                let place = place(index, headers.len());
                if let Some((_, value)) = headers.get_mut(place) {
                    self.apply_to_value(value);
                }
            }
            Self::Remove(_) | Self::Swap(..) => {}
        }
    }

    fn apply_to_value(&self, value: &mut Vec<u8>) {
        match self {
            Self::Append(_, piece, times) => {
                // Up to 65,000 times, so that a long value does not need a long input.
                for _ in 0..=u32::from(*times).pow(2) {
                    if value.len() + piece.len() < MAX_BYTES {
                        value.extend_from_slice(piece);
                    }
                }
            }
            Self::Prepend(_, piece) => drop(value.splice(..0, piece.iter().copied())),
            Self::Repeat(_, times) => {
                let entry = value.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
                for _ in 0..times % 20 {
                    value.push(b' ');
                    value.extend_from_slice(&entry);
                }
            }
            Self::CutFront(_, length) => drop(value.drain(..value.len().min((*length).into()))),
            Self::Flip(_, at, bit) => flip(value, *at, *bit),
            Self::Cut(_, length) => value.truncate((*length).into()),
            Self::SwapCase(_, at) => {
                let place = usize::from(*at) % value.len().max(1);
                if let Some(byte) = value.get_mut(place).filter(|byte| byte.is_ascii_alphabetic()) {
                    *byte ^= 0x20;
                }
            }
            _ => {}
        }
    }
}

fn flip(bytes: &mut [u8], at: u16, bit: u8) {
    let place = usize::from(at) % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << (bit % 8);
    }
}

/// The headers, without those that an HTTP server would reject.
fn header_map(request: &mut Request) -> HeaderMap {
    let mut map = HeaderMap::new();
    request.headers.retain(|(name, value)| {
        let value = HeaderValue::from_bytes(value);
        let name: HeaderName = name.parse().expect("one of our header names");
        value.map(|value| map.append(name, value)).is_ok()
    });
    map
}

impl Request {
    fn delivery(&self, headers: HeaderMap) -> Delivery {
        let body = Bytes::copy_from_slice(&self.body);
        let (hook, path) = (Arc::from("test/hook"), self.path.clone());
        Delivery::new(Uuid::nil(), self.received, hook, path, headers, body)
    }
}

/// The body is what was sent, and the credentials are not stored.
fn assert_sealed(hook: &Hook, request: &Request, authentic: &AuthenticDelivery) {
    assert_eq!(
        (&authentic.body()[..], authentic.received_at()),
        (&request.body[..], request.received)
    );
    let kept: HashMap<String, String> =
        serde_json::from_str(authentic.kept_headers()).expect("a JSON object of texts");
    assert!(kept.len() <= 5);
    for (name, value) in &kept {
        assert!(value.chars().count() <= 256 && !value.contains('\0'));
        assert!(Some(&**name) != hook.kind.proving_header(), "{name} is stored");
        assert!(
            !["authorization", "webhook-signature", "x-signature", "signature"].contains(&&**name)
        );
    }
    let shown = format!("{authentic:?}");
    for secret in hook.keys.iter().filter(|_| !matches!(hook.kind, Kind::None)) {
        assert!(!shown.contains(&*String::from_utf8_lossy(secret)), "a secret is shown");
    }
}
