//! `esim-status doctor --try-body`: shows what a body becomes, before any hook is configured.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

use crate::clock;
use crate::config::{self, ServeArgs};
use crate::delivery::{Authenticator, Delivery, Scheme};
use crate::hook::Hook;
use crate::providers::{Malformed, Reading, Summary};

/// Prints what the body becomes by each provider, or by the one with this slug, in the lines that a sample of a declaration has. Fails if
/// it is malformed by all of them.
///
/// # Errors
/// If a declaration is wrong, or the file cannot be read.
pub(super) fn run(args: &ServeArgs, file: &Path, slug: Option<&str>) -> anyhow::Result<ExitCode> {
    let providers = config::providers(args).map_err(anyhow::Error::msg)?;
    let body = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let body = Bytes::from(body);
    let wanted: Vec<_> =
        providers.all().filter(|it| slug.is_none_or(|slug| slug == it.slug())).collect();
    if wanted.is_empty() {
        bail!("--provider must be one of: {}", providers.slugs().join(", "));
    }
    let mut is_read = false;
    for provider in wanted {
        let hook = Hook {
            path: Arc::from("doctor/try-body"),
            provider,
            authenticator: Arc::new(Authenticator::new(Scheme::None)),
            takes_tests: false,
        };
        let summary = Summary::of(&read(&hook, body.clone()));
        println!("# by {}\n{summary}", provider.slug());
        is_read |= !summary.is_malformed();
    }
    Ok(if is_read { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads a body as the hook does, without credentials: it does not come from a sender.
pub(super) fn read(hook: &Hook, body: Bytes) -> Result<Reading, Malformed> {
    let delivery =
        Delivery::new(Uuid::nil(), clock::now(), hook.path.clone(), None, HeaderMap::new(), body);
    let delivery = Authenticator::new(Scheme::None).check(delivery);
    let delivery =
        delivery.map_err(|error| Malformed { reason: error.to_string(), iccid: None })?;
    hook.read(&delivery)
}
