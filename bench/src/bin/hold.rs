//! Runs one server with a database of its own until Ctrl-C, for whoever wants to look at it under load.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::interrupt;
use esim_status_bench::postgres::Postgres;
use esim_status_bench::servers::{Running, Server};

/// The database that is made anew each time.
const DATABASE: &str = "held";

/// Runs one server, with a database of its own, until Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// Which
    #[arg(value_enum, default_value_t = Server::Service)]
    server: Server,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    interrupt::watch()?;
    let folder = Path::new("target/bench/held");
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let postgres = Postgres::start(Path::new("target/bench/postgres"))?;
    postgres.make(DATABASE)?;
    let url = postgres.url(DATABASE);
    let mut running = Running::start(args.server, &url, &folder)?;
    running.wait().with_context(|| folder.display().to_string())?;
    println!("server    {} (process {})", running.address, running.pid());
    println!("admin     {}", running.admin);
    println!("database  {url} (process {})", postgres.pid());
    println!("Ctrl-C ends them.");
    // Until somebody wants us to end.
    while interrupt::sleep(Duration::from_secs(1)).is_ok() {}
    drop(running);
    postgres.remove(DATABASE)
}
