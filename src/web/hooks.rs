//! How the hooks do: what each has accepted and refused, over all replicas and restarts, and whether that is as usual;
//! and whether installs from a server arrive.
//!
//! Each replica counts, and adds its counts to the database once a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::callers::Backend;
use super::extract::Params;
use super::problem::{Code, Problem, Refusals};
use crate::clock;
use crate::delivery::NotAuthentic;
use crate::domain::Timestamp;
use crate::hook::Hooks;
use crate::store::StoreError;
use crate::store::deliveries::Newest;
use crate::store::hook_health::{self, Came, HookFigures, Known};
use crate::store::smdp::{Arrivals, LOOKED_AT};
use crate::telemetry::{self, Seldom};

/// From how many accepted webhooks in an hour on it is unusual that none comes.
const BUSY: f64 = 10.0;

/// From how many refused webhooks on a hook is not just called by a stranger now and then.
const MANY: i64 = 5;

/// What has come by each hook, in this process.
#[derive(Debug)]
pub struct HookTallies {
    by_hook: BTreeMap<Arc<str>, Tally>,
    started: Timestamp,
    /// The servers that have a metric.
    hosts: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Tally {
    /// When the newest delivery was received, in seconds since 1970; 0 while unknown.
    newest: AtomicI64,
    /// When the last delivery that this process has accepted was received; 0 if there was none.
    accepted_at: AtomicI64,
    /// What has not been added to the database yet.
    accepted: AtomicU64,
    refused: AtomicU64,
    refusal: Mutex<Option<(Timestamp, NotAuthentic)>>,
    /// Limits the log lines about bodies that were not read.
    unread: Seldom,
}

impl HookTallies {
    /// The state at the start: nothing is known about these hooks yet.
    pub fn of(hooks: &Hooks) -> Self {
        let by_hook = hooks.keys().map(|path| (path.clone(), Tally::default())).collect();
        Self { by_hook, started: clock::now(), hosts: Mutex::default() }
    }

