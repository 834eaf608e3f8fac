//! `esim-status completions` and `esim-status man`: what the command line offers, for shells and for readers.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

/// How to use the completions.
pub const EXAMPLES: &str = "\
Examples:
  esim-status completions bash >/etc/bash_completion.d/esim-status
  esim-status completions zsh >\"${fpath[1]}/_esim-status\"
  esim-status completions fish >~/.config/fish/completions/esim-status.fish";

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// The arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write the pages to, one for each command
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Prints the completions of this command line.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut stdout());
    ExitCode::SUCCESS
}

/// Writes the manual pages of this command line.
///
/// # Errors
/// If the folder cannot be written.
pub fn man(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    let folder = args.folder.display();
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(command, &args.folder))
        .with_context(|| {
            format!("cannot write the manual pages to {folder}: choose another folder")
        })?;
    println!("Wrote the manual pages to {folder}. Read one with: man {folder}/esim-status.1");
    Ok(ExitCode::SUCCESS)
}
