//! The commands and their flags.

use clap::{Parser, Subcommand};

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
be a list, for rotation. SIGTERM and SIGINT end it in order, within 10 seconds.";
