//! Runs one server with a database of its own until Ctrl-C, for whoever wants to look at it under load.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::contenders::{Contender, Place, Running};
use esim_status_bench::interrupt;
use esim_status_bench::postgres::Postgres;
use esim_status_bench::tables::LARGE;

/// The database that is made anew each time.
const DATABASE: &str = "held";

/// Runs one server, with a database of its own, until Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// Which
    #[arg(value_enum, default_value_t = Contender::Service)]
    server: Contender,

    /// How many connections to the database a peer may have
    #[arg(long, default_value_t = 32)]
    pool: u32,

    /// Put so many profiles into the database first
    #[arg(long, default_value_t = 0)]
    profiles: u64,

    /// Take the database with 3 million profiles, and make it if it is not there
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
    println!("Ctrl-C ends them.");
    // Until somebody wants us to end.
    while interrupt::sleep(Duration::from_secs(1)).is_ok() {}
    drop(running);
    if args.large { Ok(()) } else { postgres.remove(DATABASE) }
}
