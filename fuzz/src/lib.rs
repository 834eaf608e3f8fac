//! The parts of the service that parse untrusted input, compiled directly from their source files.
//!
//! These parts are pure: they use no database, no sockets and no clock. So they build in a minute without the rest of
//! the service, even with instrumentation, and their private items need not be made public for fuzzing. Moving one of
//! these files breaks this crate; CI checks that.

#[path = "../../src/domain/mod.rs"]
pub mod domain;

#[expect(
    dead_code,
    reason = "the spool uses one constructor, and the spool is not part of this crate"
)]
#[path = "../../src/delivery/mod.rs"]
pub mod delivery;

#[path = "../../src/providers/mod.rs"]
pub mod providers;

pub mod story;

pub mod tree;
