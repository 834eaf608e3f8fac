//! The oracle: the rules of every scheme, implemented a second time: which requests may be accepted, and how a sender
//! signs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esim_status_fuzz::delivery::{
    AccessKey, Authenticator, Encoding, NotAuthentic, Scheme, Secrets, StandardSecrets,
};
use esim_status_fuzz::domain::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use sha2::Sha256;

const TEXTS: [&str; 3] = ["9f2c41d07be8835a6610fe7c", "kx81-vq02/mz77 ra40ü", "0c5d99e1a27b46f3d8"];
const STANDARDS: [&str; 3] = [
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "zqFhFpnqEWwyBNbwnkKZvwXj2MVqYwbS",
];

/// The access key of the hook with Simlessly's signature.
const ACCESS_KEY: &str = "ak-204417";

/// How many of a hook's keys are live; the keys after them are wrong.
const LIVE: usize = 2;

/// A hook, and what the oracle knows about it.
pub(crate) struct Hook {
    pub(crate) kind: Kind,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) authenticator: Authenticator,
}

pub(crate) enum Kind {
    Url,
    Header(&'static str),
    Hmac { header: &'static str, hex: bool, base64: bool, prefix: &'static str },
    Standard,
    Simlessly,
    None,
}

/// A request after all edits.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) received_at: i64,
    pub(crate) received: Timestamp,
}

impl Request {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(it, _)| it == name).map(|(_, value)| &value[..]).collect()
    }

    fn one(&self, name: &str) -> Result<&[u8], &'static str> {
        match self.all(name)[..] {
            [value] => Ok(value),
            _ => Err("a header with credentials does not occur exactly once"),
        }
    }
}

impl Kind {
    /// The header that contains a secret or a signature.
    pub(crate) fn proving_header(&self) -> Option<&'static str> {
        match self {
            Self::Header(header) | Self::Hmac { header, .. } => Some(header),
            Self::Standard => Some("webhook-signature"),
            Self::Simlessly => Some("signature"),
            Self::Url | Self::None => None,
        }
    }

    fn needs(&self) -> Vec<&'static str> {
        match self {
            Self::Standard => vec!["webhook-id", "webhook-timestamp", "webhook-signature"],
            Self::Simlessly => vec!["timestamp", "request-id", "access-key", "signature"],
            other => other.proving_header().into_iter().collect(),
        }
    }

    fn scheme(&self) -> Scheme {
        let secrets = || Secrets::parse("fuzz", &TEXTS[..LIVE]).expect("fit secrets");
        let name = HeaderName::from_static;
        match *self {
            Self::Url => Scheme::UrlSecret(secrets()),
            Self::Header(header) => Scheme::Header { name: name(header), secrets: secrets() },
            Self::Hmac { header, hex, base64, prefix } => Scheme::HmacSha256 {
                header: name(header),
                encoding: match (hex, base64) {
                    (true, false) => Encoding::Hex,
                    (false, _) => Encoding::Base64,
                    (true, true) => Encoding::Either,
                },
                prefix: prefix.to_owned(),
                secrets: secrets(),
            },
            Self::Standard => {
                let texts = STANDARDS[..LIVE].iter().map(|key| format!("whsec_{key}"));
                Scheme::StandardWebhooks(StandardSecrets::parse("fuzz", texts).expect("fit"))
            }
            Self::Simlessly => Scheme::Simlessly {
                access_key: AccessKey::parse(ACCESS_KEY).expect("fit"),
                secrets: secrets(),
            },
            Self::None => Scheme::None,
        }
    }
}

