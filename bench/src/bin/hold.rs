//! Runs one server with its own database until Ctrl-C, to examine it under load.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::contenders::{Contender, Place, Running};
use esim_status_bench::interrupt;
use esim_status_bench::postgres::Postgres;
use esim_status_bench::tables::LARGE;

/// The database, which is recreated each time.
const DATABASE: &str = "held";

/// Runs one server with its own database until Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// Which server
    #[arg(value_enum, default_value_t = Contender::Service)]
    server: Contender,

    /// The max number of a peer's connections to the database
    #[arg(long, default_value_t = 32)]
    pool: u32,

    /// How many profiles to put into the database first
    #[arg(long, default_value_t = 0)]
    profiles: u64,

    /// Use the database with 3 million profiles, and create it if it does not exist
    #[arg(long, conflicts_with = "profiles")]
    large: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    interrupt::watch()?;
    let folder = Path::new("target/bench/held");
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let postgres = Postgres::start(Path::new("target/bench/postgres"))?;
    let database = if args.large {
        postgres.make_large()?;
        LARGE
    } else {
        postgres.make(DATABASE)?;
        postgres.fill(DATABASE, args.profiles)?;
        DATABASE
    };
    let place = Place { postgres: &postgres, database, folder: &folder, pool: args.pool };
    let mut running = Running::start(args.server, &place)?;
    running.wait().with_context(|| folder.display().to_string())?;
    println!("server    {} (process {})", running.address, running.pid());
    println!("admin     {}", running.admin);
    println!("database  {} (process {})", postgres.url(database), postgres.pid());
    println!("Ctrl-C stops them.");
    // Until Ctrl-C or SIGTERM.
    while interrupt::sleep(Duration::from_secs(1)).is_ok() {}
    drop(running);
    if args.large { Ok(()) } else { postgres.remove(DATABASE) }
}
