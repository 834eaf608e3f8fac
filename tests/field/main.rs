//! The service in the environments that operators have: firewalls, poolers, failovers, limited roles, slow networks,
//! odd certificates, proxies, monitoring.
//!
//! Everything is real: the service's binary, PostgreSQL, pgbouncer, Patroni with etcd, nginx, haproxy, Caddy, Prometheus,
//! openssl. Each test starts the programs that it needs, and they end with it. Only the relay between the service and its
//! database is simulated, because firewalls and slow networks cannot be installed.
//!
//! Long forms, by environment variable: `ESIM_STATUS_NAT_SECONDS=60`, `ESIM_STATUS_FAILOVER_ROUNDS=5`,
//! `ESIM_STATUS_PROXY_PAUSES=7`, `ESIM_STATUS_HA_FAULTS=6`, `ESIM_STATUS_GREEDY_CLIENTS=20000` (with `ulimit -n 50000`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test that calls it"
)]

mod authority;
mod bouncer;
mod cluster;
mod collector;
mod container;
mod load;
mod manifests;
mod relay;
mod server;
mod starts;

mod alerts;
mod backup;
mod certificates;
mod clocks;
mod dashboards;
mod failover;
mod forgetting;
mod greedy;
mod high_availability;
mod https;
mod kubernetes;
mod listening;
mod pooled;
mod proxies;
mod roles;
mod slow;
mod telemetry;
mod upgrade;
mod verifiers;

/// The ICCID of one of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