/// A hook for every scheme, for some schemes with several configurations.
pub(crate) fn hooks() -> Vec<Hook> {
    let hmac = |header, hex, base64, prefix| Kind::Hmac { header, hex, base64, prefix };
    let kinds = [
        Kind::Url,
        Kind::Header("x-webhook-token"),
        Kind::Header("user-agent"),
        hmac("x-signature", true, false, ""),
        hmac("x-hub-signature-256", true, false, "sha256="),
        hmac("x-signature", false, true, ""),
        hmac("x-signature", true, true, "sha256="),
        Kind::Standard,
        Kind::Simlessly,
        Kind::None,
    ];
    let hook = |kind: Kind| {
        let keys = match kind {
            Kind::Standard => STANDARDS.map(|key| STANDARD.decode(key).expect("base64")).to_vec(),
            _ => TEXTS.map(|text| text.as_bytes().to_vec()).to_vec(),
        };
        Hook { authenticator: Authenticator::new(kind.scheme()), kind, keys }
    };
    kinds.into_iter().map(hook).collect()
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn standard_signature(key: &[u8], id: &[u8], timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    let signed = [id, timestamp, body].join(&b'.');
    format!("v1,{}", STANDARD.encode(mac(key, &signed))).into_bytes()
}

/// Adds the credentials that a sender with `key` would send.
pub(crate) fn prove(hook: &Hook, key: &[u8], id: &str, sent_at: &str, request: &mut Request) {
    let mut add = |name: &str, value: Vec<u8>| request.headers.push((name.to_owned(), value));
    match hook.kind {
        Kind::Url => request.path = Some(String::from_utf8_lossy(key).into_owned()),
        Kind::Header(header) => add(header, key.to_vec()),
        Kind::Hmac { header, hex, base64, prefix } => {
            let mac = mac(key, &request.body);
            // If both encodings are accepted, the length of the body decides, so that both occur.
            let as_hex = hex && !(base64 && request.body.len().is_multiple_of(2));
            let text = if as_hex { hex::encode(mac) } else { STANDARD.encode(mac) };
            add(header, format!("{prefix}{text}").into_bytes());
        }
        Kind::Standard => {
            let timestamp = sent_at.as_bytes().to_vec();
            let signature = standard_signature(key, id.as_bytes(), &timestamp, &request.body);
            add("webhook-id", id.as_bytes().to_vec());
            add("webhook-timestamp", timestamp);
            add("webhook-signature", signature);
        }
        Kind::Simlessly => {
            let milliseconds = sent_at.parse::<i64>().ok().and_then(|it| it.checked_mul(1_000));
            let time = milliseconds.map_or_else(|| sent_at.to_owned(), |it| it.to_string());
            let signed = format!("{time}{id}{ACCESS_KEY}").into_bytes();
            let mac = mac(key, &[signed, request.body.clone()].concat());
            add("timestamp", time.into_bytes());
            add("request-id", id.as_bytes().to_vec());
            add("access-key", ACCESS_KEY.as_bytes().to_vec());
            add("sign-method", b"SHA256".to_vec());
            add("signature", hex::encode(mac).into_bytes());
        }
        Kind::None => {}
    }
}

/// Whether the request may be accepted, and with which event id; or why not.
pub(crate) fn judge(hook: &Hook, request: &Request) -> Result<Option<String>, &'static str> {
    let live = &hook.keys[..LIVE];
    if !matches!(hook.kind, Kind::Url) && request.path.is_some() {
        return Err("a secret is in the path of a hook that expects none");
    }
    let holds = match hook.kind {
        Kind::Url => {
            live.iter().any(|key| request.path.as_ref().is_some_and(|path| path.as_bytes() == key))
        }
        Kind::Header(header) => {
            let given = request.one(header)?;
            live.iter().any(|key| key == given)
        }
        Kind::Hmac { header, hex, base64, prefix } => {
            let given = request.one(header)?;
            live.iter().any(|key| {
                let mac = mac(key, &request.body);
                let padded = format!("{prefix}{}", STANDARD.encode(&mac));
                let (head, tail) = given.split_at(given.len().min(prefix.len()));
                (hex && head == prefix.as_bytes()
                    && tail.eq_ignore_ascii_case(hex::encode(&mac).as_bytes()))
                    || (base64
                        && [padded.as_bytes(), padded.trim_end_matches('=').as_bytes()]
                            .contains(&given))
            })
        }
        Kind::Standard => return judge_standard(live, request).map(Some),
        Kind::Simlessly => return judge_simlessly(live, request).map(Some),
        Kind::None => true,
    };
    if holds { Ok(None) } else { Err("no live secret matches the credentials") }
}

