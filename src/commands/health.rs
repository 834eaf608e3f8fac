//! `esim-status health`: asks a running service for its health, so that an image needs no shell and no curl.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use url::Url;

use crate::http_client;

/// The arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Address of the service's /livez and /readyz
    #[arg(
        long,
        env = "ESIM_STATUS_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS"
    )]
    admin_listen: SocketAddr,

    /// Ask for liveness instead of readiness; for a supervisor that restarts unhealthy containers
    #[arg(long)]
    live: bool,
}

/// Succeeds if the service is ready, or with `--live` if it is alive.
///
/// # Errors
/// If the service does not answer.
pub async fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let mut address = args.admin_listen;
    if address.ip().is_unspecified() {
        // It listens on all addresses; ask it on this machine.
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let path = if args.live { "livez" } else { "readyz" };
    let url = Url::parse(&format!("http://{address}/{path}"))?;
    let answer = http_client::new(&url)?.get(url).send().await?;
    let is_well = answer.status().is_success();
    print!("{}", answer.text().await?);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