    /// Notes that a delivery that was received at that time was accepted.
    pub(super) fn accepted(&self, hook: &str, received_at: Timestamp) {
        if let Some(tally) = self.by_hook.get(hook) {
            // The newest is the last one, also after a clock that was ahead was set back.
            tally.newest.store(received_at.unix_seconds(), Ordering::Relaxed);
            tally.accepted_at.fetch_max(received_at.unix_seconds(), Ordering::Relaxed);
            tally.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a delivery could not be authenticated.
    pub(super) fn refused(&self, hook: &str, received_at: Timestamp, reason: NotAuthentic) {
        if let Some(tally) = self.by_hook.get(hook) {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            let mut refusal = tally.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            *refusal = Some((received_at, reason));
        }
    }

    /// Logs a webhook whose body was refused, and is stored nowhere. Limited for each hook, so that a flood at one does
    /// not hide what comes to another.
    pub(super) fn log_unread(&self, hook: &str, problem: &Problem) {
        if let Some(left_out) = self.by_hook.get(hook).and_then(|tally| tally.unread.due()) {
            let problem = problem.entry().name;
            tracing::warn!(hook, problem, left_out, "the body of a webhook was refused");
        }
    }

    /// Learns from the newest deliveries in the database. A hook that is not among them has had none since the oldest
    /// of them. If the database has no deliveries, the age counts from the start of this process.
    pub fn learn(&self, known: &Newest) {
        for (path, tally) in &self.by_hook {
            let newest = known.by_hook.get(&**path).copied();
            let newest = newest.or(known.back_to).unwrap_or(self.started);
            tally.newest.fetch_max(newest.unix_seconds(), Ordering::Relaxed);
        }
    }

    /// Seconds since the newest delivery of each hook for which it is known.
    pub(super) fn ages(&self, now: Timestamp) -> impl Iterator<Item = (&str, f64)> {
        self.by_hook.iter().filter_map(move |(hook, tally)| {
            let newest = tally.newest.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^53")]
            (newest > 0).then(|| (&**hook, (now.unix_seconds() - newest).max(0) as f64))
        })
    }

    /// Takes what has come since the last time.
    fn take(&self, now: Timestamp) -> Vec<Came> {
        let came = self.by_hook.iter().map(|(hook, tally)| tally.take(hook, now));
        came.filter(|it| it.accepted + it.refused > 0).collect()
    }

    /// Takes back what could not be added to the database.
    fn give_back(&self, left: &[Came]) {
        for came in left {
            if let Some(tally) = self.by_hook.get(&*came.hook) {
                tally.accepted.fetch_add(came.accepted, Ordering::Relaxed);
                tally.refused.fetch_add(came.refused, Ordering::Relaxed);
            }
        }
    }

    /// Shows in the metrics how the hooks and the servers do.
    fn show(&self, known: &Known) {
        for HookFigures { hook, accepted, refused, usual, .. } in &known.hooks {
            if self.by_hook.contains_key(&**hook) {
                telemetry::set_hook(hook, *accepted, *refused, usual.unwrap_or_default());
            }
        }
        let arrivals = &known.arrivals;
        let mut shown = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.iter().filter(|host| !arrivals.iter().any(|it| it.host == **host)) {
            telemetry::set_smdp(gone, 0, 0);
        }
        for Arrivals { host, tried, arrived } in arrivals {
            telemetry::set_smdp(host, *tried, *arrived);
            shown.insert(host.clone());
        }
    }
}

/// Adds what has come by the hooks to the database, reads how they and the servers do, and shows it in the metrics.
///
/// # Errors
/// [`StoreError`]; what was not added is added the next time.
pub async fn keep(app: AppState) -> Result<Known, StoreError> {
    let now = clock::now();
    let mut came = app.tallies.take(now);
    let kept =
        app.reads.run(async |connection| hook_health::keep(connection, &mut came, now).await);
    let kept = kept.await;
    app.tallies.give_back(&came);
    kept.inspect(|known| app.tallies.show(known))
}

impl Tally {
    fn take(&self, hook: &str, now: Timestamp) -> Came {
        let accepted_at = self.accepted_at.load(Ordering::Relaxed);
        let refusal = *self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        Came {
            hook: hook.to_owned(),
            accepted: self.accepted.swap(0, Ordering::Relaxed),
            refused: self.refused.swap(0, Ordering::Relaxed),
            accepted_at: (accepted_at > 0)
                .then(|| now.plus_seconds(accepted_at - now.unix_seconds())),
            refusal: refusal.map(|(at, reason)| (at, reason.as_str())),
        }
    }
}

/// How a hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Health {
    /// Webhooks come as usual.
    Well,
    /// No webhook was ever accepted.
    Unused,
    /// No webhook comes, and many come in this hour of other weeks.
    Silent,
    /// More webhooks are refused than accepted: a secret was probably changed on one side only.
    Refusing,
}

/// A hook, and what came by it, over all replicas and restarts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hook)]
#[serde(rename_all = "camelCase")]
pub struct HookView {
    /// The path below `/webhooks/`, without a secret.
    #[schema(example = "gigastore/esim-status")]
    pub(super) hook: String,
    /// The provider's slug.
    pub(super) provider: &'static str,
    /// In a word.
    pub(super) health: Health,
    /// When a webhook was last accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) last_accepted_at: Option<Timestamp>,
    /// When a webhook could last not be authenticated.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) last_refused_at: Option<Timestamp>,
    /// Why not.
    pub(super) last_refusal: Option<String>,
    /// How many webhooks were accepted since the hour before this one began.
    pub(super) accepted: i64,
    /// How many could not be authenticated since then.
    pub(super) refused: i64,
    /// How many were accepted in that hour of the last four weeks, on average; null before two weeks are known.
    pub(super) usual: Option<f64>,
}

fn health(figures: Option<&HookFigures>) -> Health {
    match figures {
        Some(it) if it.refused > MANY && it.refused > it.accepted => Health::Refusing,
        Some(it) if it.accepted == 0 && it.usual.is_some_and(|usual| usual >= BUSY) => {
            Health::Silent
        }
        Some(it) if it.accepted_at.is_some() => Health::Well,
        _ => Health::Unused,
    }
}

/// A server that installs profiles (SM-DP+), and what became of the last profiles that tried.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Smdp)]
pub struct SmdpView {
    /// Its address, from the activation codes.
    #[schema(example = "smdp.example.org")]
    pub(super) host: String,
    /// How many profiles have tried within a day; the last 20 at most, of the last 5,000 changes.
    pub(super) tried: i64,
    /// How many of these are on a device.
    pub(super) arrived: i64,
    /// Whether 20 have tried and none has arrived.
    pub(super) ill: bool,
}

/// All hooks, and the servers that install profiles.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HookList)]
pub struct HooksView {
    /// The hooks, in the order of their paths.
    pub(super) items: Vec<HookView>,
    /// The servers from which a profile was tried within a day.
    pub(super) smdp: Vec<SmdpView>,
}

/// Lists the hooks and how they do, and whether installs arrive. What other replicas have received is at most a minute old.
#[utoipa::path(
    get, path = "/v1/hooks", tag = "summary",
    security(("apiKey" = [])),
    responses(
        (status = 200, body = HooksView),
        Refusals,
    )
)]
pub async fn list(
    State(app): State<AppState>,
    _: Backend,
    params: Params,
) -> Result<Json<HooksView>, Problem> {
    params.finish()?;
    read(&app).await.map(Json)
}

