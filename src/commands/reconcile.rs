//! `esim-status reconcile`: asks the provider about all profiles that are under way, after webhooks may have been lost.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use sqlx::PgConnection;

use super::serve::Signals;
use crate::clock;
use crate::config::{ApiArgs, DatabaseArgs, LogArgs};
use crate::domain::Timestamp;
use crate::inquiry::{self, GigastoreApi};
use crate::providers::{Gigastore, Provider};
use crate::store::inquiries::{self, Urgency};
use crate::store::{Clocks, ErasureKey, Session, StoreError, profiles};
use crate::telemetry;

/// The arguments of `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Ask about the profiles that have changed since this time (RFC 3339): some weeks before the outage, because those that were
    /// bought before may have been installed during it
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Timestamp,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    api: ApiArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// Notes every profile that is under way, and asks about each, within the budget of calls.
///
/// # Errors
/// If settings or the database cannot be used, or if the API does not answer; says what to do. It is safe to run it again.
pub async fn run(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = reconcile(args) => done,
        () = signals.any() => anyhow::bail!("stopped by a signal: what is not answered yet is asked by a running service, or when you run this again"),
    }
}

async fn reconcile(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let connector = args.database.connector().map_err(anyhow::Error::msg)?;
    let api = args.api.settings().map_err(anyhow::Error::msg)?.context(
        "nothing says how to ask: set ESIM_STATUS_GIGASTORE_API_USER and ESIM_STATUS_GIGASTORE_API_PASSWORD",
    )?;
    let mut api = GigastoreApi::new(api)?;
    api.authenticate().await?;
    let mut connection = connector.connect(Session::Upkeep).await?;
    let (mut wanted, skipped) =
        inquiries::want_under_way(&mut connection, Gigastore.slug(), args.since).await?;
    let (later, left) = want_each(&mut connection, skipped).await?;
    wanted += later;
    println!("Profiles to ask about: {wanted}.");
    let key = ErasureKey::default();
    match inquiry::ask_what_is_due(&mut connection, &key, api).await? {
        Some(asked) => {
            println!("Asked: {asked}. What has changed is in the histories (source provider-api).");
        }
        None => println!("A running service asks already, and asks about these too."),
    }
    if left > 0 {
        println!(
            "Not asked about, because another transaction has locked them or the database fails at them: {left}. Run this again when that has ended."
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// How many profiles that stay locked are waited for: one transaction may hold thousands.
const MAX_WAITS: u64 = 3;

/// Notes that these profiles are to be asked about, and waits for those that are locked. Returns how many were noted, and how many
/// were not.
async fn want_each(
    connection: &mut PgConnection,
    iccids: Vec<String>,
) -> Result<(u64, u64), StoreError> {
    let count = iccids.len() as u64;
    let now = Clocks::read(connection, clock::now()).await?.theirs;
    let (mut wanted, mut left) = (0, 0);
    for iccid in iccids {
        if left == MAX_WAITS {
            break;
        }
        match want(connection, iccid, now).await {
            Err(error) if error.is_busy() || error.may_be_one_row() => left += 1,
            noted => {
                noted?;
                wanted += 1;
            }
        }
    }
    Ok((wanted, count - wanted))
}

async fn want(
    connection: &mut PgConnection,
    iccid: String,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some((profile, _)) = profiles::read(connection, &[iccid]).await?.pop() else {
        return Ok(());
    };
    inquiries::want(connection, &profile, Urgency::AtOnce, now, now).await
}
