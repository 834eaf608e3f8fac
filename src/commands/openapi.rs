//! `esim-status openapi`: prints the API's contract, generated from the code.

use std::process::ExitCode;

use crate::web;

/// Prints the OpenAPI document.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn run() -> anyhow::Result<ExitCode> {
    println!("{}", web::openapi().to_pretty_json()?);
    Ok(ExitCode::SUCCESS)
}
