//! The order of a run: in each round, all contenders at one number of connections, then at the next number.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::Row;

use crate::contenders::{Contender, Place, Running, programs};
use crate::generator::{self, Plan};
use crate::interrupt;
use crate::kinds::{Kind, PROFILES};
use crate::load::{Load, Work};
use crate::measure::{Measurement, Sample};
use crate::options::{Cell, Options};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::report::Results;
use crate::tables::{BLANK, LARGE};

/// The database of the contender that is being measured.
const DATABASE: &str = "measured";

/// The database for reads.
const FILLED: &str = "filled";

/// The webhooks a second that arrive during reads.
const WRITES: u64 = 300;

/// When the service has done what it does once after a start: 10 s after it, it builds an index and looks through its tables. At a small
/// rate that would be a third of what a measurement counts, and it happens once in the life of a process.
const FIRST_UPKEEP: Duration = Duration::from_secs(13);

/// How long the large table is warmed up.
const WARM_UP: Duration = Duration::from_secs(45);

/// How many starts are timed.
const STARTS: usize = 5;

/// Everything that is prepared for a run.
#[derive(Debug)]
pub struct Run {
    options: Options,
    folder: PathBuf,
    /// The database server.
    pub postgres: Postgres,
    /// The loads by their folders.
    loads: BTreeMap<&'static str, Load>,
    patience: std::cell::Cell<Duration>,
}

impl Run {
    /// Starts the database server, and creates the load and the databases.
    ///
    /// # Errors
    /// If a step fails.
    pub fn prepare(options: Options) -> anyhow::Result<Self> {
        fs::create_dir_all("target/bench")?;
        let folder = fs::canonicalize("target/bench")?;
        eprintln!("creating the load and the databases");
        let postgres = Postgres::start(&folder.join("postgres"))?;
        postgres.make(BLANK)?;
        let cells = options.cells();
        if cells.iter().any(|cell| cell.kind.work() == Work::Reads && !cell.kind.is_large()) {
            postgres.make(FILLED)?;
            postgres.fill(FILLED, PROFILES)?;
        }
        if cells.iter().any(|cell| cell.kind.is_large()) {
            postgres.make_large()?;
        }
        let mut loads = BTreeMap::new();
        for (name, profiles) in cells.iter().map(|cell| cell.kind.load()) {
            if !loads.contains_key(name) {
                loads.insert(name, Load::make(&folder.join(name), profiles)?);
            }
        }
        let patience = std::cell::Cell::new(Duration::from_secs(options.patience));
        Ok(Self { options, folder, postgres, loads, patience })
    }

    /// Runs all rounds. Also returns how many measurements failed.
    ///
    /// # Errors
    /// After a signal, or if the service does not start.
    pub fn measure(&self) -> anyhow::Result<(Results, usize)> {
        let mut results = Results::new(self.options.foreign);
        let mut failed = 0;
        if self.options.contenders().contains(&Contender::Service) && !self.options.same_rate {
            results.ready = self.time_starts()?;
        }
        // The index in the load of the large table. That table is kept, so a delivery must not be sent again too soon.
        let mut place = 0;
        let mut is_warm = false;
        for round in 1..=self.options.rounds {
            // The rate of the latencies, from the ordinary handler, which comes first.
            let mut common_rates = BTreeMap::new();
            for cell in self.options.cells() {
                if cell.kind.is_large() && !is_warm {
                    self.warm_large(&mut place)?;
                    is_warm = true;
                }
                let group = (cell.kind, cell.connections);
                let common_rate = common_rates.get(&group).copied();
                let measured = self.measure_cell(cell, common_rate, &mut place);
                interrupt::check()?;
                let sample = measured.unwrap_or_else(|error| {
                    failed += 1;
                    eprintln!("{cell:?}: {error:#}");
                    Sample::NONE
                });
                if cell.contender == Contender::Ordinary && sample.rate > 0.0 {
                    common_rates.insert(group, sample.rate * self.options.load);
                }
                eprintln!(
                    "round {round}  {}  {:>3}  {:<34}  {:>7.0}/s  p50 {:>7.2}  p99 {:>7.2}  others {:>2.0} %",
                    cell.kind.name(),
                    cell.connections,
                    cell.contender.name(),
                    sample.rate,
                    sample.p50,
                    sample.p99,
                    sample.foreign * 100.0
                );
                results.add(cell, sample);
            }
        }
        Ok((results, failed))
    }

    /// Drops the databases that only this run needed.
    ///
    /// # Errors
    /// If a step fails.
    pub fn clean_up(&self) -> anyhow::Result<()> {
        self.postgres.remove(DATABASE)?;
        self.postgres.remove(FILLED)
    }

