//! Group commit: the jobs of all waiting callers are done in one transaction on one connection. While it commits, the next
//! ones gather.
//!
//! A group that fails by what one of its callers wants, or that would wait long for a lock, is taken back and its jobs are
//! done one by one, each in its own transaction: no caller's failure becomes another's. A caller gets its result only after
//! the commit, and gets it from the commit that took place.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::commit_slots::SlotGuard;
use super::connect::{FLUSH, GroupConnection, TIMEOUT, WAIT};
use super::error::{RetryDecision, TxError, no_response, retry_decision};
use super::jobs::{self, Job, JobResult, Targets};
use super::keys;
use super::transaction::{AttemptResult, WriteContext, Writer, is_connection_usable};
use crate::store::StoreError;

/// Maximum jobs in one transaction: enough to share the commit, few enough that the first does not wait for long.
const MAX_JOBS: usize = 256;

/// Maximum jobs that are done one by one beside the next group.
const MAX_SINGLES: usize = 8;

/// Size from which on a group takes no further job.
const MAX_BYTES: usize = 4 << 20;

/// Bytes written after which the tables are analysed for the first time; then after eight times as many each time.
const FIRST_ANALYSIS: u64 = 1 << 20;

/// Maximum queued jobs; further callers wait for space in the queue.
const QUEUE_CAPACITY: usize = 1024;

/// Skips tables that another process is analysing.
const ANALYSIS: &str = "ANALYZE (SKIP_LOCKED) candidates, identities, lookups, assignments, intents, idempotency_keys,
    operations, operation_items, operation_counts, audit";

/// A job with its caller, who may have stopped waiting.
struct QueuedJob {
    job: Arc<Job>,
    caller: oneshot::Sender<Result<JobResult, StoreError>>,
    since: Instant,
}

impl QueuedJob {
    fn answer(self, result: Result<JobResult, StoreError>) {
        drop(self.caller.send(result));
    }
}

/// The queue of the group commit. Its task ends, after the jobs that are queued, when this is dropped.
pub(super) struct GroupCommit(mpsc::Sender<QueuedJob>);

impl GroupCommit {
    pub(super) async fn start(writer: Arc<Writer>, options: PgConnectOptions) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE_CAPACITY);
        let lane = writer.lanes.acquire().await?;
        let connection = GroupConnection::new(options);
        let committer = Committer { writer, lane, connection, written: 0, next_analysis: FIRST_ANALYSIS };
        tokio::spawn(committer.serve(queue));
        Ok(Self(jobs))
    }

    /// Does the job; it is durable on `Ok`. A job that was handed over is done even if the caller stops waiting.
    pub(super) async fn run(&self, job: Job) -> Result<JobResult, StoreError> {
        let (caller, answered) = oneshot::channel();
        let ended = || StoreError::Unavailable("the store is closed".to_owned());
        let queued = QueuedJob { job: Arc::new(job), caller, since: Instant::now() };
        timeout(TIMEOUT, self.0.send(queued)).await.map_err(|_| busy())?.map_err(|_| ended())?;
        answered.await.map_err(|_| StoreError::InDoubt("a transaction was interrupted".to_owned()))?
    }
}

/// The task that commits.
struct Committer {
    writer: Arc<Writer>,
    /// The commit slot of all groups.
    lane: SlotGuard,
    connection: GroupConnection,
    /// Bytes written, roughly, and how many of them cause the next analysis.
    written: u64,
    next_analysis: u64,
}

/// Failure of a group.
enum GroupFailure {
    /// Every job failed with this error.
    Everyone(StoreError),
    /// Nothing was written, and half of the jobs may succeed.
    Halves,
    /// Nothing was written, and one by one the jobs may succeed.
    OneByOne,
    /// The database cannot be reached; nothing was written.
    Unreachable(StoreError),
}

