//! `esim-status token`: an access token without asking the service; for trying things out, and as an example for backends
//! that sign their own.

use std::process::ExitCode;

use clap::Args;

use crate::access;
use crate::clock;
use crate::config::{self, TokenSecretArgs};
use crate::domain::Iccid;

/// What `token` takes.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The profile
    iccid: String,

    /// How many seconds it is good for
    #[arg(long, default_value_t = 900, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=86_400))]
    ttl: i64,

    /// Print the address of the install page instead, of the service that the world sees here
    #[arg(long, env = "ESIM_STATUS_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,

    #[command(flatten)]
    secrets: TokenSecretArgs,
}

/// Prints the token.
///
/// # Errors
/// Where the ICCID is none, or no secret is set.
pub fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let iccid = Iccid::parse(&args.iccid)?;
    let secrets = config::token_secrets(&args.secrets).map_err(anyhow::Error::msg)?;
    let now = clock::now();
    let token = access::sign(&secrets, &iccid, now, now.plus_seconds(args.ttl))?;
    match &args.public_url {
        Some(url) => println!("{}/install#{token}", url.trim_end_matches('/')),
        None => println!("{token}"),
    }
    Ok(ExitCode::SUCCESS)
}
