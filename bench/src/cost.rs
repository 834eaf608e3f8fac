//! What processes cost, and how busy the machine was with other processes; read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::Context;

/// How many of Linux's clock ticks make a second (`USER_HZ`).
const TICKS: u64 = 100;

/// Processor time so far, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Used by the server and its children.
    pub server: u64,
    /// Used by the database and its children.
    pub database: u64,
    /// Used by the benchmark and everything that it has started.
    pub ours: u64,
    /// Used by all processes.
    pub everybody: u64,
    /// Available on all cores.
    pub possible: u64,
    /// Taken by the hypervisor, if this is a virtual machine.
    pub stolen: u64,
}

/// The memory of a server and its children, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The maximum so far.
    pub most: u64,
}

/// The processes whose costs are separated.
#[derive(Debug, Clone, Copy)]
pub struct Roots {
    /// The server's main process.
    pub server: Option<u32>,
    /// The database's main process.
    pub database: u32,
}

impl Roots {
    /// Reads the processor time of all processes.
    ///
    /// # Errors
    /// If there is no `/proc`.
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
        // The fields: user, nice, system, idle, iowait, irq, softirq, steal.
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
    /// The fraction of the machine that other processes used, from 0 to 1.
    pub fn foreign(self) -> f64 {
        let foreign = self.everybody.saturating_sub(self.ours) + self.stolen;
        ratio(foreign, self.possible)
    }
}

/// Microseconds for each of `pieces`, if all of them took `ticks`.
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
/// If there is no `/proc`.
pub fn memory(root: u32) -> anyhow::Result<Memory> {
    let processes = Processes::read()?;
    let mut memory = Memory::default();
    for pid in processes.tree(root) {
        // A process that has just ended has no memory.
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

/// All processes: the time of each, including its reaped children, and its living children.
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
            // The process may have ended by now, and its name may contain anything, even parentheses.
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
    fn own_work_is_counted_as_own() {
        let roots = Roots { server: Some(std::process::id()), database: 1 };
        let before = roots.spent().unwrap();
        let begun = std::time::Instant::now();
        let mut spent = Spent::default();
        // On a busy machine, this process may get little processor time.
        while spent.server < 10 && begun.elapsed() < Duration::from_mins(1) {
            std::hint::black_box((0..1_000_000).sum::<u64>());
            spent = roots.spent().unwrap() - before;
        }
        assert!(spent.server >= 10 && spent.ours == spent.server, "{spent:?}");
        assert!((0.0..=1.0).contains(&spent.foreign()), "{spent:?}");
        assert!(memory(std::process::id()).unwrap().most > 1_000);
    }
}
