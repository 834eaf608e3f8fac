//! `esim-status migrate`: the schema, and nothing else.

use std::process::ExitCode;

use crate::config::DatabaseArgs;
use crate::store;

/// Brings the schema up to date.
///
/// # Errors
/// Where the database is away, or its schema is newer, changed or half applied; says what to do.
pub async fn run(args: &DatabaseArgs) -> anyhow::Result<ExitCode> {
    let options = args.options().map_err(anyhow::Error::msg)?;
    store::migrate(&options).await?;
    println!("The schema is at migration {}.", store::latest_version());
    Ok(ExitCode::SUCCESS)
}
