//! The real binary as a command, without the environment variables of this process.

use std::process::{Command, Stdio};

use super::process::on_a_leash;
use super::{API_KEY, HOOK_SECRET, TOKEN_SECRET};

/// The path of the service that Cargo has built for the running test.
///
/// # Panics
/// If the test was not started by `cargo test`.
pub fn binary() -> String {
    let path = std::env::var("CARGO_BIN_EXE_esim-status");
    path.expect("`cargo test` sets the path of the binary")
}

/// The service, started so that it ends with this process, even if this process is killed.
pub fn leashed(arguments: &[&str]) -> Command {
    let mut shell = program("/bin/sh", &[]);
    on_a_leash(&mut shell).arg(binary()).args(arguments);
    shell
}

/// The program at this path, which is `env!("CARGO_BIN_EXE_esim-status")` in the test that calls it.
pub fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR", "PG_BIN", "LLVM_PROFILE_FILE"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// The settings of `serve` for this database: the secrets of a [`super::TestApp`], any free ports, a log in JSON.
pub fn serving<'a>(command: &'a mut Command, database_url: &str) -> &'a mut Command {
    command
        .env("DATABASE_URL", database_url)
        .env("ESIM_STATUS_GIGASTORE_SECRETS", HOOK_SECRET)
        .env("ESIM_STATUS_API_KEYS", format!("shop:{API_KEY}"))
        .env("ESIM_STATUS_TOKEN_SECRETS", TOKEN_SECRET)
        .env("ESIM_STATUS_LISTEN", "127.0.0.1:0")
        .env("ESIM_STATUS_ADMIN_LISTEN", "127.0.0.1:0")
        .env("ESIM_STATUS_LOG_FORMAT", "json")
}
