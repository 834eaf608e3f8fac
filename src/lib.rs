//! esim-status receives eSIM status webhooks, authenticates and validates them, and stores the history of every profile
//! in Postgres.
//!
//! Four nouns, one direction. A [`delivery::Delivery`] (one webhook request) is parsed into a [`domain::Report`] (what
//! the provider claims). The report may cause a [`domain::Transition`] (what changed), and the transition updates a
//! [`domain::Profile`] (the current state).
//!
//! The path of one delivery:
//!
//! 1. [`web::webhooks`] finds the hook, takes the time of receipt, reads the body, and creates a `Delivery`.
//! 2. [`delivery::Authenticator`] authenticates the sender from the raw bytes. Only this gives an `AuthenticDelivery`.
//! 3. [`hook::Hook::read`] has the body parsed strictly by its [`providers::Provider`].
//! 4. [`ingest::Ingest::submit`] gives the delivery to a writer and waits for the result.
//! 5. The writer takes all waiting deliveries as one batch and applies each report with [`domain::Profile::observe`], in
//!    the order of arrival. It writes the batch in one of three ways, cheapest first (`src/ingest/batch/`). Usually it
//!    starts from the profiles that it wrote last, reads the others, and writes everything in one statement, which also
//!    commits. The statement writes nothing if any profile has changed, is locked, or was erased. Then the writer reads
//!    all profiles again and tries the statement once more. If that fails too, it uses a transaction that locks the
//!    profiles. Batches with event ids use the transaction directly. If the database is unavailable and a spool is
//!    configured, the deliveries are written to the spool instead.
//! 6. [`web::webhooks`] turns the outcome into an answer. Nothing is answered 2xx before it is durable.
//!
//! `docs/ARCHITECTURE.md` has the map of the code and the list of what is deliberately absent.

pub mod budget;

pub mod domain;

pub mod clock;

pub mod delivery;

pub mod providers;

pub mod store;

pub mod spool;

pub mod ingest;

pub mod registry;

pub mod feed;

pub mod telemetry;

pub mod access;

pub mod hook;

pub mod listener;

pub mod web;

pub mod config;

pub mod service;

pub mod commands;

pub mod cli;
