//! Limits the concurrent long store reads per client. Lists and operation reads may be long or, for event streams and
//! waiting callers, frequent; the limit keeps one client from occupying the store's connection pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::service::{Gateway, RequestContext};

/// Maximum number of concurrent reads per client.
const MAX_READS_PER_CLIENT: usize = 3;

/// Read limits by client. The number of clients is bounded by the configuration.
#[derive(Default)]
pub(super) struct ReadLimits(Mutex<HashMap<String, Arc<Semaphore>>>);

impl ReadLimits {
    fn of(&self, client: &str) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(client.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MAX_READS_PER_CLIENT))))
    }
}

impl Gateway {
    /// Acquires a read permit of this client; hold it while reading the store.
    pub(super) async fn read_permit(&self, caller: &RequestContext) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.0.reads.of(&caller.client).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clients_reads_do_not_block_another() {
        let reads = ReadLimits::default();
        let take = |client: &str| reads.of(client).try_acquire_owned().ok();
        let held: Vec<_> = std::iter::from_fn(|| take("a")).collect();
        assert_eq!(held.len(), MAX_READS_PER_CLIENT);
        assert!(take("b").is_some());
        drop(held);
        assert!(take("a").is_some());
    }
}
