//! Measures esim-status and its peers in turns, and prints one table. `bench/run` builds everything and starts this
//! program.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use esim_status_bench::contenders::Contender;
use esim_status_bench::rounds::Run;
use esim_status_bench::wanted::Wanted;
use esim_status_bench::{interrupt, machine};

/// Measures esim-status and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
struct Args {
    #[command(flatten)]
    wanted: Wanted,

    /// One short round at 1 and 256 connections, without the large table
    #[arg(long)]
    quick: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { mut wanted, quick } = Args::parse();
    if quick {
        (wanted.rounds, wanted.seconds, wanted.retries) = (1, 2, 1);
        wanted.connections = vec![1, 256];
        wanted.skip_large = true;
    }
    if wanted.only.is_empty() {
        wanted.only = Contender::value_variants().to_vec();
    }
    let how = describe(&wanted);
    interrupt::watch()?;
    let run = Run::prepare(wanted)?;
    let (results, failed) = run.measure()?;
    let machine = machine::describe(&run.postgres).context("the machine cannot be described")?;
    let text = format!("{machine}\n\n{how}\n\n{}\n{}", results.table(), results.goals());
    println!("{text}");
    let file = Path::new("target/bench/table.md");
    fs::write(file, text)?;
    eprintln!("written to {}", file.display());
    run.clean_up()?;
    anyhow::ensure!(failed == 0, "{failed} measurements failed; see above");
    Ok(())
}

fn describe(wanted: &Wanted) -> String {
    let command: Vec<_> =
        std::iter::once("bench/run".to_owned()).chain(std::env::args().skip(1)).collect();
    let Wanted { rounds, seconds, load, foreign, retries, .. } = wanted;
    format!(
        "`{}`: {rounds} rounds, {seconds} s for each measurement, medians; latencies at {:.0} % of the rate that each \
         reached. \\* other processes used more than {:.0} % of the machine, despite {retries} retries.",
        command.join(" "),
        load * 100.0,
        foreign * 100.0,
    )
}
