//! Reads of single profiles, coalesced: whatever asks while a query is in flight goes into the next one.
//!
//! Nothing is cached, so nothing can be stale: the query that answers a question always began after it was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use super::codec::StoreError;
use super::connector::{Connector, Session};
use super::pool::Held;
use super::profiles::{self, StoredProfile};
use super::transitions;
use crate::domain::{Iccid, Transition};

/// How many questions one query answers at most.
const MOST_AT_ONCE: usize = 256;

/// How many questions may wait; beyond it they are refused. As many followers as one process takes may ask at once.
const QUEUE: usize = 32_768;

/// How many transitions of one profile are read at once.
pub const HISTORY_AT_ONCE: i64 = 100;

/// How long one query may take, seen from here: a stalled server sends no time-out of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a profile could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// More questions wait than can be answered in time.
    #[error("too many reads are waiting")]
    Overloaded,
    /// The database did not answer in time.
    #[error("the database did not answer in time")]
    Stalled,
    /// The query failed.
    #[error("the query for profiles failed")]
    Failed(#[source] Arc<StoreError>),
}

/// A profile as it is now, with what happened to it lately.
#[derive(Debug)]
pub struct Followed {
    /// The profile.
    pub stored: StoredProfile,
    /// Its next transitions behind the `seq` that was asked for, oldest first, [`HISTORY_AT_ONCE`] at most.
    pub transitions: Vec<Transition>,
}

/// What is asked: a profile, and from behind which `seq` its history is wanted; `None` for no history.
type Asked = (Iccid, Option<i64>);

/// Followers of one profile ask the same, so they share one answer.
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
    /// Starts the task that asks the database. It ends when the last handle is dropped.
    pub fn start(connector: Connector) -> Self {
        let (questions, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(answer_all(connector, waiting));
        Self { questions }
    }

    /// Finds one profile as it is now.
    ///
    /// # Errors
    /// [`ReadError`]; trying again later may help.
    pub async fn find(&self, iccid: &Iccid) -> Result<Option<StoredProfile>, ReadError> {
        let found = self.ask((iccid.clone(), None)).await?;
        Ok(found.map(|followed| followed.stored.clone()))
    }

    /// Finds one profile as it is now, with its next transitions behind `after`.
    ///
    /// # Errors
    /// [`ReadError`]; trying again later may help.
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
    let mut questions = Vec::with_capacity(MOST_AT_ONCE);
    let mut held = None;
    while waiting.recv_many(&mut questions, MOST_AT_ONCE).await > 0 {
        let query = query(&connector, &mut held, &questions);
        let error = match tokio::time::timeout(PATIENCE, query).await {
            Ok(Ok(found)) => {
                for Question { asked, answer } in questions.drain(..) {
                    // Whoever asked may have gone.
                    drop(answer.send(Ok(found.get(&asked).cloned())));
                }
                continue;
            }
            Ok(Err(error)) => ReadError::Failed(Arc::new(error)),
            Err(_) => ReadError::Stalled,
        };
        for question in questions.drain(..) {
            drop(question.answer.send(Err(error.clone())));
        }
        held = None;
    }
}

async fn query(
    connector: &Connector,
    held: &mut Held,
    questions: &[Question],
) -> Result<HashMap<Asked, Arc<Followed>>, StoreError> {
    let mut asked: Vec<Asked> = questions.iter().map(|question| question.asked.clone()).collect();
    asked.sort_unstable();
    asked.dedup();
    let _busy = connector.busy(Session::Lookup);
    if let Some(connection) = held {
        match look_up(connection, &asked).await {
            Ok(found) => return Ok(found),
            // It may have died while it was idle; reading again is harmless.
            Err(_) => *held = None,
        }
    }
    let connection = held.insert(connector.connect(Session::Lookup).await?);
    look_up(connection, &asked).await
}

async fn look_up(
    connection: &mut PgConnection,
    asked: &[Asked],
) -> Result<HashMap<Asked, Arc<Followed>>, StoreError> {
    let mut iccids: Vec<_> = asked.iter().map(|(iccid, _)| iccid.as_str().to_owned()).collect();
    // Sorted already.
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
