//! The one thread that writes, with group commit: jobs that wait together are committed together, so that many writers
//! share one fsync. A job is answered only after the commit it is part of.

use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// Most jobs in one commit: enough to share the fsync, few enough that the first does not wait for long.
const BATCH: usize = 256;

/// Jobs that may wait; whoever comes after waits for a place.
const QUEUE: usize = 1024;

/// One caller's work.
trait Job: Send {
    /// Does it inside the transaction; whether its changes are to be kept. It may be done again, after a rollback.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells the caller; with the reason if the transaction was lost.
    fn answer(self: Box<Self>, lost: Option<&StoreError>);
}

struct WriteJob<T, F> {
    work: F,
    /// Of the last run.
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result.insert((self.work)(connection)).is_ok()
    }

    fn answer(self: Box<Self>, lost: Option<&StoreError>) {
        // What a lost transaction refused it may have refused for what was lost with it.
        let Self { work: _, result, caller } = *self;
        let result = lost.map_or_else(|| result.unwrap_or_else(|| Err(ended())), |lost| Err(lost.clone()));
        // A caller who hung up is not told.
        drop(caller.send(result));
    }
}

/// Handle of the thread; dropping it commits what was handed over and ends the thread.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let thread = Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || serve(&connection, waiting))
            .map_err(|error| StoreError::Unavailable(format!("no thread to write with: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs the work as a whole or, if it fails, not at all. `Ok` has survived.
    ///
    /// Once handed over the work is done even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Box::new(WriteJob { work, result: None, caller })).await.map_err(|_| ended())?;
        // The thread ended in the middle of it.
        answered.await.map_err(|_| StoreError::InDoubt("the thread that writes has ended".to_owned()))?
    }

    /// Whether writes can still be handed over.
    pub(super) fn is_alive(&self) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| !jobs.is_closed())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so; nothing is left to save.
            drop(thread.join());
        }
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the thread that writes has ended".to_owned())
}

fn serve(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        gather(&mut waiting, &mut batch);
        let lost = commit_together(connection, &mut batch).err();
        for job in batch.drain(..) {
            job.answer(lost.as_ref());
        }
    }
}

/// Lets whoever shares this core go on first, for as long as that brings more jobs: woken by the first one, this thread would
/// otherwise commit each by itself while the others are about to be handed over. Where nobody waits for the core it is only
/// a look.
fn gather(waiting: &mut mpsc::Receiver<Box<dyn Job>>, batch: &mut Vec<Box<dyn Job>>) {
    let mut before = 0;
    while before < batch.len() {
        before = batch.len();
        std::thread::yield_now();
        while batch.len() < BATCH
            && let Ok(job) = waiting.try_recv()
        {
            batch.push(job);
        }
    }
}

/// All jobs in one transaction. The error says why nothing of it was kept, or why that is not known.
fn commit_together(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    command(connection, "BEGIN IMMEDIATE").map_err(StoreError::Unavailable)?;
    let run = run_together(connection, jobs).map_err(StoreError::Unavailable);
    let done = run.and_then(|()| commit(connection));
    if done.is_err() && !connection.is_autocommit() {
        // If even this fails, the next BEGIN does too, and says so.
        drop(command(connection, "ROLLBACK"));
    }
    done
}

/// Nearly all jobs succeed, so they are run without savepoints, each of which costs copies of the pages it touches. When one
/// is refused, all is taken back and done again with them.
fn run_together(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<(), String> {
    for job in &mut *jobs {
        let keep = job.run(connection);
        still_open(connection)?;
        if !keep {
            command(connection, "ROLLBACK")?;
            command(connection, "BEGIN IMMEDIATE")?;
            return jobs.iter_mut().try_for_each(|job| run_apart(connection, job.as_mut()));
        }
    }
    Ok(())
}

/// In a savepoint, so that a refused job takes back its own changes only.
fn run_apart(connection: &Connection, job: &mut dyn Job) -> Result<(), String> {
    command(connection, "SAVEPOINT job")?;
    let keep = job.run(connection);
    still_open(connection)?;
    if !keep {
        command(connection, "ROLLBACK TO job")?;
    }
    command(connection, "RELEASE job")
}

/// A full disk or an I/O error may make `SQLite` roll back the whole transaction by itself
/// (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>). What then ran outside of it
/// would be committed at once and alone; so the rest of the batch is not run, and all of it is refused.
fn still_open(connection: &Connection) -> Result<(), String> {
    if connection.is_autocommit() {
        return Err("the transaction was rolled back: the disk is full or fails".to_owned());
    }
    Ok(())
}

/// An I/O error at the end of a commit leaves it in doubt: its pages may be in the log, valid, and come back when the
/// database is opened next, unless something was committed over them since. A full disk does not: the page that would
/// have made it valid is not there.
fn commit(connection: &Connection) -> Result<(), StoreError> {
    let run = || connection.prepare_cached("COMMIT")?.execute([]);
    run().map(|_| ()).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => StoreError::InDoubt(error.to_string()),
        _ => StoreError::from(error),
    })
}

fn command(connection: &Connection, sql: &str) -> Result<(), String> {
    let run = || connection.prepare_cached(sql)?.execute([]);
    run().map(|_| ()).map_err(|error| super::told(&error))
}
