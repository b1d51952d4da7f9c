//! Single writes in flight: callers wait for them, so background work takes smaller turns beside them.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::service::mutex::lock_unpoisoned;

/// Time after a single write within which another one is likely.
const RECENT: Duration = Duration::from_secs(1);

/// Single writes that are in flight, and when the last one ended.
#[derive(Default)]
pub(in crate::service) struct SingleWrites(Mutex<State>);

#[derive(Default)]
struct State {
    in_flight: usize,
    ended: Option<Instant>,
}

/// A single write in flight, until it is dropped.
pub(super) struct SingleWrite<'a>(&'a SingleWrites);

impl SingleWrites {
    /// Counts a single write as in flight.
    pub(super) fn begin(&self) -> SingleWrite<'_> {
        lock_unpoisoned(&self.0).in_flight += 1;
        SingleWrite(self)
    }

    /// Returns whether single writes are in flight or were a moment ago.
    pub(in crate::service) fn are_frequent(&self) -> bool {
        let state = lock_unpoisoned(&self.0);
        state.in_flight > 0 || state.ended.is_some_and(|ended| ended.elapsed() < RECENT)
    }
}

impl Drop for SingleWrite<'_> {
    fn drop(&mut self) {
        let mut state = lock_unpoisoned(&self.0.0);
        state.in_flight -= 1;
        state.ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_frequent_while_one_is_in_flight_and_for_a_moment_after_the_last() {
        let writes = SingleWrites::default();
        assert!(!writes.are_frequent());
        let (one, other) = (writes.begin(), writes.begin());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(writes.are_frequent());
        drop(one);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(writes.are_frequent(), "the other one is in flight");
        drop(other);
        assert!(writes.are_frequent(), "a moment ago");
        tokio::time::advance(RECENT).await;
        assert!(!writes.are_frequent());
    }
}
