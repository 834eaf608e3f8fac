//! esim-status.

pub mod domain;

pub mod delivery;
