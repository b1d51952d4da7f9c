//! The writer thread, with group commit: waiting jobs are committed together, so that many callers share one fsync. A
//! job gets its result only after its commit.

use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::sqlite::session::Session;

/// Maximum jobs in one commit: enough to share the fsync, few enough that the first does not wait for long.
const MAX_BATCH: usize = 256;

/// Maximum queued jobs; further callers wait for space in the queue.
const QUEUE_CAPACITY: usize = 1024;

/// The work of one caller.
trait Job: Send {
    /// Runs inside the transaction and returns whether to keep the changes. May run again after a rollback.
    fn run(&mut self, session: &Session) -> bool;

    /// Reports the result to the caller, or the error if the transaction failed.
    fn answer(self: Box<Self>, lost: Option<&StoreError>);
}

struct WriteJob<T, F> {
    work: F,
    /// Result of the last run.
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnMut(&Session) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, session: &Session) -> bool {
        self.result.insert((self.work)(session)).is_ok()
    }

    fn answer(self: Box<Self>, lost: Option<&StoreError>) {
        // If the transaction failed, ignore the result of the job: it may depend on rolled-back changes.
        let Self { work: _, result, caller } = *self;
        let result = lost.map_or_else(|| result.unwrap_or_else(|| Err(ended())), |lost| Err(lost.clone()));
        // The caller may have stopped waiting.
        drop(caller.send(result));
    }
}

/// Handle of the thread; dropping it commits the pending jobs and ends the thread.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(session: Session) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let thread = Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || serve(&session, waiting))
            .map_err(|error| StoreError::Unavailable(format!("cannot start the writer thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs the work atomically; it is durable on `Ok`.
    ///
    /// Work that was handed over is completed even if the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Box::new(WriteJob { work, result: None, caller })).await.map_err(|_| ended())?;
        // The thread ended during the job.
        answered.await.map_err(|_| StoreError::InDoubt("the writer thread has ended".to_owned()))?
    }

    /// Returns whether the thread still accepts writes.
    pub(super) fn is_alive(&self) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| !jobs.is_closed())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already reported it; nothing is left to save.
            drop(thread.join());
        }
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the writer thread has ended".to_owned())
}

fn serve(session: &Session, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        fill_batch(&mut waiting, &mut batch);
        let lost = commit_batch(session, &mut batch).err();
        for job in batch.drain(..) {
            job.answer(lost.as_ref());
        }
    }
}

/// Yields the core to other threads as long as that brings more jobs: woken by the first job, this thread would
/// otherwise commit each job alone while others are about to arrive. On an idle core this costs one check of the queue.
fn fill_batch(waiting: &mut mpsc::Receiver<Box<dyn Job>>, batch: &mut Vec<Box<dyn Job>>) {
    let mut before = 0;
    while before < batch.len() {
        before = batch.len();
        std::thread::yield_now();
        while batch.len() < MAX_BATCH
            && let Ok(job) = waiting.try_recv()
        {
            batch.push(job);
        }
    }
}

/// Commits all jobs in one transaction. The error gives the reason why none was kept, or why that is unknown.
fn commit_batch(session: &Session, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let connection = &session.connection;
    session.refresh()?;
    command(connection, "BEGIN IMMEDIATE").map_err(StoreError::Unavailable)?;
    session.begin();
    let run = run_batch(session, jobs).map_err(StoreError::Unavailable);
    let done = run.and_then(|()| session.prepare_commit()).and_then(|()| commit(connection));
    if done.is_ok() {
        session.committed();
        return done;
    }
    if !connection.is_autocommit() {
        // If even this fails, the next BEGIN fails too and reports it.
        drop(command(connection, "ROLLBACK"));
    }
    session.failed();
    done
}

/// Runs the jobs without savepoints, because each savepoint copies the pages it touches and nearly all jobs succeed. If
/// one is refused, rolls everything back and runs all jobs again with savepoints.
fn run_batch(session: &Session, jobs: &mut [Box<dyn Job>]) -> Result<(), String> {
    let connection = &session.connection;
    for job in &mut *jobs {
        let keep = job.run(session);
        require_open_transaction(connection)?;
        if !keep {
            command(connection, "ROLLBACK")?;
            command(connection, "BEGIN IMMEDIATE")?;
            session.begin();
            return jobs.iter_mut().try_for_each(|job| run_in_savepoint(session, job.as_mut()));
        }
    }
    Ok(())
}

/// Runs a job in a savepoint, so that a refused job loses only its own changes.
fn run_in_savepoint(session: &Session, job: &mut dyn Job) -> Result<(), String> {
    let connection = &session.connection;
    command(connection, "SAVEPOINT job")?;
    let mark = session.savepoint();
    let keep = job.run(session);
    require_open_transaction(connection)?;
    if !keep {
        command(connection, "ROLLBACK TO job")?;
        session.roll_back_to(mark);
    }
    command(connection, "RELEASE job")
}

/// Checks that the transaction is still open. On a full disk or an I/O error `SQLite` may roll back the whole
/// transaction by itself (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>).
/// Later jobs would then run outside it and be committed at once, one by one; so the whole batch is refused.
fn require_open_transaction(connection: &Connection) -> Result<(), String> {
    if connection.is_autocommit() {
        return Err("the transaction was rolled back: the disk is full or failing".to_owned());
    }
    Ok(())
}

/// Commits. An I/O error at the end of a commit leaves it in doubt: its pages may be in the log, valid, and reappear
/// when the database is next opened, unless a later commit overwrote them. A full disk does not: the page that would
/// have made the commit valid is missing.
fn commit(connection: &Connection) -> Result<(), StoreError> {
    let run = || connection.prepare_cached("COMMIT")?.execute([]);
    run().map(|_| ()).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => StoreError::InDoubt(error.to_string()),
        _ => StoreError::from(error),
    })
}

fn command(connection: &Connection, sql: &str) -> Result<(), String> {
    let run = || connection.prepare_cached(sql)?.execute([]);
    run().map(|_| ()).map_err(|error| super::describe_error(&error))
}
