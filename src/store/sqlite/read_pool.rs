//! Connections that only read. Each read sees everything committed before it began, so also every acknowledged write.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;
use crate::store::sqlite::connect;

/// Reads that run at the same time.
const READERS: usize = 4;

/// A few connections, lent one at a time.
pub(super) struct ReadPool {
    free: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
    /// For reads of single records, which wait for nobody.
    near: Mutex<Connection>,
}

/// A connection on loan; it goes back even if the read panics.
struct PooledReader {
    connection: Option<Connection>,
    free: Arc<Mutex<Vec<Connection>>>,
}

impl ReadPool {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let free = (0..READERS).map(|_| connect::reader(path, connect::BUSY_TIMEOUT)).collect::<Result<_, _>>()?;
        let near = Mutex::new(connect::reader(path, Duration::ZERO)?);
        Ok(Self { free: Arc::new(Mutex::new(free)), places: Arc::new(Semaphore::new(READERS)), near })
    }

    /// Runs a read of what is found by its key, at once and on this thread: handing it to another one takes several times as
    /// long as the read. It is handed over all the same while somebody else reads here, or where it does not succeed at once
    /// (a backup may hold the file).
    pub(super) async fn run_near<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Whoever reads one after the other gives way to others from time to time.
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
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let free = Arc::clone(&self.free);
        let read = move || {
            // Declared first, so given up last: whoever gets the place finds the connection back.
            let _place = place;
            let loan = PooledReader::take(free);
            work(loan.connection.as_ref().ok_or_else(closed)?)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Unavailable("a read was broken off".into()))?
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
