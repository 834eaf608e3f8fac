//! Under whose name the server runs, and what that user may do.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, geteuid};

use super::EmbeddedError;

/// Under whose name the server runs. PostgreSQL refuses root, and wants a name for its user.
#[derive(Debug, Clone)]
pub(super) struct RunAs(Option<User>);

impl RunAs {
    /// Ourselves; where we are root, `postgres` or else `nobody`.
    pub fn choose() -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user =
            ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok()?);
        user.map(|user| Self(Some(user))).ok_or(EmbeddedError::NoUser)
    }

    /// Has a command run under the user's name.
    pub fn put_on(&self, command: &mut Command) {
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.0.as_ref().map_or_else(geteuid, |user| user.uid).as_raw()
    }

    /// Whether that is somebody else than ourselves.
    pub fn is_other(&self) -> bool {
        self.0.is_some()
    }

    /// The user's name, where it is somebody else than ourselves.
    pub fn name(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |user| user.name.clone())
    }

    /// Whether the user can pass through a folder; for ourselves, the system will tell.
    pub fn can_enter(&self, folder: &Path) -> bool {
        let Some(user) = &self.0 else { return true };
        fs::metadata(folder).is_ok_and(|it| {
            let own = it.uid() == user.uid.as_raw() && it.mode() & 0o100 != 0;
            let group = it.gid() == user.gid.as_raw() && it.mode() & 0o010 != 0;
            own || group || it.mode() & 0o001 != 0
        })
    }

    /// Makes the user the owner of a file or folder of ours.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
            None => Ok(()),
        }
    }
}
