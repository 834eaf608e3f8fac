//! Measures the throughput with wrk.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;

use crate::deliveries::secret;
use crate::load::{Load, Work};
use crate::process;

/// No server answers more than this a second, so a load need not be longer.
const MAX_A_SECOND: u64 = 60_000;

/// What to send, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The address of the server.
    pub address: SocketAddr,
    /// The requests.
    pub load: &'a Load,
    /// The kind of requests.
    pub work: Work,
    /// The index of the first delivery.
    pub first: usize,
    /// The number of connections.
    pub connections: usize,
    /// The max number of wrk's threads.
    pub threads: usize,
    /// The length of the measurement, in seconds.
    pub seconds: u64,
}

/// What wrk prints.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    /// How many requests were answered.
    pub requests: u64,
    /// In how many microseconds.
    pub micros: u64,
    /// How many were not answered, or not with 2xx.
    pub refused: u64,
}

/// Sends the load as fast as it is answered.
///
/// # Errors
/// If wrk fails, or after a signal.
pub fn run(plan: &Plan) -> anyhow::Result<Answers> {
    let Plan { address, load, work, first, connections, threads, seconds } = *plan;
    let script = match work {
        Work::Writes => "bench/wrk/webhooks.lua",
        Work::Reads => "bench/wrk/reads.lua",
    };
    let threads = threads.min(connections).to_string();
    let mut command = Command::new("wrk");
    command.args(["-s", script, "-t", &threads, "-c", &connections.to_string()]);
    command.args(["--timeout", "10s", "-d", &format!("{seconds}s")]);
    command.arg(format!("http://{address}")).arg("--");
    match work {
        Work::Writes => {
            let max = MAX_A_SECOND * seconds;
            command.arg(load.folder.join("deliveries")).arg(&threads);
            command.args([first.to_string(), max.to_string()])
        }
        Work::Reads => command.arg(load.folder.join("iccids")).arg(secret("api")).arg(&threads),
    };
    let printed = process::output(&mut command)?;
    let line = printed.lines().find(|line| line.starts_with("requests=")).unwrap_or_default();
    let figure = |name: &str| {
        let found = line.split_whitespace().find_map(|part| part.strip_prefix(name));
        found.and_then(|text| text.parse::<u64>().ok()).context("wrk prints no figures")
    };
    let refused = figure("refused=")? + figure("broken=")?;
    Ok(Answers { requests: figure("requests=")?, micros: figure("microseconds=")?, refused })
}
