//! Grace periods (`settle_grace`): an interrupted attempt may still take effect, so its write is not resent before its
//! grace period has passed. Measured by the monotonic clock: neither a step of the wall clock nor a replica whose clock
//! is ahead shortens it. A process that did not see the attempt end counts the whole grace period from its first look
//! at the write.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::intent::Intent;
use crate::service::mutex::lock_unpoisoned;

/// How long a grace period is remembered after the attempt's end.
const MAX_REMEMBERED_AGE: Duration = Duration::from_hours(24);

/// Grace periods of unknown writes, by record.
#[derive(Default)]
pub(in crate::service) struct GracePeriods(Mutex<HashMap<String, GracePeriod>>);

#[derive(Clone, Copy)]
struct GracePeriod {
    /// Start time of the attempt, which identifies it.
    attempt: Timestamp,
    /// When the attempt ended, as far as this process knows.
    from: Instant,
}

impl GracePeriods {
    /// Starts the grace period of an attempt that has just ended without a complete response.
    pub(in crate::service) fn begin(&self, intent: &Intent) {
        let grace = GracePeriod { attempt: intent.started, from: Instant::now() };
        lock_unpoisoned(&self.0).insert(intent.write.record_id().to_owned(), grace);
    }

    /// Returns the remaining grace period of the intent's last attempt; `None` if it is over.
    pub(in crate::service) fn remaining(&self, intent: &Intent, grace: Duration) -> Option<Duration> {
        if !intent.may_still_complete {
            return None;
        }
        let mut graces = lock_unpoisoned(&self.0);
        let now = Instant::now();
        let first_look = GracePeriod { attempt: intent.started, from: now };
        let entry = graces.entry(intent.write.record_id().to_owned()).or_insert(first_look);
        if entry.attempt != intent.started {
            *entry = first_look;
        }
        let left = grace.saturating_sub(now.duration_since(entry.from));
        (!left.is_zero()).then_some(left)
    }

    /// Removes the grace period of a write whose outcome is known.
    pub(in crate::service) fn end(&self, record: &str) {
        lock_unpoisoned(&self.0).remove(record);
    }

    /// Removes grace periods that started more than [`MAX_REMEMBERED_AGE`] ago.
    pub(in crate::service) fn remove_expired(&self) {
        lock_unpoisoned(&self.0).retain(|_, grace| grace.from.elapsed() < MAX_REMEMBERED_AGE);
    }
}
