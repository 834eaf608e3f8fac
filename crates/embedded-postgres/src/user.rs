//! The user that the server runs as, and what that user may do.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, geteuid};

use super::EmbeddedError;

/// The user that the server runs as. PostgreSQL refuses to run as root, and needs a user that has a name.
#[derive(Debug, Clone)]
pub(super) struct RunAs(Option<User>);

impl RunAs {
    /// Chooses ourselves, or if we are root, `postgres` or else `nobody`.
    pub fn choose() -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user =
            ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok()?);
        user.map(|user| Self(Some(user))).ok_or(EmbeddedError::NoUser)
    }

    /// Makes a command run as this user.
    pub fn put_on(&self, command: &mut Command) {
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
    }

    /// The user's id.
    pub fn uid(&self) -> u32 {
        self.0.as_ref().map_or_else(geteuid, |user| user.uid).as_raw()
    }

    /// Whether this is not our own user.
    pub fn is_other(&self) -> bool {
        self.0.is_some()
    }

    /// The user's name; empty for our own user.
    pub fn name(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |user| user.name.clone())
    }

    /// Whether the user can pass through a folder. For our own user, assumes so: the system will report otherwise.
    pub fn can_enter(&self, folder: &Path) -> bool {
        let Some(user) = &self.0 else { return true };
        fs::metadata(folder).is_ok_and(|it| {
            let own = it.uid() == user.uid.as_raw() && it.mode() & 0o100 != 0;
            let group = it.gid() == user.gid.as_raw() && it.mode() & 0o010 != 0;
            own || group || it.mode() & 0o001 != 0
        })
    }

    /// Makes the user the owner of one of our files or folders.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
            None => Ok(()),
        }
    }
}
