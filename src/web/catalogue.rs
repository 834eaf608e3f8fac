//! The closed catalogue of problems: every error answer is one of these.

use http::StatusCode;

/// The problems that this service answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A webhook that could not be authenticated.
    NotAuthentic,
    /// An authentic webhook whose body is not of its provider's form.
    Malformed,
    /// A body over the limit.
    TooLarge,
    /// A compressed body.
    UnsupportedEncoding,
    /// No hook at this path.
    UnknownHook,
    /// A body that arrived too slowly.
    Timeout,
    /// A body that is truncated or framed wrongly.
    IncompleteBody,
    /// Temporary: overload, no database, or the shutdown of the process.
    Unavailable,
    /// No valid API key or access token.
    Unauthenticated,
    /// A call for backends only, made with an access token.
    Forbidden,
    /// The profile does not exist, or the caller may not see it.
    UnknownProfile,
    /// A profile without an activation code.
    NoActivationCode,
    /// No resource at this path.
    UnknownPath,
    /// The resource does not support the method.
    MethodNotAllowed,
    /// An invalid parameter of the query, the path or the body.
    InvalidParameter,
    /// The body of an API call that is not what the call expects.
    InvalidBody,
    /// An error of this service.
    Internal,
}

/// One entry of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// The problem.
    pub code: Code,
    /// Its stable name.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// What the problem is, in a few words.
    pub title: &'static str,
    /// What the caller should do.
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
        "The webhook could not be authenticated",
        "Check the secret, the signature and the sender's clock. `esim-status doctor` tests every hook.",
    ),
    entry(
        Code::Malformed,
        "malformed",
        StatusCode::BAD_REQUEST,
        "The webhook's body is not what this provider sends",
        "Fix what `detail` names. The body was stored: see GET /v1/deliveries?outcome=malformed.",
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
        "Send the body uncompressed, without a Content-Encoding.",
    ),
    entry(
        Code::UnknownHook,
        "unknown-hook",
        StatusCode::NOT_FOUND,
        "No hook is configured at this path",
        "Compare the path with the hooks that `esim-status serve` logs when it starts.",
    ),
    entry(
        Code::Timeout,
        "timeout",
        StatusCode::REQUEST_TIMEOUT,
        "The body did not arrive in time",
        "Retry the request. The whole body must arrive within 5 seconds.",
    ),
    entry(
        Code::IncompleteBody,
        "incomplete-body",
        StatusCode::BAD_REQUEST,
        "The body is truncated or framed wrongly",
        "Retry the whole request.",
    ),
    entry(
        Code::Unavailable,
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Temporarily unavailable",
        "Retry the same request after the number of seconds in Retry-After. Retrying is safe.",
    ),
    entry(
        Code::Unauthenticated,
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "The request has no valid API key or access token",
        "Send `Authorization: Bearer …` with an API key, or with an access token that has not expired.",
    ),
    entry(
        Code::Forbidden,
        "forbidden",
        StatusCode::FORBIDDEN,
        "This call is for backends only",
        "Use an API key. An access token can only read its own profile.",
    ),
    entry(
        Code::UnknownProfile,
        "unknown-profile",
        StatusCode::NOT_FOUND,
        "The profile does not exist, or the caller may not see it",
        "Check the ICCID. A profile exists once it has been registered or a webhook has reported it.",
    ),
    entry(
        Code::NoActivationCode,
        "no-activation-code",
        StatusCode::NOT_FOUND,
        "This profile has no activation code",
        "Register the profile with the provider's eSIM object, which contains the activation code.",
    ),
    entry(
        Code::UnknownPath,
        "unknown-path",
        StatusCode::NOT_FOUND,
        "Nothing exists at this path",
        "See /docs for all paths of the API.",
    ),
    entry(
        Code::MethodNotAllowed,
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "This path does not support this method",
        "Use one of the methods in the header Allow.",
    ),
    entry(
        Code::InvalidParameter,
        "invalid-parameter",
        StatusCode::BAD_REQUEST,
        "A parameter is invalid",
        "Fix the parameter that `detail` names.",
    ),
    entry(
        Code::InvalidBody,
        "invalid-body",
        StatusCode::BAD_REQUEST,
        "The body is not what this call expects",
        "Fix what `detail` names.",
    ),
    entry(
        Code::Internal,
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "Report this problem with its requestId. The service's log has the cause under that id.",
    ),
];

impl Code {
    /// The problem's entry in the catalogue.
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
