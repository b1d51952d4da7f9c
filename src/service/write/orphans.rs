//! Orphaned intents: writes in the store that no task of a running process will conclude.
//!
//! They have three causes. A process may have died ([`Gateway::adopt_dead_peers`]). The commit of an intent may be in
//! doubt: the store's response was lost, the task has reported `unknown`, and the intent may be in the store
//! nevertheless. Or a task ended early, by a panic. For the last two, a search walks this instance's own intents and
//! adopts each one whose subject no task has locked. An intent known not to have been sent is concluded as
//! `not_applied`, and its row is requeued; any other becomes unknown and is reconciled as after a crash.
//!
//! The search is safe because a writing task holds its subject's lock until the outcome is in the store or queued in
//! [`PendingOutcomes`](super::pending_outcomes::PendingOutcomes).

use futures_util::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};

use crate::domain::candidate::CandidateState;
use crate::domain::capability::RetrySafety;
use crate::domain::error::{Code, Error};
use crate::domain::event::SettledBy;
use crate::domain::intent::Intent;
use crate::domain::record::Record;
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::hints::recheck;
use crate::service::streams::complete_all;
use crate::service::write::conclusion::{fail_origin, record_mutation, requeue_origin};
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::MOVED_CONNECTION_REASON;
use crate::store::{Mutation, StoreError};

/// Maximum number of intents read per step of the search.
const PAGE: usize = 256;
/// Maximum number of writes adopted concurrently, so that their reads overlap and their commits share transactions.
const MAX_CONCURRENT_ADOPTIONS: usize = 16;
/// Minimum age of an attempt before the search checks it; most have ended by then.
const MIN_AGE: SignedDuration = SignedDuration::from_secs(5);

impl Gateway {
    /// Adopts writes that a dead process was sending and returns their number.
    pub(in crate::service) async fn adopt_dead_peers(&self) -> Result<usize, Error> {
        let orphans = self.0.store.orphaned_intents(PAGE).await.or_not_applied()?;
        let (mut changes, mut locks): (Vec<Mutation>, Vec<Vec<SubjectLock>>) = (Vec::new(), Vec::new());
        let mut adopted =
            stream::iter(orphans).map(|intent| self.prepare_adoption(intent)).buffered(MAX_CONCURRENT_ADOPTIONS);
        while let Some(prepared) = adopted.next().await {
            if let Some((held, adoption)) = prepared? {
                locks.push(held);
                changes.extend(adoption);
            }
        }
        drop(adopted);
        if changes.is_empty() {
            return Ok(0);
        }
        self.0.store.commit(changes).await.or_not_applied()?;
        Ok(locks.len())
    }

    /// Locks a dead process's write and builds the mutations that adopt it; none if it has changed since. `None` if a task
    /// holds the lock: that task handles the same intent.
    async fn prepare_adoption(&self, intent: Intent) -> Result<Option<(Vec<SubjectLock>, Vec<Mutation>)>, Error> {
        let Some(held) = self.try_lock_subjects(&intent).await? else { return Ok(None) };
        let now = self.0.store.intent(intent.write.record_id()).await.or_not_applied()?;
        Ok(Some(match now.filter(|now| now.in_flight && now.started == intent.started) {
            Some(intent) => (held, self.adoption_mutations(intent).await?),
            None => (held, Vec::new()),
        }))
    }

    /// Builds the mutations that make a write unknown whose process ended while it was in flight. Its grace period
    /// starts now, because it is not known when the attempt ended.
    async fn adoption_mutations(&self, mut intent: Intent) -> Result<Vec<Mutation>, Error> {
        const REASON: &str = "The process handling it ended before it recorded an outcome.";
        let now = self.now();
        intent.may_still_complete = true;
        self.0.executor.grace_periods.begin(&intent);
        let (id, connection) = (intent.write.record(), self.connection_of(&intent.connection).ok());
        let unknown = |detail: &str| {
            let error = Error::unknown(Code::VendorTimeout, detail).with_resource(id.path());
            if let Some(connection) = &connection { connection.tag_connection(error) } else { error }
        };
        let record = self.0.reconciler.read(&intent.tenant, &id).await?;
        let record = record.and_then(|record| record.into_unknown(unknown(REASON)));
        let explained = record.as_ref().zip(connection.as_ref()).and_then(|(record, at)| recheck(at, record));
        let mut changes: Vec<Mutation> = record.and_then(record_mutation).into_iter().chain(explained).collect();
        intent.reason = Some(REASON.to_owned());
        // If the connection is no longer configured, only a person can find out the outcome.
        let safety = connection.as_ref().map_or(RetrySafety::Unsafe, |connection| connection.retry_safety(&intent));
        let settle_from = connection.as_ref().map_or(now, |connection| connection.reconcile_from(now));
        intent.schedule_next_attempt(safety, settle_from, now);
        // Wait for the grace period only, without back-off: no attempt has failed.
        intent.due = intent.due.map(|_| intent.settle_from);
        if safety == RetrySafety::Unsafe {
            let elsewhere = connection.as_ref().is_some_and(|connection| connection.is_other_destination(&intent));
            let detail = if elsewhere {
                MOVED_CONNECTION_REASON
            } else {
                "The process handling it ended, and resending it could apply it twice. Settle it manually."
            };
            intent.reason = Some(detail.to_owned());
            changes.extend(fail_origin(intent.origin.clone(), id.as_str(), &unknown(detail)));
        }
        changes.push(Mutation::Intent(intent));
        Ok(changes)
    }

