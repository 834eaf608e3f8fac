//! `esim-status migrate`: the schema, and the data key that credentials are sealed with.

use std::process::ExitCode;

use clap::Args;

use super::serve::Signals;
use crate::config::{self, DataKeyArgs, DatabaseArgs, LogArgs};
use crate::registry::{self, SealedAnew};
use crate::store::{self, Session};
use crate::{clock, telemetry};

/// What `migrate` takes.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    data: DataKeyArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// Brings the schema up to date, and seals with the first data key what another one, or none, had sealed.
///
/// # Errors
/// Where the database is away, its schema is newer, changed or half applied, or stored credentials cannot be opened; says what to
/// do.
pub async fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    // As process 1 of a container nothing else would end it. A migration that is cut off is rolled back.
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = migrate(args) => done,
        () = signals.any() => anyhow::bail!("told to end before it was done; run it again"),
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
        println!("Credentials sealed anew with the first data key: {}.", done.sealed);
        anyhow::ensure!(done.left == 0, left(&done));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be done about credentials that could not be opened.
fn left(done: &SealedAnew) -> String {
    let keys: Vec<_> = done.missing_keys.iter().map(String::as_str).collect();
    let keys = match &keys[..] {
        [] => String::new(),
        keys => format!(
            "; these data keys are not among ESIM_STATUS_DATA_KEYS, add them again behind the first: {}",
            keys.join(", ")
        ),
    };
    format!(
        "{} stored credentials cannot be opened and are as they were{keys}; registering their profiles again replaces them",
        done.left
    )
}
