//! The kinds of load: which requests are sent, to which database, and under which settings of the database server.

use crate::deliveries::Profiles;
use crate::load::Work;
use crate::tables::LARGE_PROFILES;

/// How many profiles most loads are about.
pub const PROFILES: u64 = 100_000;

/// A kind of load, in the order of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The usual mixture of webhooks, on empty tables.
    Webhooks,
    /// Reads of 100,000 profiles.
    Reads,
    /// Webhooks on the large table.
    LargeWebhooks,
    /// Reads on the large table.
    LargeReads,
    /// Webhooks of ten profiles only.
    Hot,
    /// Webhooks of which nine in ten repeat the state of their profile.
    Repeats,
    /// Reads, while webhooks arrive at a constant rate.
    ReadsDuringWrites,
    /// Webhooks, while each flush of the log takes 5 ms longer.
    SlowSync,
    /// Webhooks for minutes, with a checkpoint each 30 s.
    Long,
}

impl Kind {
    /// The kinds that `--kinds` measures.
    pub const BESIDE: [Self; 5] =
        [Self::Webhooks, Self::Hot, Self::Repeats, Self::ReadsDuringWrites, Self::SlowSync];

    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Reads => "reads",
            Self::LargeWebhooks => "webhooks, 3 million profiles",
            Self::LargeReads => "reads, 3 million profiles",
            Self::Hot => "webhooks of ten profiles",
            Self::Repeats => "webhooks, nine in ten repeat",
            Self::ReadsDuringWrites => "reads during 300 webhooks/s",
            Self::SlowSync => "webhooks, fsync 5 ms slower",
            Self::Long => "webhooks for minutes, with checkpoints",
        }
    }

    /// The kind of requests that are measured.
    pub fn work(self) -> Work {
        match self {
            Self::Reads | Self::LargeReads | Self::ReadsDuringWrites => Work::Reads,
            _ => Work::Writes,
        }
    }

    /// Whether it is measured on the large table.
    pub fn is_large(self) -> bool {
        matches!(self, Self::LargeWebhooks | Self::LargeReads)
    }

    /// The folder of its load, and the profiles that it is about.
    pub fn load(self) -> (&'static str, Profiles) {
        let profiles = |count, of, repeats| Profiles { count, of, repeats };
        match self {
            _ if self.is_large() => ("load-large", profiles(PROFILES, LARGE_PROFILES, 1)),
            Self::Hot => ("load-hot", profiles(10, 10, 1)),
            Self::Repeats => ("load-repeats", profiles(13_000, 13_000, 27)),
            _ => ("load", profiles(PROFILES, PROFILES, 1)),
        }
    }

    /// The settings of the database server that differ by kind. The first two make each flush of the log sleep first.
    pub fn settings(self) -> [(&'static str, &'static str); 3] {
        let (delay, siblings) = if self == Self::SlowSync { ("5000", "0") } else { ("0", "5") };
        let timeout = if self == Self::Long { "30s" } else { "15min" };
        [("commit_delay", delay), ("commit_siblings", siblings), ("checkpoint_timeout", timeout)]
    }
}
