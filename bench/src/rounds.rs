//! The order of a run: in each round, all contenders at one number of connections, then at the next number.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::contenders::{Contender, Place, Running};
use crate::deliveries::Profiles;
use crate::generator::{self, Plan};
use crate::interrupt;
use crate::load::{Load, Work};
use crate::measure::{Measurement, Sample};
use crate::options::{Cell, Options};
use crate::postgres::Postgres;
use crate::report::Results;
use crate::tables::{LARGE, LARGE_PROFILES};

/// The database of the contender that is being measured.
const DATABASE: &str = "measured";

/// The database for reads.
const FILLED: &str = "filled";

/// How many profiles the load is about.
const PROFILES: u64 = 100_000;

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
    small: Load,
    large: Option<Load>,
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
        postgres.make_blank()?;
        if !options.skip_reads {
            postgres.make(FILLED)?;
            postgres.fill(FILLED, PROFILES)?;
        }
        let profiles = Profiles { count: PROFILES, of: PROFILES };
        let small = Load::make(&folder.join("load"), profiles)?;
        let large = if options.skip_large {
            None
        } else {
            postgres.make_large()?;
            let profiles = Profiles { count: PROFILES, of: LARGE_PROFILES };
            Some(Load::make(&folder.join("load-large"), profiles)?)
        };
        let patience = std::cell::Cell::new(Duration::from_secs(options.patience));
        Ok(Self { options, folder, postgres, small, large, patience })
    }

    /// Runs all rounds. Also returns how many measurements failed.
    ///
    /// # Errors
    /// After a signal, or if the service does not start.
    pub fn measure(&self) -> anyhow::Result<(Results, usize)> {
        let mut results = Results::new(self.options.foreign);
        let mut failed = 0;
        if self.options.contenders().contains(&Contender::Service) {
            results.ready = self.time_starts()?;
        }
        // The index in the load of the large table. That table is kept, so a delivery must not be sent again too soon.
        let mut place = 0;
        let mut is_warm = false;
        for round in 1..=self.options.rounds {
            let mut common_rate = None;
            for cell in self.options.cells() {
                if cell.large && !is_warm {
                    self.warm_large(&mut place)?;
                    is_warm = true;
                }
                let measured = self.measure_cell(cell, common_rate, &mut place);
                interrupt::check()?;
                let sample = measured.unwrap_or_else(|error| {
                    failed += 1;
                    eprintln!("{cell:?}: {error:#}");
                    Sample::NONE
                });
                let is_common = cell.contender == Contender::Ordinary && cell.work == Work::Writes;
                if is_common && cell.connections == 256 && !cell.large && sample.rate > 0.0 {
                    common_rate = Some(sample.rate * self.options.load);
                }
                eprintln!(
                    "round {round}  {:?}{}  {:>3}  {:<34}  {:>7.0}/s  p50 {:>7.2}  p99 {:>7.2}  others {:>2.0} %",
                    cell.work,
                    if cell.large { " (large)" } else { "" },
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
        let load = self.large.as_ref().filter(|_| cell.large).unwrap_or(&self.small);
        let measurement = Measurement {
            options: &self.options,
            postgres: &self.postgres,
            load,
            cell,
            patience: &self.patience,
        };
        let database = match (cell.large, cell.work) {
            (true, _) => LARGE,
            (false, Work::Reads) => FILLED,
            (false, Work::Writes) => DATABASE,
        };
        if database == DATABASE {
            self.postgres.make_from_blank(DATABASE)?;
        }
        // Dirty pages of the previous contender must not delay this one. Not on the large table: there each delivery
        // touches another page, and after a checkpoint each page would be logged in full, which does not happen in a
        // long run.
        if !cell.large {
            self.postgres.execute("postgres", "CHECKPOINT")?;
        }
        let mut running = Running::start(cell.contender, &self.place(database))?;
        running.wait()?;
        let is_common = cell.contender == Contender::Service
            && cell.work == Work::Writes
            && cell.connections == 256
            && !cell.large;
        let mut from_the_start = 0;
        let first = if cell.large { place } else { &mut from_the_start };
        measurement.of_server(&running, first, common_rate.filter(|_| is_common))
    }

    /// Warms up the large database, so that it is like one that has been in use for a while: it is in memory, and the
    /// pages that the load touches have been logged in full since the last checkpoint.
    fn warm_large(&self, first: &mut usize) -> anyhow::Result<()> {
        let Some(load) = &self.large else { return Ok(()) };
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
        self.postgres.make_from_blank(DATABASE)?;
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
