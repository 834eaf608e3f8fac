//! Reads of single profiles, coalesced: whatever asks while a query is in flight goes into the next one.
//!
//! Nothing is cached, so nothing can be stale: the query that answers a question always began after it was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};

use super::codec::StoreError;
use super::profiles::{self, StoredProfile};
use crate::domain::Iccid;

/// How many profiles one query looks up at most.
const MOST_AT_ONCE: usize = 256;

/// How many questions may wait; beyond it they are refused.
const QUEUE: usize = 8_192;

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

type Answer = Result<Option<StoredProfile>, ReadError>;

struct Question {
    iccid: Iccid,
    answer: oneshot::Sender<Answer>,
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct ProfileReader {
    questions: mpsc::Sender<Question>,
}

impl ProfileReader {
    /// Starts the task that asks the database. It ends when the last handle is dropped.
    pub fn start(pool: PgPool) -> Self {
        let (questions, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(answer_all(pool, waiting));
        Self { questions }
    }

    /// Finds one profile as it is now.
    ///
    /// # Errors
    /// [`ReadError`]; trying again later may help.
    pub async fn find(&self, iccid: &Iccid) -> Answer {
        let (answer, answered) = oneshot::channel();
        let question = Question { iccid: iccid.clone(), answer };
        self.questions.try_send(question).map_err(|_| ReadError::Overloaded)?;
        answered.await.unwrap_or(Err(ReadError::Stalled))
    }
}

async fn answer_all(pool: PgPool, mut waiting: mpsc::Receiver<Question>) {
    let mut questions = Vec::with_capacity(MOST_AT_ONCE);
    let mut connection = None;
    while waiting.recv_many(&mut questions, MOST_AT_ONCE).await > 0 {
        let query = query(&pool, &mut connection, &questions);
        let found = tokio::time::timeout(PATIENCE, query).await;
        match found {
            Ok(Ok(found)) => {
                for Question { iccid, answer } in questions.drain(..) {
                    // Whoever asked may have gone.
                    drop(answer.send(Ok(found.get(&iccid).cloned())));
                }
                continue;
            }
            Ok(Err(error)) => refuse(&mut questions, &ReadError::Failed(Arc::new(error))),
            Err(_) => refuse(&mut questions, &ReadError::Stalled),
        }
        discard(&mut connection);
    }
}

fn refuse(questions: &mut Vec<Question>, error: &ReadError) {
    for question in questions.drain(..) {
        drop(question.answer.send(Err(error.clone())));
    }
}

/// Closes the connection without a word to a server that may not be listening any more.
fn discard(connection: &mut Option<PoolConnection<Postgres>>) {
    if let Some(connection) = connection.take() {
        drop(connection.detach());
    }
}

async fn query(
    pool: &PgPool,
    held: &mut Option<PoolConnection<Postgres>>,
    questions: &[Question],
) -> Result<HashMap<Iccid, StoredProfile>, StoreError> {
    let mut iccids: Vec<_> = questions.iter().map(|q| q.iccid.as_str().to_owned()).collect();
    iccids.sort_unstable();
    iccids.dedup();
    if let Some(connection) = held {
        match profiles::find(connection, &iccids).await {
            Ok(found) => return Ok(by_iccid(found)),
            // It may have died while it was idle; reading again is harmless.
            Err(_) => discard(held),
        }
    }
    let connection = held.insert(pool.acquire().await?);
    profiles::find(connection, &iccids).await.map(by_iccid)
}

fn by_iccid(found: Vec<StoredProfile>) -> HashMap<Iccid, StoredProfile> {
    found.into_iter().map(|stored| (stored.profile.iccid.clone(), stored)).collect()
}