fn judge_standard(live: &[Vec<u8>], request: &Request) -> Result<String, &'static str> {
    let id = request.one("webhook-id")?;
    let timestamp = request.one("webhook-timestamp")?;
    let signatures = request.one("webhook-signature")?;
    if id.is_empty()
        || id.len() > 256
        || id.iter().any(|byte| !(0x21..0x7F).contains(byte) || *byte == b'.')
    {
        return Err("the id is malformed");
    }
    let text = str::from_utf8(timestamp).map_err(|_| "the time is malformed")?;
    let sent_at: i64 = text.parse().map_err(|_| "the time is malformed")?;
    if sent_at <= 0 || sent_at.to_string() != text || text.len() > 18 {
        return Err("the time is malformed");
    }
    let entries: Vec<_> = signatures.split(|byte| *byte == b' ').collect();
    if entries.len() > 16 || signatures.iter().any(|byte| !(0x20..0x7F).contains(byte)) {
        return Err("the list of signatures is malformed");
    }
    let signed = |key: &Vec<u8>| {
        entries.contains(&&standard_signature(key, id, timestamp, &request.body)[..])
    };
    if !live.iter().any(signed) {
        return Err("no live secret matches the credentials");
    }
    if (request.received_at - sent_at).abs() > 300 {
        return Err("the signature is too old or too new");
    }
    Ok(String::from_utf8_lossy(id).into_owned())
}

fn judge_simlessly(live: &[Vec<u8>], request: &Request) -> Result<String, &'static str> {
    let [timestamp, id, access_key, signature] =
        ["timestamp", "request-id", "access-key", "signature"].map(|name| request.one(name));
    let (timestamp, id, access_key, signature) = (timestamp?, id?, access_key?, signature?);
    match request.all("sign-method")[..] {
        [] => {}
        [method] if method.eq_ignore_ascii_case(b"sha256") => {}
        _ => return Err("the method is another, or given twice"),
    }
    if id.is_empty() || id.len() > 256 || id.iter().any(|b| !(0x21..0x7F).contains(b) || *b == b'{')
    {
        return Err("the id is malformed");
    }
    let text = str::from_utf8(timestamp).map_err(|_| "the time is malformed")?;
    let sent_at: i64 = text.parse().map_err(|_| "the time is malformed")?;
    if sent_at <= 0 || sent_at.to_string() != text || text.len() > 18 {
        return Err("the time is malformed");
    }
    let signed = [timestamp, id, access_key, &request.body].concat();
    let is_by =
        |key: &Vec<u8>| signature.eq_ignore_ascii_case(hex::encode(mac(key, &signed)).as_bytes());
    if access_key != ACCESS_KEY.as_bytes() || !live.iter().any(is_by) {
        return Err("no live secret matches the credentials");
    }
    let received = request.received.as_datetime().unix_timestamp_nanos().div_euclid(1_000_000);
    if (received - i128::from(sent_at)).abs() > 600_000 {
        return Err("the signature is too old or too new");
    }
    Ok(String::from_utf8_lossy(id).into_owned())
}

/// The reason of a refusal is for operators, so it must point to the actual cause.
pub(crate) fn assert_reason_holds(hook: &Hook, request: &Request, refusal: NotAuthentic) {
    let counts: Vec<_> = hook.kind.needs().into_iter().map(|it| request.all(it).len()).collect();
    let holds = match refusal {
        NotAuthentic::Missing if matches!(hook.kind, Kind::Url) => request.path.is_none(),
        NotAuthentic::Missing => counts.contains(&0),
        NotAuthentic::Ambiguous => {
            counts.iter().any(|count| *count > 1) || request.all("sign-method").len() > 1
        }
        NotAuthentic::Stale => judge(hook, request) == Err("the signature is too old or too new"),
        NotAuthentic::Wrong | NotAuthentic::Garbled => {
            let path_counts = request.path.is_some() && refusal == NotAuthentic::Wrong;
            path_counts || counts.iter().all(|count| *count == 1)
        }
    };
    assert!(holds, "refused as {refusal:?}: {request:?}");
}
