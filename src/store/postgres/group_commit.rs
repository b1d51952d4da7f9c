//! Group commit: the jobs of all waiting callers are done in one transaction on one connection. While it commits, the next
//! ones gather.
//!
//! A group that fails by what one of its callers wants, or that would wait long for a lock, is taken back and its jobs are
//! done one by one, each in its own transaction: no caller's failure becomes another's. A caller gets its result only after
//! the commit, and gets it from the commit that took place.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::commit_slots::SlotGuard;
use super::connect::{FLUSH, GroupConnection, TIMEOUT, WAIT};
use super::error::{RetryDecision, TxError, no_response, retry_decision};
use super::instances::UncertainLocksGuard;
use super::job_queue::{JobQueue, QueuedJob, busy};
use super::jobs::{self, Job, JobResult};
use super::keys;
use super::transaction::{
    AttemptResult, TransactionFailure, UndecidedCommit, WriteContext, Writer, is_connection_usable,
};
use crate::store::StoreError;

/// Maximum jobs that are done one by one beside the next group.
const MAX_SINGLES: usize = 8;

/// Bytes written after which the tables are analysed for the first time; then after eight times as many each time.
const FIRST_ANALYSIS: u64 = 1 << 20;

/// Skips tables that another process is analysing.
const ANALYSIS: &str = "ANALYZE (SKIP_LOCKED) candidates, identities, lookups, assignments, intents, idempotency_keys,
    operations, operation_items, operation_counts, audit, series, reports, report_hints, report_counts, results,
    result_versions, events, deliveries";

/// The queue of the group commit. Its task ends, after the jobs that are queued, when this is dropped.
pub(super) struct GroupCommit(mpsc::Sender<QueuedJob>);

impl GroupCommit {
    /// Starts the task that commits. `loose` gets the locks that were acquired without the knowledge of their callers.
    pub(super) fn start(writer: Arc<Writer>, options: PgConnectOptions, loose: Arc<UncertainLocksGuard>) -> Self {
        let (jobs, queue) = JobQueue::new();
        let committer = Committer {
            writer,
            queue,
            loose,
            alone: JoinSet::new(),
            lane: None,
            connection: GroupConnection::new(options),
            written: 0,
            next_analysis: FIRST_ANALYSIS,
        };
        tokio::spawn(committer.serve());
        Self(jobs)
    }

    /// Does the job; it is durable on `Ok`. A job that was handed over is done even if the caller stops waiting.
    pub(super) async fn run(&self, job: Job) -> Result<JobResult, StoreError> {
        let (queued, answer) = QueuedJob::new(job);
        let ended = || StoreError::Unavailable("the store is closed".to_owned());
        timeout(TIMEOUT, self.0.send(queued)).await.map_err(|_| busy())?.map_err(|_| ended())?;
        answer.await.map_err(|_| StoreError::InDoubt("a transaction was interrupted".to_owned()))?
    }
}

/// The task that commits.
struct Committer {
    writer: Arc<Writer>,
    queue: JobQueue,
    loose: Arc<UncertainLocksGuard>,
    /// The jobs that run alone; each returns how long its work took.
    alone: JoinSet<Duration>,
    /// The commit slot of the groups; another one after a commit in doubt.
    lane: Option<SlotGuard>,
    connection: GroupConnection,
    /// Bytes written, roughly, and how many of them cause the next analysis.
    written: u64,
    next_analysis: u64,
}

/// Failure of a group.
enum GroupFailure {
    /// Every job failed with this error.
    Everyone(StoreError),
    InDoubt(UndecidedCommit),
    /// Nothing was written, and half of the jobs may succeed.
    Halves,
    /// Nothing was written, and one by one the jobs may succeed.
    OneByOne,
    /// The database cannot be reached; nothing was written.
    Unreachable(StoreError),
}

