//! The session of a person at the console: who they are, until when, and what only they may be shown.
//!
//! A session is a sealed cookie, so no replica keeps anything. It names the API key and does not contain it: a key that is no
//! longer configured, or lost its scope, ends its sessions. Signing out notes the session's number in the database, where every
//! replica looks with each request, so a copied cookie ends with it. An ICCID never stands in a URL, where histories and access
//! logs would keep it: a sealed one does, which opens in this session only.

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use http::header;
use http::request::Parts;
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::super::AppState;
use super::super::extract::path_segment;
use super::super::middleware::ReceivedAt;
use super::super::problem::{Code, Problem};
use crate::access::{Access, Rights, Scope};
use crate::delivery::Secret;
use crate::domain::{Iccid, Timestamp};
use crate::store::ended_sessions;

/// The name of the cookie.
pub(super) const COOKIE: &str = "esim-status-console";

/// How long a session lasts, in seconds.
pub(super) const LASTS: i64 = 3_600;

const NONCE: usize = 24;

/// The bytes of a sealed session: when it ends, its id, and the mark of its API key.
const PLAIN: usize = 8 + 16 + 32;

/// What is done with the key of sessions. Each use has its own texts, so that nothing made for one is accepted by another.
const SESSION: &[u8] = b"session";
const PROFILE: &[u8] = b"profile";
const FORM: &[u8] = b"form";
const API_KEY: &[u8] = b"api key";

/// A person who has signed in with an API key for the console.
#[derive(Debug)]
pub(super) struct Session {
    /// The name of the API key.
    pub name: String,
    /// Whether the key may also change what belongs to backends.
    pub may_write: bool,
    /// When the request was received.
    pub received_at: Timestamp,
    id: [u8; 16],
    until: Timestamp,
    keys: Keys,
}

/// The profile that the path of a page names, and who looks at it.
#[derive(Debug)]
pub(super) struct Viewed {
    /// Who looks.
    pub session: Session,
    /// At which profile.
    pub iccid: Iccid,
}

impl Session {
    /// Begins a session for an API key, if it is one for the console. Returns the value of the cookie.
    pub fn begin(access: &Access, api_key: &str, now: Timestamp) -> Option<(String, String)> {
        let rights = access.api_keys.find(api_key.as_bytes())?;
        if !rights.include(Scope::Support) {
            return None;
        }
        let keys = Keys::of(access);
        let id: [u8; 16] = rand::random();
        let mut plain = now.plus_seconds(LASTS).unix_seconds().to_be_bytes().to_vec();
        plain.extend(id);
        plain.extend(keys.first().mac(API_KEY, &[api_key.as_bytes()]));
        let sealed = keys.first().seal(rand::random(), &plain, SESSION)?;
        Some((sealed, rights.name().to_owned()))
    }

    /// Opens a cookie. `None` if it is forged or has expired, or if its API key is no longer one for the console.
    fn open(access: &Access, cookie: &str, now: Timestamp) -> Option<Self> {
        let keys = Keys::of(access);
        let plain = keys.0.iter().find_map(|key| Some((key, key.open(cookie, SESSION)?)));
        let (sealed_with, plain) = plain?;
        let plain: [u8; PLAIN] = plain.try_into().ok()?;
        let (until, rest) = plain.split_first_chunk::<8>()?;
        let (id, mark) = rest.split_first_chunk::<16>()?;
        let is_of = |(secret, _): &(&Secret, &Rights)| {
            sealed_with.mac(API_KEY, &[secret.expose()]).ct_eq(mark).into()
        };
        let (_, rights) = access.api_keys.iter().find(is_of)?;
        let left = i64::from_be_bytes(*until).saturating_sub(now.unix_seconds());
        let session = Self {
            name: rights.name().to_owned(),
            may_write: rights.include(Scope::Write),
            received_at: now,
            id: *id,
            until: now.plus_seconds(left),
            keys,
        };
        (left > 0 && rights.include(Scope::Support)).then_some(session)
    }

