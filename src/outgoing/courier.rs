//! Serves one endpoint: reads the changes after its place, sends them, and saves how far it has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::{Client, Target};
use super::due;
use super::due_profile::Remainder;
use super::sending::{self, Sent};
use crate::clock;
use crate::delivery::StandardSecrets;
use crate::domain::{
    DisabledBecause, EndpointUrl, Iccid, MIN_ATTEMPTS, PERSISTENCE, Timestamp, endpoint_pause,
};
use crate::feed::SAFETY_NET;
use crate::store::backlogs::{self, Backlog};
use crate::store::changes::Place;
use crate::store::endpoints::{self, Advanced, Endpoint, Progress};
use crate::store::{EndpointSecrets, Pool, StoreError};
use crate::telemetry::{Seldom, Span, TraceContext};
use crate::web::AppState;

/// How many changes one round reads, and how few if rounds take long: enough for all requests that may be under way.
const MAX_PAGE: i64 = 200;
const MIN_PAGE: i64 = 50;

/// A round that takes longer makes the next ones smaller.
const LONG_ROUND: Duration = Duration::from_secs(5);

/// The pause after an error of the database.
const PAUSE: Duration = Duration::from_secs(1);

/// An endpoint that has accepted something within this time is not down, in seconds: what it does not accept can be given up.
const ALIVE_SECONDS: f64 = 86_400.0;

/// What serves one endpoint.
pub(super) struct Courier {
    pub app: AppState,
    pub pool: Pool,
    pub client: Arc<Client>,
    /// The endpoint.
    pub id: String,
    /// Raised by every change that its owner makes.
    pub version: watch::Receiver<i32>,
    /// Limits the log line about errors of the database.
    pub trouble: Seldom,
}

/// What comes after a round.
enum Next {
    /// There may be more.
    Again,
    /// Nothing is due before this time, unless something changes.
    Idle(Option<Timestamp>),
    /// Nothing before this time, whatever changes.
    Wait(Timestamp),
    /// The endpoint is no longer to be served.
    Ended,
}

