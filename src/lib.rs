//! esim-status: receives eSIM Status webhooks, proves and checks them, and keeps every profile's history in Postgres.
//!
//! Four nouns, one direction. A [`delivery::Delivery`] (one webhook request) makes a [`domain::Report`] (what the provider
//! claims), which may make a [`domain::Transition`] (what changed), which moves a [`domain::Profile`] (what we believe now).
//!
//! One delivery, from top to bottom:
//!
//! 1. [`web::webhooks`] finds the hook, takes the time and makes a `Delivery`.
//! 2. [`delivery::Authenticator`] proves the sender on the raw bytes; only then there is an `AuthenticDelivery`.
//! 3. [`providers::Provider::parse`] reads it strictly.
//! 4. [`ingest::Ingest::submit`] hands it to a writer and waits.
//! 5. The writer writes all that waits as one transaction: lock profiles, [`domain::Profile::observe`] each report in the
//!    order of arrival, append transitions, save profiles, commit.
//! 6. [`web::webhooks`] turns the outcome into an answer. Nothing is answered 2xx before it is durable.
//!
//! `docs/ARCHITECTURE.md` has the map and what is deliberately absent.

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
