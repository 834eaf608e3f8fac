//! Measures one contender: sends a load, reads the figures, and retries if other processes were busy meanwhile.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::contenders::Running;
use crate::cost::{Roots, memory, micros_each};
use crate::generator::{self, Plan};
use crate::interrupt;
use crate::load::Load;
use crate::options::{Cell, Options};
use crate::postgres::Postgres;
use crate::wrk::{self, Answers};

/// The length of the warm-up.
const WARM_UP: Duration = Duration::from_secs(1);

/// The rate of the warm-up before a rate that is the same for all, in requests a second.
const SAME_WARM_UP: f64 = 2_000.0;

/// How long one check takes whether other processes are busy.
const LOOK: Duration = Duration::from_millis(200);

/// The max number of such checks before a measurement, which then starts in any case.
const MAX_LOOKS: u32 = 50;

/// The figures of one contender in one round. A figure that was not measured is NaN.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The max rate, in requests a second.
    pub rate: f64,
    /// The median latency, in milliseconds.
    pub p50: f64,
    /// The 99th percentile of the latency, in milliseconds.
    pub p99: f64,
    /// The fraction of the offered rate that was answered in time. 1 in a closed loop.
    pub kept_up: f64,
    /// The server's processor time for each request, in microseconds.
    pub server_micros: f64,
    /// The database's processor time for each request, in microseconds.
    pub database_micros: f64,
    /// The server's memory under load, in MiB.
    pub resident: f64,
    /// The server's maximum memory, in MiB.
    pub most_resident: f64,
    /// The number of answers that were not 2xx.
    pub refused: f64,
    /// The max fraction of the machine that other processes used.
    pub foreign: f64,
}

impl Sample {
    /// A sample without any figure.
    pub const NONE: Self = Self {
        rate: f64::NAN,
        p50: f64::NAN,
        p99: f64::NAN,
        kept_up: f64::NAN,
        server_micros: f64::NAN,
        database_micros: f64::NAN,
        resident: f64::NAN,
        most_resident: f64::NAN,
        refused: 0.0,
        foreign: 0.0,
    };
}

/// What to measure, and with what.
#[derive(Debug)]
pub struct Measurement<'a> {
    /// How to measure.
    pub options: &'a Options,
    /// The database server.
    pub postgres: &'a Postgres,
    /// The requests.
    pub load: &'a Load,
    /// The kind of load, the number of connections, and the rate.
    pub cell: Cell,
    /// How long the whole run may still be delayed by other processes.
    pub patience: &'a std::cell::Cell<Duration>,
}

