//! What the measurements share: the load, those who take it, and what they cost.

pub mod deliveries;

pub mod settings;

pub mod generator;

pub mod interrupt;

pub mod process;

pub mod postgres;

pub mod servers;
