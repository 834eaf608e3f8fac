//! Authenticates callers of the API: backends by an API key, users by an access token for one profile. This code is
//! pure; `web::callers` reads the request.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;

use crate::delivery::{Secret, Secrets};
use crate::domain::{Iccid, Timestamp};

/// The audience that an access token must name.
pub const AUDIENCE: &str = "esim-status";

/// How far the clocks of the signer and the verifier may differ, in seconds.
const LEEWAY: i64 = 30;

/// The keys and secrets that authenticate callers.
#[derive(Debug)]
pub struct Access {
    /// API keys of backends and of support.
    pub api_keys: ApiKeys,
    /// Secrets of access tokens; the first signs, all verify.
    pub token_secrets: Secrets,
}

/// What an API key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The calls of the API that change nothing.
    Read,
    /// All calls of the API.
    Write,
    /// The console.
    Support,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Support];

    /// The word in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Support => "support",
        }
    }

    /// The scope with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// The name that the operator gave an API key, and what the key may be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    name: String,
    scopes: Vec<Scope>,
}

impl Rights {
    /// A key of this name for these scopes.
    pub fn new(name: impl Into<String>, scopes: impl Into<Vec<Scope>>) -> Self {
        Self { name: name.into(), scopes: scopes.into() }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the key may be used for this. One that may write may read too.
    pub fn include(&self, scope: Scope) -> bool {
        let wider = (scope == Scope::Read).then_some(Scope::Write);
        self.scopes.iter().any(|it| *it == scope || Some(*it) == wider)
    }
}

/// As in the settings: `shop` for a key with all scopes, `helpdesk[read+support]` for one with these.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if Scope::ALL.iter().all(|scope| self.scopes.contains(scope)) {
            return Ok(());
        }
        let words: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        write!(f, "[{}]", words.join("+"))
    }
}

/// The API keys, each with its rights.
#[derive(Debug)]
pub struct ApiKeys {
    secrets: Secrets,
    rights: Vec<Rights>,
}

impl ApiKeys {
    /// The name of a key that the operator gave none.
    pub const NAMELESS: &str = "(no name)";

    /// These keys with these rights, in the same order. A key for which there are none has no scope.
    pub fn new(secrets: Secrets, rights: Vec<Rights>) -> Self {
        Self { secrets, rights }
    }

    /// The keys themselves.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The rights of this key, in constant time over all keys; `None` if it is none of them.
    pub fn find(&self, candidate: &[u8]) -> Option<&Rights> {
        self.rights.get(self.secrets.position(candidate)?)
    }

    /// Each key with its rights.
    pub fn iter(&self) -> impl Iterator<Item = (&Secret, &Rights)> {
        self.secrets.iter().zip(&self.rights)
    }
}

/// Keys without names, for everything.
impl From<Secrets> for ApiKeys {
    fn from(secrets: Secrets) -> Self {
        let rights = vec![Rights::new(Self::NAMELESS, Scope::ALL); secrets.len()];
        Self { secrets, rights }
    }
}

/// The authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// One of the operator's backends. It may read everything.
    Backend,
    /// The user of one profile. It may read what helps with the install of that profile.
    User {
        /// The profile.
        iccid: Iccid,
        /// When the access token was issued, in seconds since 1970; 0 if the token has no `iat`.
        issued: i64,
        /// When the access token expires.
        until: Timestamp,
    },
}

/// The claims of an access token.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: Seconds,
    iat: Option<Seconds>,
    nbf: Option<Seconds>,
}

/// A `NumericDate` (RFC 7519 section 2): seconds since 1970, which may have a fraction.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Seconds(f64);

impl Seconds {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast saturates, and a time beyond the calendar is treated as its end"
    )]
    fn whole(self) -> i64 {
        self.0.floor() as i64
    }
}

impl Access {
    /// Verifies an access token: signed with HS256 only, our audience, an ICCID as its subject, and valid now.
    pub fn user(&self, token: &str, now: Timestamp) -> Option<Caller> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // The expiry is checked below against the time of the request, not against a second reading of the clock.
        validation.validate_exp = false;
        let claims = self.token_secrets.iter().find_map(|secret| {
            let key = DecodingKey::from_secret(secret.expose());
            Some(jsonwebtoken::decode::<Claims>(token, &key, &validation).ok()?.claims)
        })?;
        let (iccid, until) =
            (Iccid::parse(&claims.sub).ok()?, claims.exp.whole().saturating_add(LEEWAY));
        let now_seconds = now.unix_seconds();
        let begun =
            claims.nbf.is_none_or(|from| now_seconds >= from.whole().saturating_sub(LEEWAY));
        let current = begun && now_seconds < until;
        let until = now.plus_seconds(until.saturating_sub(now_seconds));
        let issued = claims.iat.map_or(0, Seconds::whole);
        current.then_some(Caller::User { iccid, issued, until })
    }
}

impl Caller {
    /// Whether the caller may still see the profile: an access token issued for a former life of it, or before its backend ended
    /// all, is no longer valid.
    pub fn may_see(&self, tokens_from: Option<Timestamp>) -> bool {
        match (self, tokens_from) {
            (Self::User { issued, .. }, Some(from)) => *issued >= from.unix_seconds(),
            _ => true,
        }
    }
}

/// Signs an access token with the first of the secrets.
///
/// # Errors
/// If the claims cannot be written as JSON.
pub fn sign(
    secrets: &Secrets,
    iccid: &Iccid,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<String, jsonwebtoken::errors::Error> {
    let claims = serde_json::json!({
        "aud": AUDIENCE,
        "sub": iccid.as_str(),
        "iat": now.unix_seconds(),
        "exp": expires_at.unix_seconds(),
    });
    let key = EncodingKey::from_secret(secrets.first().expose());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
}
