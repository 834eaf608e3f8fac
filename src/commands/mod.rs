//! The commands, one file each.

pub mod serve;

pub mod dev;

mod welcome;

pub mod migrate;

pub mod send;

pub mod token;

mod try_body;

pub mod doctor;

pub mod reconcile;

pub mod reread;

pub mod erase;

pub mod health;

pub mod openapi;

pub mod shell;

/// The ICCID of the vendor's own sample, whose check digit holds.
const SAMPLE_ICCID: &str = "89972123300991848961";
