//! Room and rate of a receiver: anyone who has its address can send to it, and what it sends must not take the place of other
//! requests.

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::service::mutex::lock_unpoisoned;

/// Maximum number of webhooks of a connection that are being received at once.
const MAX_IN_FLIGHT: usize = 32;
/// Webhooks of a connection per second, in the long run.
const RATE: f64 = 200.0;
/// Webhooks of a connection that may come at once.
const BURST: f64 = 400.0;

/// Room and rate of a connection's receiver.
pub(super) struct ReceiverLimit {
    room: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Default for ReceiverLimit {
    fn default() -> Self {
        let bucket = Mutex::new(Bucket { tokens: BURST, at: Instant::now() });
        Self { room: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), bucket }
    }
}

impl ReceiverLimit {
    /// Takes room for a webhook; `None` if there is none, or if too many have come.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let mut bucket = lock_unpoisoned(&self.bucket);
        let now = Instant::now();
        let earned = now.duration_since(bucket.at).as_secs_f64() * RATE;
        bucket.at = now;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_and_rate_are_limited() {
        let limit = ReceiverLimit::default();
        let held: Vec<_> = std::iter::from_fn(|| limit.admit()).collect();
        assert_eq!(held.len(), MAX_IN_FLIGHT);
        drop(held);
        let admitted = std::iter::from_fn(|| limit.admit().map(drop)).count();
        assert_eq!(admitted, 400 - MAX_IN_FLIGHT, "the burst is used up");
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(std::iter::from_fn(|| limit.admit().map(drop)).count(), 10);
    }
}
