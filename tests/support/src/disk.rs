//! A small file system in memory, which only root can mount.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system in memory. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a file system of this size, such as `32m`.
    ///
    /// # Errors
    /// Why it could not be mounted.
    pub fn mount(size: &str) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("full-disk-")
            .tempdir_in("/tmp")
            .expect("the small disk works");
        // The user that the server runs as must be able to enter.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("the small disk works");
        let options = format!("size={size},mode=755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "esim-status-testing"])
            .arg(folder.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mount.status.success() {
            Ok(Self { folder })
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filling(&self) -> PathBuf {
        self.folder.path().join("filling")
    }

    /// Fills the file system to the last byte.
    pub fn fill(&self) {
        let mut filling = File::create(self.filling()).expect("the small disk works");
        let mut piece = 1 << 20;
        while piece >= 512 {
            if filling.write_all(&vec![1; piece]).is_err() {
                piece /= 2;
            }
        }
    }

    /// Frees the space again.
    pub fn relieve(&self) {
        fs::remove_file(self.filling()).expect("the small disk works");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.folder.path()).status());
    }
}
