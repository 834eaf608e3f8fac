//! The command line of a run: what to measure, how, and in which order.

use clap::{Parser, ValueEnum};

use crate::contenders::Contender;
use crate::kinds::Kind;

/// The requests a second of `--same-rate`.
const RATES: [u32; 4] = [100, 300, 1_000, 1_500];

/// One measurement: which kind of load, how many connections, at which rate, and which contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The kind of load.
    pub kind: Kind,
    /// The number of connections.
    pub connections: usize,
    /// The only rate to measure, in requests a second; `None` to measure the max rate too.
    pub rate: Option<u32>,
    /// The contender.
    pub contender: Contender,
}

/// Measures esim-status and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// One short round at 1 and 256 connections, without the large table
    #[arg(long, conflicts_with_all = ["same_rate", "kinds", "long"])]
    quick: bool,

    /// Only webhooks at the same small rates for the service and a statement each: 5 rounds of 10 s
    #[arg(long, conflicts_with_all = ["kinds", "long"])]
    pub same_rate: bool,

    /// Only other kinds of load, each beside the ordinary one: hot profiles, repetitions, reads during writes, slow fsync
    #[arg(long, conflicts_with = "long")]
    kinds: bool,

    /// Only one round of webhooks for minutes, with checkpoints
    #[arg(long)]
    long: bool,

    /// How many rounds; the table shows the medians
    #[arg(long, default_value = "3")]
    #[arg(default_value_ifs = [("quick", "true", "1"), ("same_rate", "true", "5"), ("long", "true", "1")])]
    pub rounds: usize,

    /// The length of each measurement, in seconds
    #[arg(long, default_value = "3")]
    #[arg(default_value_ifs = [("quick", "true", "2"), ("same_rate", "true", "10"), ("long", "true", "120")])]
    pub seconds: u64,

    /// The numbers of connections to measure, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,256")]
    #[arg(default_value_ifs = [("quick", "true", "1,256"), ("same_rate", "true", "1,8,64"), ("kinds", "true", "64"), ("long", "true", "64")])]
    pub connections: Vec<usize>,

    /// Measure Express and `FastAPI` too, which need Node.js with npm and Python with venv
    #[arg(long)]
    pub all: bool,

    /// Which contenders to measure; Express and `FastAPI` need --all [default: those in Rust that record no traces, with --all all
    /// of these]
    #[arg(long, value_enum, value_delimiter = ',')]
    #[arg(requires_ifs = [("express", "all"), ("fastapi", "all")])]
    only: Vec<Contender>,

    /// Leave out the table with 3 million profiles
    #[arg(long)]
    skip_large: bool,

    /// Leave out reads
    #[arg(long)]
    skip_reads: bool,

    /// How often a measurement that other processes disturbed is retried
    #[arg(long, default_value = "3", default_value_ifs = [("quick", "true", "1"), ("long", "true", "1")])]
    pub retries: u32,

    /// How many seconds the whole run may wait for other processes and retry what they disturbed
    #[arg(long, default_value_t = 600)]
    pub patience: u64,

    /// The fraction of the machine that other processes may use before a measurement counts as disturbed
    #[arg(long, default_value_t = 0.1)]
    pub foreign: f64,

    /// The fraction of the ordinary handler's max rate at which latencies are measured; with one connection, the loop is
    /// closed
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
        use Contender::{OneStatement, Ordinary, Service};

        let is_wanted = |it: &Contender| match self.only.as_slice() {
            [] if self.same_rate => matches!(it, OneStatement | Service),
            [] if self.kinds || self.long => matches!(it, Ordinary | OneStatement | Service),
            [] => it.is_usual() && (self.all || it.is_rust()),
            only => only.contains(it),
        };
        Contender::value_variants().iter().copied().filter(is_wanted).collect()
    }

    /// What a round measures, in order: all contenders at one number of connections, then at the next.
    pub fn cells(&self) -> Vec<Cell> {
        use Kind::{LargeReads, LargeWebhooks, Long, Reads, Webhooks};

        let contenders = self.contenders();
        let kinds = match self {
            Self { same_rate: true, .. } => vec![Webhooks],
            Self { kinds: true, .. } => Kind::BESIDE.to_vec(),
            Self { long: true, .. } => vec![Long],
            _ => vec![Webhooks, Reads, LargeWebhooks, LargeReads],
        };
        let rates = if self.same_rate { RATES.map(Some).to_vec() } else { vec![None] };
        let mut cells = Vec::new();
        for kind in kinds {
            for &connections in &self.connections {
                for &rate in &rates {
                    for &contender in &contenders {
                        cells.push(Cell { kind, connections, rate, contender });
                    }
                }
            }
        }
        cells.retain(|&cell| self.is_measured(cell));
        cells
    }

    fn is_measured(&self, cell: Cell) -> bool {
        use Contender::{OneStatement, Ordinary, Service};

        // The one-statement handler reads like the ordinary one.
        let has_work = !matches!(cell.kind, Kind::Reads | Kind::LargeReads)
            || !(self.skip_reads || cell.contender == OneStatement);
        let is_on_table = !cell.kind.is_large()
            || (!(self.skip_large || self.quick)
                && matches!(cell.contender, Service | Ordinary)
                && cell.connections >= 64);
        has_work && is_on_table
    }
}