impl Committer {
    async fn serve(mut self) {
        loop {
            while let Some(ended) = self.alone.try_join_next_with_id() {
                self.record_end(ended);
            }
            self.queue.gather().await;
            self.queue.refuse_late();
            let chosen = self.queue.choose();
            chosen.alone.into_iter().for_each(|job| self.run_alone(job));
            if chosen.group.is_empty() {
                if !self.wait().await {
                    return;
                }
                continue;
            }
            let jobs: Vec<Arc<Job>> = chosen.group.iter().map(|queued| Arc::clone(&queued.job)).collect();
            // A panic costs its group, whose callers then learn that their outcome is in doubt, and no later one.
            match AssertUnwindSafe(self.commit(chosen.group)).catch_unwind().await {
                Ok(None) => {}
                // What waits would only wait for the same time-out, one group after the other.
                Ok(Some(error)) => self.queue.refuse_all(&error),
                Err(_) => {
                    tracing::error!("a group of transactions was interrupted");
                    self.loose.add(jobs.iter().filter_map(|job| job.uncertain_locks()));
                }
            }
        }
    }

    /// Waits for a job to arrive, for one that runs alone to end, or for one that waits to be late. Returns `false` once the
    /// queue is closed and all jobs are done.
    async fn wait(&mut self) -> bool {
        if self.queue.is_closed() && self.queue.is_empty() && self.alone.is_empty() {
            return false;
        }
        let deadline = self.queue.deadline();
        tokio::select! {
            () = self.queue.arrival(), if !self.queue.is_closed() && !self.queue.is_full() => {}
            Some(ended) = self.alone.join_next_with_id() => self.record_end(ended),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            else => {}
        }
        true
    }

