//! What this process must still write to the store: outcomes that could not be committed, and first attempts whose intent's
//! commit is in doubt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use jiff::Timestamp;
use tokio::sync::oneshot;

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
    /// The changes of each outcome.
    outcomes: BTreeMap<u64, Vec<Mutation>>,
    /// Channels to the tasks that wait until it is known whether an outcome is in the store, by its number.
    waiting: HashMap<u64, oneshot::Sender<Result<(), StoreError>>>,
    /// Number of queued outcomes that conclude an attempt of each record.
    records: HashMap<String, usize>,
}

/// Outcomes at the head of the queue, with their numbers.
type Group = Vec<(u64, Vec<Mutation>)>;

impl PendingOutcomes {
    /// Queues an outcome.
    pub(super) fn push(&self, changes: Vec<Mutation>) {
        self.queue(changes, None);
    }

    /// Queues an outcome whose commit is in doubt, and waits until it is in the store; for ever if that cannot be found out,
    /// because another instance has ended this one.
    ///
    /// # Errors
    /// The store's, if it rejects the outcome.
    pub(super) async fn push_and_wait(&self, changes: Vec<Mutation>) -> Result<(), StoreError> {
        let (decide, decided) = oneshot::channel();
        self.queue(changes, Some(decide));
        match decided.await {
            Ok(end) => end,
            Err(_) => std::future::pending().await,
        }
    }

    fn queue(&self, changes: Vec<Mutation>, waiting: Option<oneshot::Sender<Result<(), StoreError>>>) {
        let mut queue = lock_unpoisoned(&self.0);
        let number = queue.next;
        queue.next += 1;
        for record in concluded(&changes) {
            *queue.records.entry(record.to_owned()).or_default() += 1;
        }
        queue.waiting.extend(waiting.map(|waiting| (number, waiting)));
        queue.outcomes.insert(number, changes);
    }

    /// Commits the queued outcomes in order, several in one transaction, until the store fails. One that the store
    /// rejects permanently is left to the search for orphans.
    pub(super) async fn flush(&self, store: &dyn Store) {
        while let Some(group) = self.first_group() {
            let all = group.iter().flat_map(|(_, changes)| changes.iter().cloned()).collect();
            match store.commit(all).await {
                Ok(()) => group.iter().for_each(|(number, _)| self.end(*number, Some(Ok(())))),
                Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => return,
                // One of them was refused, and with it all.
                Err(_) => {
                    for (number, changes) in group {
                        let end = match store.commit(changes).await {
                            Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => return,
                            // Superseded: already committed, by a commit whose response was lost. Nothing else concludes an
                            // attempt of an instance that lives.
                            Ok(()) | Err(StoreError::Superseded) => Some(Ok(())),
                            // Another instance has taken the write over, or finds that it was concluded.
                            Err(StoreError::Fenced) => None,
                            Err(error) => {
                                tracing::error!(%error, "the store rejected an outcome; the write will be reconciled");
                                Some(Err(error))
                            }
                        };
                        self.end(number, end);
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
            changes += outcome.len();
            let full = changes > MAX_SHARED || concluded(outcome).any(|record| !records.insert(record));
            if full && !group.is_empty() {
                break;
            }
            group.push((*number, outcome.clone()));
        }
        (!group.is_empty()).then_some(group)
    }

    /// Removes an outcome, and answers the task that waits for it, if it is known whether it is in the store.
    fn end(&self, number: u64, end: Option<Result<(), StoreError>>) {
        let mut queue = lock_unpoisoned(&self.0);
        if let (Some(waiting), Some(end)) = (queue.waiting.remove(&number), end) {
            // The write's task may have ended with its runtime.
            drop(waiting.send(end));
        }
        let Some(outcome) = queue.outcomes.remove(&number) else { return };
        for record in concluded(&outcome) {
            if let Some(count) = queue.records.get_mut(record) {
                *count -= 1;
                if *count == 0 {
                    queue.records.remove(record);
                }
            }
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
