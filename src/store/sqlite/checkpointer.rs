//! Checkpoints the write-ahead log on a thread and a connection of its own: the writer continues meanwhile, and no
//! commit waits for the pages of earlier ones.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode};

use crate::store::StoreError;
use crate::store::sqlite::connect;

/// Minimum pages in the log that are worth a checkpoint.
const MIN_PAGES: i32 = 100;

/// Minimum time between two checkpoints. With few writes, each checkpoint copies few pages, so that a concurrent commit
/// hardly waits for the disk; with many, a page written several times is copied once.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Pages in the log after which the writer checkpoints the rest itself. Only then can the log restart; under constant
/// load it otherwise never could. By then nearly all pages are copied. A commit of this size must fit into
/// `journal_size_limit`.
const MAX: i32 = 4_000;

/// Handle of the thread; dropping it ends the thread.
pub(super) struct Checkpointer {
    words: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// Signal to the thread.
enum Signal {
    Look,
    End,
}

impl Checkpointer {
    /// Replaces `SQLite`'s own checkpoints after each commit of this connection.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Self, StoreError> {
        let connection = connect::checkpointer(path)?;
        // Number of pages, from the beginning of the log, that are already in the file.
        let brought = Arc::new(AtomicI32::new(0));
        let (words, incoming) = sync_channel(1);
        let (wake, known) = (words.clone(), Arc::clone(&brought));
        writer.wal_hook(Some(move |log: &mut Wal, pages: i32| {
            if pages < known.load(Ordering::Relaxed) {
                // The log has restarted.
                known.store(0, Ordering::Relaxed);
            }
            if pages >= MAX {
                // An error returned here would fail the commit, which has already happened; the next commit retries.
                log.checkpoint().unwrap_or_else(|error| tell(&error));
            } else if pages - known.load(Ordering::Relaxed) >= MIN_PAGES {
                // A full channel means that the thread will check again anyway.
                wake.try_send(Signal::Look).unwrap_or_default();
            }
            Ok(())
        }))?;
        let thread = Builder::new()
            .name("store-log".to_owned())
            .spawn(move || serve(&connection, &incoming, &brought))
            .map_err(|error| StoreError::Unavailable(format!("cannot start the checkpoint thread: {error}")))?;
        Ok(Self { words, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // A thread that panicked has already reported it and receives nothing; the log is checkpointed when the file is
        // closed or next opened.
        drop(self.words.send(Signal::End));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(connection: &Connection, words: &Receiver<Signal>, brought: &AtomicI32) {
    while matches!(words.recv(), Ok(Signal::Look)) {
        // A passive checkpoint waits for no other connection and blocks none
        // (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>).
        match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2)) {
            Ok(pages) => brought.store(pages, Ordering::Relaxed),
            Err(error) => tell(&error),
        }
        std::thread::sleep(MIN_INTERVAL);
    }
}

fn tell(error: &rusqlite::Error) {
    // Another connection is checkpointing: a backup or the writer.
    if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
        tracing::warn!(%error, "checkpoint of the write-ahead log failed; will retry");
    }
}