impl Courier {
    /// Serves the endpoint until it is deleted or disabled, or the service drains.
    pub(super) async fn serve(mut self) {
        let mut page = MAX_PAGE;
        // Subscribe before reading, so that a change between the two is a wake-up.
        let mut subscription = self.app.feed.subscribe_to_all();
        let mut wake_up = None;
        while !self.app.draining.has_begun() {
            self.version.mark_unchanged();
            let begun = Instant::now();
            wake_up = subscription.note().or(wake_up);
            let next = match self.round(page, wake_up.take()).await {
                Ok(next) => next,
                Err(error) => {
                    self.report(&error);
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
                        woken = subscription.woken() => wake_up = woken,
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

    /// Logs an error of the database, unless others report it.
    fn report(&self, error: &StoreError) {
        if !error.is_only_away()
            && let Some(left_out) = self.trouble.due()
        {
            let (endpoint, error) = (&self.id, error as &dyn std::error::Error);
            tracing::warn!(
                endpoint,
                error,
                left_out,
                "an endpoint could not be served; that will be retried"
            );
        }
    }

    /// Sends what is due, perhaps because of a wake-up that is recorded.
    async fn round(&self, limit: i64, wake_up: Option<TraceContext>) -> Result<Next, StoreError> {
        let found = self.pool.run(async |connection| endpoints::find(connection, &self.id).await);
        let Some(endpoint) = found.await?.filter(|endpoint| endpoint.disabled.is_none()) else {
            return Ok(Next::Ended);
        };
        let now = clock::now();
        if let Some(at) = endpoint.retry_at.filter(|at| *at > now) {
            return Ok(Next::Wait(at));
        }
        let target = match self.target(&endpoint, now) {
            Ok(target) => target,
            Err(why) => return self.fail(&endpoint, &why, Duration::ZERO).await,
        };
        let due = due::read(&self.app, &self.pool, &endpoint, limit, now).await?;
        let Some(due::Due { profiles, skipped, read_to }) = due else {
            tracing::error!(
                endpoint = self.id,
                "an endpoint was disabled, because the database has not given out its cursor: was a part of it restored, or changed by hand? Replay the endpoint from a change that it knows"
            );
            return self.end(&endpoint, DisabledBecause::LostPlace).await;
        };
        if profiles.is_empty() {
            return self.skip_to(&endpoint, read_to).await;
        }
        let was_failing = endpoint.failures > 0;
        let (client, draining) = (&self.client, &self.app.draining);
        let is_outdated = || self.version.has_changed().unwrap_or(true);
        let changes = profiles.iter().map(|profile| profile.messages.len()).sum();
        let span = Span::round(wake_up.as_ref(), &self.id, changes);
        let mut sent =
            sending::send(client, &target, profiles, &span, was_failing, draining, &is_outdated)
                .await;
        drop(span);
        if sent.is_gone {
            tracing::warn!(
                endpoint = self.id,
                "an endpoint was disabled, because it answered 410 Gone"
            );
            if sent.accepted > 0 {
                self.save(&endpoint, read_to, &sent, &skipped).await?;
            }
            return self.end(&endpoint, DisabledBecause::Gone).await;
        }
        if let (true, Some(error)) = (sent.is_down, &sent.error) {
            return self.fail(&endpoint, error, sent.wait.unwrap_or_default()).await;
        }
        let is_untried = sent.accepted == 0 && sent.error.is_none();
        if is_untried && sent.profiles.iter().any(|profile| !profile.messages.is_empty()) {
            return Ok(Next::Again);
        }
        if let Some(since) = endpoint.failing_since.filter(|_| sent.accepted > 0) {
            tracing::info!(endpoint = self.id, "an endpoint accepts changes again");
            for backlog in sent.profiles.iter_mut().filter_map(|profile| profile.backlog.as_mut()) {
                backlog.without_outage(since, clock::now());
            }
        }
        self.save(&endpoint, read_to, &sent, &skipped).await
    }

    /// Where the endpoint is, and what signs. Otherwise why it cannot be called.
    fn target(&self, endpoint: &Endpoint, now: Timestamp) -> Result<Target, String> {
        let configured = self.app.endpoints.iter().find(|known| known.id == self.id);
        let secrets = match (configured, &endpoint.sealed) {
            (Some(configured), _) => configured.secrets.clone(),
            (None, Some(sealed)) => {
                let opened = EndpointSecrets::open(&self.app.vault, &self.id, sealed);
                let secrets =
                    opened.map_err(|error| format!("its secret cannot be read: {error}"))?;
                let signing = secrets.signing(endpoint.previous_until, now);
                let secrets = signing.map(|secret| secret.expose_secret().to_owned());
                let secrets = StandardSecrets::parse("its secret", secrets);
                Arc::new(secrets.map_err(|error| error.to_string())?)
            }
            (None, None) => return Err("it is not in the configuration file".to_owned()),
        };
        let url = EndpointUrl::parse(&endpoint.definition.url, &self.app.reach);
        Ok(Target { url: url.map_err(|error| format!("its URL {error}"))?, secrets })
    }

    /// Passes changes of which the endpoint wants none, or waits for more.
    async fn skip_to(&self, endpoint: &Endpoint, read_to: Place) -> Result<Next, StoreError> {
        // What it did not accept may have been erased, or be what it no longer wants.
        let is_freed = endpoint.failures > 0 && endpoint.backlogs == 0;
        if read_to == endpoint.place && !is_freed {
            let next =
                self.pool.run(async |connection| backlogs::next_due(connection, &self.id).await);
            return Ok(Next::Idle(next.await?));
        }
        let progress = Progress { is_freed, ..Progress::to(read_to) };
        let passed = self.pool.run(async |connection| {
            endpoints::advance(connection, endpoint, &progress, clock::now()).await
        });
        passed.await?;
        Ok(Next::Again)
    }

    /// Saves what the endpoint has accepted. Tries until that succeeds: otherwise all of it would be sent again.
    async fn save(
        &self,
        endpoint: &Endpoint,
        place: Place,
        sent: &Sent,
        skipped: &HashMap<Iccid, i64>,
    ) -> Result<Next, StoreError> {
        let now = clock::now();
        let is_recent = |at| now.seconds_since(at) < ALIVE_SECONDS;
        let is_alive = sent.accepted > 0 || endpoint.delivered_at.is_some_and(is_recent);
        let (mut kept, mut done, mut given_up) = (Vec::new(), Vec::new(), 0);
        for profile in &sent.profiles {
            match profile.remainder(skipped, is_alive, now) {
                Remainder::Nothing if profile.backlog.is_none() => {}
                Remainder::Nothing => done.push(profile.iccid.as_str().to_owned()),
                Remainder::Backlog(backlog) => kept.push(backlog),
                Remainder::GaveUpOne(backlog) => {
                    let (endpoint, iccid, position) =
                        (&self.id, &profile.iccid, backlog.position - 1);
                    tracing::warn!(
                        endpoint,
                        ?iccid,
                        position,
                        "a change was given up, because the endpoint has not accepted it for five days; later changes of the profile follow, each with the profile as it is"
                    );
                    given_up += 1;
                    kept.push(backlog);
                }
            }
        }
        let delivered = i64::try_from(sent.accepted).unwrap_or(i64::MAX);
        let (retry_at, error) = (sent.wait.map(|wait| now.plus(wait)), sent.error.as_deref());
        let progress = Progress { delivered, given_up, retry_at, error, ..Progress::to(place) };
        while let Err(error) = self.try_save(endpoint, &progress, (&kept, &done), now).await {
            if self.app.draining.has_begun() {
                return Err(error);
            }
            self.report(&error);
            sleep(PAUSE).await;
        }
        Ok(Next::Again)
    }

    async fn try_save(
        &self,
        endpoint: &Endpoint,
        progress: &Progress<'_>,
        (kept, done): (&[Backlog], &[String]),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let saved = self.pool.run(async |connection| {
            let mut transaction = connection.begin().await?;
            let advanced = endpoints::advance(&mut transaction, endpoint, progress, now).await?;
            if advanced != Advanced::Elsewhere && !(kept.is_empty() && done.is_empty()) {
                backlogs::save(&mut transaction, &self.id, kept, done).await?;
            }
            // What this round did not get accepted has failed before the change.
            if advanced == Advanced::SavedAfterChange {
                backlogs::begin_anew(&mut transaction, &self.id, now).await?;
            }
            Ok(transaction.commit().await?)
        });
        saved.await
    }

    /// Notes an attempt at which the endpoint accepted nothing. Disables it if that has gone on for days.
    async fn fail(
        &self,
        endpoint: &Endpoint,
        error: &str,
        wait: Duration,
    ) -> Result<Next, StoreError> {
        let now = clock::now();
        let is_long = |since| now.seconds_since(since) > PERSISTENCE.as_secs_f64();
        let is_tried = endpoint.failures >= MIN_ATTEMPTS;
        if is_tried && endpoint.failing_since.is_some_and(is_long) {
            tracing::error!(
                endpoint = self.id,
                "an endpoint was disabled, because it accepted nothing for five days; once it works, enable it, and it continues where it ended"
            );
            return self.end(endpoint, DisabledBecause::Failing).await;
        }
        if endpoint.failures == 0 {
            tracing::warn!(
                endpoint = self.id,
                error,
                "an endpoint accepts nothing; that will be retried"
            );
        }
        let pause = endpoint_pause(endpoint.failures + 1, rand::random());
        let retry_at = now.plus(pause.max(wait));
        let noted = self.pool.run(async |connection| {
            endpoints::note_failure(connection, endpoint, retry_at, error, now).await
        });
        noted.await?;
        Ok(Next::Wait(retry_at))
    }

    /// Ends the deliveries to the endpoint, unless a backend has just changed it.
    async fn end(&self, endpoint: &Endpoint, because: DisabledBecause) -> Result<Next, StoreError> {
        let ended = self.pool.run(async |connection| {
            endpoints::disable(connection, endpoint, because, clock::now()).await
        });
        ended.await?;
        Ok(Next::Again)
    }
}