impl Committer {
    async fn serve(mut self, mut queue: mpsc::Receiver<QueuedJob>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(first) = queue.recv().await else { return };
                waiting.push_back(first);
            }
            gather(&mut queue, &mut waiting).await;
            refuse_late(&mut waiting);
            let group = take_group(&mut waiting);
            // A panic costs its group, whose callers then learn that their outcome is in doubt, and no later one.
            match AssertUnwindSafe(self.commit(group)).catch_unwind().await {
                Ok(None) => {}
                Ok(Some(error)) => {
                    // What waits would only wait for the same time-out, one group after the other.
                    waiting.extend(std::iter::from_fn(|| queue.try_recv().ok()));
                    waiting.drain(..).for_each(|job| job.answer(Err(error.clone())));
                }
                Err(_) => tracing::error!("a group of transactions was interrupted"),
            }
        }
    }

    /// Commits a group and answers its callers. Returns the error if the database cannot be reached.
    async fn commit(&mut self, mut group: Vec<QueuedJob>) -> Option<StoreError> {
        if group.is_empty() {
            return None;
        }
        let jobs: Vec<Arc<Job>> = group.iter().map(|queued| Arc::clone(&queued.job)).collect();
        match self.run_with_retries(&jobs).await {
            Ok(results) => {
                group.into_iter().zip(results).for_each(|(job, result)| job.answer(Ok(result)));
                self.analyse_after(jobs.iter().map(|job| job.bytes() as u64).sum());
            }
            Err(GroupFailure::Everyone(error)) => group.into_iter().for_each(|job| job.answer(Err(error.clone()))),
            Err(GroupFailure::Halves) => {
                let rest = group.split_off(group.len() / 2);
                let first = Box::pin(self.commit(group)).await;
                return first.or(Box::pin(self.commit(rest)).await);
            }
            Err(GroupFailure::OneByOne) => group.into_iter().for_each(|job| self.run_alone(job)),
            Err(GroupFailure::Unreachable(error)) => {
                for job in group {
                    job.answer(Err(error.clone()));
                }
                return Some(error);
            }
        }
        None
    }

    /// Has the tables analysed when they have grown much: the server does so by itself only a minute later, and until then
    /// keeps to plans that it made while they were empty.
    fn analyse_after(&mut self, written: u64) {
        self.written = self.written.saturating_add(written);
        if self.written < self.next_analysis {
            return;
        }
        self.next_analysis = self.written.saturating_mul(8);
        let writer = Arc::clone(&self.writer);
        tokio::spawn(async move {
            let analysis = timeout(TIMEOUT, sqlx::raw_sql(ANALYSIS).execute(&writer.pool)).await;
            if let Err(error) = analysis.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                let error = StoreError::from(error);
                tracing::debug!(%error, "the tables were not analysed");
            }
        });
    }

    /// Does a job in its own transaction, beside the groups that follow.
    fn run_alone(&self, queued: QueuedJob) {
        let writer = Arc::clone(&self.writer);
        tokio::spawn(async move {
            let job: [Arc<Job>; 1] = [Arc::clone(&queued.job)];
            let done = writer.run(move |mut tx: WriteContext<'_>| {
                let job = job.clone();
                Box::pin(async move {
                    keys::lock(&mut tx, &jobs::advisory_locks(&job)).await?;
                    jobs::run(&mut tx, &job).await
                })
            });
            let only = |mut results: Vec<JobResult>| results.pop().unwrap_or(JobResult::Done);
            queued.answer(done.await.map(only));
        });
    }

    async fn run_with_retries(&mut self, jobs: &[Arc<Job>]) -> Result<Vec<JobResult>, GroupFailure> {
        let (begun, mut tried) = (Instant::now(), 0);
        loop {
            let connection = match self.connect().await {
                Ok(connection) => connection,
                Err(error) => return Err(GroupFailure::Unreachable(error)),
            };
            let failed = match self.attempt(connection, jobs).await {
                Ok(results) => return Ok(results),
                Err(AttemptResult::InDoubt(detail)) => {
                    return Err(GroupFailure::Everyone(StoreError::InDoubt(detail)));
                }
                Err(AttemptResult::Undone(failed)) => failed,
            };
            match failure(failed, jobs.len()) {
                Some(failure) => return Err(failure),
                None if begun.elapsed() >= TIMEOUT => return Err(GroupFailure::Unreachable(no_response())),
                None => {
                    tried += 1;
                    self.writer.back_off(tried).await;
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<PgConnection, StoreError> {
        let connecting = async {
            let mut tried = 0;
            loop {
                match self.connection.take().await {
                    Err(error) if retry_decision(&error) == RetryDecision::Elsewhere || has_code(&error, BUSY) => {
                        tried += 1;
                        self.writer.back_off(tried).await;
                    }
                    taken => return taken,
                }
            }
        };
        Ok(timeout(WAIT, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    async fn attempt(
        &mut self,
        mut connection: PgConnection,
        jobs: &[Arc<Job>],
    ) -> Result<Vec<JobResult>, AttemptResult> {
        let results = match timeout(TIMEOUT, self.run_until_commit(&mut connection, jobs)).await {
            Ok(Ok(results)) => results,
            Ok(Err(failed)) => {
                if is_connection_usable(&failed)
                    && matches!(timeout(FLUSH, connection.execute("ROLLBACK")).await, Ok(Ok(_)))
                {
                    self.connection.put_back(connection);
                }
                return Err(AttemptResult::Undone(failed));
            }
            Err(_) => return Err(AttemptResult::Undone(no_response().into())),
        };
        let failed = match timeout(TIMEOUT, connection.execute("COMMIT")).await {
            Ok(Ok(_)) => {
                self.connection.put_back(connection);
                return Ok(results);
            }
            Ok(Err(error)) => error.into(),
            Err(_) => no_response().into(),
        };
        drop(connection);
        self.writer.look_up_commit(&self.lane, results, failed).await
    }

    /// Runs the transaction up to its commit. Sends its beginning at once, in one round trip.
    async fn run_until_commit(
        &mut self,
        connection: &mut PgConnection,
        jobs: &[Arc<Job>],
    ) -> Result<Vec<JobResult>, TxError> {
        let (records, instance) = (&self.writer.records, self.writer.records.instance());
        let statements = self.lane.begin(instance, &jobs::advisory_locks(jobs))?;
        let begun = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *connection).await?;
        if begun.rows_affected() == 0 {
            return Err(StoreError::Fenced.into());
        }
        jobs::run(&mut WriteContext { connection, records, instance }, jobs).await
    }
}

/// Decides what follows from an attempt that wrote nothing; `None` if the group is to be tried again.
fn failure(failed: TxError, jobs: usize) -> Option<GroupFailure> {
    let in_parts = if jobs > MAX_SINGLES { GroupFailure::Halves } else { GroupFailure::OneByOne };
    let error = match failed {
        TxError::Store(error @ StoreError::Unavailable(_)) => return Some(GroupFailure::Unreachable(error)),
        // The job's own failure.
        TxError::Store(error) if jobs == 1 => return Some(GroupFailure::Everyone(error)),
        TxError::Store(error @ (StoreError::Fenced | StoreError::InDoubt(_))) => {
            return Some(GroupFailure::Everyone(error));
        }
        TxError::Store(_) => return Some(in_parts),
        TxError::Sql(error) => error,
    };
    match retry_decision(&error) {
        RetryDecision::Elsewhere => None,
        RetryDecision::Again => Some(GroupFailure::OneByOne),
        RetryDecision::GiveUp if has_code(&error, LOCKED) => Some(GroupFailure::OneByOne),
        RetryDecision::GiveUp if has_code(&error, FULL) => Some(GroupFailure::Everyone(error.into())),
        RetryDecision::GiveUp if jobs == 1 && error.as_database_error().is_none() => {
            Some(GroupFailure::Everyone(error.into()))
        }
        // One caller's values, or one damaged row.
        RetryDecision::GiveUp => Some(in_parts),
    }
}

/// SQLSTATEs of a server that takes no connection now: too many clients, starting up.
const BUSY: &[&str] = &["53300", "57P03"];
/// SQLSTATE of a lock that another transaction holds for longer than a group waits.
const LOCKED: &[&str] = &["55P03"];
/// SQLSTATEs of a full disk and of exhausted memory.
const FULL: &[&str] = &["53100", "53200"];

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

fn busy() -> StoreError {
    StoreError::Unavailable("too many concurrent transactions".to_owned())
}

/// Refuses the jobs that have waited for too long; nothing of them has begun.
fn refuse_late(waiting: &mut VecDeque<QueuedJob>) {
    while let Some(late) = waiting.pop_front_if(|first| first.since.elapsed() > TIMEOUT) {
        late.answer(Err(busy()));
    }
}

/// Lets other tasks run as long as that brings more jobs: woken by the first one, this task would otherwise commit each
/// alone while others are about to arrive. On an idle machine this costs one check of the queue.
async fn gather(queue: &mut mpsc::Receiver<QueuedJob>, waiting: &mut VecDeque<QueuedJob>) {
    let mut before = 0;
    while before < waiting.len() {
        before = waiting.len();
        tokio::task::yield_now().await;
        fill(queue, waiting);
    }
}

fn fill(queue: &mut mpsc::Receiver<QueuedJob>, waiting: &mut VecDeque<QueuedJob>) {
    while waiting.len() < MAX_JOBS
        && let Ok(job) = queue.try_recv()
    {
        waiting.push_back(job);
    }
}

/// Takes the jobs that do not depend on an earlier one, which may go in any order; the others wait for the next group.
fn take_group(waiting: &mut VecDeque<QueuedJob>) -> Vec<QueuedJob> {
    let jobs: Vec<Arc<Job>> = waiting.iter().map(|queued| Arc::clone(&queued.job)).collect();
    let (mut targets, mut bytes) = (Targets::default(), 0_usize);
    let is_taken: Vec<bool> = jobs
        .iter()
        .map(|job| {
            let is_taken = targets.add(job) && bytes < MAX_BYTES;
            if is_taken {
                bytes = bytes.saturating_add(job.bytes());
            }
            is_taken
        })
        .collect();
    let (mut group, mut left) = (Vec::new(), VecDeque::new());
    for (queued, is_taken) in waiting.drain(..).zip(is_taken) {
        if is_taken {
            group.push(queued);
        } else {
            left.push_back(queued);
        }
    }
    *waiting = left;
    group
}
