//! Runs transactions, each in its own commit slot: retries one that the server rolled back or whose connection was
//! lost, and never reports a result that is not known to be true.
//!
//! If the response to a COMMIT is lost, the commit may have succeeded. The receipt of the commit slot decides: the same
//! transaction wrote it, and while the server still works on that transaction, it holds the row lock. The result is
//! therefore looked up over another connection; only a server that stays away longer leaves the caller with an error
//! after which the write may have happened. Such a transaction holds all its row locks until it is decided, so no later
//! write can overtake it; its commit slot is not used until then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::Instant;

use super::connect::TIMEOUT;
use super::error::{RetryDecision, TxError, no_response, retry_decision};
use crate::store::StoreError;
use crate::store::codec::RecordCodec;
use crate::store::events::EventSignals;
use crate::store::postgres::commit_slots::{CommitSlots, SlotGuard};
use crate::store::postgres::statements;
use crate::store::sql::Statement;

/// Maximum attempts of a transaction that keeps conflicting with others.
const MAX_ATTEMPTS: u32 = 10;

/// Back-off before the second attempt; it grows with each attempt and is random, so that two transactions do not
/// collide again and again.
const INITIAL_BACKOFF: Duration = Duration::from_millis(2);
const MAX_BACKOFF: Duration = Duration::from_millis(250);

/// Context that every mutation needs.
pub(super) struct WriteContext<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) records: &'a RecordCodec,
    pub(super) instance: &'a str,
}

impl WriteContext<'_> {
    pub(super) async fn run(&mut self, statement: &Statement) -> Result<(), TxError> {
        statements::execute(&mut *self.connection, statement.sql, &statement.values).await.map(|_| ())
    }
}

/// Work inside a transaction. It must propagate every statement error: the server then rolls the transaction back
/// without reporting it at COMMIT.
pub(super) type Working<'a, T> = BoxFuture<'a, Result<T, TxError>>;

/// Builds the work of a transaction: each attempt gets its own `Arc` of the captured values, so that nothing is
/// borrowed.
macro_rules! work {
    (|$tx:ident $(, $shared:ident)*| $body:expr) => {{
        $(let $shared = std::sync::Arc::new($shared);)*
        move |mut $tx: super::WriteContext<'_>| {
            $(let $shared = std::sync::Arc::clone(&$shared);)*
            Box::pin(async move {
                let $tx = &mut $tx;
                $body.await
            })
        }
    }};
}
pub(super) use work;

/// The runner of transactions.
pub(super) struct Writer {
    pub(super) pool: PgPool,
    pub(super) records: Arc<RecordCodec>,
    pub(super) lanes: CommitSlots,
    pub(super) events: EventSignals,
    /// Every undecided commit holds a clone.
    undecided: Arc<()>,
}

/// The point at which an attempt failed.
enum FailurePoint<T> {
    /// Before its COMMIT was sent.
    Work(TxError),
    /// At its COMMIT, or while waiting for the response.
    Commit(T, TxError),
}

/// A transaction of which it is not known whether it was committed, with its commit slot, whose receipt tells.
pub(super) struct UndecidedCommit {
    pub(super) lane: SlotGuard,
    detail: String,
    /// Counts it among those of its writer.
    _counted: Arc<()>,
}

impl UndecidedCommit {
    pub(super) fn error(&self) -> StoreError {
        StoreError::InDoubt(self.detail.clone())
    }
}

/// Failure of a transaction after all its attempts.
pub(super) enum TransactionFailure {
    /// It was not committed.
    Failed(StoreError),
    InDoubt(UndecidedCommit),
}

impl From<StoreError> for TransactionFailure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Failure of one attempt.
pub(super) enum AttemptResult {
    /// It was not committed.
    Undone(TxError),
    /// It is unknown whether it was committed.
    InDoubt(String),
}

impl Writer {
    pub(super) fn new(pool: PgPool, records: Arc<RecordCodec>) -> Self {
        Self { pool, records, lanes: CommitSlots::new(), events: EventSignals::default(), undecided: Arc::new(()) }
    }

    /// Returns the commit of this slot's last transaction as undecided.
    pub(super) fn undecided_commit(&self, lane: SlotGuard, detail: String) -> UndecidedCommit {
        UndecidedCommit { lane, detail, _counted: Arc::clone(&self.undecided) }
    }

    /// Returns whether a commit is undecided.
    pub(super) fn has_undecided_commits(&self) -> bool {
        Arc::strong_count(&self.undecided) > 1
    }

    /// Runs the work atomically; it is durable on `Ok`.
    ///
    /// Work that has begun runs to its end even if the caller stops waiting.
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Send + Sync + 'static,
    {
        let writer = Arc::clone(self);
        let running = tokio::spawn(async move {
            match writer.run_to_commit(&work).await {
                Ok(done) => Ok(done),
                Err(TransactionFailure::Failed(error)) => Err(error),
                Err(TransactionFailure::InDoubt(commit)) => {
                    let error = commit.error();
                    tokio::spawn(async move { writer.decide(commit).await });
                    Err(error)
                }
            }
        });
        running.await.map_err(|_| StoreError::InDoubt("a transaction was interrupted".to_owned()))?
    }

