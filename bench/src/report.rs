//! The report: the machine and the versions that were measured, and the figures of all rounds in one table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use esim_status::clock;
use sqlx::Row;

use crate::contenders::Contender;
use crate::load::Work;
use crate::machine;
use crate::measure::Sample;
use crate::options::Cell;
use crate::postgres::Postgres;
use crate::process::output;

/// The samples of all rounds.
#[derive(Debug, Default)]
pub struct Results {
    cells: BTreeMap<Cell, Vec<Sample>>,
    /// The times from exec to ready, in milliseconds.
    pub ready: Vec<f64>,
    foreign: f64,
}

impl Results {
    /// No samples yet. A sample is disturbed if other processes used more than this fraction of the machine.
    pub fn new(foreign: f64) -> Self {
        Self { foreign, ..Self::default() }
    }

    /// Adds the sample of a round.
    pub fn add(&mut self, cell: Cell, sample: Sample) {
        self.cells.entry(cell).or_default().push(sample);
    }

    /// The medians of a cell, over the undisturbed rounds if there are any.
    fn medians(&self, cell: Cell) -> Option<Sample> {
        let all = self.cells.get(&cell)?;
        let calm: Vec<_> = all.iter().filter(|it| it.foreign <= self.foreign).copied().collect();
        let samples = if calm.is_empty() { all.as_slice() } else { calm.as_slice() };
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Some(Sample {
            rate: of(|it| it.rate),
            p50: of(|it| it.p50),
            p99: of(|it| it.p99),
            p99_at_common_rate: of(|it| it.p99_at_common_rate),
            server_micros: of(|it| it.server_micros),
            database_micros: of(|it| it.database_micros),
            resident: of(|it| it.resident),
            most_resident: of(|it| it.most_resident),
            refused: all.iter().map(|it| it.refused).sum(),
            foreign: of(|it| it.foreign),
        })
    }

    /// The table, as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| work | table | connections | who | requests/s | p50, ms | p99, ms | CPU of server, µs each | CPU of database, µs each | RSS, MiB | RSS at most, MiB | not 2xx |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for cell in self.cells.keys() {
            let Some(sample) = self.medians(*cell) else { continue };
            let work = match cell.work {
                Work::Writes => "webhooks",
                Work::Reads => "reads",
            };
            let table = if cell.large { "3 million" } else { "empty" };
            let mark = if sample.foreign > self.foreign { " \\*" } else { "" };
            let (connections, name) = (cell.connections, cell.contender.name());
            let figures = [
                show(sample.rate, 0),
                show(sample.p50, 2),
                show(sample.p99, 2),
                show(sample.server_micros, 1),
                show(sample.database_micros, 1),
                show(sample.resident, 0),
                show(sample.most_resident, 0),
                show(sample.refused, 0),
            ];
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "| {work} | {table} | {connections} | {name}{mark} | {} |",
                figures.join(" | ")
            );
        }
        text
    }

    /// What the table cannot show: latencies at the same rate, and the time to start.
    pub fn remarks(&self) -> String {
        let writes = |contender| {
            let cell = Cell { large: false, work: Work::Writes, connections: 256, contender };
            self.medians(cell).unwrap_or(Sample::NONE)
        };
        format!(
            "At the rate of the ordinary handler's latencies, with 256 connections, the p99 of a webhook is {} ms for \
             esim-status and {} ms for the ordinary handler. esim-status is ready {} ms after exec.\n",
            show(writes(Contender::Service).p99_at_common_rate, 2),
            show(writes(Contender::Ordinary).p99, 2),
            show(median(self.ready.clone()), 0),
        )
    }
}

/// Describes the machine and the versions in one paragraph of Markdown.
///
/// # Errors
/// If the database does not answer.
pub fn describe(postgres: &Postgres, contenders: &[Contender]) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let shown = "SELECT current_setting('server_version') || '; fsync ' || current_setting('fsync') \
                 || ', synchronous_commit ' || current_setting('synchronous_commit') \
                 || ', shared_buffers ' || current_setting('shared_buffers')";
    let database: String = postgres.ask("postgres", shown)?.try_get(0)?;
    let version = |program: &str| {
        output(Command::new(program).arg("--version")).unwrap_or_default().trim().to_owned()
    };
    let mut text = format!(
        "{}: {cores} cores ({}), {} GiB, Linux {}; {}; PostgreSQL {database}; ",
        clock::now().as_datetime().date(),
        machine::first("/proc/cpuinfo", "model name"),
        machine::memory_mib().div_ceil(1_024),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        version("rustc"),
    );
    // Writing to a string does not fail.
    if contenders.contains(&Contender::Express) {
        let node = version("node");
        let _ = write!(text, "node {node}, express and pg as in bench/peers/express; ");
    }
    if contenders.contains(&Contender::Fastapi) {
        let python = version("target/bench/venv/bin/python");
        let _ = write!(text, "{python}, packages as in bench/peers/fastapi; ");
    }
    text.push_str("wrk on the same machine.");
    Ok(text)
}

/// The median; NaN if there are no values.
fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// A figure with this many digits after the point.
fn show(figure: f64, digits: usize) -> String {
    if figure.is_nan() { "–".to_owned() } else { format!("{figure:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell =
        Cell { large: false, work: Work::Writes, connections: 256, contender: Contender::Service };

    #[test]
    fn disturbed_rounds_do_not_count_if_there_are_undisturbed_ones() {
        let mut results = Results::new(0.1);
        for (rate, foreign) in [(900.0, 0.0), (1_100.0, 0.05), (10.0, 0.6)] {
            results.add(CELL, Sample { rate, foreign, ..Sample::NONE });
        }
        assert!(results.table().contains("| esim-status | 1000 | – |"), "{}", results.table());
        let ordinary = Cell { contender: Contender::Ordinary, ..CELL };
        results.add(ordinary, Sample { rate: 100.0, foreign: 0.6, ..Sample::NONE });
        assert!(results.table().contains("a transaction each \\* | 100 |"), "{}", results.table());
    }
}
