//! `esim-status serve`: production.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ServeArgs, Settings};
use crate::service::Service;
use crate::telemetry;

/// Serves until it is told to end.
///
/// # Errors
/// Where settings, database or addresses do not allow it.
pub async fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    let settings = Settings::load(args).context("these settings do not allow to serve:")?;
    settings.log();
    let service = Service::start(settings).await?;
    wait_for_signal().await?;
    let ended = service.stop().await;
    Ok(if ended.all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// Where the system does not let us listen for them.
pub async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
