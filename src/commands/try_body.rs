//! `esim-status doctor --try-body`: shows what a body becomes, before any hook is configured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

use crate::clock;
use crate::config::{self, OwnProvider, ServeArgs};
use crate::delivery::{Authenticator, Delivery, Scheme};
use crate::hook::Hook;
use crate::providers::{Malformed, Providers, Reading, Summary};

/// Prints what the body becomes by each provider, or by the one with this slug, in the lines that a sample of a declaration has. The
/// samples of a declaration need not hold yet: how else should they be written? Fails if the body is malformed by all.
///
/// # Errors
/// If a declaration makes no sense, or the file cannot be read.
pub(super) fn run(args: &ServeArgs, file: &Path, slug: Option<&str>) -> anyhow::Result<ExitCode> {
    let own = config::own_providers(args).map_err(anyhow::Error::msg)?;
    let built_in = Providers::built_in().map_err(anyhow::Error::msg)?;
    let body = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let body = Bytes::from(body);
    let mut known: BTreeMap<&str, (Summary, Option<String>)> = BTreeMap::new();
    for provider in built_in.all() {
        let hook = Hook {
            path: Arc::from("doctor/try-body"),
            provider,
            authenticator: Arc::new(Authenticator::new(Scheme::None)),
            takes_tests: false,
        };
        let summary = Summary::of(&read(&hook, body.clone()));
        known.insert(provider.slug(), (summary, None));
    }
    for OwnProvider { draft, flaw, .. } in own {
        known.insert(draft.slug(), (draft.read(&body), flaw));
    }
    let slugs = known.keys().copied().collect::<Vec<_>>().join(", ");
    known.retain(|known, _| slug.is_none_or(|slug| slug == *known));
    if known.is_empty() {
        bail!("--provider must be one of: {slugs}");
    }
    for (slug, (summary, flaw)) in &known {
        println!("# by {slug}\n{summary}");
        if let Some(flaw) = flaw {
            println!("# not finished: {flaw}\n");
        }
    }
    let is_read = known.values().any(|(summary, _)| !summary.is_malformed());
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
