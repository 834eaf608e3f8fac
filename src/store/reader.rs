//! Coalesced reads of single profiles: all questions that arrive while a query is in flight share the next query.
//!
//! Nothing is cached, so no answer is stale: the query that answers a question always begins after the question was
//! asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::connector::{Connector, Line, Session};
use super::error::StoreError;
use super::profiles::{self, StoredProfile};
use super::transitions;
use crate::budget;
use crate::domain::{Iccid, Transition};

/// The max number of questions that one query answers.
const MAX_AT_A_TIME: usize = 256;

/// The max number of waiting questions; further ones are refused. Large enough for all followers of one process to ask
/// at the same time.
const QUEUE: usize = 32_768;

/// The max number of transitions of one profile that a read returns.
pub const HISTORY_AT_ONCE: i64 = 100;

/// How often it is said that nothing can be read.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// Why a profile could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// More questions are waiting than can be answered in time.
    #[error("too many reads are waiting")]
    Overloaded,
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    Stalled,
    /// The query failed.
    #[error("the query for profiles failed")]
    Failed(#[source] Arc<StoreError>),
}

/// A profile with its next transitions.
#[derive(Debug)]
pub struct Followed {
    /// The profile.
    pub stored: StoredProfile,
    /// Its next transitions after the `seq` in the question, oldest first, at most [`HISTORY_AT_ONCE`].
    pub transitions: Vec<Transition>,
}

/// A question: a profile, and the `seq` after which its history is wanted; `None` for no history.
type Asked = (Iccid, Option<i64>);

/// Followers of one profile ask the same question, and share one answer.
type Answer = Result<Option<Arc<Followed>>, ReadError>;

struct Question {
    asked: Asked,
    answer: oneshot::Sender<Answer>,
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct ProfileReader {
    questions: mpsc::Sender<Question>,
}

impl ProfileReader {
    /// A handle, and the task that queries the database for it, which the caller runs. The task ends when the last handle is dropped.
    pub fn new(connector: Connector) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (questions, waiting) = mpsc::channel(QUEUE);
        (Self { questions }, answer_all(connector, waiting))
    }

    /// Finds a profile in its current state.
    ///
    /// # Errors
    /// [`ReadError`]; retrying later may help.
    pub async fn find(&self, iccid: &Iccid) -> Result<Option<StoredProfile>, ReadError> {
        let found = self.ask((iccid.clone(), None)).await?;
        Ok(found.map(|followed| followed.stored.clone()))
    }

    /// Finds a profile in its current state, with its next transitions after `after`.
    ///
    /// # Errors
    /// [`ReadError`]; retrying later may help.
    pub async fn follow(&self, iccid: &Iccid, after: i64) -> Answer {
        self.ask((iccid.clone(), Some(after))).await
    }

    async fn ask(&self, asked: Asked) -> Answer {
        let (answer, answered) = oneshot::channel();
        let question = Question { asked, answer };
        self.questions.try_send(question).map_err(|_| ReadError::Overloaded)?;
        answered.await.unwrap_or(Err(ReadError::Stalled))
    }
}

async fn answer_all(connector: Connector, mut waiting: mpsc::Receiver<Question>) {
    let mut questions = Vec::with_capacity(MAX_AT_A_TIME);
    let mut line = Line::new(connector, Session::Lookup, budget::FRESH);
    let mut outage = ReadOutage::default();
    loop {
        let count = tokio::select! {
            biased;
            count = waiting.recv_many(&mut questions, MAX_AT_A_TIME) => count,
            never = line.keep_alive() => match never {},
        };
        if count == 0 {
            return;
        }
        let busy = line.busy();
        let found = timeout(budget::LOOK_UP, query(&mut line, &questions)).await;
        drop(busy);
        let error = match found {
            Ok(Ok(found)) => {
                for Question { asked, answer } in questions.drain(..) {
                    // The caller may have gone.
                    drop(answer.send(found.get(&asked).cloned().unwrap_or(Ok(None))));
                }
                // What this binary does not know in a row is logged for each answer.
                let fails = |error: &&ReadError| matches!(error, ReadError::Failed(it) if matches!(**it, StoreError::Database(_)));
                match found.values().find_map(|answer| answer.as_ref().err().filter(fails)) {
                    Some(error) => outage.note(error, 1),
                    None => outage.end(),
                }
                continue;
            }
            Ok(Err(error)) => ReadError::Failed(Arc::new(error)),
            Err(_) => ReadError::Stalled,
        };
        line.discard();
        // Answer the waiting questions with the same error: they would fail too, one time limit after another.
        while let Ok(question) = waiting.try_recv() {
            questions.push(question);
        }
        outage.note(&error, questions.len());
        for question in questions.drain(..) {
            drop(question.answer.send(Err(error.clone())));
        }
        questions.shrink_to(MAX_AT_A_TIME);
    }
}

