//! How a transaction runs: in a lane of its own, again where the server took it back or went away, and never with an
//! answer that is not known to be true.
//!
//! A COMMIT whose answer is lost may have been done. The lane tells: its receipt was written in the same transaction, and
//! as long as the server is still at it, it holds the row. So a lost answer is looked up over another connection, and
//! only a server that stays away for longer leaves a caller with an error after which the write may have happened. Such a
//! transaction holds all its row locks until it is decided; nothing written later can be overtaken by it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::Instant;

use super::connect::TIMEOUT;
use super::error::{RetryDecision, TxError, advice, silent};
use crate::store::StoreError;
use crate::store::codec::RecordCodec;
use crate::store::postgres::commit_slots::{CommitSlots, SlotGuard};

/// Most attempts after which a transaction that keeps running into others is given up.
const ATTEMPTS: u32 = 10;

/// The pause before the second attempt; the next are longer, and each is drawn anew, so that two do not meet for ever.
const PAUSE: Duration = Duration::from_millis(2);
const MAX_BACKOFF: Duration = Duration::from_millis(250);

/// What every change needs to be written.
pub(super) struct WriteContext<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) records: &'a RecordCodec,
    pub(super) instance: &'a str,
}

/// Work inside a transaction. It must pass on every error of a statement: after one the server takes everything back, and
/// says so to nobody at COMMIT.
pub(super) type Working<'a, T> = BoxFuture<'a, Result<T, TxError>>;

/// Where transactions run.
pub(super) struct Writer {
    pub(super) pool: PgPool,
    pub(super) records: Arc<RecordCodec>,
    lanes: CommitSlots,
}

/// Where an attempt failed.
enum FailurePoint<T> {
    /// Before its COMMIT was sent.
    Work(TxError),
    /// At its COMMIT, or in its answer.
    Commit(T, TxError),
}

/// How one attempt ended without success.
enum AttemptResult {
    /// It was not committed.
    Undone(TxError),
    /// Nobody knows whether it was.
    InDoubt(String),
}

impl Writer {
    pub(super) fn new(pool: PgPool, records: Arc<RecordCodec>) -> Self {
        Self { pool, records, lanes: CommitSlots::new() }
    }

    /// Runs the work as a whole or, if it fails, not at all. `Ok` has survived.
    ///
    /// Once begun it comes to its end even if nobody waits for it any more.
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Send + Sync + 'static,
    {
        let writer = Arc::clone(self);
        let running = tokio::spawn(async move { writer.run_here(&work).await });
        running.await.map_err(|_| StoreError::InDoubt("a transaction was broken off".to_owned()))?
    }

    async fn run_here<T, W>(&self, work: &W) -> Result<T, StoreError>
    where
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Sync,
    {
        let mut lane = self.lanes.lend().await?;
        let begun = Instant::now();
        for attempt in 1.. {
            let failed = match self.attempt(&mut lane, work).await {
                Ok(done) => return Ok(done),
                Err(AttemptResult::InDoubt(detail)) => return Err(StoreError::InDoubt(detail)),
                Err(AttemptResult::Undone(failed)) => failed,
            };
            let TxError::Sql(error) = &failed else { return Err(failed.into()) };
            let more = match advice(error) {
                RetryDecision::Again => attempt < ATTEMPTS,
                RetryDecision::Elsewhere => true,
                RetryDecision::GiveUp => false,
            };
            if !more || begun.elapsed() >= TIMEOUT {
                return Err(failed.into());
            }
            self.pause(attempt).await;
        }
        Err(silent())
    }

    async fn attempt<T, W>(&self, lane: &mut SlotGuard, work: &W) -> Result<T, AttemptResult>
    where
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Sync,
    {
        let mut connection = self.pool.acquire().await.map_err(|error| AttemptResult::Undone(error.into()))?;
        let lost = match tokio::time::timeout(TIMEOUT, self.worked(&mut connection, lane, work)).await {
            Ok(Ok((transaction, done))) => match tokio::time::timeout(TIMEOUT, transaction.commit()).await {
                Ok(Ok(())) => return Ok(done),
                Ok(Err(error)) => FailurePoint::Commit(done, error.into()),
                Err(_) => FailurePoint::Commit(done, silent().into()),
            },
            Ok(Err(failed)) => FailurePoint::Work(failed),
            Err(_) => FailurePoint::Work(silent().into()),
        };
        match lost {
            FailurePoint::Work(failed) => {
                if !clean(&failed) {
                    connection.close_on_drop();
                }
                Err(AttemptResult::Undone(failed))
            }
            FailurePoint::Commit(done, failed) => {
                connection.close_on_drop();
                drop(connection);
                self.looked_up(lane, done, failed).await
            }
        }
    }

    /// The transaction up to its commit. One that failed is taken back here, so that it holds no lock any more.
    async fn worked<'c, T, W>(
        &self,
        connection: &'c mut PgConnection,
        lane: &mut SlotGuard,
        work: &W,
    ) -> Result<(Transaction<'c, Postgres>, T), TxError>
    where
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Sync,
    {
        let instance = self.records.instance();
        let mut transaction = connection.begin().await?;
        let worked = match lane.enter(&mut transaction, instance).await {
            Ok(()) => work(WriteContext { connection: &mut transaction, records: &self.records, instance }).await,
            Err(failed) => Err(failed),
        };
        match worked {
            Ok(done) => Ok((transaction, done)),
            Err(failed) => {
                if clean(&failed) {
                    transaction.rollback().await?;
                }
                Err(failed)
            }
        }
    }

    /// Whether a transaction whose commit was not answered was committed after all.
    async fn looked_up<T>(&self, lane: &SlotGuard, done: T, failed: TxError) -> Result<T, AttemptResult> {
        let looking = async {
            for attempt in 1.. {
                match lane.committed(&self.pool, self.records.instance()).await {
                    Err(TxError::Sql(_)) => self.pause(attempt).await,
                    looked => return looked,
                }
            }
            Err(silent().into())
        };
        match tokio::time::timeout(TIMEOUT, looking).await {
            Ok(Ok(true)) => Ok(done),
            Ok(Ok(false)) => Err(AttemptResult::Undone(failed)),
            Ok(Err(error)) => Err(AttemptResult::InDoubt(StoreError::from(error).to_string())),
            Err(_) => Err(AttemptResult::InDoubt(StoreError::from(failed).to_string())),
        }
    }

    pub(super) async fn pause(&self, attempt: u32) {
        let most = PAUSE.saturating_mul(1 << attempt.min(10)).min(MAX_BACKOFF);
        tokio::time::sleep(most.mul_f64(self.records.chance())).await;
    }
}

/// Whether the connection is in order after this: the server has answered, and goes on answering.
fn clean(failed: &TxError) -> bool {
    match failed {
        TxError::Store(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => false,
        TxError::Store(_) => true,
        TxError::Sql(error) => matches!(error, sqlx::Error::Database(_)) && advice(error) != RetryDecision::Elsewhere,
    }
}
