//! The report: the machine and the versions that were measured, and the figures of all rounds in tables. Writing to a
//! string does not fail.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use esim_status::clock;
use sqlx::Row;

use crate::contenders::Contender;
use crate::machine;
use crate::measure::Sample;
use crate::options::Cell;
use crate::postgres::Postgres;
use crate::process::output;

/// The fraction of a rate that must be answered in time; the last requests may still be in flight at the end. Below it,
/// latencies grow with the length of the measurement, so they are not shown.
const KEPT_UP: f64 = 0.95;

/// One of the figures of a sample.
type Figure = fn(&Sample) -> f64;

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

    /// The samples of a cell: of the undisturbed rounds, if there are any.
    fn samples(&self, cell: Cell) -> Vec<Sample> {
        let all = self.cells.get(&cell).map_or(&[][..], Vec::as_slice);
        let calm: Vec<_> = all.iter().filter(|it| it.foreign <= self.foreign).copied().collect();
        if calm.is_empty() { all.to_vec() } else { calm }
    }

    /// The medians of a cell.
    fn medians(&self, cell: Cell) -> Sample {
        let samples = self.samples(cell);
        let of = |figure: Figure| median(samples.iter().map(figure).collect());
        let kept_up = of(|it| it.kept_up);
        let latency = |figure| if kept_up < KEPT_UP { f64::NAN } else { of(figure) };
        Sample {
            rate: of(|it| it.rate),
            p50: latency(|it| it.p50),
            p99: latency(|it| it.p99),
            kept_up,
            server_micros: of(|it| it.server_micros),
            database_micros: of(|it| it.database_micros),
            resident: of(|it| it.resident),
            most_resident: of(|it| it.most_resident),
            refused: self.cells.get(&cell).into_iter().flatten().map(|it| it.refused).sum(),
            foreign: of(|it| it.foreign),
        }
    }

    /// All tables, as Markdown.
    pub fn show(&self) -> String {
        let mut text = if self.cells.keys().any(|cell| cell.rate.is_some()) {
            self.same_rates()
        } else {
            self.table() + &self.ratios(Contender::Ordinary) + &self.ratios(Contender::OneStatement)
        };
        if !self.ready.is_empty() {
            let ready = show(median(self.ready.clone()), 0);
            let _ = writeln!(text, "\nesim-status is ready {ready} ms after exec.");
        }
        text
    }

    /// The figures of all contenders.
    fn table(&self) -> String {
        let mut text = head(
            "load | connections | who | requests/s | p50, ms | p99, ms | CPU of server, µs each | \
             CPU of database, µs each | RSS, MiB | RSS at most, MiB | not 2xx",
        );
        for cell in self.cells.keys() {
            let it = self.medians(*cell);
            let (load, who) = (cell.kind.name(), cell.contender.name());
            let _ = write!(text, "| {load} | {} | {who}{}", cell.connections, self.mark(&it));
            let times = [(it.p50, 2), (it.p99, 2), (it.server_micros, 1), (it.database_micros, 1)];
            let sizes = [(it.resident, 0), (it.most_resident, 0), (it.refused, 0)];
            for (figure, digits) in [(it.rate, 0)].into_iter().chain(times).chain(sizes) {
                let _ = write!(text, " | {}", show(figure, digits));
            }
            text.push_str(" |\n");
        }
        text
    }

    /// The service's figures, each divided by that of another contender under the same load.
    fn ratios(&self, other: Contender) -> String {
        let columns = "load | connections | rate | p50 | p99 | CPU of server and database";
        let mut text = format!("\nesim-status, if {} is 1:\n\n{}", other.name(), head(columns));
        for cell in self.cells.keys().filter(|cell| cell.contender == Contender::Service) {
            let base = self.medians(Cell { contender: other, ..*cell });
            let ours = self.medians(*cell);
            if base.rate.is_nan() {
                continue;
            }
            let ratio = |figure: Figure| show(figure(&ours) / figure(&base), 2);
            let [rate, p50, p99] = [ratio(|it| it.rate), ratio(|it| it.p50), ratio(|it| it.p99)];
            let cpu = ratio(|it| it.server_micros + it.database_micros);
            let (load, connections) = (cell.kind.name(), cell.connections);
            let _ = writeln!(text, "| {load} | {connections} | {rate} | {p50} | {p99} | {cpu} |");
        }
        text
    }

    /// A statement each and the service at the same rates.
    fn same_rates(&self) -> String {
        let mut text = head(
            "connections | webhooks/s | p50, ms: a statement each | esim-status | ratio | \
             p99, ms: a statement each | esim-status | ratio | \
             CPU of database, µs: a statement each | esim-status | ratio",
        );
        let figures: [(Figure, usize); 3] =
            [(|it| it.p50, 2), (|it| it.p99, 2), (|it| it.database_micros, 0)];
        for cell in self.cells.keys().filter(|cell| cell.contender == Contender::Service) {
            let rate = cell.rate.unwrap_or_default();
            let _ = write!(text, "| {} | {rate} |", cell.connections);
            let peer = Cell { contender: Contender::OneStatement, ..*cell };
            for (figure, digits) in figures {
                let (base, of_peer) = self.spread(peer, figure, digits);
                let (ours, of_service) = self.spread(*cell, figure, digits);
                let _ = write!(text, " {of_peer} | {of_service} | {} |", show(ours / base, 2));
            }
            text.push('\n');
        }
        text
    }

    /// The median of a figure, and the same as text with the least and the greatest figure.
    fn spread(&self, cell: Cell, figure: Figure, digits: usize) -> (f64, String) {
        let medians = self.medians(cell);
        if medians.kept_up < KEPT_UP {
            return (f64::NAN, format!("† {:.0}/s", medians.rate));
        }
        let all: Vec<_> = self.samples(cell).iter().map(figure).collect();
        let least = show(all.iter().copied().fold(f64::NAN, f64::min), digits);
        let most = show(all.iter().copied().fold(f64::NAN, f64::max), digits);
        let (middle, mark) = (figure(&medians), self.mark(&medians));
        (middle, format!("{} ({least} to {most}){mark}", show(middle, digits)))
    }

    fn mark(&self, medians: &Sample) -> &'static str {
        if medians.foreign > self.foreign { " \\*" } else { "" }
    }
}

/// The head of a table.
fn head(columns: &str) -> String {
    format!("| {columns} |\n|{}\n", "---|".repeat(columns.split('|').count()))
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
    use crate::kinds::Kind;

    const CELL: Cell =
        Cell { kind: Kind::Webhooks, connections: 256, rate: None, contender: Contender::Service };

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
        let ratios = results.ratios(Contender::Ordinary);
        assert!(ratios.contains("| webhooks | 256 | 10.00 | – |"), "{ratios}");
    }

    #[test]
    fn a_peer_that_does_not_keep_up_has_no_latency_and_no_ratio() {
        let mut results = Results::new(0.1);
        let service = Cell { rate: Some(1_000), ..CELL };
        let peer = Cell { contender: Contender::OneStatement, ..service };
        for p50 in [1.0, 4.0, 2.0] {
            let sample = Sample { kept_up: 1.0, p50, foreign: 0.0, ..Sample::NONE };
            results.add(service, sample);
            results.add(peer, Sample { kept_up: 0.9, rate: 900.0, ..sample });
        }
        let text = results.show();
        assert!(text.contains("| 256 | 1000 | † 900/s | 2.00 (1.00 to 4.00) | – |"), "{text}");
    }
}
