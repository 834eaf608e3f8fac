//! The closed catalogue of problems: every error answer is one of these.

use http::StatusCode;

/// The problems that this service answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A webhook without a valid proof.
    NotAuthentic,
    /// An authentic webhook that is not what its provider sends.
    Malformed,
    /// A body over the limit.
    TooLarge,
    /// A compressed body.
    UnsupportedEncoding,
    /// No hook at this path.
    UnknownHook,
    /// A body that came too slowly.
    Timeout,
    /// A body that broke off.
    IncompleteBody,
    /// Not now: overload, the database, or the end of the process.
    Unavailable,
    /// No valid API key or access token.
    Unauthenticated,
    /// A call for backends, made by a user.
    Forbidden,
    /// No such profile, or somebody else's.
    UnknownProfile,
    /// A profile without an activation code.
    NoActivationCode,
    /// Nothing at this path.
    UnknownPath,
    /// Not this method.
    MethodNotAllowed,
    /// A parameter that makes no sense.
    InvalidParameter,
    /// A body of the API that is not what the call takes.
    InvalidBody,
    /// A fault of ours.
    Internal,
}

/// One line of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The problem.
    pub code: Code,
    /// Its stable name.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What whoever gets it should do.
    pub remedy: &'static str,
}

const fn entry(
    code: Code,
    name: &'static str,
    status: StatusCode,
    title: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { code, name, status, title, remedy }
}

/// The whole catalogue, in the order of [`Code`].
pub const CATALOGUE: [Entry; 17] = [
    entry(
        Code::NotAuthentic,
        "not-authentic",
        StatusCode::UNAUTHORIZED,
        "The webhook carries no valid proof of its sender",
        "Check the secret, the signature and the clock of the sender; `esim-status doctor` tries a hook.",
    ),
    entry(
        Code::Malformed,
        "malformed",
        StatusCode::BAD_REQUEST,
        "The webhook's body is not what this provider sends",
        "Mend what the detail names. The body was kept: look it up under GET /v1/deliveries?outcome=malformed.",
    ),
    entry(
        Code::TooLarge,
        "too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is larger than 65,536 bytes",
        "Send a smaller body.",
    ),
    entry(
        Code::UnsupportedEncoding,
        "unsupported-encoding",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is compressed",
        "Send it without a Content-Encoding.",
    ),
    entry(
        Code::UnknownHook,
        "unknown-hook",
        StatusCode::NOT_FOUND,
        "There is no hook at this path",
        "Compare the path with the hooks that `esim-status serve` prints at start.",
    ),
    entry(
        Code::Timeout,
        "timeout",
        StatusCode::REQUEST_TIMEOUT,
        "The body did not arrive in time",
        "Send the request again, faster.",
    ),
    entry(
        Code::IncompleteBody,
        "incomplete-body",
        StatusCode::BAD_REQUEST,
        "The body broke off or is framed wrongly",
        "Send the whole request again.",
    ),
    entry(
        Code::Unavailable,
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The service cannot do this just now",
        "Send the same request again after the seconds that Retry-After names. Repeating is safe.",
    ),
    entry(
        Code::Unauthenticated,
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "The request carries no valid API key or access token",
        "Send `Authorization: Bearer …` with an API key, or with an access token that has not expired.",
    ),
    entry(
        Code::Forbidden,
        "forbidden",
        StatusCode::FORBIDDEN,
        "This call is for backends",
        "Call it with an API key; an access token reads its own profile only.",
    ),
    entry(
        Code::UnknownProfile,
        "unknown-profile",
        StatusCode::NOT_FOUND,
        "There is no such profile, or it is not yours",
        "Check the ICCID. A profile exists once it was registered or a webhook reported it.",
    ),
    entry(
        Code::NoActivationCode,
        "no-activation-code",
        StatusCode::NOT_FOUND,
        "This profile has no activation code",
        "Register it with the provider's eSIM object, which has one.",
    ),
    entry(
        Code::UnknownPath,
        "unknown-path",
        StatusCode::NOT_FOUND,
        "There is nothing at this path",
        "See /docs for what there is.",
    ),
    entry(
        Code::MethodNotAllowed,
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "This path does not take this method",
        "The header Allow names the methods that it takes.",
    ),
    entry(
        Code::InvalidParameter,
        "invalid-parameter",
        StatusCode::BAD_REQUEST,
        "A parameter makes no sense",
        "Mend the parameter that the detail names.",
    ),
    entry(
        Code::InvalidBody,
        "invalid-body",
        StatusCode::BAD_REQUEST,
        "The body is not what this call takes",
        "Mend what the detail names.",
    ),
    entry(
        Code::Internal,
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "A fault of this service",
        "Report it with the requestId; the log has the cause under that id.",
    ),
];

impl Code {
    /// The problem's line in the catalogue.
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_finds_its_own_line() {
        for (index, entry) in CATALOGUE.iter().enumerate() {
            assert_eq!(entry.code as usize, index);
            assert_eq!(entry.code.entry().name, entry.name);
        }
    }
}
