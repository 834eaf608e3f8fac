//! Asks providers about profiles of which a webhook may have been lost: providers do not send one again.
//!
//! What to ask is a table, which anybody fills: a user looks at the page and nothing comes, a profile is overdue or has jumped,
//! support or an operator wants to know. One replica at a time asks, within a budget of calls, those first for which somebody
//! waits. An answer is an observation like any other; a webhook that came meanwhile counts. If the API is away, nothing is
//! assumed.

mod gigastore;

mod call_rate;

use std::future::pending;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

pub use gigastore::{AskError, GigastoreApi};

use crate::clock;
use crate::config::ApiSettings;
use crate::domain::{ASKED_FOR_SECONDS, Iccid, Timestamp, ask_again_at, is_asked_long_enough};
use crate::providers::{Gigastore, Provider};
use crate::registry::{self, Applied};
use crate::store::exclusive::LockSession;
use crate::store::inquiries::{self, Inquiry};
use crate::store::{self, Clocks, Connector, ErasureKey, Session, StoreError, profiles};
use crate::telemetry::{self, Seldom};

/// How often the table is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How much later a profile is asked about again if the API fails, in seconds.
const POSTPONED_SECONDS: i64 = 60;

/// How often a replica tries to become the one that asks, and how long it waits after an error of the database.
const TRY: Duration = Duration::from_secs(15);

/// How often jumps are looked for. A change can be found when it has its position, which takes a minute at most.
const JUMPS: Duration = Duration::from_secs(10);

/// The pauses after errors of the API: from the first to the longest, doubled each time. The longest is how long support waits once the
/// API answers again.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Asks until it is aborted. Connects again whenever the connection to the database is lost.
pub async fn run(connector: Connector, erasure_key: ErasureKey, settings: ApiSettings) {
    let api = match GigastoreApi::new(settings) {
        Ok(api) => api,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "TLS cannot be set up: no provider will be asked"
            );
            return pending().await;
        }
    };
    let mut inquirer = Inquirer { erasure_key, api, failures: 0 };
    loop {
        // Others report that the database is away.
        if let Ok(mut connection) = connector.connect(Session::Upkeep).await
            && let Err(error) = inquirer.ask_all(&mut connection).await
            && !error.is_only_away()
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a provider could not be asked; that will be retried");
        }
        sleep(TRY).await;
    }
}

/// Why not everything was asked.
#[derive(Debug, thiserror::Error)]
pub enum UnaskedError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The API gave no answer.
    #[error("the provider's API gave no answer")]
    Api(#[from] AskError),
}

/// Asks about everything that is due now, and returns how many profiles were asked about; `None` if another process is
/// asking. An error of the API ends it.
///
/// # Errors
/// [`UnaskedError`]; what was answered before is applied.
pub async fn ask_what_is_due(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    api: GigastoreApi,
) -> Result<Option<u64>, UnaskedError> {
    let mut session = LockSession::new(connection);
    if !session.run(inquiries::begin).await? {
        return Ok(None);
    }
    let mut inquirer = Inquirer { erasure_key: erasure_key.clone(), api, failures: 0 };
    // By the database's clock, which has noted what is due.
    let begun = session.run(async |it| Clocks::read(it, clock::now()).await).await?.theirs;
    let mut asked = 0;
    while let Some(inquiry) = next_due(&mut session, begun).await? {
        match inquirer.ask(&mut session, &inquiry).await? {
            Err(error) if error.is_about_the_question() => log_unusable(&inquiry.iccid, &error),
            answered => answered?,
        }
        asked += 1;
    }
    Ok(Some(asked))
}

/// What follows a question.
enum Next {
    /// There is nothing more to ask.
    Settled,
    /// The API failed, and is asked a little later.
    Postponed,
    /// It was wanted for so long that nothing more is asked.
    Expired,
    /// It was an attempt at this time: the next one comes after a pause, or never.
    After(Timestamp),
}

struct Inquirer {
    erasure_key: ErasureKey,
    api: GigastoreApi,
    /// How often in a row the API has not answered.
    failures: u32,
}

impl Inquirer {
    /// Asks whenever something is due. Returns only if another replica does, or with an error.
    async fn ask_all(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let mut session = LockSession::new(connection);
        if !session.run(inquiries::begin).await? {
            return Ok(());
        }
        let mut jumps_at = Instant::now();
        loop {
            if Instant::now() >= jumps_at {
                match want_jumped(&mut session).await {
                    // The others are asked about all the same.
                    Err(error) if error.may_be_one_row() => log_unreadable(None, &error),
                    looked => looked?,
                }
                jumps_at = Instant::now() + JUMPS;
            }
            let Some(inquiry) = next_due(&mut session, clock::now()).await? else {
                sleep(LOOK).await;
                continue;
            };
            match self.ask(&mut session, &inquiry).await? {
                Ok(()) => {}
                Err(error) if error.is_about_the_question() => log_unusable(&inquiry.iccid, &error),
                Err(error) => self.rest(&error).await,
            }
        }
    }

