//! `esim-status reread`: applies what was kept and not understood, after an adapter has learned it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use super::serve::Signals;
use crate::config::{self, ServeArgs};
use crate::domain::{Outcome, Timestamp};
use crate::reread::{self, Counts, Selection, Understood};
use crate::store::{ErasureKey, Session};
use crate::telemetry;

/// The max number of deliveries that are listed.
const LISTED: u64 = 50;

/// The arguments of `reread`.
#[derive(Debug, Args)]
pub struct RereadArgs {
    /// Path of the hook that has received the webhooks, such as `gigastore/esim-status`
    #[arg(long, value_name = "HOOK")]
    hook: String,

    /// Read again what was received since this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Timestamp,

    /// Apply what is understood now, instead of only showing it
    #[arg(long)]
    apply: bool,

    #[command(flatten)]
    serve: ServeArgs,
}

/// Reads again, and shows or applies what is understood now.
///
/// # Errors
/// If settings or the database cannot be used; says what to do. It is safe to run it again.
pub async fn run(args: &RereadArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.serve.log.log_format);
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = reread(args) => done,
        () = signals.any() => anyhow::bail!("stopped by a signal: what was applied stays applied; run it again for the rest"),
    }
}

async fn reread(args: &RereadArgs) -> anyhow::Result<ExitCode> {
    let providers = config::providers(&args.serve).map_err(anyhow::Error::msg)?;
    let connector = args.serve.database.connector().map_err(anyhow::Error::msg)?;
    let mut connection = connector.connect(Session::Upkeep).await?;
    let key = ErasureKey::default();
    key.load(&mut connection).await?;
    let hook = args.hook.trim_matches('/');
    let from = Selection { hook, since: args.since, providers: &providers };
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    let mut number = 0;
    let tell = |understood: Understood| {
        *outcomes.entry(understood.is).or_default() += 1;
        number += 1;
        if number <= LISTED {
            println!("{}", line(&understood));
        }
    };
    let seen = if args.apply {
        let mut writing = connector.connect(Session::Registrations).await?;
        reread::apply(&mut connection, &mut writing, &key, &from, tell).await?
    } else {
        reread::preview(&mut connection, &key, &from, tell).await?
    };
    if number > LISTED {
        println!("… and {} more.", number - LISTED);
    }
    let counts: Vec<_> = outcomes.iter().map(|(it, number)| format!("{number} {it}")).collect();
    let (counts, since, Counts { looked_at, busy, unapplied }) =
        (counts.join(", "), args.since, seen);
    if looked_at == 0 {
        println!(
            "{hook} has kept nothing since {since} that was not understood: is that the path of the hook?"
        );
    } else if number == 0 {
        let what = if busy + unapplied > 0 {
            "none can be applied now"
        } else {
            "none is understood better now"
        };
        println!("Of {looked_at} that {hook} has kept since {since}, {what}.");
    } else if args.apply {
        println!("Applied, of {looked_at} that were kept: {counts}.");
    } else {
        println!(
            "Would become, of {looked_at} that were kept: {counts}. Nothing is changed yet: add --apply to apply it."
        );
    }
    if busy > 0 {
        println!("Left, because other transactions hold their profiles: {busy}. Run it again.");
    }
    if unapplied > 0 {
        println!(
            "Left, because their profiles cannot be read or written: {unapplied}. The log above says why: run the release that wrote them, or correct the rows, and run it again."
        );
    }
    Ok(if busy + unapplied > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A delivery by its id, which support finds in the lists, and without identifiers of the profile.
fn line(understood: &Understood) -> String {
    let Understood { id, received_at, was, is, state } = understood;
    let state = state.map(|state| format!(" {state}")).unwrap_or_default();
    format!("{received_at} {id} {was} → {is}{state}")
}
