//! Serves one endpoint: reads the changes after its place, sends them, and saves how far it has come.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::{Client, Target};
use super::round::{self, Lane, Outcome};
use crate::clock;
use crate::delivery::StandardSecrets;
use crate::domain::{
    DisabledBecause, EndpointUrl, Iccid, LONGEST_WAIT, PERSISTENCE, Timestamp, endpoint_pause,
};
use crate::store::backlogs::{self, Backlog};
use crate::store::changes::{self, Change, Place};
use crate::store::endpoints::{self, Endpoint, Progress};
use crate::store::{self, EndpointSecrets, Pool, StoreError};
use crate::telemetry;
use crate::web::AppState;
use crate::web::endpoint_event::{Message, message};

/// How many changes are read at the most at once, and how few if rounds take long.
const MAX_PAGE: i64 = 200;
const MIN_PAGE: i64 = 10;

/// A round that takes longer makes the next ones smaller: what is accepted in a round is saved at its end.
const LONG_ROUND: Duration = Duration::from_secs(5);

/// How many changes of one profile's backlog are read at once.
const BACKLOG_PAGE: i64 = 50;

/// How many profiles with a backlog an endpoint may have before it gets nothing else.
const MAX_BACKLOGS: i64 = 1_000;

/// How often the table is read without a wake-up.
const SAFETY_NET: Duration = Duration::from_secs(30);

/// The pause after an error of the database.
const PAUSE: Duration = Duration::from_secs(1);

/// What serves one endpoint.
pub(super) struct Courier {
    pub app: AppState,
    pub pool: Pool,
    pub client: Arc<Client>,
    /// The endpoint.
    pub id: String,
    /// Changes with what backends change about it.
    pub version: watch::Receiver<i32>,
}

/// What comes after a round.
enum Next {
    /// There may be more.
    Again,
    /// Nothing is due before this time, unless something changes.
    Idle(Option<Timestamp>),
    /// Nothing before this time, whatever changes.
    Wait(Timestamp),
    /// It is no longer to be served.
    Ended,
}

