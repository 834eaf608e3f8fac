//! Sends a load to a running server, and prints latencies without coordinated omission.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use esim_status_bench::deliveries;
use esim_status_bench::generator::{self, Plan};

/// Measures latencies at a constant rate, or with all connections busy.
#[derive(Debug, Parser)]
struct Args {
    /// The server
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddr,

    /// The folder that `bodies` wrote
    #[arg(long, default_value = "target/bench/load")]
    load: PathBuf,

    /// Read profiles instead of sending webhooks
    #[arg(long)]
    reads: bool,

    /// How many connections
    #[arg(short, long, default_value_t = 64)]
    connections: usize,

    /// Requests a second; without it, each connection sends its next request as soon as it has an answer
    #[arg(short, long)]
    rate: Option<f64>,

    /// Seconds to measure
    #[arg(short, long, default_value_t = 8)]
    seconds: u64,

    /// Seconds of warm-up before that
    #[arg(long, default_value_t = 1)]
    warm_up: u64,

    /// The index of the first request in the file, to continue where another run ended
    #[arg(long, default_value_t = 0)]
    first: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let requests = if args.reads {
        let iccids = args.load.join("iccids");
        let text = fs::read_to_string(&iccids).with_context(|| iccids.display().to_string())?;
        deliveries::read_profiles(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    } else {
        deliveries::read_requests(&args.load.join("deliveries"))?
    };
    let figures = generator::run(&Plan {
        address: args.address,
        requests: &requests,
        first: args.first,
        connections: args.connections,
        rate: args.rate,
        warm_up: Duration::from_secs(args.warm_up),
        measure: Duration::from_secs(args.seconds),
    })?;
    println!("| connections | requests/s | p50, ms | p99, ms | p99.9, ms | worst, ms | not 2xx |");
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {} | {:.0} | {:.3} | {:.3} | {:.3} | {:.3} | {} |",
        args.connections,
        figures.rate,
        figures.percentile_ms(50.0),
        figures.percentile_ms(99.0),
        figures.percentile_ms(99.9),
        figures.percentile_ms(100.0),
        figures.refused
    );
    println!("sent: {}", figures.sent);
    Ok(())
}
