//! All SQL of Postgres: one module for each table, one function for each statement, with the connection as its first parameter.
//!
//! Text from the database is parsed again. A bad row is a [`StoreError`], never a panic.

pub mod connector;

mod fault;

pub mod backends;

mod schema;

mod error;

mod decode;

pub mod profiles;

pub mod transitions;

pub mod deliveries;

pub mod lookup;

pub mod kept;

pub mod customer_deliveries;

pub mod last_reports;

pub mod causes;

pub mod batch_write;

pub mod changes;

pub mod endpoints;

pub mod backlogs;

pub mod ended_sessions;

pub mod event_ids;

pub mod hook_health;

pub mod inquiries;

pub mod install_credentials;

pub mod orders;

pub mod overdue;

pub mod erasures;

pub mod evidence;

pub mod notify;

mod endpoint_secrets;

mod vault;

pub mod partitions;

mod clocks;

pub mod upkeep;

pub mod exclusive;

mod indexes;

mod marks;

mod counts;

pub mod funnel;

pub mod smdp;

pub mod summary;

mod condition;

mod limits;

mod reader;

pub use clocks::Clocks;
pub use condition::{Condition, condition};
pub use connector::{ConnectError, Connected, Connector, Line, Pool, Session, is_away};
pub use endpoint_secrets::EndpointSecrets;
pub use erasures::ErasureKey;
pub use error::StoreError;
pub use fault::{
    Fault, ends_statement_only, fault_of, is_lock_time_out, is_row_locked, is_time_out,
};
pub use limits::{Limit, limit};
pub use profiles::{RegistrationFacts, StoredProfile};
pub use reader::{Followed, HISTORY_AT_ONCE, ProfileReader, ReadError};
pub use schema::{SchemaError, is_of_a_pooler, latest_version, migrate, refuse_shared_sessions};
pub use vault::{Sealed, Vault};
