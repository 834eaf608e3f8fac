//! The service over a socket, with a real router and a real Postgres; one file for each resource.

mod webhooks;
