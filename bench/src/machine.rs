//! Describes the machine and the versions that were measured.

use std::fs;
use std::process::Command;

use esim_status::clock;
use sqlx::Row;

use crate::postgres::Postgres;
use crate::process::output;

/// A description in one paragraph of Markdown.
///
/// # Errors
/// If the database does not answer.
pub fn describe(postgres: &Postgres) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let shown = "SELECT current_setting('server_version') || '; fsync ' || current_setting('fsync') \
                 || ', synchronous_commit ' || current_setting('synchronous_commit') \
                 || ', shared_buffers ' || current_setting('shared_buffers')";
    let database: String = postgres.ask("postgres", shown)?.try_get(0)?;
    let version = |program: &str, argument: &str| {
        output(Command::new(program).arg(argument)).unwrap_or_default().trim().to_owned()
    };
    Ok(format!(
        "{}: {cores} cores ({}), {} GiB, Linux {}; {}; PostgreSQL {database}; node {}, express and pg as in \
         bench/peers/express; {}, packages as in bench/peers/fastapi; wrk on the same machine.",
        clock::now().as_datetime().date(),
        first("/proc/cpuinfo", "model name"),
        memory_mib().div_ceil(1_024),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        version("rustc", "--version"),
        version("node", "--version"),
        version("target/bench/venv/bin/python", "--version"),
    ))
}

/// The machine's memory in MiB; 0 if it is unknown.
pub fn memory_mib() -> u64 {
    let kib = first("/proc/meminfo", "MemTotal");
    kib.trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib / 1_024)
}

/// The value after the first line with this name in a file.
fn first(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}