    /// Whether its person has signed out, here or at another replica.
    async fn is_ended(&self, app: &AppState) -> Result<bool, Problem> {
        let id = &self.id;
        let read = async |connection: &mut _| ended_sessions::is_ended(connection, id).await;
        Ok(app.reads.run(read).await?)
    }

    /// Ends it, at all replicas and for every copy of its cookie.
    ///
    /// # Errors
    /// Those of a write; then it has not ended.
    pub async fn end(&self, app: &AppState) -> Result<(), Problem> {
        let end =
            async |connection: &mut _| ended_sessions::end(connection, &self.id, self.until).await;
        Ok(app.registrations.run(end).await?)
    }

    /// What stands for a profile in the URLs of this session. It is always the same for one profile, so that a browser knows a
    /// page again.
    pub fn handle(&self, iccid: &Iccid) -> String {
        let key = self.keys.first();
        let mac = key.mac(PROFILE, &[&self.id, iccid.as_str().as_bytes()]);
        let nonce = mac.first_chunk::<NONCE>().copied().unwrap_or_default();
        // Sealing a few bytes cannot fail; an empty handle opens nothing.
        key.seal(nonce, iccid.as_str().as_bytes(), &self.about_profiles()).unwrap_or_default()
    }

    /// The profile that a handle of this session stands for.
    pub fn profile(&self, handle: &str) -> Option<Iccid> {
        let about = self.about_profiles();
        let plain = self.keys.0.iter().find_map(|key| key.open(handle, &about))?;
        Iccid::parse(std::str::from_utf8(&plain).ok()?).ok()
    }

    fn about_profiles(&self) -> Vec<u8> {
        [PROFILE, &self.id].concat()
    }

    /// What every form of this session contains, so that no other site can post one.
    pub fn form_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.keys.first().mac(FORM, &[&self.id]))
    }

    /// Whether a form is of this session.
    pub fn has_made(&self, form_token: &str) -> bool {
        let Ok(given) = URL_SAFE_NO_PAD.decode(form_token) else { return false };
        self.keys.0.iter().any(|key| key.mac(FORM, &[&self.id]).ct_eq(&*given).into())
    }
}

impl FromRequestParts<AppState> for Session {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let ReceivedAt(now) = ReceivedAt::from_request_parts(parts, app).await?;
        let values = parts.headers.get_all(header::COOKIE).iter();
        let pairs = values.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(';'));
        let mut ours = pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        });
        let session = ours.find_map(|cookie| Self::open(&app.access, cookie, now));
        match session {
            Some(session) if !session.is_ended(app).await? => Ok(session),
            _ => {
                let ended = "Your session has ended: sign in again.";
                Err(Problem::because(Code::Unauthenticated, ended))
            }
        }
    }
}

impl FromRequestParts<AppState> for Viewed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let session = Session::from_request_parts(parts, app).await?;
        let handle = path_segment(parts, "profile").await.unwrap_or_default();
        let iccid = session.profile(&handle).ok_or_else(|| {
            Problem::because(
                Code::UnknownProfile,
                "The address is of another session, and opens in that one only: search for the profile again.",
            )
        })?;
        Ok(Self { session, iccid })
    }
}

/// The keys of sessions, each derived from one of the token secrets: the first seals, all of them open.
#[derive(Debug)]
struct Keys(Vec<Key>);

struct Key(Zeroizing<[u8; 32]>);

impl Keys {
    fn of(access: &Access) -> Self {
        let secrets = access.token_secrets.iter();
        Self(
            secrets
                .map(|secret| {
                    Key(Zeroizing::new(mac(secret.expose(), &[b"esim-status console 1"])))
                })
                .collect(),
        )
    }

    fn first(&self) -> &Key {
        // There is always a token secret.
        &self.0[0]
    }
}