/// Reads how the hooks do, and whether installs arrive.
///
/// # Errors
/// Those of a read.
pub(super) async fn read(app: &AppState) -> Result<HooksView, Problem> {
    // A caller who hangs up must not take along what has been counted.
    let kept = tokio::spawn(keep(app.clone())).await;
    let kept = kept.map_err(|_| Problem::new(Code::Internal))?;
    let Known { hooks: figures, arrivals } = kept?;
    let items = app.hooks.values().map(|hook| {
        let known = figures.iter().find(|it| *it.hook == *hook.path);
        HookView {
            hook: hook.path.to_string(),
            provider: hook.provider.slug(),
            health: health(known),
            last_accepted_at: known.and_then(|it| it.accepted_at),
            last_refused_at: known.and_then(|it| it.refused_at),
            last_refusal: known.and_then(|it| it.refusal.clone()),
            accepted: known.map_or(0, |it| it.accepted),
            refused: known.map_or(0, |it| it.refused),
            usual: known.and_then(|it| it.usual),
        }
    });
    let smdp = arrivals.into_iter().map(|Arrivals { host, tried, arrived }| SmdpView {
        ill: tried >= LOOKED_AT && arrived == 0,
        host,
        tried,
        arrived,
    });
    Ok(HooksView { items: items.collect(), smdp: smdp.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_well_unless_it_is_silent_against_its_habit_or_refuses_most() {
        for (accepted, refused, usual, expected) in [
            (1, 0, None, Health::Well),
            (0, 0, None, Health::Well),
            (0, 0, Some(9.9), Health::Well),
            (0, 0, Some(10.0), Health::Silent),
            (1, 0, Some(1_000.0), Health::Well),
            (0, 5, None, Health::Well),
            (0, 6, Some(10.0), Health::Refusing),
            (6, 6, None, Health::Well),
            (6, 7, None, Health::Refusing),
        ] {
            let figures = HookFigures {
                hook: "h".to_owned(),
                accepted_at: Some(clock::now()),
                refused_at: None,
                refusal: None,
                accepted,
                refused,
                usual,
            };
            let found = health(Some(&figures));
            assert_eq!(found, expected, "{accepted} accepted, {refused} refused, {usual:?} usual");
        }
        assert_eq!(health(None), Health::Unused);
    }
}
