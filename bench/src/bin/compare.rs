//! Measures esim-status and its peers in turns, and prints one table. `bench/run` builds everything and starts this
//! program.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::options::Options;
use esim_status_bench::rounds::Run;
use esim_status_bench::{interrupt, report};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let how = describe(&options);
    let contenders = options.contenders();
    interrupt::watch()?;
    let run = Run::prepare(options)?;
    let (results, failed) = run.measure()?;
    let machine =
        report::describe(&run.postgres, &contenders).context("the machine cannot be described")?;
    let text = format!("{machine}\n\n{how}\n\n{}", results.show());
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
        "`{}`: rounds: {rounds}, {seconds} s for each measurement, medians; latencies at the same rate for all, {:.0} % of what a \
         transaction each reached, or at the rate in the table. \\* other processes used more than {:.0} % of the \
         machine, despite {retries} retries. † the server did not keep up with the rate.",
        command.join(" "),
        load * 100.0,
        foreign * 100.0,
    )
}
