//! The hook that exists without a configuration file, and those of the same provider's other webhooks.

use std::sync::Arc;

use super::args::ServeArgs;
use super::hooks;
use crate::delivery::{Authenticator, Scheme, Secrets};
use crate::hook::{Hook, Hooks};
use crate::providers::{Gigastore, Provider, Providers};

/// The path of the hook that exists without a configuration file.
pub const BUILT_IN_HOOK: &str = "gigastore/esim-status";

/// The hooks of the configuration file, and the built-in one unless the file has a hook of the same path. If the file
/// has hooks, the built-in one is optional.
pub(super) fn load_hooks(args: &ServeArgs, providers: &Providers) -> Result<Hooks, String> {
    let mut hooks = match &args.config {
        Some(path) => hooks::load(path, providers)?,
        None => Hooks::new(),
    };
    let secrets = args.secrets.gigastore_secrets();
    if !hooks.contains_key(BUILT_IN_HOOK) && (secrets.is_given() || hooks.is_empty()) {
        let parse = |values| Secrets::parse("ESIM_STATUS_GIGASTORE_SECRETS", values);
        let hook = url_secret_hook(secrets.required(parse)?);
        hooks.insert(hook.path.clone(), Arc::new(hook));
    }
    add_other_hooks(&mut hooks);
    Ok(hooks)
}

/// A provider has a webhook for each kind of event, and its portal a URL for each. Those that are not configured have the secrets
/// of the built-in hook.
fn add_other_hooks(hooks: &mut Hooks) {
    let Some(first) = hooks.get(BUILT_IN_HOOK).cloned() else { return };
    for name in first.provider.other_hooks() {
        let path: Arc<str> = Arc::from(format!("{}/{name}", first.provider.slug()));
        let hook =
            Hook { path: path.clone(), authenticator: first.authenticator.clone(), ..*first };
        hooks.entry(path).or_insert_with(|| Arc::new(hook));
    }
}

/// The built-in hook with these URL secrets, and those of the provider's other webhooks.
pub fn hooks_with(secrets: Secrets) -> Hooks {
    let hook = url_secret_hook(secrets);
    let mut hooks = Hooks::from([(hook.path.clone(), Arc::new(hook))]);
    add_other_hooks(&mut hooks);
    hooks
}

/// The built-in hook with these URL secrets.
pub fn url_secret_hook(secrets: Secrets) -> Hook {
    Hook {
        path: Arc::from(BUILT_IN_HOOK),
        provider: &Gigastore as &dyn Provider,
        authenticator: Arc::new(Authenticator::new(Scheme::UrlSecret(secrets))),
        takes_tests: false,
    }
}
