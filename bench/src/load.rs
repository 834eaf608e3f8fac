//! Requests that are generated beforehand: in files for wrk, and in memory for our own load generator.

use std::path::{Path, PathBuf};

use crate::deliveries::{self, Profiles};

/// The kind of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Signed webhooks.
    Writes,
    /// Profiles by their ICCIDs.
    Reads,
}

/// Generated requests, in files for wrk and in memory for our own load generator.
#[derive(Debug)]
pub struct Load {
    /// The folder of the files `deliveries` and `iccids`.
    pub folder: PathBuf,
    writes: Vec<Vec<u8>>,
    reads: Vec<Vec<u8>>,
}

impl Load {
    /// Generates the requests, with the files in this folder.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn make(folder: &Path, profiles: Profiles) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let iccids = profiles.iccids();
        deliveries::write(
            &folder.join("deliveries"),
            &deliveries::make(&iccids, profiles.repeats)?,
        )?;
        std::fs::write(folder.join("iccids"), iccids.join("\n") + "\n")?;
        Ok(Self {
            folder: folder.to_owned(),
            writes: deliveries::read_requests(&folder.join("deliveries"))?,
            reads: deliveries::read_profiles(&iccids),
        })
    }

    /// The requests of one kind.
    pub fn requests(&self, work: Work) -> &[Vec<u8>] {
        match work {
            Work::Writes => &self.writes,
            Work::Reads => &self.reads,
        }
    }
}
