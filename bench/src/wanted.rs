//! What a run is asked to measure, and in which order that comes.

use clap::Args;

use crate::contenders::Contender;
use crate::load::Work;
use crate::report::Cell;

/// What is measured, and how.
#[derive(Debug, Args)]
pub struct Wanted {
    /// How often everything is measured; the table has the medians
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,

    /// How long each measurement takes
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,

    /// How many connections, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    pub connections: Vec<usize>,

    /// Who is measured [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Contender>,

    /// Leave out the table with 3 million profiles
    #[arg(long)]
    pub skip_large: bool,

    /// Leave out reads
    #[arg(long)]
    pub skip_reads: bool,

    /// How often a measurement that others disturbed is taken again
    #[arg(long, default_value_t = 3)]
    pub retries: u32,

    /// How many seconds the whole run may wait for others and repeat what they disturbed
    #[arg(long, default_value_t = 600)]
    pub patience: u64,

    /// Which part of the machine others may use before that is a disturbance
    #[arg(long, default_value_t = 0.1)]
    pub foreign: f64,

    /// At which part of the rate that was reached latencies are taken
    #[arg(long, default_value_t = 0.6)]
    pub load: f64,

    /// How many connections to the database each peer may have, all its processes together
    #[arg(long, default_value_t = 32)]
    pub pool: u32,

    /// The threads of wrk
    #[arg(long, default_value_t = 1)]
    pub wrk_threads: usize,
}

impl Wanted {
    /// What a round measures, in its order: contender after contender, at one number of connections after the other.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for large in [false, true] {
            for work in [Work::Writes, Work::Reads] {
                for &connections in &self.connections {
                    for &contender in &self.only {
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
        use Contender::{Batches, OneStatement, Ordinary, Pgbench, Service};

        let has_connections = match cell.contender {
            // It has one connection, whatever is asked; the goals want it beside 256.
            Batches => cell.connections == 256,
            // Each connection is a process of the database, and it takes 200.
            Pgbench => cell.connections <= 128,
            _ => true,
        };
        // It reads as the ordinary one does.
        let has_work = cell.work == Work::Writes
            || !(self.skip_reads || matches!(cell.contender, OneStatement | Pgbench | Batches));
        let is_on_table = !cell.large
            || (!self.skip_large
                && matches!(cell.contender, Service | Ordinary)
                && cell.connections >= 64);
        has_connections && has_work && is_on_table
    }
}
