//! Writes the load of a benchmark: signed webhooks, the profiles to read, and the settings of a service that accepts
//! them.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use esim_status_bench::deliveries::{self, Profiles};
use esim_status_bench::settings;

/// Writes signed webhooks, the ICCIDs to read, and the settings of a service that accepts them.
#[derive(Debug, Parser)]
struct Args {
    /// The folder to write to
    #[arg(long, default_value = "target/bench/load")]
    out: PathBuf,

    /// How many profiles the load is about; each has three deliveries that change it, and those that repeat
    #[arg(long, default_value_t = 100_000)]
    profiles: u64,

    /// How many deliveries of each profile repeat its state
    #[arg(long, default_value_t = 1)]
    repeats: usize,

    /// How many profiles exist; those of the load are spread evenly over them
    #[arg(long, default_value_t = 0)]
    of: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    fs::create_dir_all(&args.out)?;
    let profiles =
        Profiles { count: args.profiles, of: args.of.max(args.profiles), repeats: args.repeats };
    let iccids = profiles.iccids();
    deliveries::write(&args.out.join("deliveries"), &deliveries::make(&iccids, profiles.repeats)?)?;
    fs::write(args.out.join("iccids"), iccids.join("\n") + "\n")?;
    let hooks = args.out.join("hooks.toml");
    fs::write(&hooks, settings::hooks())?;
    let assignments: Vec<_> = settings::environment(&fs::canonicalize(hooks)?)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    fs::write(args.out.join("env"), assignments.concat())?;
    println!("{}", args.out.display());
    Ok(())
}
