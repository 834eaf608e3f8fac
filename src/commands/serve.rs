//! `esim-status serve`: production.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    // From the first moment: as process 1 of a container it would not be ended by them otherwise, while it waits for its database.
    let mut signals = Signals::listen()?;
    let mut service = tokio::select! {
        started = Service::start(settings) => started?,
        () = signals.any() => {
            tracing::info!("told to end before it had started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let is_well = tokio::select! {
        () = signals.any() => true,
        () = service.writer_died() => false,
    };
    let ended = service.stop().await;
    Ok(if is_well && ended.all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What tells a service to end: SIGTERM, SIGINT, and SIGHUP, which would end it out of order otherwise.
pub struct Signals([Signal; 3]);

impl Signals {
    /// Begins to listen; from then on they end nothing by themselves.
    ///
    /// # Errors
    /// Where the system does not allow it.
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
