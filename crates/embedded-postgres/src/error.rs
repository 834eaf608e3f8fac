//! Why there is no embedded database, and what its operator can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no embedded database.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No PostgreSQL here is new enough.
    #[error(
        "needs PostgreSQL 15 or newer, and found {found}: install it with {remedy}, \
         or name the folder of `postgres` in PG_BIN"
    )]
    NotInstalled {
        /// What was found.
        found: String,
        /// How to install it on this system.
        remedy: String,
    },
    /// The folder was made by a version that is not installed.
    #[error(
        "the data folder was made by PostgreSQL {wanted}, which is not installed: install it, \
         or delete the folder to begin anew"
    )]
    OtherVersion {
        /// The version.
        wanted: u32,
    },
    /// Another process has the folder.
    #[error("{0} is in use by another process: end that one, or choose another folder")]
    InUse(PathBuf),
    /// The folder is no embedded database's.
    #[error("{0} holds other files: choose a folder that is empty or does not exist")]
    NotOurs(PathBuf),
    /// We are root, and the user that the server runs as cannot get to the folder.
    #[error(
        "{path} cannot be entered by the user `{user}`: choose a folder below those that anybody may enter"
    )]
    OutOfReach {
        /// The folder, or one on the way to it.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// We are root, and there is nobody to run the server as.
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
    /// The system refused something.
    #[error("cannot {doing} ({path})")]
    Io {
        /// What was tried.
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
