//! Checks that need all secrets together: that no value serves two purposes, and that none is from `.env.example`,
//! which is public.

use std::net::SocketAddr;
use std::sync::Arc;

use url::{Host, Url};

use super::BUILT_IN_HOOK;
use crate::access::ApiKeys;
use crate::delivery::{Secrets, StandardSecrets};
use crate::hook::{Hook, Hooks};

/// How the secrets in `.env.example` begin: they are for looking around on your own machine, and for nothing else.
const LOCAL_ONLY: &[u8] = b"local-only-";

/// Every secret that authenticates a caller.
pub(super) struct All<'a> {
    pub hooks: &'a Hooks,
    pub api_keys: &'a ApiKeys,
    pub token_secrets: &'a Secrets,
}

impl All<'_> {
    /// The secrets of each setting: those of the hooks first, then the two others.
    fn by_setting(&self) -> Vec<(String, &Secrets)> {
        let first = self.hooks.get(BUILT_IN_HOOK);
        // The provider's other hooks have the secrets of its first one, and are named by it.
        let has_own = |hook: &&Arc<Hook>| {
            *hook.path == *BUILT_IN_HOOK
                || first.is_none_or(|it| !Arc::ptr_eq(&it.authenticator, &hook.authenticator))
        };
        let hooks = self.hooks.values().filter(has_own).filter_map(|hook| {
            let name = if *hook.path == *BUILT_IN_HOOK {
                "ESIM_STATUS_GIGASTORE_SECRETS".to_owned()
            } else {
                format!("the hook {}", hook.path)
            };
            Some((name, hook.authenticator.secrets()?))
        });
        let others = [
            ("ESIM_STATUS_API_KEYS".to_owned(), self.api_keys.secrets()),
            ("ESIM_STATUS_TOKEN_SECRETS".to_owned(), self.token_secrets),
        ];
        hooks.chain(others).collect()
    }

    /// Refuses one value for several purposes: a party that is given it for one could use it for the others. Hooks may
    /// share theirs.
    ///
    /// # Errors
    /// Names the settings that share a value, and the remedy.
    pub(super) fn check_apart(&self) -> Result<(), String> {
        let all = self.by_setting();
        // The last two are not hooks.
        let hooks = all.len() - 2;
        for (index, (name, secrets)) in all.iter().enumerate() {
            for (other, others) in &all[hooks.max(index + 1)..] {
                if are_shared(secrets, others) || are_shared(others, secrets) {
                    return Err(format!(
                        "{name} and {other} share a value, so a party that is given one has the other too: generate one for each with `openssl rand -hex 32`"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses the secrets of `.env.example` if other machines can reach the service. Its public URL decides; without
    /// one, its address does.
    ///
    /// # Errors
    /// Names the settings that contain them, and the remedy.
    pub(super) fn check_example(
        &self,
        listen: SocketAddr,
        public_url: Option<&str>,
    ) -> Result<(), String> {
        let Some(known) = self.known_to_everybody() else { return Ok(()) };
        let is_local = match public_url.map(Url::parse) {
            Some(url) => url.is_ok_and(|url| is_this_machine(&url)),
            None => listen.ip().is_loopback(),
        };
        if is_local {
            return Ok(());
        }
        let seen_by = match public_url {
            Some(_) => "ESIM_STATUS_PUBLIC_URL is not this machine",
            None => "ESIM_STATUS_LISTEN can be reached from other machines",
        };
        Err(format!(
            "{known}, and {seen_by}: run scripts/env to write a new .env, or \
             generate each with `openssl rand -hex 32`"
        ))
    }

    /// If secrets of `.env.example` are in use, a message that names their settings.
    pub(super) fn known_to_everybody(&self) -> Option<String> {
        let is_known = |secrets: &Secrets| {
            secrets.iter().any(|secret| secret.expose().starts_with(LOCAL_ONLY))
        };
        let known = self.by_setting().into_iter().filter(|(_, secrets)| is_known(secrets));
        let names: Vec<_> = known.map(|(name, _)| name).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{}: these secrets are those of .env.example, which are public",
                names.join(", ")
            )
        })
    }
}

/// Whether a value of the first is one of the second, which keeps `whsec_` secrets decoded.
fn are_shared(ones: &Secrets, others: &Secrets) -> bool {
    ones.iter().any(|one| {
        let text = std::str::from_utf8(one.expose()).ok();
        let decoded = text.and_then(|text| StandardSecrets::parse("", [text]).ok());
        others.matches(one.expose())
            || decoded.is_some_and(|it| others.matches(it.all().first().expose()))
    })
}

/// Whether a URL names this machine.
pub fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};
    use crate::config::{ConfigError, Settings};

    const EXAMPLE: &str = include_str!("../../.env.example");

    /// The settings that `serve` would load from `.env.example`, with this public URL.
    fn load_example(public_url: &str) -> Result<Settings, ConfigError> {
        load_example_with(&[&format!("--public-url={public_url}")])
    }

    /// The same with these flags, and without the public URL of the example.
    fn load_example_with(more: &[&str]) -> Result<Settings, ConfigError> {
        let mut line = vec!["esim-status", "serve", "--database-url=postgres://a@b/c"];
        let flags: Vec<_> = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("ESIM_STATUS_")?.split_once('='))
            .filter(|(name, _)| *name != "PUBLIC_URL")
            .map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")))
            .collect();
        line.extend(flags.iter().map(String::as_str));
        line.extend(more);
        let Command::Serve(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        Settings::load(&args)
    }

    #[test]
    fn secrets_of_the_example_work_on_this_machine() {
        for url in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"] {
            assert!(load_example(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn without_a_public_url_the_address_counts() {
        assert!(load_example_with(&[]).unwrap().known_to_everybody().is_some());
        let complaints = load_example_with(&["--listen=0.0.0.0:8080"]).unwrap_err().0;
        assert!(complaints[0].contains("ESIM_STATUS_LISTEN can be reached"), "{complaints:?}");
    }

    #[test]
    fn secrets_of_the_example_are_found_in_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let (secrets, hooks) = (folder.path().join("secrets"), folder.path().join("hooks.toml"));
        let known = "local-only-5ac3e1720fd94b6891e07f3d2c58ab46";
        std::fs::write(&secrets, known).unwrap();
        let hook = "[[hooks]]\npath = \"gigastore/x\"\nprovider = \"gigastore\"\n";
        let auth = format!("auth = {{ kind = \"url-secret\", secrets = [\"{known}\"] }}\n");
        std::fs::write(&hooks, format!("{hook}{auth}")).unwrap();
        let load = |flags: &[String]| {
            let line =
                ["esim-status", "serve", "--database-url=postgres://a@b/c"].map(str::to_owned);
            let others =
                ["--token-secrets=9d4e7a61f2b85c03ee27", "--listen=0.0.0.0:1"].map(str::to_owned);
            let line = line.into_iter().chain(others).chain(flags.iter().cloned());
            let Command::Serve(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("another command");
            };
            Settings::load(&args).unwrap_err().to_string()
        };
        let (secrets, hooks) = (secrets.display(), hooks.display());
        let complaint = load(&[
            format!("--gigastore-secrets-file={secrets}"),
            "--api-keys=b3f0c5d2a1e84976cc10".to_owned(),
        ]);
        assert!(complaint.contains("ESIM_STATUS_GIGASTORE_SECRETS: these"), "{complaint}");
        let complaint =
            load(&[format!("--config={hooks}"), "--api-keys=b3f0c5d2a1e84976cc10".to_owned()]);
        assert!(complaint.contains("the hook gigastore/x: these"), "{complaint}");
    }

    #[test]
    fn secrets_of_the_example_are_refused_where_the_world_can_reach_the_service() {
        for url in
            ["https://esim.example.org", "http://10.0.0.7:8080", "http://localhost.example.org"]
        {
            let complaints = load_example(url).unwrap_err().0;
            assert_eq!(complaints.len(), 1, "{url}");
            for name in ["GIGASTORE_SECRETS", "API_KEYS", "TOKEN_SECRETS"] {
                assert!(complaints[0].contains(&format!("ESIM_STATUS_{name}")), "{url}");
            }
        }
    }
}
