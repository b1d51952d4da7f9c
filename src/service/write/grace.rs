//! How long an attempt that may still take effect is left alone (`settle_grace`), by the monotonic clock: no step of the wall
//! clock shortens it, nor does a replica whose clock is ahead. A process that did not see the attempt end counts the whole
//! grace from the moment it first looks at the write.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::intent::Intent;
use crate::service::write::orphans::lock_unpoisoned;

/// How long after its end a grace is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);

/// The graces of the writes that rest, by record.
#[derive(Default)]
pub(in crate::service) struct GracePeriods(Mutex<HashMap<String, GracePeriod>>);

#[derive(Clone, Copy)]
struct GracePeriod {
    /// Names the attempt: when it began.
    attempt: Timestamp,
    /// When it ended, as far as this process knows.
    from: Instant,
}

impl GracePeriods {
    /// Begins the grace of an attempt that has ended now without a complete answer.
    pub(in crate::service) fn begin(&self, intent: &Intent) {
        let grace = GracePeriod { attempt: intent.started, from: Instant::now() };
        lock_unpoisoned(&self.0).insert(intent.write.record_id().to_owned(), grace);
    }

    /// Returns how much of the grace of the intent's last attempt is left; `None` if nothing is.
    pub(in crate::service) fn remaining(&self, intent: &Intent, grace: Duration) -> Option<Duration> {
        if !intent.lingering {
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

    /// Forgets the grace of a write whose outcome is known.
    pub(in crate::service) fn end(&self, record: &str) {
        lock_unpoisoned(&self.0).remove(record);
    }

    /// Forgets graces that began long ago.
    pub(in crate::service) fn remove_expired(&self) {
        lock_unpoisoned(&self.0).retain(|_, grace| grace.from.elapsed() < REMEMBERED);
    }
}