impl Measurement<'_> {
    /// Measures a server. Starts at index `first` of the load, and advances it. Measures the latency at `common_rate`;
    /// without it, at a fraction of the rate that the server reaches.
    ///
    /// # Errors
    /// If the server fails, or after a signal.
    pub fn of_server(
        &self,
        server: &Running,
        first: &mut usize,
        common_rate: Option<f64>,
    ) -> anyhow::Result<Sample> {
        let roots = Roots { server: Some(server.pid()), database: self.postgres.pid() };
        let mut warm_up = self.plan(server, *first, None, WARM_UP);
        if let Some(rate) = self.cell.rate {
            // The same deliveries for all: a server may be faster for a profile that it has just seen.
            (warm_up.rate, warm_up.connections) = (Some(SAME_WARM_UP), 64);
            *first += generator::run(&warm_up)?.sent;
            return self.latencies(server, roots, first, Some(f64::from(rate)));
        }
        *first += generator::run(&warm_up)?.sent;

        let mut sample = self.undisturbed(|| {
            let before = roots.spent()?;
            let Answers { requests, micros, refused } = wrk::run(&self.wrk_plan(server, *first))?;
            let spent = roots.spent()? - before;
            *first += usize::try_from(requests)? + self.cell.connections;
            let memory = memory(server.pid())?;
            let mut sample = Sample { foreign: spent.foreign(), ..Sample::NONE };
            sample.rate = number(requests) / (number(micros) / 1e6);
            sample.refused = number(refused);
            sample.server_micros = micros_each(spent.server, requests);
            sample.database_micros = micros_each(spent.database, requests);
            sample.resident = number(memory.resident) / 1024.0;
            sample.most_resident = number(memory.most) / 1024.0;
            Ok(sample)
        })?;
        let rate = common_rate.unwrap_or(sample.rate * self.options.load);
        let latencies =
            self.latencies(server, roots, first, (self.cell.connections > 1).then_some(rate))?;
        (sample.p50, sample.p99) = (latencies.p50, latencies.p99);
        sample.kept_up = latencies.kept_up;
        sample.refused += latencies.refused;
        sample.foreign = sample.foreign.max(latencies.foreign);
        Ok(sample)
    }

    fn plan(
        &self,
        server: &Running,
        first: usize,
        rate: Option<f64>,
        measure: Duration,
    ) -> Plan<'_> {
        Plan {
            address: server.address,
            requests: self.load.requests(self.cell.kind.work()),
            first,
            connections: self.cell.connections,
            rate,
            warm_up: Duration::ZERO,
            measure,
        }
    }

    fn wrk_plan(&self, server: &Running, first: usize) -> wrk::Plan<'_> {
        wrk::Plan {
            address: server.address,
            load: self.load,
            work: self.cell.kind.work(),
            first,
            connections: self.cell.connections,
            threads: self.options.wrk_threads,
            seconds: self.options.seconds,
        }
    }

    fn latencies(
        &self,
        server: &Running,
        roots: Roots,
        first: &mut usize,
        rate: Option<f64>,
    ) -> anyhow::Result<Sample> {
        self.undisturbed(|| {
            let before = roots.spent()?;
            let time = Duration::from_secs(self.options.seconds);
            let mut plan = self.plan(server, *first, rate, time);
            plan.warm_up = Duration::from_millis(200);
            let figures = generator::run(&plan)?;
            *first += figures.sent;
            let spent = roots.spent()? - before;
            let mut sample = Sample { foreign: spent.foreign(), ..Sample::NONE };
            (sample.p50, sample.p99) = (figures.percentile_ms(50.0), figures.percentile_ms(99.0));
            (sample.rate, sample.kept_up) =
                (figures.rate, figures.rate / rate.unwrap_or(figures.rate));
            sample.server_micros = micros_each(spent.server, figures.sent as u64);
            sample.database_micros = micros_each(spent.database, figures.sent as u64);
            sample.refused = number(figures.refused);
            Ok(sample)
        })
    }

    /// Measures, and retries if other processes were busy. Returns the least disturbed sample.
    fn undisturbed(
        &self,
        mut measure: impl FnMut() -> anyhow::Result<Sample>,
    ) -> anyhow::Result<Sample> {
        let mut best: Option<Sample> = None;
        let mut tries = 0;
        loop {
            self.wait_for_calm()?;
            let begun = Instant::now();
            let failure = match measure() {
                Ok(sample) if sample.foreign <= self.options.foreign => return Ok(sample),
                Ok(sample) => {
                    if best.is_none_or(|best| sample.foreign < best.foreign) {
                        best = Some(sample);
                    }
                    None
                }
                Err(error) => Some(error),
            };
            interrupt::check()?;
            tries += 1;
            if tries > self.options.retries || self.patience.get().is_zero() {
                return best.ok_or_else(|| failure.unwrap_or_else(|| anyhow!("nothing measured")));
            }
            self.patience.set(self.patience.get().saturating_sub(begun.elapsed()));
        }
    }

    /// Waits until other processes are idle, but not forever.
    fn wait_for_calm(&self) -> anyhow::Result<()> {
        let roots = Roots { server: None, database: self.postgres.pid() };
        for _ in 0..MAX_LOOKS {
            if self.patience.get().is_zero() {
                break;
            }
            let before = roots.spent()?;
            interrupt::sleep(LOOK)?;
            if (roots.spent()? - before).foreign() <= self.options.foreign {
                break;
            }
            self.patience.set(self.patience.get().saturating_sub(LOOK));
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}
