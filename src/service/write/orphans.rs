//! Orphaned intents: writes in the store that no task of a running process will conclude.
//!
//! They have two causes. The commit of an intent may be in doubt: the store's response was lost, the task has reported
//! `unknown`, and the intent may be in the store nevertheless. Or a task ended early, by a panic. The search walks this
//! instance's own intents and adopts each one whose subject no task has locked. An intent known not to have been sent
//! is concluded as `not_applied`, and its row is requeued; any other becomes unknown and is reconciled as after a
//! crash.
//!
//! The search is safe because a writing task holds its subject's lock until the outcome is in the store or queued in
//! [`PendingOutcomes`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::domain::candidate::CandidateState;
use crate::domain::error::{Code, Error};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, Write};
use crate::service::{Gateway, StoreResultExt as _};
use crate::store::{Mutation, StoreError};

/// Maximum number of intents read per step of the search.
const PAGE: usize = 256;
/// Minimum age of an attempt before the search checks it; most have ended by then.
const MIN_AGE: SignedDuration = SignedDuration::from_secs(5);

/// First attempts whose intent's commit is in doubt. This process has not sent them and never will.
#[derive(Default)]
pub(in crate::service) struct UnsentAttempts(Mutex<HashMap<String, Timestamp>>);

impl UnsentAttempts {
    fn add(&self, intent: &Intent) {
        if intent.attempts == 1 {
            lock_unpoisoned(&self.0).insert(intent.write.record_id().to_owned(), intent.started);
        }
    }

    fn contains(&self, intent: &Intent) -> bool {
        intent.attempts == 1 && lock_unpoisoned(&self.0).get(intent.write.record_id()) == Some(&intent.started)
    }

    fn remove(&self, record: &str) {
        lock_unpoisoned(&self.0).remove(record);
    }

    fn records(&self) -> Vec<String> {
        lock_unpoisoned(&self.0).keys().cloned().collect()
    }
}

/// Queue of outcomes that could not be committed because the store was unavailable; committed in order once it is back.
#[derive(Default)]
pub(in crate::service) struct PendingOutcomes(Mutex<PendingState>);

#[derive(Default)]
struct PendingState {
    next: u64,
    outcomes: VecDeque<(u64, Vec<Mutation>)>,
}

impl PendingOutcomes {
    /// Queues an outcome.
    pub(in crate::service) fn push(&self, changes: Vec<Mutation>) {
        let mut pending = lock_unpoisoned(&self.0);
        let number = pending.next;
        pending.next += 1;
        pending.outcomes.push_back((number, changes));
    }

    fn first(&self) -> Option<(u64, Vec<Mutation>)> {
        lock_unpoisoned(&self.0).outcomes.front().cloned()
    }

    fn remove(&self, number: u64) {
        lock_unpoisoned(&self.0).outcomes.retain(|(at, _)| *at != number);
    }

    /// Returns whether a queued outcome concludes an attempt of this record.
    fn concludes(&self, record: &str) -> bool {
        let about = |change: &Mutation| matches!(change, Mutation::RequireAttempt(held, _) if held == record);
        lock_unpoisoned(&self.0).outcomes.iter().any(|(_, changes)| changes.iter().any(about))
    }
}

impl Gateway {
    /// Commits the intents of first attempts with the mutations that belong to them; nothing has been sent for them
    /// yet.
    ///
    /// # Errors
    /// The store's. Intents left in doubt are remembered, and the search for orphans resolves them.
    pub(in crate::service) async fn commit_intents(&self, changes: Vec<Mutation>) -> Result<(), StoreError> {
        let intents: Vec<Intent> = changes
            .iter()
            .filter_map(|change| if let Mutation::Intent(intent) = change { Some(intent.clone()) } else { None })
            .collect();
        let committed = self.0.store.commit(changes).await;
        self.record_doubt(&committed, &intents);
        committed
    }

