//! Brings what is in the write-ahead log into the file, on a thread and a connection of its own: the writer goes on meanwhile,
//! and no commit waits for the pages of those before it.

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

/// Pages of the log that are worth it.
const ENOUGH: i32 = 100;

/// Least time between two looks. Few pages are brought in at once where little is written, so that a commit beside it is not
/// kept waiting by the disk; and many where much is, so that a page that was written several times is brought in once.
const PAUSE: Duration = Duration::from_millis(50);

/// Pages of the log after which the writer brings in the rest itself, so that it can begin the log anew; while others always
/// come, it never could. By then nearly all are in. A commit of this size has to fit into `journal_size_limit`.
const MAX: i32 = 4_000;

/// Handle of the thread; dropping it ends the thread.
pub(super) struct Checkpointer {
    words: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
enum Signal {
    Look,
    End,
}

impl Checkpointer {
    /// Takes over from `SQLite`'s own checkpoints after each commit of this connection.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Self, StoreError> {
        let connection = connect::checkpointer(path)?;
        // How many pages of the log, from its beginning, are in the file.
        let brought = Arc::new(AtomicI32::new(0));
        let (words, told) = sync_channel(1);
        let (wake, known) = (words.clone(), Arc::clone(&brought));
        writer.wal_hook(Some(move |log: &mut Wal, pages: i32| {
            if pages < known.load(Ordering::Relaxed) {
                // It has begun anew.
                known.store(0, Ordering::Relaxed);
            }
            if pages >= MAX {
                // An error here would be told as one of the commit, which has happened; whoever comes next tries again.
                log.checkpoint().unwrap_or_else(|error| tell(&error));
            } else if pages - known.load(Ordering::Relaxed) >= ENOUGH {
                // A full channel says that the thread looks again anyhow.
                wake.try_send(Signal::Look).unwrap_or_default();
            }
            Ok(())
        }))?;
        let thread = Builder::new()
            .name("store-log".to_owned())
            .spawn(move || serve(&connection, &told, &brought))
            .map_err(|error| StoreError::Unavailable(format!("no thread for checkpoints: {error}")))?;
        Ok(Self { words, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // A thread that panicked has told so, and takes no word; the log is brought in when the file is closed or opened next.
        drop(self.words.send(Signal::End));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(connection: &Connection, words: &Receiver<Signal>, brought: &AtomicI32) {
    while matches!(words.recv(), Ok(Signal::Look)) {
        // Passive: it waits for nobody, and nobody for it (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>).
        match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2)) {
            Ok(pages) => brought.store(pages, Ordering::Relaxed),
            Err(error) => tell(&error),
        }
        std::thread::sleep(PAUSE);
    }
}

fn tell(error: &rusqlite::Error) {
    // Somebody else brings it in, a backup or the writer.
    if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
        tracing::warn!(%error, "the write-ahead log could not be brought into the file; it will be tried again");
    }
}
