//! What this process must still tell the store: outcomes that could not be committed, and first attempts whose intent's
//! commit is in doubt.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use jiff::Timestamp;

use crate::domain::intent::Intent;
use crate::service::mutex::lock_unpoisoned;
use crate::store::Mutation;

/// Identifies an attempt: its record, and its number and start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttemptId {
    record: String,
    number: u32,
    started: Timestamp,
}

impl AttemptId {
    pub(super) fn of(intent: &Intent) -> Self {
        let record = intent.write.record_id().to_owned();
        Self { record, number: intent.attempts, started: intent.started }
    }
}

/// First attempts whose intent's commit is in doubt. This process has not sent them and never will.
#[derive(Default)]
pub(in crate::service) struct UnsentAttempts(Mutex<HashMap<String, Timestamp>>);

impl UnsentAttempts {
    pub(super) fn add(&self, attempt: AttemptId) {
        if attempt.number == 1 {
            lock_unpoisoned(&self.0).insert(attempt.record, attempt.started);
        }
    }

    pub(super) fn contains(&self, intent: &Intent) -> bool {
        intent.attempts == 1 && lock_unpoisoned(&self.0).get(intent.write.record_id()) == Some(&intent.started)
    }

    pub(super) fn remove(&self, record: &str) {
        lock_unpoisoned(&self.0).remove(record);
    }

    pub(super) fn records(&self) -> Vec<String> {
        lock_unpoisoned(&self.0).keys().cloned().collect()
    }
}

/// Queue of outcomes that could not be committed because the store was unavailable; committed in order once it is back.
#[derive(Default)]
pub(in crate::service) struct PendingOutcomes(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    outcomes: VecDeque<(u64, Vec<Mutation>)>,
}

impl PendingOutcomes {
    /// Queues an outcome.
    pub(super) fn push(&self, outcome: Vec<Mutation>) {
        let mut queue = lock_unpoisoned(&self.0);
        let number = queue.next;
        queue.next += 1;
        queue.outcomes.push_back((number, outcome));
    }

    pub(super) fn first(&self) -> Option<(u64, Vec<Mutation>)> {
        lock_unpoisoned(&self.0).outcomes.front().cloned()
    }

    pub(super) fn remove(&self, number: u64) {
        lock_unpoisoned(&self.0).outcomes.retain(|(queued, _)| *queued != number);
    }

    /// Returns whether a queued outcome concludes an attempt of this record.
    pub(super) fn concludes(&self, record: &str) -> bool {
        let is_about = |change: &Mutation| matches!(change, Mutation::RequireAttempt(held, _) if held == record);
        lock_unpoisoned(&self.0).outcomes.iter().any(|(_, outcome)| outcome.iter().any(is_about))
    }
}
