//! The extractors that authenticate and authorize callers. There is no other authorization: the signature of a handler
//! says which callers it accepts.

use axum::extract::FromRequestParts;
use http::Method;
use http::request::Parts;

use super::AppState;
use super::credential::credential;
use super::extract::path_segment;
use super::middleware::ReceivedAt;
use super::problem::{Code, Problem};
use crate::access::{Caller, Rights, Scope};
use crate::domain::{Iccid, Timestamp};
use crate::store::orders::LONGEST_CHAIN;
use crate::store::{ReadError, StoredProfile};

/// A caller that is a backend. Users are refused with `forbidden`.
#[derive(Debug)]
pub struct Backend {
    /// When the request was received.
    pub received_at: Timestamp,
}

/// The profile that a request is about, for routes that only backends may call. A user is refused: with `forbidden`
/// for their own profile, with `unknown-profile` for any other.
#[derive(Debug)]
pub struct BackendSubject {
    /// The profile.
    pub iccid: Iccid,
    /// When the request was received.
    pub received_at: Timestamp,
}

/// The profile that a request is about, for routes that its user may call too.
#[derive(Debug)]
pub struct Subject {
    /// The profile. For a user whose profile was replaced, the one that was given out for it.
    pub iccid: Iccid,
    /// Who made the request.
    pub caller: Caller,
    /// When the request was received.
    pub received_at: Timestamp,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let ReceivedAt(now) = ReceivedAt::from_request_parts(parts, app).await?;
        let unauthenticated = || Problem::new(Code::Unauthenticated);
        let credential = credential(&parts.headers).ok_or_else(unauthenticated)?;
        match app.access.api_keys.find(credential.as_bytes()) {
            Some(rights) => admit(rights, &parts.method),
            None => app.access.user(credential, now).ok_or_else(unauthenticated),
        }
    }
}

/// A backend, if its key may be used for this method.
fn admit(rights: &Rights, method: &Method) -> Result<Caller, Problem> {
    let scope = if method.is_safe() { Scope::Read } else { Scope::Write };
    if rights.include(scope) {
        return Ok(Caller::Backend);
    }
    let reason = match scope {
        Scope::Read => "this API key may not read: use one with the scope `read` or `write`",
        _ => "this API key may not change anything: use one with the scope `write`",
    };
    Err(Problem::because(Code::Forbidden, reason))
}

impl Subject {
    /// Reads the profile that the caller is shown now. For a user this may be another one than when the request began, if
    /// theirs was replaced.
    ///
    /// # Errors
    /// `unknown-profile`, or `unauthenticated` if the user's token is no longer valid.
    pub async fn read(&self, app: &AppState) -> Result<StoredProfile, Problem> {
        match &self.caller {
            Caller::User { iccid: own, .. } => newest(app, &self.caller, own).await?.or_problem(),
            Caller::Backend => {
                let stored = app.reader.find(&self.iccid).await?;
                stored.ok_or_else(|| Problem::new(Code::UnknownProfile))
            }
        }
    }

    /// What the caller is shown instead of the profile of the request, which was just read.
    ///
    /// # Errors
    /// [`ReadError`] if that could not be found out.
    pub async fn shown(&self, app: &AppState, read: &StoredProfile) -> Result<Shown, ReadError> {
        let Caller::User { iccid: own, .. } = &self.caller else { return Ok(Shown::This) };
        if *own == self.iccid && read.replaced_by.is_none() {
            let may_see = self.caller.may_see(read.tokens_from);
            return Ok(if may_see { Shown::This } else { Shown::Nothing });
        }
        Ok(match newest(app, &self.caller, own).await? {
            Newest::Found(stored) if stored.profile.iccid == self.iccid => Shown::This,
            Newest::Found(_) => Shown::Another,
            Newest::Unknown | Newest::Revoked => Shown::Nothing,
        })
    }
}

/// What a caller who follows a profile is shown now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The profile that it follows.
    This,
    /// The one that was given out for it.
    Another,
    /// Nothing any more: its access token is no longer valid.
    Nothing,
}

/// What a user is shown.
enum Newest {
    Found(Box<StoredProfile>),
    Unknown,
    Revoked,
}

impl Newest {
    fn or_problem(self) -> Result<StoredProfile, Problem> {
        match self {
            Self::Found(stored) => Ok(*stored),
            Self::Unknown => Err(Problem::new(Code::UnknownProfile)),
            Self::Revoked => Err(Problem::new(Code::Unauthenticated)),
        }
    }
}

/// Reads a user's profile, or the one that was given out for it. The user's token must be valid for each on the way.
async fn newest(app: &AppState, caller: &Caller, own: &Iccid) -> Result<Newest, ReadError> {
    let Some(mut stored) = app.reader.find(own).await? else { return Ok(Newest::Unknown) };
    let mut steps = 0..LONGEST_CHAIN;
    loop {
        if !caller.may_see(stored.tokens_from) {
            return Ok(Newest::Revoked);
        }
        let successor = stored.replaced_by.as_ref().filter(|_| steps.next().is_some());
        let next = match successor {
            Some(successor) => app.reader.find(successor).await?,
            None => None,
        };
        // The last one, or one whose successor has just been erased.
        let Some(next) = next else { return Ok(Newest::Found(Box::new(stored))) };
        stored = next;
    }
}

impl FromRequestParts<AppState> for Backend {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Backend => {
                let ReceivedAt(received_at) = ReceivedAt::from_request_parts(parts, app).await?;
                Ok(Self { received_at })
            }
            Caller::User { .. } => Err(Problem::new(Code::Forbidden)),
        }
    }
}

impl FromRequestParts<AppState> for Subject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let segment = path_segment(parts, "iccid").await.unwrap_or_default();
        let iccid = match &caller {
            Caller::User { iccid: own, .. } => {
                let iccid = newest(app, &caller, own).await?.or_problem()?.profile.iccid;
                // A user cannot tell a profile of somebody else from one that does not exist.
                let is_theirs = segment == "self"
                    || Iccid::parse(&segment).is_ok_and(|asked| asked == *own || asked == iccid);
                is_theirs.then_some(iccid).ok_or_else(|| Problem::new(Code::UnknownProfile))?
            }
            Caller::Backend => Iccid::parse(&segment).map_err(|error| {
                Problem::because(Code::InvalidParameter, format!("{error}, in the path"))
            })?,
        };
        let ReceivedAt(received_at) = ReceivedAt::from_request_parts(parts, app).await?;
        Ok(Self { iccid, caller, received_at })
    }
}

impl FromRequestParts<AppState> for BackendSubject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let Subject { iccid, caller, received_at } =
            Subject::from_request_parts(parts, app).await?;
        match caller {
            Caller::Backend => Ok(Self { iccid, received_at }),
            Caller::User { .. } => Err(Problem::new(Code::Forbidden)),
        }
    }
}
