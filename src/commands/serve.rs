//! `esim-status serve`: runs the service in production.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::budget;
use crate::config::{ServeArgs, Settings};
use crate::http_client;
use crate::service::Service;
use crate::telemetry;

/// Serves until a signal arrives, or one of the service's tasks dies.
///
/// # Errors
/// If settings, database or addresses cannot be used; says what to do.
pub async fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    let exporting = telemetry::export(http_client::new);
    let ended = serve(args).await;
    exporting.stop(budget::LAST_TELEMETRY).await;
    ended
}

async fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(args).context("cannot start with these settings")?;
    settings.log();
    // Listen before anything else: as process 1 of a container, it would otherwise ignore signals while it waits for
    // its database.
    let mut signals = Signals::listen()?;
    let mut service = tokio::select! {
        started = Service::start(settings) => started?,
        () = signals.any() => {
            tracing::info!("stopped by a signal before it had started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let is_well = tokio::select! {
        () = signals.any() => true,
        _ = service.task_died() => false,
    };
    let ended = service.stop().await;
    Ok(if is_well && ended.all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The signals that shut a service down gracefully: SIGTERM, SIGINT, and SIGHUP, whose default is to kill it.
pub struct Signals([Signal; 3]);

impl Signals {
    /// Begins to listen. From then on the signals no longer kill the process.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self([terminate, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]))
    }

    /// Waits for one of them.
    pub async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
