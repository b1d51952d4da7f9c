//! The one thread that writes, with group commit: jobs that wait together are committed together, so that many writers
//! share one fsync. A job is answered only after the commit it is part of.

use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// Most jobs in one commit: enough to share the fsync, few enough that the first does not wait for long.
const BATCH: usize = 256;

/// Jobs that may wait; whoever comes after waits for a place.
const QUEUE: usize = 1024;

/// Runs inside the transaction; an error in place of the connection says that there is none.
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Ran + Send>;

/// A job that has run and waits for the commit.
struct Ran {
    /// Whether its changes are to be kept.
    keep: bool,
    answer: Answer,
}

/// Tells the caller; with a sentence if the transaction was lost.
type Answer = Box<dyn FnOnce(Option<&str>)>;

/// Handle of the thread; dropping it commits what was handed over and ends the thread.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
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
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.and_then(work);
            let keep = result.is_ok();
            let answer = move |lost: Option<&str>| {
                let result = match lost {
                    Some(detail) => result.and_then(|_| Err(StoreError::Unavailable(detail.to_owned()))),
                    None => result,
                };
                // A caller who hung up is not told.
                drop(answer.send(result));
            };
            Ran { keep, answer: Box::new(answer) }
        });
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
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

fn serve(connection: &Connection, mut waiting: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        commit_together(connection, batch.drain(..));
    }
}

/// Each job in a savepoint, so that a refused one takes back its own changes only.
///
/// A full disk or an I/O error may make `SQLite` roll back the whole transaction by itself
/// (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>). What then ran outside of it
/// would be committed at once and alone; so the rest of the batch is not run, and all of it is refused.
fn commit_together(connection: &Connection, jobs: impl Iterator<Item = Job>) {
    let mut lost = command(connection, "BEGIN IMMEDIATE").err();
    let mut answers = Vec::with_capacity(BATCH);
    for job in jobs {
        let ran = match &lost {
            Some(detail) => job(Err(StoreError::Unavailable(detail.clone()))),
            None => run_one(connection, job, &mut lost),
        };
        answers.push(ran.answer);
    }
    if lost.is_none() {
        lost = command(connection, "COMMIT").err();
    }
    if lost.is_some() && !connection.is_autocommit() {
        // If even this fails, the next BEGIN does too, and says so.
        drop(command(connection, "ROLLBACK"));
    }
    for answer in answers {
        answer(lost.as_deref());
    }
}

fn run_one(connection: &Connection, job: Job, lost: &mut Option<String>) -> Ran {
    if let Err(detail) = command(connection, "SAVEPOINT job") {
        *lost = Some(detail.clone());
        return job(Err(StoreError::Unavailable(detail)));
    }
    let ran = job(Ok(connection));
    if connection.is_autocommit() {
        *lost = Some("the transaction was rolled back: the disk is full or fails".to_owned());
        return ran;
    }
    let undone = if ran.keep { Ok(()) } else { command(connection, "ROLLBACK TO job") };
    *lost = undone.and_then(|()| command(connection, "RELEASE job")).err();
    ran
}

fn command(connection: &Connection, sql: &str) -> Result<(), String> {
    let run = || connection.prepare_cached(sql)?.execute([]);
    run().map(|_| ()).map_err(|error| error.to_string())
}
