//! The folders of an embedded database. Each is held by one process, with a lock that ends with the process.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use super::EmbeddedError;
use super::process::lock_is_free;
use super::user::RunAs;

/// The file whose lock says that the folder is in use.
const LOCK: &str = "owner.lock";

/// The server's log.
pub(super) const LOG: &str = "server.log";

/// How the names of temporary folders begin.
const PREFIX: &str = "esim-status-";

/// The max length of a folder's path, so that the socket's name still fits: macOS allows 103 bytes, Linux 107.
const LONGEST: usize = 103 - "/.s.PGSQL.5432".len();

/// A folder that is ours as long as this value lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    temporary: bool,
    _lock: Lock,
}

impl Folder {
    /// Opens a folder that is kept. Creates it if it does not exist, and refuses it if it holds other files.
    pub fn kept(path: &Path, user: &RunAs) -> Result<Self, EmbeddedError> {
        let at = |error| EmbeddedError::io("open the data folder", path, error);
        let path = std::path::absolute(path).map_err(at)?;
        let barred = |folder: &&Path| folder.is_dir() && !user.can_enter(folder);
        if let Some(barred) = path.ancestors().skip(1).find(barred) {
            return Err(EmbeddedError::OutOfReach { path: barred.to_owned(), user: user.name() });
        }
        if let Some(parent) = path.parent() {
            make_parents(parent, user).map_err(at)?;
        }
        if !path.is_dir() {
            DirBuilder::new().mode(0o700).create(&path).map_err(at)?;
        }
        let ours = path.join(LOCK).exists();
        if !ours && fs::read_dir(&path).map_err(at)?.next().is_some() {
            return Err(EmbeddedError::NotOurs(path));
        }
        user.own(&path).map_err(at)?;
        match lock(&path).map_err(at)? {
            Some(lock) => Ok(Self { path, temporary: false, _lock: lock }),
            None => Err(EmbeddedError::InUse(path)),
        }
    }

    /// Creates a folder that is removed with this value, on a path that is short enough for sockets. Removes those that
    /// killed processes left behind.
    pub fn temporary(user: &RunAs) -> Result<Self, EmbeddedError> {
        let base = temporary_base(user);
        // In the background, so that the start does not wait: killed processes may have left tens of thousands of
        // files.
        let (swept, sweeper) = (base.clone(), user.clone());
        thread::spawn(move || sweep(&swept, &sweeper));
        let make = || -> io::Result<Self> {
            // The name hides the folder from a sweep until it is locked.
            let unseen = tempfile::Builder::new()
                .prefix(".esim-status-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&base)?;
            let lock = lock(unseen.path())?.ok_or(io::ErrorKind::ResourceBusy)?;
            user.own(unseen.path())?;
            let name = unseen.path().file_name().unwrap_or_default().to_string_lossy();
            let path = base.join(name.trim_start_matches('.'));
            fs::rename(unseen.path(), &path)?;
            // Nothing is left under that name to remove.
            drop(unseen.keep());
            Ok(Self { path, temporary: true, _lock: lock })
        };
        make().map_err(|error| EmbeddedError::io("make a temporary folder", &base, error))
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed on drop.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // If this fails, a later sweep removes it.
            let _ = remove(&self.path);
        }
    }
}

/// A folder for `name`, which may be a path: in the user's data directory, or for root in `/var/lib`.
pub fn default_data_dir(name: &str) -> PathBuf {
    let home = || env::home_dir().unwrap_or_else(env::temp_dir);
    let xdg = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match xdg {
        // As root, the server runs as another user, who cannot enter root's home.
        _ if nix::unistd::geteuid().is_root() => "/var/lib".into(),
        _ if cfg!(target_os = "macos") => home().join("Library/Application Support"),
        Some(xdg) => xdg,
        None => home().join(".local/share"),
    };
    base.join(name)
}

/// Creates the parent folders. The server's user can enter them, whatever our umask is.
fn make_parents(path: &Path, user: &RunAs) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), |parent| make_parents(parent, user))?;
    fs::create_dir(path)?;
    if user.is_other() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The system's temporary folder, if the server can enter it and a socket's path fits; otherwise `/tmp`.