impl Key {
    fn mac(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        mac(&*self.0, &[&[purpose], parts].concat())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.0).into())
    }

    fn seal(&self, nonce: [u8; NONCE], msg: &[u8], aad: &[u8]) -> Option<String> {
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), Payload { msg, aad }).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    fn open(&self, text: &str, aad: &[u8]) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, msg) = bytes.split_first_chunk::<NONCE>()?;
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg, aad }).ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// HMAC-SHA256 over the parts, each with its length in front.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC accepts a key of any length; without one, nothing verifies.
    let Ok(mut mac) = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key) else {
        return rand::random();
    };
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ApiKeys;
    use crate::delivery::Secrets;

    const SUPPORT: &str = "9f2c41d07be8835a6610fe7c";
    const SHOP: &str = "kx81-vq02-mz77-ra40";
    const TOKEN: &str = "c47a2e9d06b8435fe1a0";
    const NEXT: &str = "e55d0b7c91a24f38b6d2";

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-23T10:00:00Z").unwrap()
    }

    fn access(keys: &[(&str, &[Scope])], tokens: &[&str]) -> Access {
        let rights = keys.iter().map(|(key, scopes)| Rights::new(&key[..4], *scopes)).collect();
        let secrets = Secrets::parse("test", keys.iter().map(|(key, _)| key)).unwrap();
        Access {
            api_keys: ApiKeys::new(secrets, rights),
            token_secrets: Secrets::parse("test", tokens).unwrap(),
        }
    }

    fn usual() -> Access {
        access(&[(SHOP, &[Scope::Write]), (SUPPORT, &[Scope::Support])], &[TOKEN])
    }

    fn cookie(access: &Access) -> String {
        Session::begin(access, SUPPORT, now()).unwrap().0
    }

    #[test]
    fn a_session_lasts_an_hour_and_needs_a_key_for_the_console() {
        let access = usual();
        for refused in [SHOP, TOKEN, "", "anything"] {
            assert!(Session::begin(&access, refused, now()).is_none(), "{refused}");
        }
        let cookie = cookie(&access);
        let at = |seconds| Session::open(&access, &cookie, now().plus_seconds(seconds));
        let session = at(LASTS - 1).unwrap();
        assert_eq!((&*session.name, session.until), (&SUPPORT[..4], now().plus_seconds(LASTS)));
        assert!(at(LASTS).is_none());
    }

    #[test]
    fn a_session_ends_with_its_key_its_scope_and_its_secret_and_outlives_a_rotation() {
        let support: (&str, &[Scope]) = (SUPPORT, &[Scope::Support]);
        let cookie = cookie(&usual());
        let opens = |keys: &[(&str, &[Scope])], tokens: &[&str]| {
            Session::open(&access(keys, tokens), &cookie, now()).is_some()
        };
        assert!(opens(&[support], &[NEXT, TOKEN]));
        assert!(!opens(&[support], &[NEXT]));
        assert!(!opens(&[(SHOP, &[Scope::Support])], &[TOKEN]));
        assert!(!opens(&[(SUPPORT, &[Scope::Write])], &[TOKEN]));
    }

    #[test]
    fn a_cookie_that_is_changed_or_is_something_else_opens_nothing() {
        let access = usual();
        let cookie = cookie(&access);
        let session = Session::open(&access, &cookie, now()).unwrap();
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        for wrong in [session.handle(&iccid), session.form_token(), String::new(), "…".to_owned()]
        {
            assert!(Session::open(&access, &wrong, now()).is_none(), "{wrong}");
        }
        let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(Session::open(&access, &URL_SAFE_NO_PAD.encode(changed), now()).is_none());
        }
    }

    #[test]
    fn handles_and_forms_are_of_one_session() {
        let access = usual();
        let session = |_| Session::open(&access, &cookie(&access), now()).unwrap();
        let [one, other] = [1, 2].map(session);
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let handle = one.handle(&iccid);
        assert_eq!((one.handle(&iccid), one.profile(&handle)), (handle.clone(), Some(iccid)));
        assert_eq!(other.profile(&handle), None);
        assert!(one.has_made(&one.form_token()) && !one.has_made(&other.form_token()));
        assert!(!one.has_made("") && !one.has_made(&handle));
    }
}
