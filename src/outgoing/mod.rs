//! Outgoing webhooks: delivers the changes of all profiles to the endpoints of backends, each signed, those of one profile in their
//! order, at least once.
//!
//! An endpoint is a follower of all changes like a caller of `/v1/changes`, with a place in the database. One replica at a time serves
//! it: the one whose session holds its advisory lock. If that replica dies, the lock ends with its session, and another one continues
//! at the place that was saved.
//!
//! - If the endpoint accepts nothing, its place stays, and one attempt follows another with growing pauses, a minute at most.
//! - If it accepts the changes of some profiles only, those of the others become backlogs, one for each profile, and its place moves on.
//!   So one change that an endpoint cannot digest delays no other profile, and nothing overtakes it within its own.

mod client;

mod courier;

mod due;

mod gauges;

mod sending;

mod due_profile;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::JoinMap;

use crate::budget;
use crate::clock;
use crate::store::endpoints::{self, Definition, ToServe};
use crate::store::exclusive::{self, LockSession};
use crate::store::{Connector, Pool, Session, StoreError};
use crate::telemetry::Seldom;
use crate::web::AppState;
use client::Client;
use courier::Courier;
pub use gauges::Gauges;

/// How often the table is looked at, and a replica tries to take the locks that it does not have.
const LOOK: Duration = Duration::from_secs(2);

/// How many connections a replica uses: one for the locks, the others shared by the couriers.
pub const CONNECTIONS: usize = 3;

/// Serves endpoints until the service drains. Connects again whenever the connection to the database is lost.
pub async fn run(app: AppState, connector: Connector) {
    let client = match Client::new(&app.reach) {
        Ok(client) => Arc::new(client),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "TLS cannot be set up: no changes will be delivered"
            );
            return app.draining.begun().await;
        }
    };
    let pool = Pool::new(&connector, Session::Outgoing, CONNECTIONS - 1, budget::READ);
    let trouble = Seldom::new();
    while !app.draining.has_begun() {
        // Others report that the database is away.
        if let Err(error) = serve(&app, &pool, &client, &connector).await
            && !error.is_only_away()
            && let Some(left_out) = trouble.due()
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, left_out, "endpoints could not be served; that will be retried");
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = app.draining.begun() => {}
        }
    }
}

/// An endpoint that has a courier, and how to notify it.
struct Serving {
    number: i32,
    version: watch::Sender<i32>,
}

/// Serves the endpoints whose locks a new session gets. The couriers end with it.
async fn serve(
    app: &AppState,
    pool: &Pool,
    client: &Arc<Client>,
    connector: &Connector,
) -> Result<(), StoreError> {
    let mut connection = connector.connect(Session::Upkeep).await?;
    let mut locks = LockSession::new(&mut connection);
    locks.run(exclusive::notice_loss).await?;
    let mut is_configured = false;
    let mut couriers = JoinMap::new();
    let mut serving: HashMap<String, Serving> = HashMap::new();
    loop {
        if !is_configured {
            is_configured = configure(app, &mut locks).await?;
        }
        let wanted = locks.run(endpoints::list_to_serve).await?;
        // Only the configuration file has the secrets of its endpoints. Another replica may have another file.
        let is_ours =
            |it: &ToServe| !it.is_configured || app.endpoints.iter().any(|known| known.id == it.id);
        let wanted: Vec<_> = wanted.into_iter().filter(is_ours).collect();
        let mut ended: Vec<String> = Vec::new();
        while let Some((endpoint, result)) = couriers.try_join_next() {
            // One that is not wanted any more was aborted.
            if result.is_err_and(|error| error.is_panic()) {
                tracing::error!(
                    endpoint,
                    "the delivery to an endpoint has died, which is a bug: it is started again"
                );
            }
            ended.push(endpoint);
        }
        for id in serving.keys().filter(|id| !wanted.iter().any(|it| it.id == **id)) {
            couriers.abort(id);
            ended.push(id.clone());
        }
        for id in ended {
            if let Some(courier) = serving.remove(&id) {
                locks.run(async |it| endpoints::unlock(it, courier.number).await).await?;
            }
        }
        for ToServe { id, number, version, .. } in wanted {
            if let Some(courier) = serving.get(&id) {
                courier
                    .version
                    .send_if_modified(|known| std::mem::replace(known, version) != version);
            } else if locks.run(async |it| endpoints::try_lock(it, number).await).await? {
                let (sender, receiver) = watch::channel(version);
                let courier = Courier {
                    app: app.clone(),
                    pool: pool.clone(),
                    client: client.clone(),
                    id: id.clone(),
                    version: receiver,
                    trouble: Seldom::new(),
                };
                couriers.spawn(id.clone(), courier.serve());
                serving.insert(id, Serving { number, version: sender });
            }
        }
        pool.tidy();
        tokio::select! {
            () = sleep(LOOK) => {}
            () = app.draining.begun() => {
                // Each saves what it has delivered.
                while couriers.join_next().await.is_some() {}
                return Ok(());
            }
        }
    }
}

/// Saves what the configuration file says about endpoints. A new one begins at the present end; while that cannot be read, the others
/// need not wait. Returns whether all are saved.
async fn configure(app: &AppState, locks: &mut LockSession<'_>) -> Result<bool, StoreError> {
    let mut are_all_saved = true;
    for endpoint in &app.endpoints {
        let definition = Definition {
            url: endpoint.url.as_str().to_owned(),
            filter: endpoint.filter.clone(),
            description: endpoint.description.clone(),
        };
        let id = &endpoint.id;
        let exists = async |it: &mut _| endpoints::configure(it, id, &definition).await;
        if !locks.run(exists).await? {
            let Ok(place) = app.end_of_changes().await else {
                are_all_saved = false;
                continue;
            };
            let now = clock::now();
            let add =
                async |it: &mut _| endpoints::add_configured(it, id, &definition, place, now).await;
            locks.run(add).await?;
        }
    }
    Ok(are_all_saved)
}