    /// Like [`Self::run`] in the task of the caller, to whom it hands over a commit in doubt to be
    /// [decided](Self::decide).
    pub(super) async fn run_to_commit<T, W>(&self, work: &W) -> Result<T, TransactionFailure>
    where
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Sync,
    {
        let mut lane = self.lanes.acquire().await?;
        let begun = Instant::now();
        for attempt in 1.. {
            let failed = match self.attempt(&mut lane, work).await {
                Ok(done) => return Ok(done),
                Err(AttemptResult::InDoubt(detail)) => {
                    return Err(TransactionFailure::InDoubt(self.undecided_commit(lane, detail)));
                }
                Err(AttemptResult::Undone(failed)) => failed,
            };
            let TxError::Sql(error) = &failed else { return Err(StoreError::from(failed).into()) };
            let more = match retry_decision(error) {
                RetryDecision::Again => attempt < MAX_ATTEMPTS,
                RetryDecision::Elsewhere => true,
                RetryDecision::GiveUp => false,
            };
            if !more || begun.elapsed() >= TIMEOUT {
                return Err(StoreError::from(failed).into());
            }
            if !is_connection_usable(&failed) {
                lane.exchange();
            }
            self.back_off(attempt).await;
        }
        Err(no_response().into())
    }

    async fn attempt<T, W>(&self, lane: &mut SlotGuard, work: &W) -> Result<T, AttemptResult>
    where
        W: for<'a> Fn(WriteContext<'a>) -> Working<'a, T> + Sync,
    {
        let mut connection = self.pool.acquire().await.map_err(|error| AttemptResult::Undone(error.into()))?;
        let lost = match tokio::time::timeout(TIMEOUT, self.run_until_commit(&mut connection, lane, work)).await {
            Ok(Ok((transaction, done))) => match tokio::time::timeout(TIMEOUT, transaction.commit()).await {
                Ok(Ok(())) => return Ok(done),
                Ok(Err(error)) => FailurePoint::Commit(done, error.into()),
                Err(_) => FailurePoint::Commit(done, no_response().into()),
            },
            Ok(Err(failed)) => FailurePoint::Work(failed),
            Err(_) => FailurePoint::Work(no_response().into()),
        };
        match lost {
            FailurePoint::Work(failed) => {
                if !is_connection_usable(&failed) {
                    connection.close_on_drop();
                }
                Err(AttemptResult::Undone(failed))
            }
            FailurePoint::Commit(done, failed) => {
                connection.close_on_drop();
                drop(connection);
                self.look_up_commit(lane, done, failed).await
            }
        }
    }

    /// Runs the transaction up to its commit. Rolls a failed one back here, so that it holds no lock any more.
    async fn run_until_commit<'c, T, W>(
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
                if is_connection_usable(&failed) {
                    transaction.rollback().await?;
                }
                Err(failed)
            }
        }
    }

    /// Finds out whether a transaction was committed whose COMMIT got no response.
    pub(super) async fn look_up_commit<T>(
        &self,
        lane: &SlotGuard,
        done: T,
        failed: TxError,
    ) -> Result<T, AttemptResult> {
        match tokio::time::timeout(TIMEOUT, self.ask_receipt(lane)).await {
            Ok(Ok(true)) => Ok(done),
            Ok(Ok(false)) => Err(AttemptResult::Undone(failed)),
            Ok(Err(error)) => Err(AttemptResult::InDoubt(error.to_string())),
            Err(_) => Err(AttemptResult::InDoubt(StoreError::from(failed).to_string())),
        }
    }

    /// Finds out whether a transaction in doubt was committed, however long that takes; it has ended then, and its commit
    /// slot is free.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if that cannot be found out any more: the slots of an ended instance are deleted in the end.
    pub(super) async fn decide(&self, commit: UndecidedCommit) -> Result<bool, StoreError> {
        loop {
            // A connection that is lost silently never responds.
            if let Ok(asked) = tokio::time::timeout(TIMEOUT, self.ask_receipt(&commit.lane)).await {
                return asked;
            }
        }
    }

    /// Asks whether the last transaction of the slot was committed until the server answers.
    async fn ask_receipt(&self, lane: &SlotGuard) -> Result<bool, StoreError> {
        let mut attempt = 0;
        loop {
            match lane.committed(&self.pool, self.records.instance()).await {
                Ok(committed) => return Ok(committed),
                Err(TxError::Store(error)) => return Err(error),
                Err(TxError::Sql(_)) => {
                    attempt += 1;
                    self.back_off(attempt).await;
                }
            }
        }
    }

    pub(super) async fn back_off(&self, attempt: u32) {
        let most = INITIAL_BACKOFF.saturating_mul(1 << attempt.min(10)).min(MAX_BACKOFF);
        tokio::time::sleep(most.mul_f64(self.records.random_fraction())).await;
    }
}

/// Returns whether the connection is usable after this error: the server has responded and keeps responding.
pub(super) fn is_connection_usable(failed: &TxError) -> bool {
    match failed {
        TxError::Store(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => false,
        TxError::Store(_) => true,
        TxError::Sql(error) => {
            matches!(error, sqlx::Error::Database(_)) && retry_decision(error) != RetryDecision::Elsewhere
        }
    }
}
