//! One figure at a time: a load, what comes of it, and whether somebody else was at work meanwhile.

use std::cell::Cell;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::batches::{self, Batch};
use crate::contenders::Running;
use crate::cost::{Roots, memory, micros_each};
use crate::generator::{self, Plan};
use crate::load::{Load, Work};
use crate::postgres::Postgres;
use crate::wrk::{self, Answers};
use crate::{interrupt, process};

/// How long one look takes at whether others are at work.
const LOOK: Duration = Duration::from_millis(200);

/// So many looks before a measurement that others will disturb all the same.
const MOST_LOOKS: u32 = 50;

/// How each figure is taken.
#[derive(Debug, Clone)]
pub struct Method {
    /// How long each measurement takes, in seconds.
    pub seconds: u64,
    /// How long a server is warmed up.
    pub warm_up: Duration,
    /// Latencies are taken at this part of the rate that was reached, from 0 to 1; with one connection, in a closed loop.
    pub load: f64,
    /// How often a measurement that was disturbed is taken again.
    pub retries: u32,
    /// Which part of the machine others may use before that is a disturbance, from 0 to 1.
    pub foreign: f64,
    /// The threads of wrk.
    pub wrk_threads: usize,
}

/// What was seen of a contender in one round. What was not measured is not a number.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Requests a second, as many as it takes.
    pub rate: f64,
    /// Half of the requests took no longer, in milliseconds.
    pub p50: f64,
    /// Of a hundred, all but one took no longer, in milliseconds.
    pub p99: f64,
    /// The same at the rate that the ordinary handler was measured at.
    pub p99_at_common_rate: f64,
    /// Processor time of the server for each request, in microseconds.
    pub server_micros: f64,
    /// Processor time of the database for each request, in microseconds.
    pub database_micros: f64,
    /// Memory of the server under load, in MiB.
    pub resident: f64,
    /// Memory of the server at most, in MiB.
    pub most_resident: f64,
    /// Answers that were not 2xx, of all.
    pub refused: f64,
    /// Which part of the machine others used, at worst.
    pub foreign: f64,
}

impl Sample {
    /// A sample of nothing.
    pub const NONE: Self = Self {
        rate: f64::NAN,
        p50: f64::NAN,
        p99: f64::NAN,
        p99_at_common_rate: f64::NAN,
        server_micros: f64::NAN,
        database_micros: f64::NAN,
        resident: f64::NAN,
        most_resident: f64::NAN,
        refused: 0.0,
        foreign: 0.0,
    };
}

/// What is measured, and with what.
#[derive(Debug)]
pub struct Measurement<'a> {
    /// How.
    pub method: &'a Method,
    /// The database server.
    pub postgres: &'a Postgres,
    /// The requests.
    pub load: &'a Load,
    /// Of which kind.
    pub work: Work,
    /// How many connections.
    pub connections: usize,
    /// How long the whole run may still be held up by others.
    pub patience: &'a Cell<Duration>,
}

