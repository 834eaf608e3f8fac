//! esim-status receives eSIM status webhooks, authenticates and validates them, and stores the history of every profile
//! in Postgres.
//!
//! Four nouns, one direction. A [`delivery::Delivery`] (one webhook request) is parsed into a [`domain::Report`] (what
//! the provider claims). The report may cause a [`domain::Transition`] (an entry in the history), and the transition
//! updates a [`domain::Profile`] (the current state).
//!
//! The path of one delivery:
//!
//! 1. [`listener`] accepts the connection, bounds the request, and calls the router. A layer around all routes notes the
//!    time of receipt (`src/web/middleware.rs`). [`web::webhooks`] finds the hook, reads the body, and creates a `Delivery`.
//! 2. [`delivery::Authenticator`] authenticates the sender from the raw bytes. Only this makes an `AuthenticDelivery`
//!    of a request.
//! 3. [`hook::Hook::read`] has the body parsed strictly by its [`providers::Provider`].
//! 4. [`ingest::Ingest::submit`] gives the delivery to a writer and waits for the result.
//! 5. The writer takes what waits, up to 512 deliveries, as one batch (`src/ingest/writer.rs`), and settles it
//!    (`settle.rs`, with retries in `attempt.rs`): `batch/` reads the profiles that the batch names, `plan.rs` applies each
//!    report with [`domain::Profile::observe`], in the order of arrival, and one statement writes everything and commits.
//!    It writes nothing if any profile has changed since, is locked, was erased, or was created meanwhile; the batch is
//!    then tried once more, and after that with a transaction that locks the profiles. A batch with event ids,
//!    or with a delivery that names only a customer, begins with the transaction. If the database is unavailable and there
//!    is a spool, the batch goes to the spool.
//! 6. [`web::webhooks`] turns the outcome into an answer. Nothing is answered 2xx before it is durable.
//!
//! `docs/ARCHITECTURE.md` has the map of the code and the invariants.

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

pub mod signing;

pub mod hook;

pub mod listener;

pub mod texts;

pub mod web;

pub mod config;

pub mod http_client;

pub mod inquiry;

pub mod outgoing;

pub mod reread;

pub mod service;

pub mod commands;

pub mod cli;
