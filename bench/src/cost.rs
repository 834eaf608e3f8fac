//! What processes cost, and whether somebody else was at work meanwhile; from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::Context;

/// How many of Linux's ticks make a second, as user space is told.
const TICKS: u64 = 100;

/// Processor time until now, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Of the server with its children.
    pub server: u64,
    /// Of the database with its children.
    pub database: u64,
    /// Of all that we have started, and ourselves.
    pub ours: u64,
    /// Of everybody.
    pub everybody: u64,
    /// What the machine could have given, on all its cores.
    pub possible: u64,
    /// What it was refused by the machine that it runs on, if it is a virtual one.
    pub stolen: u64,
}

/// Memory of a server with its children, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most, so far.
    pub most: u64,
}

/// The processes that are told apart.
#[derive(Debug, Clone, Copy)]
pub struct Roots {
    /// The server's first process.
    pub server: Option<u32>,
    /// The database's first process.
    pub database: u32,
}

impl Roots {
    /// Reads the clocks of all processes.
    ///
    /// # Errors
    /// Where `/proc` is not there.
    pub fn spent(self) -> anyhow::Result<Spent> {
        let processes = Processes::read()?;
        let stat = fs::read_to_string("/proc/stat").context("this needs Linux")?;
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .into_iter()
            .flat_map(|line| line.split_whitespace().skip(1).map_while(|field| field.parse().ok()))
            .collect();
        let field = |place: usize| fields.get(place).copied().unwrap_or_default();
        // user, nice, system, then idle and waiting for disks, then interrupts, then stolen.
        let everybody = field(0) + field(1) + field(2) + field(5) + field(6);
        Ok(Spent {
            server: self.server.map_or(0, |pid| processes.spent(pid)),
            database: processes.spent(self.database),
            ours: processes.spent(std::process::id()),
            everybody,
            possible: everybody + field(3) + field(4) + field(7),
            stolen: field(7),
        })
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            database: self.database.saturating_sub(before.database),
            ours: self.ours.saturating_sub(before.ours),
            everybody: self.everybody.saturating_sub(before.everybody),
            possible: self.possible.saturating_sub(before.possible),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }
}

impl Spent {
    /// Which part of the machine went to others, from 0 to 1.
    pub fn foreign(self) -> f64 {
        let foreign = self.everybody.saturating_sub(self.ours) + self.stolen;
        ratio(foreign, self.possible)
    }
}

/// Microseconds of so many ticks for each of so many pieces.
pub fn micros_each(ticks: u64, pieces: u64) -> f64 {
    let time = Duration::from_millis(ticks * 1_000 / TICKS);
    time.as_secs_f64() * 1e6 * ratio(1, pieces)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The memory of a process with its children.
///
/// # Errors
/// Where `/proc` is not there.
pub fn memory(root: u32) -> anyhow::Result<Memory> {
    let processes = Processes::read()?;
    let mut memory = Memory::default();
    for pid in processes.tree(root) {
        // One that has just ended has no memory.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        };
        memory.resident += kib("VmRSS:").unwrap_or_default();
        memory.most += kib("VmHWM:").unwrap_or_default();
    }
    Ok(memory)
}

/// Every process: the time of it and of its children that have ended, and its children that live.
struct Processes {
    spent: HashMap<u32, u64>,
    children: HashMap<u32, Vec<u32>>,
}

impl Processes {
    fn read() -> anyhow::Result<Self> {
        let mut this = Self { spent: HashMap::new(), children: HashMap::new() };
        for entry in fs::read_dir("/proc").context("this needs Linux")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may have ended since; and its name may hold anything, brackets too.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((_, rest)) = stat.rsplit_once(')') else { continue };
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let field = |place: usize| fields.get(place).and_then(|it| it.parse::<u64>().ok());
            let times = (11..15).filter_map(field).sum();
            this.spent.insert(pid, times);
            let parent = fields.get(1).and_then(|it| it.parse().ok()).unwrap_or_default();
            this.children.entry(parent).or_default().push(pid);
        }
        Ok(this)
    }

    fn tree(&self, root: u32) -> Vec<u32> {
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(pid) = tree.get(next) {
            tree.extend(self.children.get(pid).into_iter().flatten());
            next += 1;
        }
        tree
    }

    fn spent(&self, root: u32) -> u64 {
        self.tree(root).iter().filter_map(|pid| self.spent.get(pid)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_ours_is_ours() {
        let roots = Roots { server: Some(std::process::id()), database: 1 };
        let before = roots.spent().unwrap();
        let begun = std::time::Instant::now();
        let mut spent = Spent::default();
        // A busy machine may give us little of its time.
        while spent.server < 10 && begun.elapsed() < Duration::from_mins(1) {
            std::hint::black_box((0..1_000_000).sum::<u64>());
            spent = roots.spent().unwrap() - before;
        }
        assert!(spent.server >= 10 && spent.ours == spent.server, "{spent:?}");
        assert!((0.0..=1.0).contains(&spent.foreign()), "{spent:?}");
        assert!(memory(std::process::id()).unwrap().most > 1_000);
    }
}
