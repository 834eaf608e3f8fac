//! How the service is set up for its benchmark: the one hook proves its sender by an HMAC over the raw body.

use std::path::Path;

use crate::deliveries::{HEADER, PATH, secret};

/// The file with the hook.
pub fn hooks() -> String {
    let path = PATH.trim_start_matches("/webhooks/");
    let secret = secret("hook");
    format!(
        "[[hooks]]\npath = \"{path}\"\nprovider = \"gigastore\"\n\
         auth = {{ kind = \"hmac-sha256\", header = \"{HEADER}\", encoding = \"hex\", secrets = [\"{secret}\"] }}\n"
    )
}

/// The environment of a service with the hooks in that file; where it listens and its database are still to be said.
pub fn environment(hooks: &Path) -> [(&'static str, String); 3] {
    [
        ("ESIM_STATUS_CONFIG", hooks.display().to_string()),
        ("ESIM_STATUS_API_KEYS", secret("api")),
        ("ESIM_STATUS_TOKEN_SECRETS", secret("token")),
    ]
}