fn temporary_base(user: &RunAs) -> PathBuf {
    let fits = |base: &PathBuf| {
        base.as_os_str().len() + 1 + PREFIX.len() + 6 <= LONGEST
            && base.ancestors().all(|folder| user.can_enter(folder))
    };
    env::temp_dir().canonicalize().ok().filter(fits).unwrap_or_else(|| "/tmp".into())
}

/// Removes temporary folders that no process holds. Best effort: the next start retries what failed.
fn sweep(base: &Path, user: &RunAs) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Links are not followed: the metadata of an entry is that of the link.
        let ours = || entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == user.uid());
        if named && ours() {
            let _ = remove_if_stale(&entry.path());
        }
    }
}

/// Holds both locks during the removal, so that two sweeps do not interfere.
fn remove_if_stale(folder: &Path) -> io::Result<()> {
    let owner = OpenOptions::new().append(true).open(folder.join(LOCK))?;
    // A server that is still shutting down holds the lock of its log.
    let server = File::open(folder.join(LOG)).ok();
    let free = |file: &File| lock_is_free(file).unwrap_or(false);
    let stale = free(&owner) && server.as_ref().is_none_or(free);
    if stale { remove(folder) } else { Ok(()) }
}

/// Removes a temporary folder, the lock file last, so that a later sweep completes an interrupted removal.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(folder)
}

/// The lock of a folder. The system releases it when the process ends, however it ends.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a child process that is being started also has it open, until it executes its
    /// program.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// Takes the lock of the folder, unless another process holds it.
fn lock(folder: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(LOCK))?;
    Ok(lock_is_free(&file)?.then_some(Lock(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_nobody_holds_any_more_is_swept() {
        let user = RunAs::choose().unwrap();
        let base = tempfile::tempdir().unwrap();
        let [stale, held, serving, strange] =
            ["esim-status-stale", "esim-status-held", "esim-status-serving", "esim-other"]
                .map(|name| base.path().join(name));
        for folder in [&stale, &held, &serving, &strange] {
            fs::create_dir(folder).unwrap();
            user.own(folder).unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        let _held = lock(&held).unwrap().unwrap();
        let log = File::create(serving.join(LOG)).unwrap();
        assert!(lock_is_free(&log).unwrap());

        sweep(base.path(), &user);

        assert!(!stale.exists());
        assert!(held.exists() && serving.exists() && strange.exists());
    }

    #[test]
    fn a_folder_that_is_given_up_is_free_while_a_child_process_starts() {
        let base = tempfile::tempdir().unwrap();
        let held = lock(base.path()).unwrap().unwrap();
        assert!(lock(base.path()).unwrap().is_none());
        // What a child process has between its fork and its program.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(lock(base.path()).unwrap().is_some());
        drop(inherited);
    }

    #[test]
    fn a_temporary_folder_goes_with_its_holder() {
        let user = RunAs::choose().unwrap();
        let folder = Folder::temporary(&user).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && path.as_os_str().len() <= LONGEST);
        let other = Folder::temporary(&user).unwrap();
        assert!(path.is_dir(), "another start has swept it");
        drop((folder, other));
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_with_other_files_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let refusal = Folder::kept(folder.path(), &RunAs::choose().unwrap()).unwrap_err();
        assert!(matches!(refusal, EmbeddedError::NotOurs(_)), "{refusal}");
    }

    #[test]
    fn the_servers_user_needs_a_way_to_the_folder() {
        let user = RunAs::choose().unwrap();
        let base = Folder::temporary(&user).unwrap();
        let barred = base.path().join("barred");
        DirBuilder::new().mode(0o700).create(&barred).unwrap();
        match Folder::kept(&barred.join("dev"), &user) {
            Err(EmbeddedError::OutOfReach { path, .. }) => {
                assert!(user.is_other() && path == barred);
            }
            other => assert!(!user.is_other() && other.is_ok(), "{other:?}"),
        }
    }
}
