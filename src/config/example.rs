//! The secrets of `.env.example`, which everybody can read: good for looking around on one's own machine, and for nothing else.

use url::{Host, Url};

use super::{SecretSource, ServeArgs};

/// Warns of such secrets, and refuses them where the service is to be seen from elsewhere.
///
/// # Errors
/// The settings that hold them, and the remedy.
pub(super) fn check(args: &ServeArgs) -> Result<(), String> {
    let (secrets, tokens) = (&args.secrets, &args.tokens);
    let all = [secrets.gigastore_secrets(), secrets.api_keys(), tokens.token_secrets()];
    let left_over: Vec<_> = all.iter().filter_map(SecretSource::left_over_from_example).collect();
    if left_over.is_empty() {
        return Ok(());
    }
    let names = left_over.join(", ");
    let public_url = args.public_url.as_deref().map(Url::parse);
    if public_url.is_none_or(|url| url.is_ok_and(|url| is_this_machine(&url))) {
        tracing::warn!(
            settings = names,
            "these secrets are those of .env.example, which everybody knows"
        );
        return Ok(());
    }
    Err(format!(
        "{names}: these secrets are those of .env.example, which everybody knows, and ESIM_STATUS_PUBLIC_URL is not this machine; \
         let scripts/env write a new .env, or generate each with `openssl rand -hex 32`"
    ))
}

/// Whether a URL names the machine that we run on.
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

    /// What `serve` would make of `.env.example`, seen at this address.
    fn load_example(public_url: &str) -> Result<Settings, ConfigError> {
        let mut line = vec!["esim-status", "serve", "--database-url=postgres://a@b/c"];
        let flags: Vec<_> = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("ESIM_STATUS_")?.split_once('='))
            .filter(|(name, _)| *name != "PUBLIC_URL")
            .map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")))
            .collect();
        let public_url = format!("--public-url={public_url}");
        line.extend(flags.iter().map(String::as_str));
        line.push(&public_url);
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
