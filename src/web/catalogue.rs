//! The closed catalogue of problems. Every error response is one of these.

use http::StatusCode;

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

/// Defines the codes, their catalogue, and the entry of each code, from one list: code, name, status, title, remedy.
macro_rules! catalogue {
    ($($(#[doc = $about:literal])+ $code:ident = $name:literal, $status:ident, $title:literal, $remedy:literal;)+) => {
        /// The problems that this service answers with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $about])+ $code,)+
        }

        impl Code {
            /// The entry of the catalogue.
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$code => &Entry {
                        code: Self::$code,
                        name: $name,
                        status: StatusCode::$status,
                        title: $title,
                        remedy: $remedy,
                    },)+
                }
            }
        }

        /// Every problem.
        pub const CATALOGUE: [&Entry; [$($name),+].len()] = [$(Code::$code.entry()),+];
    };
}

catalogue! {
    /// A webhook that could not be authenticated.
    NotAuthentic = "not-authentic", UNAUTHORIZED,
        "The webhook could not be authenticated",
        "Check the secret, the signature and the sender's clock. `esim-status doctor` tests every hook.";
    /// An authentic webhook whose body is not of its provider's form.
    Malformed = "malformed", BAD_REQUEST,
        "The webhook's body is not what this provider sends",
        "Fix what `detail` names. The body was stored: see GET /v1/deliveries?outcome=malformed. While the database is away it waits in the spool, and is there once the database is back.";
    /// A body over the limit.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE,
        "The body is larger than 65,536 bytes",
        "Send a smaller body.";
    /// A compressed body.
    UnsupportedEncoding = "unsupported-encoding", UNSUPPORTED_MEDIA_TYPE,
        "The body is compressed",
        "Send the body uncompressed, without a Content-Encoding.";
    /// No hook at this path.
    UnknownHook = "unknown-hook", NOT_FOUND,
        "No hook is configured at this path",
        "Compare the path with the hooks that `esim-status serve` logs when it starts.";
    /// A body that arrived too slowly.
    Timeout = "timeout", REQUEST_TIMEOUT,
        "The body did not arrive in time",
        "Retry the request. The whole body must arrive within 5 seconds.";
    /// A body that is truncated or framed wrongly.
    IncompleteBody = "incomplete-body", BAD_REQUEST,
        "The body is truncated or framed wrongly",
        "Retry the whole request.";
    /// Temporary: overload, no database, or the shutdown of the process.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE,
        "Temporarily unavailable",
        "Retry the same request after the number of seconds in Retry-After. Retrying is safe.";
    /// No valid API key or access token.
    Unauthenticated = "unauthenticated", UNAUTHORIZED,
        "The request has no valid API key or access token",
        "Send `Authorization: Bearer …` with an API key, or with an access token that has not expired.";
    /// A call that the caller's credential is not for: an access token, or an API key without the scope.
    Forbidden = "forbidden", FORBIDDEN,
        "The credential is not for this call",
        "Use an API key that has the scope of this call. An access token can only read its own profile.";
    /// The profile does not exist, or the caller may not see it.
    UnknownProfile = "unknown-profile", NOT_FOUND,
        "The profile does not exist, or the caller may not see it",
        "Check the ICCID. A profile exists once it has been registered or a webhook has reported it.";
    /// A profile without an activation code.
    NoActivationCode = "no-activation-code", NOT_FOUND,
        "This profile has no activation code",
        "Register the profile with the provider's eSIM object, which contains the activation code.";
    /// A profile whose provider cannot be asked.
    CannotAsk = "cannot-ask", CONFLICT,
        "The provider of this profile cannot be asked",
        "Set ESIM_STATUS_GIGASTORE_API_USER and ESIM_STATUS_GIGASTORE_API_PASSWORD to ask Gigastore. No other provider can be asked.";
    /// No endpoint with this id.
    UnknownEndpoint = "unknown-endpoint", NOT_FOUND,
        "The endpoint does not exist",
        "Compare the id with those of GET /v1/endpoints.";
    /// An endpoint that cannot be created, changed or deleted this way.
    EndpointRefused = "endpoint-refused", CONFLICT,
        "The endpoint cannot be created, changed or deleted this way",
        "Do what `detail` says.";
    /// No resource at this path.
    UnknownPath = "unknown-path", NOT_FOUND,
        "Nothing exists at this path",
        "See /docs for all paths of the API.";
    /// The resource does not support the method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED,
        "This path does not support this method",
        "Use one of the methods in the header Allow.";
    /// An invalid parameter of the query, the path or the body.
    InvalidParameter = "invalid-parameter", BAD_REQUEST,
        "A parameter is invalid",
        "Fix the parameter that `detail` names.";
    /// The body of an API call that is not what the call expects.
    InvalidBody = "invalid-body", BAD_REQUEST,
        "The body is not what this call expects",
        "Fix what `detail` names.";
    /// An error of this service.
    Internal = "internal", INTERNAL_SERVER_ERROR,
        "Internal error",
        "Report this problem with its requestId. The service's log has the cause under that id.";
}
