//! The commands and their flags.

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{dev, doctor, erase, health, migrate, reconcile, reread, send, shell, token};
use crate::config::ServeArgs;
use crate::telemetry;

/// Receives eSIM status webhooks, stores the history of every profile in Postgres, and guides users through the install
#[derive(Debug, Parser)]
#[command(name = "esim-status", version = telemetry::version(), arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the command line and the environment. Exits with the usage if they are invalid.
    pub fn read() -> Self {
        let command = Self::command().mut_subcommands(|it| it.mut_args(ignore_if_empty));
        let matches = command.get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let Some((_, matches)) = matches.subcommand() {
            match &mut cli.command {
                Command::Serve(args) => args.note_values(matches),
                Command::Doctor(args) => args.serve.note_values(matches),
                _ => {}
            }
        }
        cli
    }
}

/// Treats an empty variable as not set, because compose files pass unset variables as empty ones.
fn ignore_if_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    // No variable has an empty name.
    if is_empty { arg.env("").hide_env(true) } else { arg }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in production: needs a database and secrets
    #[command(long_about = SERVE)]
    Serve(Box<ServeArgs>),
    /// Serve on this machine with an embedded PostgreSQL and generated secrets
    Dev(Box<dev::DevArgs>),
    /// Migrate the database's schema to this version, and encrypt stored credentials with the current data key
    Migrate(migrate::MigrateArgs),
    /// Ask the provider about the profiles that are under way, after an outage in which webhooks were lost
    Reconcile(Box<reconcile::ReconcileArgs>),
    /// Apply what was kept and not understood, after an adapter or a declaration has learned it
    Reread(Box<reread::RereadArgs>),
    /// Erase the profiles of a list, for instance again after a backup was restored
    Erase(erase::EraseArgs),
    /// Act as the provider: send correctly signed webhooks to a hook
    #[command(after_help = send::EXAMPLES)]
    Send(Box<send::SendArgs>),
    /// Print an access token for one profile
    Token(token::TokenArgs),
    /// Check settings, database and clock, and test every hook of a running service with valid and invalid credentials
    Doctor(Box<doctor::DoctorArgs>),
    /// Ask a running service whether it is ready, for the health check of a container
    Health(health::HealthArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Print the completions for a shell
    #[command(after_help = shell::EXAMPLES)]
    Completions(shell::CompletionsArgs),
    /// Write the manual pages
    Man(shell::ManArgs),
}

const SERVE: &str = "\
Serve in production: needs a database and secrets.

The service refuses to start without DATABASE_URL, a secret for a hook, an API key and a token secret, and lists everything \
that is missing. A secret is at least 16 bytes long. It can be read from a file instead (the same variable with _FILE, one \
secret per line). It can be a list, for rotation. SIGTERM, SIGINT and SIGHUP shut the service down gracefully, within 15 \
seconds plus the shutdown notice.";