    fn measure_cell(
        &self,
        cell: Cell,
        common_rate: Option<f64>,
        place: &mut usize,
    ) -> anyhow::Result<Sample> {
        let load = self.load(cell.kind)?;
        let measurement = Measurement {
            options: &self.options,
            postgres: &self.postgres,
            load,
            cell,
            patience: &self.patience,
        };
        let (template, database) = match cell.kind {
            Kind::LargeWebhooks | Kind::LargeReads => (None, LARGE),
            Kind::Reads => (None, FILLED),
            Kind::ReadsDuringWrites => (Some(FILLED), DATABASE),
            _ => (Some(BLANK), DATABASE),
        };
        if let Some(template) = template {
            self.postgres.copy(template, DATABASE)?;
        }
        self.postgres.set(cell.kind.settings())?;
        // Dirty pages of the previous contender must not delay this one. Not on the large table: there each delivery
        // touches another page, and after a checkpoint each page would be logged in full, which does not happen in a
        // long run.
        if !cell.kind.is_large() {
            self.postgres.execute("postgres", "CHECKPOINT")?;
        }
        let mut running = Running::start(cell.contender, &self.place(database))?;
        running.wait()?;
        if self.options.same_rate {
            rest(FIRST_UPKEEP)?;
        }
        let mut from_the_start = 0;
        let first = if cell.kind.is_large() { place } else { &mut from_the_start };
        if cell.kind != Kind::ReadsDuringWrites {
            return measurement.of_server(&running, first, common_rate);
        }
        let latency = programs()?.join("latency").display().to_string();
        let (address, rate) = (running.address.to_string(), WRITES.to_string());
        let log = self.folder.join("writes.log");
        // Sends webhooks until it is dropped.
        let command = [&latency, "--address", &address, "-c16", "--rate", &rate, "-s3600"];
        let mut writing = Process::start(&command.map(str::to_owned), &[], &log)?;
        while self.written()? == 0 {
            anyhow::ensure!(writing.runs()?, "no webhooks are sent; see writes.log");
            interrupt::sleep(Duration::from_millis(20))?;
        }
        let begun = Instant::now();
        let sample = measurement.of_server(&running, first, common_rate)?;
        let (written, expected) = (self.written()?, begun.elapsed().as_secs() * WRITES);
        anyhow::ensure!(
            written * 10 >= expected * 8,
            "{written} of {expected} webhooks were written"
        );
        Ok(sample)
    }

    fn written(&self) -> anyhow::Result<u64> {
        let count = self.postgres.ask(DATABASE, "SELECT count(*) FROM deliveries")?;
        Ok(u64::try_from(count.try_get::<i64, _>(0)?)?)
    }

    fn load(&self, kind: Kind) -> anyhow::Result<&Load> {
        self.loads.get(kind.load().0).context("every load was made")
    }

    /// Warms up the large database, so that it is like one that has been in use for a while: it is in memory, and the
    /// pages that the load touches have been logged in full since the last checkpoint.
    fn warm_large(&self, first: &mut usize) -> anyhow::Result<()> {
        let load = self.load(Kind::LargeWebhooks)?;
        eprintln!("warming up the large table");
        self.postgres.warm_large()?;
        self.postgres.execute("postgres", "CHECKPOINT")?;
        let mut running = Running::start(Contender::Service, &self.place(LARGE))?;
        running.wait()?;
        let plan = Plan {
            address: running.address,
            requests: load.requests(Work::Writes),
            first: *first,
            connections: 256,
            rate: None,
            warm_up: Duration::ZERO,
            measure: WARM_UP,
        };
        *first += generator::run(&plan)?.sent;
        Ok(())
    }

    fn place<'a>(&'a self, database: &'a str) -> Place<'a> {
        let Self { postgres, folder, options, .. } = self;
        Place { postgres, database, folder, pool: options.pool }
    }

    /// Measures the time from exec until the service is ready, with a migrated schema, in milliseconds.
    fn time_starts(&self) -> anyhow::Result<Vec<f64>> {
        self.postgres.copy(BLANK, DATABASE)?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let running = Running::start(Contender::Service, &self.place(DATABASE))?;
            while !is_ready(&running) {
                interrupt::check()?;
                anyhow::ensure!(
                    begun.elapsed() < Duration::from_secs(30),
                    "the service does not become ready"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(times)
    }
}

fn is_ready(running: &Running) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(running.admin)?;
        socket
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Waits, unless a signal ends the run.
fn rest(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