impl Measurement<'_> {
    /// Measures a server. Goes on in the load at place `first`, and moves that on. A rate that is given is measured too.
    ///
    /// # Errors
    /// Where the server fails, or we are to end.
    pub fn of_server(
        &self,
        server: &Running,
        first: &mut usize,
        common_rate: Option<f64>,
    ) -> anyhow::Result<Sample> {
        let roots = Roots { server: Some(server.pid()), database: self.postgres.pid() };
        let warm_up = self.plan(server, *first, None, self.method.warm_up);
        *first += generator::run(&warm_up)?.sent;

        let mut sample = self.undisturbed(|| {
            let before = roots.spent()?;
            let Answers { requests, micros, refused } = wrk::run(self, server.address, *first)?;
            let spent = roots.spent()? - before;
            *first += usize::try_from(requests)? + self.connections;
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
        let rate = (self.connections > 1).then_some(sample.rate * self.method.load);
        let at_its_own = self.latencies(server, roots, first, rate)?;
        (sample.p50, sample.p99) = (at_its_own.p50, at_its_own.p99);
        sample.refused += at_its_own.refused;
        sample.foreign = sample.foreign.max(at_its_own.foreign);
        if let Some(rate) = common_rate {
            let at_common = self.latencies(server, roots, first, Some(rate))?;
            sample.p99_at_common_rate = at_common.p99;
            sample.foreign = sample.foreign.max(at_common.foreign);
        }
        Ok(sample)
    }

    /// Measures the database with pgbench.
    ///
    /// # Errors
    /// Where it fails, or we are to end.
    pub fn of_pgbench(&self, database: &str) -> anyhow::Result<Sample> {
        let roots = Roots { server: None, database: self.postgres.pid() };
        self.undisturbed(|| {
            let before = roots.spent()?;
            let mut command = Command::new(self.postgres.bin_dir().join("pgbench"));
            let connections = self.connections.to_string();
            // Its time includes that for the connections.
            let seconds = (self.method.seconds + 1).to_string();
            command.args(["-n", "-M", "prepared", "-j", "1", "-f", "bench/sql/pgbench.sql"]);
            command.args(["-D", "i=0", "-c", &connections, "-T", &seconds]);
            command.envs(self.postgres.environment(database));
            let told = process::output(&mut command)?;
            let spent = roots.spent()? - before;
            let after =
                |text: &str| -> Option<&str> { told.split_once(text)?.1.split_whitespace().next() };
            let transactions = after("transactions actually processed: ");
            let transactions = transactions.and_then(|it| it.parse().ok());
            let rate = after("tps = ").and_then(|it| it.parse().ok());
            let mut sample = Sample { foreign: spent.foreign(), ..Sample::NONE };
            sample.rate = rate.context("pgbench tells no rate")?;
            sample.database_micros = micros_each(spent.database, transactions.unwrap_or(1));
            Ok(sample)
        })
    }

    /// Measures the database with batches over one connection. The table has to be empty, and is so again after it.
    ///
    /// # Errors
    /// Where it fails, or we are to end.
    pub fn of_batches(&self, database: &str, batches: &[Batch]) -> anyhow::Result<Sample> {
        let roots = Roots { server: None, database: self.postgres.pid() };
        let options = self.postgres.connect_options(database);
        let time = Duration::from_secs(self.method.seconds);
        self.undisturbed(|| {
            self.postgres.make_from_blank(database)?;
            let before = roots.spent()?;
            let written = self.postgres.wait(batches::write(&options, batches, time));
            let (deliveries, time) = written?;
            let spent = roots.spent()? - before;
            let mut sample = Sample { foreign: spent.foreign(), ..Sample::NONE };
            sample.rate = number(deliveries) / time.as_secs_f64();
            sample.database_micros = micros_each(spent.database, deliveries);
            Ok(sample)
        })
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
            requests: self.load.requests(self.work),
            first,
            connections: self.connections,
            rate,
            warm_up: Duration::ZERO,
            measure,
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
            let time = Duration::from_secs(self.method.seconds);
            let mut plan = self.plan(server, *first, rate, time);
            plan.warm_up = Duration::from_millis(200);
            let figures = generator::run(&plan)?;
            *first += figures.sent;
            let mut sample =
                Sample { foreign: (roots.spent()? - before).foreign(), ..Sample::NONE };
            (sample.p50, sample.p99) = (figures.percentile_ms(50.0), figures.percentile_ms(99.0));
            sample.refused = number(figures.refused);
            Ok(sample)
        })
    }

    /// Measures, and again if somebody else was at work; gives back the least disturbed.
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
                Ok(sample) if sample.foreign <= self.method.foreign => return Ok(sample),
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
            if tries > self.method.retries || self.patience.get().is_zero() {
                return best.ok_or_else(|| failure.unwrap_or_else(|| anyhow!("nothing measured")));
            }
            self.patience.set(self.patience.get().saturating_sub(begun.elapsed()));
        }
    }

    /// Waits until nobody else is at work, but not for ever.
    fn wait_for_calm(&self) -> anyhow::Result<()> {
        let roots = Roots { server: None, database: self.postgres.pid() };
        for _ in 0..MOST_LOOKS {
            if self.patience.get().is_zero() {
                break;
            }
            let before = roots.spent()?;
            interrupt::sleep(LOOK)?;
            if (roots.spent()? - before).foreign() <= self.method.foreign {
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