    /// Remembers, if the commit is in doubt, that these intents were not sent.
    pub(in crate::service) fn record_doubt<'a, T>(
        &self,
        committed: &Result<T, StoreError>,
        intents: impl IntoIterator<Item = &'a Intent>,
    ) {
        if let Err(StoreError::InDoubt(detail)) = committed {
            tracing::error!(detail, "the commit of an intent is in doubt; nothing was sent");
            intents.into_iter().for_each(|intent| self.0.unsent_attempts.add(intent));
        }
    }

    /// Commits queued outcomes. One that the store rejects permanently is left to the search for orphans.
    pub(in crate::service) async fn flush_pending_outcomes(&self) {
        while let Some((number, changes)) = self.0.pending_outcomes.first() {
            match self.0.store.commit(changes).await {
                Err(StoreError::Unavailable(_) | StoreError::InDoubt(_)) => return,
                // Already committed, by a commit whose response was lost; or another instance has taken the write over.
                Ok(()) | Err(StoreError::Superseded | StoreError::Fenced) => {}
                Err(error) => tracing::error!(%error, "the store rejected an outcome; the write will be reconciled"),
            }
            self.0.pending_outcomes.remove(number);
        }
    }

    /// Resolves the intents whose commit is in doubt.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::service) async fn resolve_doubts(&self) -> Result<(), Error> {
        for record in self.0.unsent_attempts.records() {
            if let Some(intent) = self.0.store.intent(&record).await.or_not_applied()? {
                self.adopt_orphan(intent).await?;
            } else {
                // The commit in doubt has not taken effect; only another commit ensures that it never will.
                self.0.store.commit(vec![Mutation::RemoveIntent(record.clone())]).await.or_not_applied()?;
                self.0.unsent_attempts.remove(&record);
            }
        }
        Ok(())
    }

    /// Adopts this instance's intents that no task will conclude: one page after `cursor`, which it advances.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::service) async fn adopt_orphans(&self, cursor: &mut String) -> Result<(), Error> {
        let now = self.now();
        let page = self.0.store.own_intents(cursor, PAGE).await.or_not_applied()?;
        // A short page is not the last one: large writes make pages short.
        *cursor = page.last().map_or_else(String::new, |last| last.write.record_id().to_owned());
        for intent in page.into_iter().filter(|intent| now.duration_since(intent.started) >= MIN_AGE) {
            self.adopt_orphan(intent).await?;
        }
        Ok(())
    }

    /// Adopts one intent, unless a task holds its subject's lock.
    async fn adopt_orphan(&self, intent: Intent) -> Result<(), Error> {
        let record = intent.write.record_id().to_owned();
        let Some(_turns) = self.try_lock_subjects(&intent).await? else { return Ok(()) };
        // Read again under the lock: the task may have concluded it since.
        let now = self.0.store.intent(&record).await.or_not_applied()?;
        let is_orphan = |now: &Intent| now.under_way && now.started == intent.started;
        let orphan = now.filter(is_orphan).filter(|_| !self.0.pending_outcomes.concludes(&record));
        if let Some(intent) = orphan {
            let mut changes = vec![Mutation::RequireAttempt(record.clone(), intent.started)];
            match self.conclude_unsent(&intent).await? {
                Some(ended) => changes.extend(ended),
                None => changes.extend(self.adoption_mutations(intent).await?),
            }
            match self.0.store.commit(changes).await {
                Ok(()) => tracing::warn!(record, "adopted an orphaned write"),
                Err(StoreError::Superseded) => {}
                Err(error) => return Err(error).or_not_applied(),
            }
        }
        self.0.unsent_attempts.remove(&record);
        Ok(())
    }

    /// Builds the mutations that conclude a first attempt known not to have been sent: its key is freed and its row
    /// requeued. `None` if that is not known.
    async fn conclude_unsent(&self, intent: &Intent) -> Result<Option<Vec<Mutation>>, Error> {
        if !self.0.unsent_attempts.contains(intent) {
            return Ok(None);
        }
        let Ok(connection) = self.connection_of(&intent.connection) else { return Ok(None) };
        let detail = "The store did not confirm that it recorded the write, so the write was not sent.";
        let fault = connection.tag_connection(Error::new(Code::StoreUnavailable, detail));
        let (record, item) = (intent.write.record_id(), intent.origin.item.clone());
        let mut changes = if let Write::Enrol(_) = intent.write {
            self.enrolment_conclusion(&connection, intent.clone(), Err(fault)).0
        } else if let Ok(id) = CandidateId::parse(record) {
            let found = self.0.store.candidate(&intent.tenant, &id).await.or_not_applied()?;
            let Some(candidate) = found.filter(|candidate| candidate.state == CandidateState::Pending) else {
                return Ok(None);
            };
            self.candidate_conclusion(&connection, candidate, intent.clone(), Err(fault)).0
        } else if let Ok(id) = AssignmentId::parse(record) {
            let found = self.0.store.assignment(&intent.tenant, &id).await.or_not_applied()?;
            let Some(assignment) = found else { return Ok(None) };
            self.assignment_conclusion(&connection, assignment, intent.clone(), Err(fault)).0
        } else {
            return Ok(None);
        };
        // The caller adds this condition itself.
        changes.retain(|change| !matches!(change, Mutation::RequireAttempt(..)));
        changes.extend(item.map(Mutation::RequeueItem));
        Ok(Some(changes))
    }
}

/// Locks a mutex, ignoring poisoning: no code can leave its data half changed.
pub(in crate::service) fn lock_unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
