//! Shared by the benchmark's programs: the load, the servers that are measured, and what they cost.

pub mod deliveries;

pub mod settings;

pub mod generator;

pub mod interrupt;

pub mod process;

pub mod postgres;

pub mod tables;

pub mod sink;

pub mod contenders;

pub mod cost;

pub mod load;

pub mod kinds;

pub mod options;

pub mod wrk;

pub mod measure;

pub mod report;

pub mod rounds;

pub mod machine;

pub mod peer;

pub mod subject;