    /// Resolves the intents whose commit is in doubt.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::service) async fn resolve_doubts(&self) -> Result<(), Error> {
        let attempts = self.0.executor.unsent_attempts.all();
        // A record that is not there yet may appear.
        if attempts.is_empty() || self.0.store.has_undecided_commits() {
            return Ok(());
        }
        // In SQLite a commit in doubt may take effect until another one has overwritten its pages in the log. That one must
        // change nothing about these records: a task may be sending a later write about one of them.
        self.0.store.remember_time(self.now()).await.or_not_applied()?;
        let resolved = stream::iter(attempts)
            .map(|(record, started)| self.resolve_doubt(record, started))
            .buffer_unordered(MAX_CONCURRENT_ADOPTIONS);
        complete_all(resolved).await.map(drop)
    }

    async fn resolve_doubt(&self, record: String, started: Timestamp) -> Result<(), Error> {
        let unsent = &self.0.executor.unsent_attempts;
        let found = self.0.store.intent(&record).await.or_not_applied()?;
        if let Some(intent) = found.filter(|intent| unsent.contains(intent)) {
            return self.adopt_orphan(intent).await;
        }
        unsent.remove(&record, started);
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
        let old = page.into_iter().filter(|intent| now.duration_since(intent.started) >= MIN_AGE);
        let adopted =
            stream::iter(old).map(|intent| self.adopt_orphan(intent)).buffer_unordered(MAX_CONCURRENT_ADOPTIONS);
        complete_all(adopted).await.map(drop)
    }

    /// Adopts one intent, unless a task holds its subject's lock.
    async fn adopt_orphan(&self, intent: Intent) -> Result<(), Error> {
        let record = intent.write.record_id().to_owned();
        let Some(_locks) = self.try_lock_subjects(&intent).await? else { return Ok(()) };
        // Read again under the lock: the task may have concluded it since.
        let now = self.0.store.intent(&record).await.or_not_applied()?;
        let is_orphan = |now: &Intent| now.in_flight && now.started == intent.started;
        let orphan = now.filter(is_orphan).filter(|_| !self.0.executor.pending_outcomes.concludes(&record));
        if let Some(orphan) = orphan {
            let mut changes = vec![Mutation::RequireAttempt(record.clone(), orphan.started)];
            match self.conclude_unsent(&orphan).await? {
                Some(ended) => changes.extend(ended),
                None => changes.extend(self.adoption_mutations(orphan).await?),
            }
            match self.0.store.commit(changes).await {
                Ok(()) => tracing::warn!(record, "adopted an orphaned write"),
                Err(StoreError::Superseded) => {}
                Err(error) => return Err(error).or_not_applied(),
            }
        }
        self.0.executor.unsent_attempts.remove(&record, intent.started);
        Ok(())
    }

    /// Builds the mutations that conclude a first attempt known not to have been sent: its key is freed and its row
    /// requeued. `None` if that is not known.
    async fn conclude_unsent(&self, intent: &Intent) -> Result<Option<Vec<Mutation>>, Error> {
        if !self.0.executor.unsent_attempts.contains(intent) {
            return Ok(None);
        }
        let Ok(connection) = self.connection_of(&intent.connection) else { return Ok(None) };
        let detail = "The store did not confirm that it recorded the write, so the write was not sent.";
        let error = connection.tag_connection(Error::new(Code::StoreUnavailable, detail));
        let is_open = |record: &Record| match record {
            Record::Candidate(candidate) => candidate.state == CandidateState::Pending,
            Record::Assignment(_) | Record::Enrolment(_) => true,
        };
        let record = self.0.reconciler.read(&intent.tenant, &intent.write.record()).await?;
        let Some(record) = record.filter(is_open) else { return Ok(None) };
        // The caller of a single write was told that the outcome is unknown; a row waits again.
        let by = intent.origin.item.is_none().then_some(SettledBy::Reconciler);
        let (mut changes, _) = self.0.executor.conclusion(&connection, record, intent.clone(), Err(error.into()), by);
        // The caller adds this condition itself.
        changes.retain(|change| !matches!(change, Mutation::RequireAttempt(..)));
        changes.extend(requeue_origin(intent));
        Ok(Some(changes))
    }
}
