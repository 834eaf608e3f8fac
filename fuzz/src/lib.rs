//! The parts of the service that read what strangers send, compiled from their own files.
//!
//! They are the pure ones: no database, no sockets, no clock. So they build in a minute without the rest around them, also
//! instrumented, and what they hide from the service's other modules need not be made public for this. A file that moves
//! breaks this crate; CI checks it.

#[path = "../../src/domain/mod.rs"]
pub mod domain;

#[expect(dead_code, reason = "one door is the spool's, and that is not here")]
#[path = "../../src/delivery/mod.rs"]
pub mod delivery;

#[path = "../../src/providers/mod.rs"]
pub mod providers;

pub mod story;

pub mod tree;
