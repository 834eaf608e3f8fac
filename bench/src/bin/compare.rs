//! Measures esim-status and its peers in turns, and prints one table. `bench/run` builds everything and starts this
//! program.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::options::Options;
use esim_status_bench::rounds::Run;
use esim_status_bench::{interrupt, report};

/// Measures esim-status and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
struct Args {
    #[command(flatten)]
    options: Options,

    /// One short round at 1 and 256 connections, without the large table
    #[arg(long)]
    quick: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { mut options, quick } = Args::parse();
    if quick {
        (options.rounds, options.seconds, options.retries) = (1, 2, 1);
        options.connections = vec![1, 256];
        options.skip_large = true;
    }
    let how = describe(&options);
    let contenders = options.contenders();
    interrupt::watch()?;
    let run = Run::prepare(options)?;
    let (results, failed) = run.measure()?;
    let machine =
        report::describe(&run.postgres, &contenders).context("the machine cannot be described")?;
    let text = format!("{machine}\n\n{how}\n\n{}\n{}", results.table(), results.remarks());
    println!("{text}");
    let file = Path::new("target/bench/table.md");
    fs::write(file, text)?;
    eprintln!("written to {}", file.display());
    run.clean_up()?;
    anyhow::ensure!(failed == 0, "{failed} measurements failed; see above");
    Ok(())
}

fn describe(options: &Options) -> String {
    let command: Vec<_> =
        std::iter::once("bench/run".to_owned()).chain(std::env::args().skip(1)).collect();
    let Options { rounds, seconds, load, foreign, retries, .. } = options;
    format!(
        "`{}`: {rounds} rounds, {seconds} s for each measurement, medians; latencies at {:.0} % of the rate that each \
         reached. \\* other processes used more than {:.0} % of the machine, despite {retries} retries.",
        command.join(" "),
        load * 100.0,
        foreign * 100.0,
    )
}
