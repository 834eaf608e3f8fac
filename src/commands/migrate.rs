//! `esim-status migrate`: the schema, and the data key that credentials are sealed with.

use std::process::ExitCode;

use clap::Args;

use crate::config::{self, DataKeyArgs, DatabaseArgs};
use crate::store::Session;
use crate::{ingest, store, web};

/// What `migrate` takes.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    data: DataKeyArgs,
}

/// Brings the schema up to date, and seals with the first data key what another one, or none, had sealed.
///
/// # Errors
/// Where the database is away, its schema is newer, changed or half applied, or a data key is missing; says what to do.
pub async fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let connector = args.database.connector().map_err(anyhow::Error::msg)?;
    let vault = config::vault(&args.data).map_err(anyhow::Error::msg)?;
    store::migrate(&connector).await?;
    println!("The schema is at migration {}.", store::latest_version());
    if vault.seals() {
        let mut connection = connector.connect(Session::Registrations).await?;
        let count = ingest::seal_anew(&mut connection, &vault, web::now()).await?;
        println!("Credentials sealed anew with the first data key: {count}.");
    }
    Ok(ExitCode::SUCCESS)
}