impl Courier {
    /// Serves the endpoint until it is deleted or disabled, or the task is aborted.
    pub(super) async fn serve(mut self) {
        let mut page = MAX_PAGE;
        // Subscribe before reading, so that a change between the two is a wake-up.
        let mut subscription = self.app.feed.subscribe_to_all();
        while !self.app.draining.has_begun() {
            self.version.mark_unchanged();
            let begun = Instant::now();
            let next = match self.round(page).await {
                Ok(next) => next,
                Err(error) => {
                    // Others report that the database is away.
                    if !matches!(&error, StoreError::Database(error) if store::is_away(error)) {
                        let (endpoint, error) = (&self.id, &error as &dyn std::error::Error);
                        tracing::warn!(
                            endpoint,
                            error,
                            "an endpoint could not be served; that will be retried"
                        );
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            };
            page = match begun.elapsed() {
                took if took > LONG_ROUND => (page / 2).max(MIN_PAGE),
                _ => (page * 2).min(MAX_PAGE),
            };
            let until = |at: Timestamp| {
                Duration::from_secs_f64(at.seconds_since(clock::now()).clamp(0.0, 60.0))
            };
            match next {
                Next::Again => {}
                Next::Ended => return,
                Next::Idle(at) => {
                    let pause = at.map_or(SAFETY_NET, |at| until(at).min(SAFETY_NET));
                    tokio::select! {
                        () = subscription.woken() => {}
                        _ = self.version.changed() => {}
                        () = sleep(pause) => {}
                        () = self.app.draining.begun() => {}
                    }
                }
                Next::Wait(at) => tokio::select! {
                    _ = self.version.changed() => {}
                    () = sleep(until(at)) => {}
                    () = self.app.draining.begun() => {}
                },
            }
        }
    }

    async fn round(&self, limit: i64) -> Result<Next, StoreError> {
        let found = self.pool.run(async |connection| endpoints::find(connection, &self.id).await);
        let Some(endpoint) = found.await? else { return Ok(Next::Ended) };
        if endpoint.disabled.is_some() {
            return Ok(Next::Ended);
        }
        let now = clock::now();
        telemetry::set_endpoint(
            &self.id,
            endpoint.behind_since.map_or(0.0, |since| now.seconds_since(since)),
            endpoint.failing_since.map_or(0.0, |since| now.seconds_since(since)),
            endpoint.backlogs,
        );
        if let Some(at) = endpoint.retry_at.filter(|at| *at > now) {
            return Ok(Next::Wait(at));
        }
        let target = match self.target(&endpoint, now) {
            Ok(target) => target,
            Err(why) => return self.fail(&endpoint, &why, Duration::ZERO).await,
        };
        let Some((items, read_to)) = self.read(&endpoint, limit).await? else {
            let endpoint = &self.id;
            tracing::error!(
                endpoint,
                "an endpoint was disabled, because the database has not given out its cursor: was it restored from a backup? Replay the endpoint from a cursor from before the backup"
            );
            return self.disable(DisabledBecause::LostPlace).await;
        };
        let (lanes, skipped) = self.lanes(&endpoint, items, now).await?;
        if lanes.is_empty() {
            if read_to == endpoint.place {
                let next = self
                    .pool
                    .run(async |connection| backlogs::next_due(connection, &self.id).await);
                return Ok(Next::Idle(next.await?));
            }
            let nothing = Outcome::default();
            return self.save(&endpoint, read_to, &nothing).await;
        }
        let was_failing = endpoint.failures > 0;
        let client = &self.client;
        let sent =
            round::send(client, &target, lanes, was_failing, &skipped, &self.app.draining).await;
        if sent.is_gone {
            let endpoint = &self.id;
            tracing::warn!(endpoint, "an endpoint was disabled, because it answered 410 Gone");
            return self.disable(DisabledBecause::Gone).await;
        }
        if sent.accepted == 0
            && (sent.has_failed || was_failing)
            && let Some(error) = &sent.error
        {
            return self.fail(&endpoint, error, sent.wait.unwrap_or_default()).await;
        }
        if was_failing && sent.accepted > 0 {
            tracing::info!(endpoint = self.id, "an endpoint accepts changes again");
        }
        self.save(&endpoint, read_to, &sent).await
    }

    /// Where the endpoint is, and what signs. Otherwise why it cannot be called.
    fn target(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Target, String> {
        let configured = self.app.endpoints.iter().find(|known| known.id == self.id);
        let secrets = match (configured, &endpoint.sealed) {
            (Some(configured), _) => configured.secrets.clone(),
            (None, Some(sealed)) => {
                let opened = EndpointSecrets::open(&self.app.vault, &self.id, sealed);
                let EndpointSecrets { current, previous } =
                    opened.map_err(|error| format!("its secret cannot be read: {error}"))?;
                let previous =
                    previous.filter(|_| endpoint.previous_until.is_some_and(|until| now < until));
                let secrets = [Some(current), previous].into_iter().flatten();
                let secrets = secrets.map(|secret| secret.expose_secret().to_owned());
                Arc::new(
                    StandardSecrets::parse("its secret", secrets)
                        .map_err(|error| error.to_string())?,
                )
            }
            (None, None) => return Err("it is not in the configuration file".to_owned()),
        };
        let url = EndpointUrl::parse(&endpoint.definition.url, &self.app.reach);
        Ok(Target { url: url.map_err(|error| format!("its URL {error}"))?, secrets })
    }

    /// Reads the changes after the endpoint's place, and how far they go; `None` if the database does not know that place.
    async fn read(
        &self,
        endpoint: &Endpoint,
        limit: i64,
    ) -> Result<Option<(Vec<Change>, Place)>, StoreError> {
        if endpoint.backlogs >= MAX_BACKLOGS {
            return Ok(Some((Vec::new(), endpoint.place)));
        }
        let found = self.app.changes_after(&self.pool, endpoint.place, limit).await?;
        Ok(found.map(|(found, _)| (found.items, found.read_to)))
    }

    /// Sorts what is due by profiles. Also returns the first change after the endpoint's place of each profile that has a backlog, which
    /// must not be overtaken.
    async fn lanes(
        &self,
        endpoint: &Endpoint,
        items: Vec<Change>,
        now: Timestamp,
    ) -> Result<(Vec<Lane>, HashMap<Iccid, i64>), StoreError> {
        let iccids: HashSet<_> = items.iter().map(|item| item.iccid.as_str().to_owned()).collect();
        let iccids: Vec<_> = iccids.into_iter().collect();
        let place = endpoint.place.position;
        let backlogged = self.pool.run(async |connection| {
            if endpoint.backlogs == 0 {
                return Ok((HashSet::new(), Vec::new()));
            }
            let held = backlogs::held_among(connection, &self.id, &iccids).await?;
            let mut due: Vec<(Backlog, Vec<Change>)> = Vec::new();
            for backlog in backlogs::list_due(connection, &self.id, now, MAX_PAGE).await? {
                let (iccid, range) = (&backlog.iccid, (backlog.position, place));
                let found = changes::of_profile(connection, iccid, range, BACKLOG_PAGE).await?;
                due.push((backlog, found));
            }
            Ok((held, due))
        });
        let (held, due) = backlogged.await?;
        let mut skipped = HashMap::new();
        let mut by_profile: HashMap<Iccid, usize> = HashMap::new();
        let mut lanes: Vec<Lane> = Vec::new();
        for item in items {
            if held.contains(&item.iccid) {
                skipped.entry(item.iccid.clone()).or_insert(item.position);
                continue;
            }
            if !wants(endpoint, &item) {
                continue;
            }
            let lane = *by_profile.entry(item.iccid.clone()).or_insert_with(|| {
                lanes.push(Lane::new(item.iccid.clone(), None));
                lanes.len() - 1
            });
            lanes[lane].messages.push(self.message(item)?);
        }
        for (backlog, found) in due {
            let mut lane = Lane::new(backlog.iccid.clone(), Some(backlog));
            let is_whole = i64::try_from(found.len()).is_ok_and(|found| found < BACKLOG_PAGE);
            lane.more_from = found.last().filter(|_| !is_whole).map(|last| last.position + 1);
            for item in found.into_iter().filter(|item| wants(endpoint, item)) {
                lane.messages.push(self.message(item)?);
            }
            lanes.push(lane);
        }
        Ok((lanes, skipped))
    }

    fn message(&self, change: Change) -> Result<(i64, Message), StoreError> {
        let position = change.position;
        let message = message(change, &self.app.public_url);
        // A view is always JSON.
        Ok((position, message.map_err(|_| StoreError::Corrupt { column: "changes" })?))
    }

    /// Saves how far the endpoint has come.
    async fn save(
        &self,
        endpoint: &Endpoint,
        place: Place,
        sent: &Outcome,
    ) -> Result<Next, StoreError> {
        let now = clock::now();
        let retry_at = sent.wait.map(|wait| now.plus(wait.min(LONGEST_WAIT)));
        let delivered = i64::try_from(sent.accepted).unwrap_or(i64::MAX);
        let (given_up, error) = (sent.given_up, sent.error.as_deref());
        let progress = Progress { place, delivered, given_up, retry_at, error };
        let saved = self.pool.run(async |connection| {
            let mut transaction = connection.begin().await?;
            if !endpoints::advance(&mut transaction, endpoint, &progress, now).await? {
                return Ok(());
            }
            if !sent.kept.is_empty() || !sent.done.is_empty() {
                backlogs::save(&mut transaction, &self.id, &sent.kept, &sent.done).await?;
            }
            Ok(transaction.commit().await?)
        });
        saved.await?;
        Ok(Next::Again)
    }

    /// Notes an attempt at which the endpoint accepted nothing. Disables it if that has gone on for days.
    async fn fail(
        &self,
        endpoint: &Endpoint,
        error: &str,
        wait: Duration,
    ) -> Result<Next, StoreError> {
        let now = clock::now();
        if endpoint
            .failing_since
            .is_some_and(|since| now.seconds_since(since) > PERSISTENCE.as_secs_f64())
        {
            let endpoint = &self.id;
            tracing::error!(
                endpoint,
                "an endpoint was disabled, because it accepted nothing for five days; once it works, enable it, and it continues where it ended"
            );
            return self.disable(DisabledBecause::Failing).await;
        }
        if endpoint.failures == 0 {
            let endpoint = &self.id;
            tracing::warn!(endpoint, error, "an endpoint accepts nothing; that will be retried");
        }
        let pause = endpoint_pause(endpoint.failures + 1, rand::random());
        let retry_at = now.plus(pause.max(wait.min(LONGEST_WAIT)));
        let noted = self.pool.run(async |connection| {
            endpoints::note_failure(connection, endpoint, retry_at, error, now).await
        });
        noted.await?;
        Ok(Next::Wait(retry_at))
    }

    async fn disable(&self, because: DisabledBecause) -> Result<Next, StoreError> {
        let now = clock::now();
        let disabled = self
            .pool
            .run(async |connection| endpoints::disable(connection, &self.id, because, now).await);
        disabled.await?;
        Ok(Next::Ended)
    }
}

/// The metrics are those of the replica that serves the endpoint.
impl Drop for Courier {
    fn drop(&mut self) {
        telemetry::set_endpoint(&self.id, 0.0, 0.0, 0);
    }
}

fn wants(endpoint: &Endpoint, change: &Change) -> bool {
    let provider = change.profile.as_ref().map(|stored| stored.profile.provider.as_str());
    endpoint.definition.filter.wants(change.kind, provider)
}
