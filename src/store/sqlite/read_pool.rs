//! Pool of read-only connections. Each read sees everything committed before it began, so also every acknowledged
//! write.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;
use crate::store::sqlite::connect;

/// Concurrent reads.
const READERS: usize = 4;

/// A few connections, each used by one read at a time.
pub(super) struct ReadPool {
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    /// For reads of single records, which run without waiting.
    near: Mutex<Connection>,
}

/// Guard of a connection; returns it even if the read panics.
struct PooledReader {
    connection: Option<Connection>,
    free: Arc<Mutex<Vec<Connection>>>,
}

impl ReadPool {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let free = (0..READERS).map(|_| connect::reader(path, connect::BUSY_TIMEOUT)).collect::<Result<_, _>>()?;
        let near = Mutex::new(connect::reader(path, Duration::ZERO)?);
        Ok(Self { free: Arc::new(Mutex::new(free)), permits: Arc::new(Semaphore::new(READERS)), near })
    }

    /// Runs a look-up by key at once on this thread: moving it to another thread takes several times as long as the
    /// read. Falls back to [`Self::run`] while another caller reads here, or if the read fails at once (a backup may
    /// lock the file).
    pub(super) async fn run_inline<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Let other tasks run from time to time when a caller reads in a loop.
        tokio::task::consume_budget().await;
        if let Ok(connection) = self.near.try_lock()
            && let Ok(found) = work(&connection)
        {
            return Ok(found);
        }
        self.run(work).await
    }

    /// Runs the read on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let free = Arc::clone(&self.free);
        let read = move || {
            let loan = PooledReader::take(free);
            let done = work(loan.connection.as_ref().ok_or_else(closed)?);
            // The permit outlives the connection, so a waiter that gets it finds the connection returned; and the thread is free
            // again when the next read begins, which would otherwise start another thread.
            drop(loan);
            done.map(|done| (done, permit))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (done, _permit) = read.map_err(|_| StoreError::Unavailable("a read was interrupted".into()))??;
        Ok(done)
    }
}

impl PooledReader {
    fn take(free: Arc<Mutex<Vec<Connection>>>) -> Self {
        let connection = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { connection, free }
    }
}

impl Drop for PooledReader {
    fn drop(&mut self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.connection.take());
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
