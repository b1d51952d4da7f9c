//! Reads that may be long or many: lists, pages, and looks at operations, which streams of events and waiting callers take
//! again and again. A client has a few of them at the store at once, so that they leave its connections to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::service::{Gateway, RequestContext};

/// Reads of one client at once.
const READS: usize = 3;

/// The reads of all clients. There are as many clients as are configured.
#[derive(Default)]
pub(super) struct ReadLimits(Mutex<HashMap<String, Arc<Semaphore>>>);

impl ReadLimits {
    fn of(&self, client: &str) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(client.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(READS))))
    }
}

impl Gateway {
    /// Waits until fewer reads of this client are under way; the permit is held while the store is read.
    pub(super) async fn read_permit(&self, caller: &RequestContext) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.0.reads.of(&caller.client).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_reads_much_keeps_no_other_waiting() {
        let reads = ReadLimits::default();
        let take = |client: &str| reads.of(client).try_acquire_owned().ok();
        let held: Vec<_> = std::iter::from_fn(|| take("a")).collect();
        assert_eq!(held.len(), READS);
        assert!(take("b").is_some());
        drop(held);
        assert!(take("a").is_some());
    }
}
