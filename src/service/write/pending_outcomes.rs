//! What this process must still tell the store: outcomes that could not be committed, and first attempts whose intent's
//! commit is in doubt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use jiff::Timestamp;

use crate::domain::event::NewEvent;
use crate::domain::intent::Intent;
use crate::service::mutex::lock_unpoisoned;
use crate::store::{Mutation, Store, StoreError};

/// Maximum number of changes that queued outcomes commit together.
const MAX_SHARED: usize = 1_000;

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

    /// Removes the record's attempt that began at this time; a later one stays.
    pub(super) fn remove(&self, record: &str, started: Timestamp) {
        let mut attempts = lock_unpoisoned(&self.0);
        if attempts.get(record) == Some(&started) {
            attempts.remove(record);
        }
    }

    /// Returns the record and the start of each attempt.
    pub(super) fn all(&self) -> Vec<(String, Timestamp)> {
        lock_unpoisoned(&self.0).iter().map(|(record, started)| (record.clone(), *started)).collect()
    }
}

/// Queue of outcomes that could not be committed because the store was unavailable; committed in order once it is back.
#[derive(Default)]
pub(in crate::service) struct PendingOutcomes(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    outcomes: BTreeMap<u64, QueuedOutcome>,
    /// Number of queued outcomes that conclude an attempt of each record.
    records: HashMap<String, usize>,
}

/// An outcome that could not be committed.
#[derive(Debug, Clone)]
struct QueuedOutcome {
    changes: Vec<Mutation>,
    /// The event among the changes, if they were committed without it before and that commit is in doubt: if it was made, the
    /// changes are refused, and the event is still to be committed.
    event: Option<Box<NewEvent>>,
}

/// Outcomes at the head of the queue, with their numbers.
type Group = Vec<(u64, QueuedOutcome)>;

impl PendingOutcomes {
    /// Queues an outcome.
    pub(super) fn push(&self, changes: Vec<Mutation>) {
        self.queue(QueuedOutcome { changes, event: None });
    }

    /// Queues an outcome with an event, which its first commit was without. `is_in_doubt`: that may have been made.
    pub(super) fn push_with_event(&self, mut changes: Vec<Mutation>, event: NewEvent, is_in_doubt: bool) {
        changes.push(Mutation::Event(Box::new(event.clone())));
        self.queue(QueuedOutcome { changes, event: is_in_doubt.then(|| Box::new(event)) });
    }

    fn queue(&self, outcome: QueuedOutcome) {
        let mut queue = lock_unpoisoned(&self.0);
        let number = queue.next;
        queue.next += 1;
        for record in concluded(&outcome.changes) {
            *queue.records.entry(record.to_owned()).or_default() += 1;
        }
        queue.outcomes.insert(number, outcome);
    }

    /// Commits the queued outcomes in order, several in one transaction, until the store fails. One that the store
    /// rejects permanently is left to the search for orphans.
    pub(super) async fn flush(&self, store: &dyn Store) {
        while let Some(group) = self.first_group() {
            let all = group.iter().flat_map(|(_, outcome)| outcome.changes.iter().cloned()).collect();
            match store.commit(all).await {
                Ok(()) => group.iter().for_each(|(number, _)| self.remove(*number)),
                Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => return,
                // One of them was refused, and with it all.
                Err(_) => {
                    for (number, QueuedOutcome { changes, event }) in group {
                        match store.commit(changes).await {
                            Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => return,
                            // Already committed, by a commit whose response was lost.
                            Err(StoreError::Superseded) => {
                                if let Some(event) = event
                                    && !tell(store, *event).await
                                {
                                    return;
                                }
                            }
                            // In the last case, another instance has taken the write over.
                            Ok(()) | Err(StoreError::Fenced) => {}
                            Err(error) => {
                                tracing::error!(%error, "the store rejected an outcome; the write will be reconciled");
                            }
                        }
                        self.remove(number);
                    }
                }
            }
        }
    }

    /// Returns whether a queued outcome concludes an attempt of this record.
    pub(super) fn concludes(&self, record: &str) -> bool {
        lock_unpoisoned(&self.0).records.contains_key(record)
    }

    /// Returns the first outcomes that may share a transaction: at most [`MAX_SHARED`] changes, and no two about the same
    /// record, because an engine may apply the changes of one kind together.
    fn first_group(&self) -> Option<Group> {
        let queue = lock_unpoisoned(&self.0);
        let (mut group, mut changes, mut records) = (Group::new(), 0, HashSet::new());
        for (number, outcome) in &queue.outcomes {
            changes += outcome.changes.len();
            let full = changes > MAX_SHARED || concluded(&outcome.changes).any(|record| !records.insert(record));
            if full && !group.is_empty() {
                break;
            }
            group.push((*number, outcome.clone()));
        }
        (!group.is_empty()).then_some(group)
    }

    fn remove(&self, number: u64) {
        let mut queue = lock_unpoisoned(&self.0);
        let Some(outcome) = queue.outcomes.remove(&number) else { return };
        for record in concluded(&outcome.changes) {
            if let Some(count) = queue.records.get_mut(record) {
                *count -= 1;
                if *count == 0 {
                    queue.records.remove(record);
                }
            }
        }
    }
}

/// Commits the event of an outcome whose first commit was in doubt and was made: no one else concludes an attempt of an instance
/// that lives. Looks first whether it is there: one of its own commits may have been in doubt and made. Returns whether it is
/// there now, or never will be.
async fn tell(store: &dyn Store, event: NewEvent) -> bool {
    // Until a commit in doubt is decided, the store does not show whether it was made.
    if store.has_undecided_commits() {
        return false;
    }
    match store.has_event(&event).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(_) => return false,
    }
    match store.commit(vec![Mutation::Event(Box::new(event))]).await {
        Ok(()) => true,
        Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => false,
        Err(error) => {
            tracing::error!(%error, "the store rejected the event of an outcome");
            true
        }
    }
}

/// Returns the records whose attempts these changes conclude.
fn concluded(changes: &[Mutation]) -> impl Iterator<Item = &str> {
    changes.iter().filter_map(|change| match change {
        Mutation::RequireAttempt(record, _) => Some(record.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
