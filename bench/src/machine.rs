//! Facts of the machine.

use std::fs;

/// The machine's memory in MiB; 0 if it is unknown.
pub fn memory_mib() -> u64 {
    let kib = first("/proc/meminfo", "MemTotal");
    kib.trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib / 1_024)
}

/// The value after the first line with this name in a file.
pub fn first(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}
