//! `esim-status migrate`: updates the schema, and seals credentials with the current data key.

use std::process::ExitCode;

use clap::Args;

use super::serve::Signals;
use crate::config::{self, DataKeyArgs, DatabaseArgs, LogArgs};
use crate::registry::{self, SealedAnew};
use crate::store::{self, Session};
use crate::{clock, telemetry};

/// The arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    data: DataKeyArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// Brings the schema up to date, and seals with the first data key all credentials that are sealed with another one, or
/// not at all.
///
/// # Errors
/// If the database is away, if its schema is newer, changed or half applied, or if stored credentials cannot be opened;
/// says what to do.
pub async fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    // As process 1 of a container, it would ignore signals otherwise. An interrupted migration is rolled back.
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = migrate(args) => done,
        () = signals.any() => anyhow::bail!("stopped by a signal before it was done: run it again"),
    }
}

async fn migrate(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let connector = args.database.connector().map_err(anyhow::Error::msg)?;
    let vault = config::vault(&args.data).map_err(anyhow::Error::msg)?;
    store::migrate(&connector).await?;
    println!("The schema is at migration {}.", store::latest_version());
    if vault.seals() {
        let mut connection = connector.connect(Session::Registrations).await?;
        let done = registry::seal_anew(&mut connection, &vault, clock::now()).await?;
        println!("Credentials sealed with the first data key: {}.", done.sealed);
        anyhow::ensure!(done.left == 0, left(&done));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how many credentials could not be opened, and what to do about them.
fn left(done: &SealedAnew) -> String {
    let keys: Vec<_> = done.missing_keys.iter().map(String::as_str).collect();
    let keys = match &keys[..] {
        [] => String::new(),
        keys => format!(
            ": add these data keys back to ESIM_STATUS_DATA_KEYS, after the first key: {}",
            keys.join(", ")
        ),
    };
    format!(
        "{} stored credentials cannot be opened and were left unchanged{keys}; if the keys are lost, register their profiles again, which replaces the credentials",
        done.left
    )
}
