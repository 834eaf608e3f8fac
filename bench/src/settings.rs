//! The service's settings for the benchmark: one hook, whose sender signs the raw body with an HMAC.

use std::path::Path;

use crate::deliveries::{HEADER, PATH, secret};

/// The configuration file with the hook.
pub fn hooks() -> String {
    let path = PATH.trim_start_matches("/webhooks/");
    let secret = secret("hook");
    format!(
        "[[hooks]]\npath = \"{path}\"\nprovider = \"gigastore\"\n\
         auth = {{ kind = \"hmac-sha256\", header = \"{HEADER}\", encoding = \"hex\", secrets = [\"{secret}\"] }}\n"
    )
}

/// The environment of a service with the hooks in that file, without its addresses and its database.
pub fn environment(hooks: &Path) -> [(&'static str, String); 3] {
    [
        ("ESIM_STATUS_CONFIG", hooks.display().to_string()),
        ("ESIM_STATUS_API_KEYS", secret("api")),
        ("ESIM_STATUS_TOKEN_SECRETS", secret("token")),
    ]
}
