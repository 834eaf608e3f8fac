//! The command line of a run: what to measure, how, and in which order.

use clap::{Args, ValueEnum};

use crate::contenders::Contender;
use crate::load::Work;

/// One kind of measurement: which table, which kind of requests, how many connections, and which contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Whether it is measured on the large table.
    pub large: bool,
    /// The kind of requests.
    pub work: Work,
    /// The number of connections.
    pub connections: usize,
    /// The contender.
    pub contender: Contender,
}

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct Options {
    /// How many rounds; the table shows the medians
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,

    /// The length of each measurement, in seconds
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,

    /// The numbers of connections to measure, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    pub connections: Vec<usize>,

    /// Measure Express and `FastAPI` too, which need Node.js with npm and Python with venv
    #[arg(long)]
    pub all: bool,

    /// Which contenders to measure; Express and `FastAPI` need --all [default: those in Rust, with --all every one]
    #[arg(long, value_enum, value_delimiter = ',')]
    #[arg(requires_ifs = [("express", "all"), ("fastapi", "all")])]
    only: Vec<Contender>,

    /// Leave out the table with 3 million profiles
    #[arg(long)]
    pub skip_large: bool,

    /// Leave out reads
    #[arg(long)]
    pub skip_reads: bool,

    /// How often a measurement that other processes disturbed is retried
    #[arg(long, default_value_t = 3)]
    pub retries: u32,

    /// How many seconds the whole run may wait for other processes and retry what they disturbed
    #[arg(long, default_value_t = 600)]
    pub patience: u64,

    /// The fraction of the machine that other processes may use before a measurement counts as disturbed
    #[arg(long, default_value_t = 0.1)]
    pub foreign: f64,

    /// The fraction of the max rate at which latencies are measured; with one connection, the loop is closed
    #[arg(long, default_value_t = 0.6)]
    pub load: f64,

    /// The max number of connections to the database of each peer, with all its processes
    #[arg(long, default_value_t = 32)]
    pub pool: u32,

    /// The number of wrk's threads
    #[arg(long, default_value_t = 1)]
    pub wrk_threads: usize,
}

impl Options {
    /// The contenders, in the order of a round.
    pub fn contenders(&self) -> Vec<Contender> {
        let is_wanted = |it: &Contender| match self.only.as_slice() {
            [] => self.all || it.is_rust(),
            only => only.contains(it),
        };
        Contender::value_variants().iter().copied().filter(is_wanted).collect()
    }

    /// What a round measures, in order: all contenders at one number of connections, then at the next.
    pub fn cells(&self) -> Vec<Cell> {
        let contenders = self.contenders();
        let mut cells = Vec::new();
        for large in [false, true] {
            for work in [Work::Writes, Work::Reads] {
                for &connections in &self.connections {
                    for &contender in &contenders {
                        let cell = Cell { large, work, connections, contender };
                        if self.is_measured(cell) {
                            cells.push(cell);
                        }
                    }
                }
            }
        }
        cells
    }

    fn is_measured(&self, cell: Cell) -> bool {
        use Contender::{OneStatement, Ordinary, Service};

        // The one-statement handler reads like the ordinary one.
        let has_work =
            cell.work == Work::Writes || !(self.skip_reads || cell.contender == OneStatement);
        let is_on_table = !cell.large
            || (!self.skip_large
                && matches!(cell.contender, Service | Ordinary)
                && cell.connections >= 64);
        has_work && is_on_table
    }
}
