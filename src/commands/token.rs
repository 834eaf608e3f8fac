//! `esim-status token`: signs an access token without calling the service; for experiments, and as an example for
//! backends that sign their own tokens.

use std::process::ExitCode;

use clap::Args;

use crate::access;
use crate::clock;
use crate::config::{self, TokenSecretArgs};
use crate::domain::Iccid;

/// The arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// ICCID of the profile
    iccid: String,

    /// How many seconds the token is valid
    #[arg(long, default_value_t = 900, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=86_400))]
    ttl: i64,

    /// Print the URL of the profile's install page instead, at this address of the service
    #[arg(long, env = "ESIM_STATUS_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,

    #[command(flatten)]
    secrets: TokenSecretArgs,
}

/// Prints the token.
///
/// # Errors
/// If the ICCID is invalid, or no secret is set.
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
