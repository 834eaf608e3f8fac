//! The gauges of endpoints, from the database: those of an endpoint that nobody serves must not fall silent with it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use sqlx::PgConnection;

use crate::clock;
use crate::domain::Timestamp;
use crate::store::StoreError;
use crate::store::endpoints::{self, Figures};
use crate::telemetry::{self, EndpointGauges};

/// The endpoints that have gauges. Each replica sets those of all endpoints, to the same values.
#[derive(Debug, Default)]
pub struct Gauges(Mutex<BTreeSet<String>>);

impl Gauges {
    /// Reads how all endpoints do, and shows it. The gauges of one that was deleted become 0, and stay until the restart.
    ///
    /// # Errors
    /// [`StoreError`]; then all gauges stay as they are.
    pub async fn show(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let found = endpoints::figures(connection).await?;
        let now = clock::now();
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.iter().filter(|id| found.iter().all(|it| it.id != **id)) {
            telemetry::set_endpoint(gone, EndpointGauges::default());
        }
        for it in &found {
            telemetry::set_endpoint(&it.id, gauges(it, now));
        }
        *shown = found.into_iter().map(|it| it.id).collect();
        Ok(())
    }
}

fn gauges(of: &Figures, now: Timestamp) -> EndpointGauges {
    let age = |since: Option<Timestamp>| since.map_or(0.0, |since| now.seconds_since(since));
    let Figures { disabled, given_up, .. } = *of;
    // One that is disabled gets nothing and is called no more. That is what it says, and not how late it is.
    if disabled.is_some() {
        return EndpointGauges { given_up, disabled, ..EndpointGauges::default() };
    }
    let (behind, failing) = (age(of.behind_since), age(of.failing_since));
    EndpointGauges { behind, failing, held: of.backlogs, given_up, disabled }
}
