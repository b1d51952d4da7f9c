//! Turns of ingestion: how many reports it takes at once, and how long it pauses for others.
//!
//! On SQLite, a transaction holds up every other one of the store. Alone, ingestion takes large turns without a pause; beside single
//! writes, whose callers wait, it takes small ones with pauses between them.

use std::time::Duration;

use tokio::time::Instant;

use crate::service::Gateway;
use crate::service::results::chunk::CHUNK;

/// Number of reports of a turn beside single writes.
const SMALL_CHUNK: usize = 4;
/// How many times as long as the turn the pause after it is, beside single writes.
const PAUSE_FACTOR: u32 = 4;
/// Longest pause after a turn, for a store that is slow itself.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// A turn of ingestion: one transaction.
pub(super) struct IngestTurn {
    began: Instant,
    is_beside_writes: bool,
}

impl Gateway {
    /// Begins a turn of ingestion.
    pub(super) fn begin_ingest_turn(&self) -> IngestTurn {
        let is_beside_writes = !self.0.store.is_shared() && self.0.executor.single_writes.are_frequent();
        IngestTurn { began: Instant::now(), is_beside_writes }
    }
}

impl IngestTurn {
    /// Returns the number of reports of the turn.
    pub(super) const fn size(&self) -> usize {
        if self.is_beside_writes { SMALL_CHUNK } else { CHUNK }
    }

    /// Ends the turn after its commit, with the pause in which others go first. The locks of the turn are released before.
    pub(super) async fn end(self) {
        if self.is_beside_writes {
            tokio::time::sleep(self.began.elapsed().saturating_mul(PAUSE_FACTOR).min(MAX_PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beside_single_writes_a_turn_is_small_and_leaves_most_of_the_time_to_others() {
        for (is_beside_writes, took, size, pause) in [
            (false, Duration::from_millis(10), CHUNK, Duration::ZERO),
            (true, Duration::from_millis(10), SMALL_CHUNK, Duration::from_millis(40)),
            (true, Duration::from_mins(1), SMALL_CHUNK, MAX_PAUSE),
        ] {
            let turn = IngestTurn { began: Instant::now(), is_beside_writes };
            assert_eq!(turn.size(), size);
            tokio::time::advance(took).await;
            let ended = Instant::now();
            turn.end().await;
            // The clock of timers has milliseconds.
            let paused = ended.elapsed();
            assert!(pause <= paused && paused <= pause + Duration::from_millis(1), "{paused:?}");
        }
    }
}
