//! The commands and their flags.

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{dev, doctor, health, migrate, send, token};
use crate::config::ServeArgs;

/// Receives eSIM Status webhooks, keeps every profile's history in Postgres, and leads a user through the install
#[derive(Debug, Parser)]
#[command(name = "esim-status", version, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads command line and environment; ends the process with the usage where they make no sense.
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

/// A variable that is set to nothing, as compose files pass those that are not set, counts as not set.
fn ignore_if_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    // No variable has this name.
    if is_empty { arg.env("").hide_env(true) } else { arg }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in production: needs its database and secrets
    #[command(long_about = SERVE)]
    Serve(Box<ServeArgs>),
    /// Serve on this machine with an embedded PostgreSQL and generated secrets
    Dev(Box<dev::DevArgs>),
    /// Bring the database's schema up to this version, and seal credentials with the current data key
    Migrate(migrate::MigrateArgs),
    /// Play the provider: send correctly signed webhooks to a hook
    #[command(after_help = send::EXAMPLES)]
    Send(Box<send::SendArgs>),
    /// Print an access token for one profile
    Token(token::TokenArgs),
    /// Check settings, database and clock, and try every hook of a running service with good and bad proofs
    Doctor(Box<doctor::DoctorArgs>),
    /// Ask a running service whether it is ready; for the health check of a container
    Health(health::HealthArgs),
    /// Print the OpenAPI document
    Openapi,
}

const SERVE: &str = "\
Serve in production: needs its database and secrets.

It refuses to start without DATABASE_URL, a secret for a hook, an API key and a token secret, and names all that is missing. \
A secret is at least 16 bytes long; it may come from a file instead (the same name with _FILE, one secret a line), and it may \
be a list, for rotation. SIGTERM, SIGINT and SIGHUP end it in order, within 10 seconds and whatever more the notice takes.";
