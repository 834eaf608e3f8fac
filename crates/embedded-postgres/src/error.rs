//! Why the embedded database could not start, and what an operator can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the embedded database could not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No installed PostgreSQL is new enough.
    #[error(
        "needs PostgreSQL 15 or newer, but found {found}: install it with {remedy}, \
         or set PG_BIN to the folder that contains `postgres`"
    )]
    NotInstalled {
        /// What was found.
        found: String,
        /// How to install it on this system.
        remedy: String,
    },
    /// The folder was created by a version that is not installed.
    #[error(
        "the data folder was created by PostgreSQL {wanted}, which is not installed: install it, \
         or delete the folder to start with an empty database"
    )]
    OtherVersion {
        /// The version.
        wanted: u32,
    },
    /// Another process holds the folder.
    #[error("{0} is in use by another process: end that process, or choose another folder")]
    InUse(PathBuf),
    /// The folder does not belong to an embedded database.
    #[error("{0} contains other files: choose a folder that is empty or does not exist")]
    NotOurs(PathBuf),
    /// We are root, and the user that the server runs as cannot enter the folder.
    #[error(
        "{path} cannot be entered by the user `{user}`: choose a folder whose parents every user may enter"
    )]
    OutOfReach {
        /// The folder, or one of its parents.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// We are root, and there is no other user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root: add a user `postgres`, or run this as another user"
    )]
    NoUser,
    /// A program of PostgreSQL failed.
    #[error("{program} {what}; its log ends with:\n{log}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it did.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// The system refused an operation.
    #[error("cannot {doing} ({path})")]
    Io {
        /// What we tried to do.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl EmbeddedError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}
