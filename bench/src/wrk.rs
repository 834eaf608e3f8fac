//! Measures the throughput with wrk.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;

use crate::deliveries::secret;
use crate::load::Work;
use crate::measure::Measurement;
use crate::process;

/// No server answers more than this a second, so a load need not be longer.
const MOST_A_SECOND: u64 = 60_000;

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

/// Sends the load from index `first` on, as fast as it is answered.
///
/// # Errors
/// If wrk fails, or after a signal.
pub fn run(measurement: &Measurement, server: SocketAddr, first: usize) -> anyhow::Result<Answers> {
    let Measurement { method, load, work, connections, .. } = measurement;
    let script = match work {
        Work::Writes => "bench/wrk/webhooks.lua",
        Work::Reads => "bench/wrk/reads.lua",
    };
    let threads = method.wrk_threads.min(*connections).to_string();
    let mut command = Command::new("wrk");
    command.args(["-s", script, "-t", &threads, "-c", &connections.to_string()]);
    command.args(["--timeout", "10s", "-d", &format!("{}s", method.seconds)]);
    command.arg(format!("http://{server}")).arg("--");
    match work {
        Work::Writes => {
            let most = MOST_A_SECOND * method.seconds;
            command.arg(load.folder.join("deliveries")).arg(&threads);
            command.args([first.to_string(), most.to_string()])
        }
        Work::Reads => command.arg(load.folder.join("iccids")).arg(secret("api")).arg(&threads),
    };
    let told = process::output(&mut command)?;
    let line = told.lines().find(|line| line.starts_with("requests=")).unwrap_or_default();
    let figure = |name: &str| {
        let found = line.split_whitespace().find_map(|part| part.strip_prefix(name));
        found.and_then(|text| text.parse::<u64>().ok()).context("wrk prints no figures")
    };
    let refused = figure("refused=")? + figure("broken=")?;
    Ok(Answers { requests: figure("requests=")?, micros: figure("microseconds=")?, refused })
}