    /// Asks about one profile, and notes what follows. The inner error is that of the API.
    async fn ask(
        &mut self,
        session: &mut LockSession<'_>,
        inquiry: &Inquiry,
    ) -> Result<Result<(), AskError>, StoreError> {
        let (next, answered) = self.try_ask(session, inquiry).await?;
        let (attempts, later) = match next {
            Next::Settled => {
                session.run(async |it| inquiries::end(it, inquiry).await).await?;
                return Ok(answered);
            }
            Next::Postponed => (0, Some(clock::now().plus_seconds(POSTPONED_SECONDS))),
            Next::Expired => (0, None),
            Next::After(attempt) => {
                (1, ask_again_at(inquiry.attempts + 1, inquiry.wanted_at, attempt))
            }
        };
        let attempts = inquiry.attempts + attempts;
        if later.is_none() {
            let iccid = &inquiry.iccid;
            tracing::info!(
                ?iccid,
                attempts,
                "its provider will not be asked any more, because that was wanted seven days ago"
            );
        }
        session.run(async |it| inquiries::put_off(it, inquiry, attempts, later).await).await?;
        Ok(answered)
    }

    /// Asks about one profile, unless there is no need, and applies the answer.
    async fn try_ask(
        &mut self,
        session: &mut LockSession<'_>,
        inquiry: &Inquiry,
    ) -> Result<(Next, Result<(), AskError>), StoreError> {
        let (iccid, provider, now) = (&inquiry.iccid, Gigastore.slug(), clock::now());
        let iccids = [iccid.as_str().to_owned()];
        let known = match session.run(async |it| profiles::read(it, &iccids).await).await {
            // Nothing can be applied to a row that cannot be read.
            Err(error) if error.may_be_one_row() => {
                log_unreadable(Some(iccid), &error);
                return Ok((Next::After(now), Ok(())));
            }
            known => known?.pop(),
        };
        let is_settled =
            known.is_none_or(|(known, _)| known.seq != inquiry.seq && !known.is_under_way());
        if is_settled {
            return Ok((Next::Settled, Ok(())));
        }
        if is_asked_long_enough(inquiry.wanted_at, now) {
            return Ok((Next::Expired, Ok(())));
        }
        let (asked_at, report) = match self.api.find(iccid).await {
            Ok(answer) => answer,
            Err(error) => {
                telemetry::count_inquiry(provider, "failed");
                // One that the API cannot digest must not keep the others waiting, whatever it answers.
                let is_its_fault = error.is_about_the_question();
                let next = if is_its_fault { Next::After(clock::now()) } else { Next::Postponed };
                return Ok((next, Err(error)));
            }
        };
        self.failures = 0;
        let again = Next::After(asked_at);
        let Some(report) = report else {
            telemetry::count_inquiry(provider, "unknown");
            return Ok((again, Ok(())));
        };
        let key = &self.erasure_key;
        let apply = session.run(async |it| registry::apply_answer(it, key, &report).await);
        let applied = match apply.await {
            // Another transaction has locked the profile: the others need not wait for that.
            Err(StoreError::Database(error)) if store::is_time_out(&error) => {
                return Ok((again, Ok(())));
            }
            Err(error) if error.may_be_one_row() => {
                log_unreadable(Some(iccid), &error);
                return Ok((again, Ok(())));
            }
            applied => applied?,
        };
        let (result, profile) = match applied {
            Applied::Done(profile, Some(_)) => ("news", Some(profile)),
            Applied::Done(profile, None) => ("same", Some(profile)),
            Applied::Overtaken(profile) => ("overtaken", Some(profile)),
            Applied::Gone => ("gone", None),
        };
        telemetry::count_inquiry(provider, result);
        let is_under_way = profile.is_some_and(|profile| profile.is_under_way());
        Ok((if is_under_way { again } else { Next::Settled }, Ok(())))
    }

    /// Waits after an error of the API.
    async fn rest(&mut self, error: &AskError) {
        self.failures += 1;
        if self.failures == 1 {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the provider's API does not answer; it will be asked again later"
            );
        }
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(10) - 1);
        sleep(doubled.min(LONGEST_REST)).await;
    }
}

/// The profile to ask about next, if one is due.
async fn next_due(
    session: &mut LockSession<'_>,
    now: Timestamp,
) -> Result<Option<Inquiry>, StoreError> {
    session.run(async |it| inquiries::next_due(it, Gigastore.slug(), now).await).await
}

/// Notes that the provider is to be asked about the profiles that have jumped since a replica last looked for them.
async fn want_jumped(session: &mut LockSession<'_>) -> Result<(), StoreError> {
    let since = clock::now().plus_seconds(-ASKED_FOR_SECONDS);
    let page =
        async |it: &mut PgConnection| inquiries::want_jumped(it, Gigastore.slug(), since).await;
    while session.run(page).await? {}
    Ok(())
}

/// Logs that the database fails at a profile, or at one of those that have jumped.
fn log_unreadable(iccid: Option<&Iccid>, error: &StoreError) {
    static SELDOM: Seldom = Seldom::new();
    if let Some(left_out) = SELDOM.due() {
        let error = error as &dyn std::error::Error;
        tracing::error!(
            ?iccid,
            error,
            left_out,
            "a profile cannot be read or written, so the provider's answer about it is lost: is its row damaged, or does a trigger raise?"
        );
    }
}

/// Logs that the API has no usable answer to one question.
fn log_unusable(iccid: &Iccid, error: &AskError) {
    static SELDOM: Seldom = Seldom::new();
    if let Some(left_out) = SELDOM.due() {
        let error = error as &dyn std::error::Error;
        tracing::warn!(?iccid, error, left_out, "the provider's API has no usable answer");
    }
}