/// Logs that the database is down: when it begins, once a minute, and when it ends.
#[derive(Debug, Default)]
struct ReadOutage {
    said: Option<Instant>,
    questions: usize,
}

impl ReadOutage {
    fn note(&mut self, error: &ReadError, questions: usize) {
        self.questions += questions;
        if self.said.is_none_or(|said| said.elapsed() > SAID_EVERY) {
            let error = error as &dyn std::error::Error;
            tracing::error!(
                error,
                reads = self.questions,
                "profiles cannot be read: is the database up?"
            );
            (self.said, self.questions) = (Some(Instant::now()), 0);
        }
    }

    fn end(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(
                reads = std::mem::take(&mut self.questions),
                "profiles can be read again"
            );
        }
    }
}

/// Answers these questions, except those about profiles that do not exist.
async fn query(
    line: &mut Line,
    questions: &[Question],
) -> Result<HashMap<Asked, Answer>, StoreError> {
    let mut asked: Vec<Asked> = questions.iter().map(|question| question.asked.clone()).collect();
    asked.sort_unstable();
    asked.dedup();
    if line.is_open() {
        let connection = line.reach().await?;
        // It may have died unnoticed, or know an older schema; reading again is harmless.
        if let Ok(Ok(found)) =
            timeout(budget::FIRST_LOOK_UP, look_up_each(connection, &asked)).await
            && found.values().all(Result::is_ok)
        {
            return Ok(found);
        }
        line.discard();
    }
    look_up_each(line.reach().await?, &asked).await
}

/// How many may fail, and none be read, before the whole database counts as failing.
const MAX_FAILING: usize = 8;

/// Looks all up together. If a row cannot be read, looks them up in halves, so that only that profile fails.
async fn look_up_each(
    connection: &mut PgConnection,
    asked: &[Asked],
) -> Result<HashMap<Asked, Answer>, StoreError> {
    let (mut answers, mut failed) = (HashMap::new(), 0);
    let mut parts = vec![asked];
    while let Some(part) = parts.pop() {
        match look_up(connection, part).await {
            Ok(found) => answers.extend(found.into_iter().map(|(asked, it)| (asked, Ok(Some(it))))),
            Err(error) if !error.may_be_one_row() => return Err(error),
            Err(error) => match part {
                [only] if failed < MAX_FAILING || answers.len() > failed => {
                    failed += 1;
                    answers.insert(only.clone(), Err(ReadError::Failed(Arc::new(error))));
                }
                [] | [_] => return Err(error),
                [..] => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            },
        }
    }
    Ok(answers)
}

async fn look_up(
    connection: &mut PgConnection,
    asked: &[Asked],
) -> Result<HashMap<Asked, Arc<Followed>>, StoreError> {
    let mut iccids: Vec<_> = asked.iter().map(|(iccid, _)| iccid.as_str().to_owned()).collect();
    // Already sorted.
    iccids.dedup();
    let profiles = profiles::find(connection, &iccids).await?;
    let profiles: HashMap<_, _> =
        profiles.into_iter().map(|stored| (stored.profile.iccid.clone(), stored)).collect();
    let behind: Vec<_> = asked
        .iter()
        .filter_map(|(iccid, after)| {
            let after = (*after)?;
            let moved = profiles.get(iccid).is_some_and(|stored| stored.profile.seq > after);
            moved.then_some((iccid, after))
        })
        .collect();
    let mut histories: HashMap<Asked, Vec<Transition>> = HashMap::new();
    if !behind.is_empty() {
        for (iccid, after, transition) in
            transitions::list_each(connection, &behind, HISTORY_AT_ONCE).await?
        {
            histories.entry((iccid, Some(after))).or_default().push(transition);
        }
    }
    let answers = asked.iter().filter_map(|asked| {
        let stored = profiles.get(&asked.0)?.clone();
        let transitions = histories.remove(asked).unwrap_or_default();
        Some((asked.clone(), Arc::new(Followed { stored, transitions })))
    });
    Ok(answers.collect())
}
