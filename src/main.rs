//! The binary. It parses the command line and runs one command.

use std::process::ExitCode;

use clap::CommandFactory;
use esim_status::budget;
use esim_status::cli::{Cli, Command};
use esim_status::commands::{
    dev, doctor, erase, health, migrate, openapi, reconcile, reread, send, serve, shell, token,
};

/// Most of the cost of a delivery is allocating and freeing memory, often on another thread than the one that allocated
/// it. The C library's allocator is slow at that (`bench/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::read().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("esim-status: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(&args).await,
            Command::Dev(args) => dev::run(&args).await,
            Command::Migrate(args) => migrate::run(&args).await,
            Command::Reconcile(args) => reconcile::run(&args).await,
            Command::Reread(args) => reread::run(&args).await,
            Command::Erase(args) => erase::run(&args).await,
            Command::Send(args) => send::run(&args).await,
            Command::Token(args) => token::run(&args),
            Command::Doctor(args) => doctor::run(&args).await,
            Command::Health(args) => health::run(&args).await,
            Command::Openapi => openapi::run(),
            Command::Completions(args) => Ok(shell::completions(&args, Cli::command())),
            Command::Man(args) => shell::man(&args, Cli::command()),
        }
    });
    // Do not wait for a pending lookup of a host name.
    runtime.shutdown_timeout(budget::LAST_THREADS);
    ended
}