    fn record_end(&mut self, ended: Result<(Id, Duration), JoinError>) {
        match ended {
            Ok((task, worked)) => drop(self.queue.record_end(task, worked)),
            Err(error) => {
                tracing::error!("a transaction was interrupted");
                let job = self.queue.record_end(error.id(), Duration::ZERO);
                self.loose.add(job.and_then(|job| job.uncertain_locks()));
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
                if jobs.iter().any(|job| job.has_events()) {
                    self.writer.events.send_unnumbered();
                }
                group.into_iter().zip(results).for_each(|(job, result)| job.answer(Ok(result)));
                self.analyse_after(jobs.iter().map(|job| job.bytes() as u64).sum());
            }
            Err(GroupFailure::Everyone(error)) => group.into_iter().for_each(|job| job.answer(Err(error.clone()))),
            Err(GroupFailure::InDoubt(commit)) => {
                drop(answer_undecided(&self.writer, &self.loose, commit, group));
            }
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
    fn run_alone(&mut self, queued: QueuedJob) {
        let (writer, loose, running) = (Arc::clone(&self.writer), Arc::clone(&self.loose), queued.running());
        let task = self.alone.spawn(async move {
            // Since the first attempt began its work; until then it waited for a slot, not for a lock.
            let entered = Arc::<OnceLock<Instant>>::default();
            let job: [Arc<Job>; 1] = [Arc::clone(&queued.job)];
            let done = writer
                .run_to_commit(&|mut tx: WriteContext<'_>| {
                    let (job, entered) = (job.clone(), Arc::clone(&entered));
                    Box::pin(async move {
                        let now = Instant::now();
                        entered.get_or_init(|| now);
                        keys::lock(&mut tx, &jobs::advisory_locks(&job)).await?;
                        Ok((jobs::run(&mut tx, &job).await?, now.elapsed()))
                    })
                })
                .await;
            match done {
                Ok((mut results, worked)) => {
                    if queued.job.has_events() {
                        writer.events.send_unnumbered();
                    }
                    queued.answer(Ok(results.pop().unwrap_or(JobResult::Done)));
                    return worked;
                }
                Err(TransactionFailure::Failed(error)) => queued.answer(Err(error)),
                Err(TransactionFailure::InDoubt(commit)) => {
                    drop(answer_undecided(&writer, &loose, commit, vec![queued]));
                }
            }
            entered.get().map_or(Duration::ZERO, Instant::elapsed)
        });
        self.queue.record_start(task.id(), running);
    }

    async fn run_with_retries(&mut self, jobs: &[Arc<Job>]) -> Result<Vec<JobResult>, GroupFailure> {
        let (begun, mut tried) = (Instant::now(), 0);
        loop {
            let connection = self.connect().await.map_err(GroupFailure::Unreachable)?;
            let mut lane = match self.lane.take() {
                Some(lane) => lane,
                None => self.writer.lanes.acquire().await.map_err(GroupFailure::Unreachable)?,
            };
            let attempted = self.attempt(connection, &mut lane, jobs).await;
            let failed = match attempted {
                Err(AttemptResult::InDoubt(detail)) => {
                    return Err(GroupFailure::InDoubt(self.writer.undecided_commit(lane, detail)));
                }
                Ok(results) => {
                    self.lane = Some(lane);
                    return Ok(results);
                }
                Err(AttemptResult::Undone(failed)) => failed,
            };
            self.lane = Some(lane);
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
        lane: &mut SlotGuard,
        jobs: &[Arc<Job>],
    ) -> Result<Vec<JobResult>, AttemptResult> {
        let working = timeout(TIMEOUT, self.run_until_commit(&mut connection, lane, jobs)).await;
        let results = match working.unwrap_or_else(|_| Err(no_response().into())) {
            Ok(results) => results,
            Err(failed) => {
                if is_connection_usable(&failed)
                    && matches!(timeout(FLUSH, connection.execute("ROLLBACK")).await, Ok(Ok(_)))
                {
                    self.connection.put_back(connection);
                } else {
                    // The server may still be working on the transaction.
                    lane.exchange();
                }
                return Err(AttemptResult::Undone(failed));
            }
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
        self.writer.look_up_commit(lane, results, failed).await
    }

    /// Runs the transaction up to its commit. Sends its beginning at once, in one round trip.
    async fn run_until_commit(
        &self,
        connection: &mut PgConnection,
        lane: &mut SlotGuard,
        jobs: &[Arc<Job>],
    ) -> Result<Vec<JobResult>, TxError> {
        let (records, instance) = (&self.writer.records, self.writer.records.instance());
        let statements = lane.begin(instance, &jobs::advisory_locks(jobs))?;
        let begun = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *connection).await?;
        if begun.rows_affected() == 0 {
            return Err(StoreError::Fenced.into());
        }
        jobs::run(&mut WriteContext { connection, records, instance }, jobs).await
    }
}

/// Answers the callers of jobs whose commit is in doubt: those that append audit entries once it is decided, the others with
/// an error now. What these may have acquired is released if it was committed: not earlier, because a release that the
/// commit overtakes finds nothing.
pub(super) fn answer_undecided(
    writer: &Arc<Writer>,
    loose: &Arc<UncertainLocksGuard>,
    commit: UndecidedCommit,
    jobs: Vec<QueuedJob>,
) -> JoinHandle<()> {
    let (writer, loose, error) = (Arc::clone(writer), Arc::clone(loose), commit.error());
    let (patient, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|queued| queued.job.is_patient());
    let has_events = patient.iter().chain(&others).any(|queued| queued.job.has_events());
    let acquired: Vec<_> = others.iter().filter_map(|queued| queued.job.uncertain_locks()).collect();
    for job in others {
        job.answer(Err(error.clone()));
    }
    tokio::spawn(async move {
        let decided = writer.decide(commit).await;
        if matches!(decided, Ok(true)) {
            loose.add(acquired);
            if has_events {
                writer.events.send_unnumbered();
            }
        }
        for job in patient {
            job.answer(match &decided {
                Ok(true) => Ok(JobResult::Done),
                Ok(false) => Err(StoreError::Unavailable("a transaction was not committed".to_owned())),
                Err(_) => Err(error.clone()),
            });
        }
    })
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
