//! The figures of all rounds in one table, and their comparison with the goals.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contenders::Contender;
use crate::load::Work;
use crate::measure::Sample;

/// What was measured: which table, which kind of requests, how many connections, and which contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Whether it was measured on the large table.
    pub large: bool,
    /// The kind of requests.
    pub work: Work,
    /// The number of connections.
    pub connections: usize,
    /// The contender.
    pub contender: Contender,
}

/// The samples of all rounds.
#[derive(Debug, Default)]
pub struct Results {
    cells: BTreeMap<Cell, Vec<Sample>>,
    /// The times from exec to ready, in milliseconds.
    pub ready: Vec<f64>,
    foreign: f64,
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
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

    /// Each goal, its measured value, and whether it is met, as Markdown.
    pub fn goals(&self) -> String {
        let mut text = String::from("| goal | wanted | measured | met |\n|---|---|---|---|\n");
        for (goal, bound, measured) in self.measured_goals() {
            let (wanted, met) = match bound {
                Bound::AtLeast(least) => (format!("≥ {least}"), measured >= least),
                Bound::AtMost(most) => (format!("≤ {most}"), measured <= most),
            };
            let met = match (measured.is_nan(), met) {
                (true, _) => "not measured",
                (false, true) => "yes",
                (false, false) => "**no**",
            };
            let _ = writeln!(text, "| {goal} | {wanted} | {} | {met} |", show(measured, 2));
        }
        text
    }

    fn measured_goals(&self) -> Vec<(&'static str, Bound, f64)> {
        use Bound::{AtLeast, AtMost};
        use Contender::{Express, Limit, OneStatement, Ordinary, Service};

        let at = |large, work, connections, contender| {
            self.medians(Cell { large, work, connections, contender }).unwrap_or(Sample::NONE)
        };
        let writes = |contender| at(false, Work::Writes, 256, contender);
        let reads = |contender| at(false, Work::Reads, 256, contender);
        let alone = |contender| at(false, Work::Writes, 1, contender).p50;
        let (service, readers) = (writes(Service), reads(Service));
        let large = at(true, Work::Writes, 256, Service).rate;
        vec![
            ("webhooks: rate to Express", AtLeast(10.0), service.rate / writes(Express).rate),
            (
                "webhooks: rate to the ordinary handler",
                AtLeast(5.0),
                service.rate / writes(Ordinary).rate,
            ),
            ("webhooks: rate to the limit", AtLeast(0.3), service.rate / writes(Limit).rate),
            (
                "webhooks: p99 to the ordinary handler's, both at its rate",
                AtMost(0.3),
                service.p99_at_common_rate / writes(Ordinary).p99,
            ),
            (
                "webhooks: p99 to the ordinary handler's, each at its own rate",
                AtMost(0.3),
                service.p99 / writes(Ordinary).p99,
            ),
            (
                "webhooks: p50 alone to that of one statement",
                AtMost(1.0),
                alone(Service) / alone(OneStatement),
            ),
            ("webhooks: CPU of the service, µs each", AtMost(12.0), service.server_micros),
            ("reads: rate to Express", AtLeast(10.0), readers.rate / reads(Express).rate),
            ("reads: rate to a query each", AtLeast(3.5), readers.rate / reads(Ordinary).rate),
            ("reads: rate to the limit", AtLeast(0.45), readers.rate / reads(Limit).rate),
            (
                "webhooks: rate on the large table to an empty one",
                AtLeast(0.8),
                large / service.rate,
            ),
            ("RSS at most at 256 connections, MiB", AtMost(40.0), service.most_resident),
            ("from exec to ready, ms", AtMost(200.0), median(self.ready.clone())),
        ]
    }
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
        let goals = results.goals();
        assert!(goals.contains("ordinary handler | ≥ 5 | 10.00 | yes |"), "{goals}");
        assert!(goals.contains("to Express | ≥ 10 | – | not measured |"), "{goals}");
    }
}
