//! Finds an installed PostgreSQL, and says how to install one if there is none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// The oldest PostgreSQL that the service runs on.
const OLDEST: u32 = 15;

/// Folders whose subfolders may each be a version: the path before the version, and after it.
const VERSIONED: [(&str, &str); 7] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/libexec", ""),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installation {
    /// The folder of `postgres`, `initdb` and `psql`.
    pub bin: PathBuf,
    /// The major version.
    pub major: u32,
}

impl Installation {
    /// Finds the newest installation; or, for a folder that a certain version created, the newest of that version.
    ///
    /// If `PG_BIN` is set, only that folder is examined.
    pub fn find(wanted: Option<u32>) -> Result<Self, EmbeddedError> {
        choose(candidates().into_iter().filter_map(Self::at).collect(), wanted)
    }

    /// The installation in a folder, if there is one. Follows links, because a folder of links often lacks a tool.
    fn at(bin: PathBuf) -> Option<Self> {
        let postgres = bin.join("postgres").canonicalize().ok()?;
        let bin = match postgres.parent() {
            Some(real) if real.join("initdb").is_file() => real.to_owned(),
            _ if bin.join("initdb").is_file() => bin,
            _ => return None,
        };
        let answer = Command::new(postgres).arg("--version").output().ok()?;
        Some(Self { bin, major: major_of(&String::from_utf8_lossy(&answer.stdout))? })
    }
}

/// The newest of those found, or why none is suitable.
fn choose(found: Vec<Installation>, wanted: Option<u32>) -> Result<Installation, EmbeddedError> {
    let newest = found.iter().map(|each| each.major).max();
    let fits = |each: &Installation| match wanted {
        Some(wanted) => each.major == wanted,
        None => each.major >= OLDEST,
    };
    found.into_iter().filter(fits).max_by_key(|each| each.major).ok_or_else(|| {
        match (wanted, newest) {
            (Some(wanted), Some(_)) => EmbeddedError::OtherVersion { wanted },
            (_, newest) => EmbeddedError::NotInstalled {
                found: newest.map_or("none".to_owned(), |major| format!("only {major}")),
                remedy: remedy(),
            },
        }
    })
}

/// Every folder that may contain `postgres`.
fn candidates() -> Vec<PathBuf> {
    if let Some(bin) = env::var_os("PG_BIN").filter(|bin| !bin.is_empty()) {
        return vec![bin.into()];
    }
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|told| PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = told.into_iter().chain(env::split_paths(&path)).collect();
    for (before, after) in VERSIONED {
        let versions = fs::read_dir(before).into_iter().flatten().flatten();
        let named = versions.filter(|entry| is_versions_name(&entry.file_name().to_string_lossy()));
        folders.extend(named.map(|entry| entry.path().join(after)));
    }
    folders
}

/// Whether a folder's name may be that of a PostgreSQL: `17`, `9.6`, `postgresql@17`, `postgresql16`, `pgsql-16`.
fn is_versions_name(name: &str) -> bool {
    let bare = name.trim_start_matches("postgresql").trim_start_matches("pgsql-");
    bare.trim_start_matches('@').chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The major version in the output of `postgres --version`: `postgres (PostgreSQL) 15.8 (Debian …)`.
fn major_of(answer: &str) -> Option<u32> {
    let version = answer.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The command that installs PostgreSQL on this system.
fn remedy() -> String {
    if cfg!(target_os = "macos") {
        return "`brew install postgresql@17`".to_owned();
    }
    let sudo = if nix::unistd::geteuid().is_root() { "" } else { "sudo " };
    let release = fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    match installer(&release) {
        Some(line) => format!("`{sudo}{line}`"),
        None => "the package manager of this system".to_owned(),
    }
}

/// The command for the system that an `os-release` describes, by its own name or by that of a related system.
fn installer(release: &str) -> Option<&'static str> {
    let lines = release.lines().filter_map(|line| line.split_once('='));
    let names = lines.filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"));
    names.flat_map(|(_, value)| value.trim_matches('"').split(' ')).find_map(|name| match name {
        "debian" | "ubuntu" => Some("apt-get install postgresql"),
        "fedora" | "rhel" | "centos" | "amzn" => Some("dnf install postgresql-server"),
        "alpine" => Some("apk add postgresql"),
        "arch" => Some("pacman -S postgresql"),
        "suse" | "opensuse" => Some("zypper install postgresql-server"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(major: u32) -> Installation {
        Installation { bin: format!("/{major}/bin").into(), major }
    }

    #[test]
    fn the_version_is_read_as_every_packager_writes_it() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 17.2 (Homebrew)"), Some(17));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("something else 17"), None);
    }

    #[test]
    fn the_newest_is_chosen_by_number() {
        let found = vec![installed(9), installed(17), installed(15)];
        assert_eq!(choose(found, None).unwrap(), installed(17));
    }

    #[test]
    fn a_folder_is_served_by_the_version_that_made_it() {
        let found = vec![installed(16), installed(17)];
        assert_eq!(choose(found.clone(), Some(16)).unwrap(), installed(16));
        let refusal = choose(found, Some(15)).unwrap_err();
        assert!(matches!(refusal, EmbeddedError::OtherVersion { wanted: 15 }), "{refusal}");
    }

    #[test]
    fn one_that_is_too_old_is_named_beside_the_remedy() {
        let refusal = choose(vec![installed(13)], None).unwrap_err().to_string();
        assert!(refusal.contains("only 13") && refusal.contains("install"), "{refusal}");
        let refusal = choose(vec![], Some(15)).unwrap_err().to_string();
        assert!(refusal.contains("none") && refusal.contains("PG_BIN"), "{refusal}");
    }

    #[test]
    fn the_install_line_is_that_of_the_system_or_of_its_relative() {
        let line = |release| installer(release).unwrap_or("unknown");
        assert_eq!(line("NAME=Debian\nID=debian"), "apt-get install postgresql");
        assert_eq!(line("ID=linuxmint\nID_LIKE=\"ubuntu debian\""), "apt-get install postgresql");
        assert_eq!(
            line("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\""),
            "dnf install postgresql-server"
        );
        assert_eq!(line("ID=alpine"), "apk add postgresql");
        assert_eq!(line("ID=plan9"), "unknown");
    }

    #[test]
    fn only_folders_named_as_versions_are_tried() {
        for name in ["17", "9.6", "postgresql@17", "postgresql16", "pgsql-16", "postgresql"] {
            assert!(is_versions_name(name), "{name}");
        }
        for name in ["share", "openssl@3", "postgresql-common"] {
            assert!(!is_versions_name(name), "{name}");
        }
    }
}
