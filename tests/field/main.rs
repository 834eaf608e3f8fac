//! The database's edge, as it is met in the field: firewalls, poolers, failovers, small roles, slow networks, odd certificates.
//!
//! Everything is real: the service's binary, PostgreSQL, pgbouncer, nginx, haproxy, Prometheus, openssl. Each part is started by the test that needs it and ends
//! with it. Only relays between the service and its database are made here, since they stand for what cannot be installed.
//!
//! Long forms, by environment variable: `ESIM_STATUS_NAT_SECONDS=60`, `ESIM_STATUS_FAILOVER_ROUNDS=5`, `ESIM_STATUS_PROXY_PAUSES=7`,
//! `ESIM_STATUS_GREEDY_CLIENTS=20000` (with `ulimit -n 50000`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test that calls it"
)]

mod bouncer;
mod load;
mod relay;
mod server;
mod starts;

mod alerts;
mod certificates;
mod clocks;
mod failover;
mod forgetting;
mod greedy;
mod listening;
mod pooled;
mod proxies;
mod roles;
mod slow;

/// One of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
