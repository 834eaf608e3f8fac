//! `esim-status erase`: erases the profiles of a list, such as those that were erased after the backup that was restored.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::serve::Signals;
use crate::budget;
use crate::clock;
use crate::config::{DatabaseArgs, LogArgs};
use crate::domain::Iccid;
use crate::registry::{self, EraseError};
use crate::store::{ErasureKey, Pool, Session};
use crate::telemetry;

/// The arguments of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// File with the ICCIDs of the profiles, one a line; `-` reads them from standard input
    #[arg(long, value_name = "FILE")]
    from: PathBuf,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// Erases everything that the database has about these profiles, as `DELETE /v1/profiles/{iccid}` does, and prevents that late
/// webhooks bring them back.
///
/// # Errors
/// If the list cannot be read, before anything is erased, or if the database cannot be used; says what to do. A profile that cannot
/// be erased keeps no other one from it. It is safe to run it again.
pub async fn run(args: &EraseArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    let iccids = parse(&read(&args.from)?)?;
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = erase(args, &iccids) => done,
        () = signals.any() => anyhow::bail!("stopped by a signal: what was erased stays erased; run it again for the rest"),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("cannot read the list of ICCIDs from {}", file.display()))
}

/// Each ICCID once. Empty lines mean nothing.
fn parse(text: &str) -> anyhow::Result<BTreeSet<Iccid>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            // The line itself is not shown: it may be an ICCID with a wrong digit.
            Iccid::parse(line.trim()).with_context(|| {
                format!("line {} of the list is no ICCID: nothing was erased; correct it and run this again", number + 1)
            })
        })
        .collect()
}

async fn erase(args: &EraseArgs, iccids: &BTreeSet<Iccid>) -> anyhow::Result<ExitCode> {
    let connector = args.database.connector().map_err(anyhow::Error::msg)?;
    let pool = Pool::new(&connector, Session::Registrations, 1, budget::ERASURE);
    let key = ErasureKey::default();
    pool.run(async |connection| key.load(connection).await).await.context(
        "the database cannot be used: is it restored, and migrated (`esim-status migrate`)?",
    )?;
    let (mut erased, mut failed) = (0, 0);
    for (done, iccid) in iccids.iter().enumerate() {
        // The spools are with their replicas, which erase from them what they drain.
        match registry::erase(&pool, None, &key, iccid, clock::now()).await {
            Ok(was_known) => erased += usize::from(was_known),
            Err(error) if is_of_the_profile(&error) => {
                failed += 1;
                let error = &error as &dyn std::error::Error;
                tracing::error!(?iccid, error, "a profile could not be erased");
            }
            Err(error) => {
                let stopped = format!("stopped after {done} of {}: run this again", iccids.len());
                return Err(error).context(stopped);
            }
        }
    }
    let all = iccids.len();
    let failures = if failed > 0 { format!(" Failed: {failed}.") } else { String::new() };
    println!(
        "Profiles in the list: {all}. Erased: {erased}.{failures} The others were not known; late webhooks about them are ignored from now on."
    );
    let unlikely = iccids.iter().filter(|iccid| !iccid.luhn_holds()).count();
    if unlikely > 0 {
        println!(
            "Of the list, {unlikely} have a wrong check digit. If that is not usual for them, compare the list with its source: a spreadsheet rounds long numbers."
        );
    }
    if failed > 0 {
        println!(
            "Why {failed} failed is above. Correct that and run this again: what was erased stays erased."
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether others may be erased all the same: the database answers.
fn is_of_the_profile(error: &EraseError) -> bool {
    match error {
        EraseError::Store(error) => error.is_busy() || !error.is_away(),
        EraseError::Spool(_) => false,
    }
}
