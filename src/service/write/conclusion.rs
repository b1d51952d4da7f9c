//! The conclusion of a write: what its result makes of the record ([`Record::conclude`]), and the transaction that
//! records it together with intent, identities, idempotency key, bulk row and audit entry. If the store is unavailable,
//! the outcome is queued; meanwhile the intent stays marked as in flight, so no task sends the write again.

use crate::domain::error::Error;
use crate::domain::event::{NewEvent, SettledBy};
use crate::domain::intent::{Intent, WriteOrigin};
use crate::domain::operation::ItemOutcome;
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::transition::{AppliedWrite, Transition, VendorReply};
use crate::domain::vendor::RowResult;
use crate::service::RequestContext;
use crate::service::audit::entry::{AuditFacts, reconciled_entry};
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, outcome_not_stored_error, with_resource_if_unknown};
use crate::service::results::hints::recheck;
use crate::service::write::executor::{Executor, InFlightWrite};
use crate::store::{Mutation, StoreError};

/// What [`Executor::conclude`] does with the bulk rows of writes that had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum RowFate {
    /// They end.
    End,
    /// They wait again, to be sent or skipped by the next run of their operation.
    Requeue,
}

impl Executor {
    /// Commits the outcomes of one call's writes in one transaction and returns what became of each, in order. `by` says
    /// who finds them out if earlier attempts have left the writes unknown. `resource` shows the outcomes if the store fails.
    ///
    /// # Errors
    /// `store_unavailable` with outcome `unknown`: the outcomes are queued.
    pub(in crate::service) async fn conclude(
        &self,
        connection: &Connection,
        writes: Vec<InFlightWrite>,
        results: Vec<RowResult<VendorReply>>,
        rows: RowFate,
        by: Option<SettledBy>,
        resource: &str,
    ) -> Result<Vec<Transition>, Error> {
        let (mut changes, mut transitions) = (Vec::new(), Vec::with_capacity(writes.len()));
        let mut locks = Vec::with_capacity(writes.len());
        for (InFlightWrite { record, intent, lock }, result) in writes.into_iter().zip(results) {
            locks.push(lock);
            let again = (rows == RowFate::Requeue).then(|| requeue_origin(&intent)).flatten();
            let (more, transition) = self.conclusion(connection, record, intent, result, by);
            changes.extend(more);
            changes.extend(again);
            transitions.push(transition);
        }
        let committed = self.commit_outcome(changes, resource).await;
        drop(locks);
        committed.map(|()| transitions)
    }

    /// Commits the outcome of a single write that was unknown. The caller holds the subject's lock.
    ///
    /// # Errors
    /// `store_unavailable`: the outcome of an attempt is then queued, so its own outcome is `unknown`. What an operator says is not
    /// queued: it can be said again, and if its commit is in doubt, another one would make a second event.
    pub(in crate::service) async fn conclude_one(
        &self,
        connection: &Connection,
        record: Record,
        intent: Intent,
        result: RowResult<VendorReply>,
        by: SettledBy,
    ) -> Result<Transition, Error> {
        let (resource, is_attempt) = (record.path(), intent.in_flight);
        let (changes, transition) = self.conclusion(connection, record, intent, result, Some(by));
        if is_attempt {
            self.commit_outcome(changes, &resource).await?;
        } else {
            let committed = self.store.commit(changes).await.or_not_applied();
            committed.map_err(|error| with_resource_if_unknown(error, &resource))?;
        }
        Ok(transition)
    }

    /// Builds the mutations that record the outcome of a write, and says what became of it. An unknown write is
    /// scheduled for reconciliation. `by` says who finds it out if an earlier attempt has left the write unknown: an event
    /// tells of it.
    pub(in crate::service) fn conclusion(
        &self,
        connection: &Connection,
        record: Record,
        mut intent: Intent,
        result: RowResult<VendorReply>,
        by: Option<SettledBy>,
    ) -> (Vec<Mutation>, Transition) {
        let mut changes: Vec<Mutation> = Vec::with_capacity(6);
        // Fences the outcome to its attempt; an intent that is not in flight is concluded by a person.
        changes.extend(
            intent.in_flight.then(|| Mutation::RequireAttempt(intent.write.record_id().to_owned(), intent.started)),
        );
        let entry = reconciled_entry(self.system.now(), &intent, &result);
        let may_still_complete = result.as_ref().is_err_and(|error| error.may_still_complete);
        let mut transition = record.conclude(&intent, result, connection.vendor(), self.system.now());
        changes.extend(transition_mutations(&transition));
        changes.extend(Some(&transition).filter(|it| !it.erased).and_then(|it| recheck(connection, &it.record)));
        let error = transition.result.as_ref().err();
        let settled = by.and_then(|by| self.emitter().settled(intent.write.kind(), &transition.record, by, error));
        changes.extend(settled.map(|event| Mutation::Event(Box::new(event))));
        let origin = std::mem::take(&mut intent.origin);
        let record_id = intent.write.record_id();
        match &mut transition.result {
            Ok(applied) => {
                changes.extend(complete_origin(origin, record_id, applied));
                changes.push(Mutation::RemoveIntent(record_id.to_owned()));
                self.grace_periods.end(record_id);
            }
            Err(error) if error.outcome == Outcome::Unknown => {
                changes.extend(fail_origin(origin.clone(), record_id, error));
                intent.origin = origin;
                self.schedule_reconciliation(&mut intent, connection, error, may_still_complete);
                changes.push(Mutation::Intent(intent));
            }
            Err(error) => {
                changes.extend(fail_origin(origin, record_id, error));
                changes.push(Mutation::RemoveIntent(record_id.to_owned()));
                self.grace_periods.end(record_id);
            }
        }
        changes.extend(entry);
        (changes, transition)
    }

    /// Schedules reconciliation of an attempt that ended as unknown. After a complete response it may start at once;
    /// otherwise only after the grace period, counted from the attempt's end, because the vendor may still be
    /// processing it.
    fn schedule_reconciliation(
        &self,
        intent: &mut Intent,
        connection: &Connection,
        error: &Error,
        may_still_complete: bool,
    ) {
        let now = self.clock.now();
        intent.reason = Some(error.to_string());
        intent.may_still_complete = may_still_complete;
        let settle_from = if may_still_complete { connection.reconcile_from(now) } else { now };
        if may_still_complete {
            self.grace_periods.begin(intent);
        }
        intent.schedule_next_attempt(connection.retry_safety(intent), settle_from, now);
    }

    async fn commit_outcome(&self, changes: Vec<Mutation>, resource: &str) -> Result<(), Error> {
        let committed = self.store.commit(changes.clone()).await;
        committed.map_err(|error| {
            self.pending_outcomes.push(changes);
            outcome_not_stored_error(&error, resource)
        })
    }

    /// Commits the outcome of a single write, together with the audit entry of the response, if one is due. If the commit is
    /// in doubt, waits until it is decided: an outcome that the caller believes to be unknown would need an event, and the
    /// transaction that may have been made has none. If the store fails, the response says that the outcome is unknown, and
    /// `late` makes the event that is then committed with it.
    pub(super) async fn commit_first_outcome(
        &self,
        mut changes: Vec<Mutation>,
        resource: &str,
        (caller, facts): (&RequestContext, Option<AuditFacts>),
        late: impl FnOnce() -> Option<NewEvent> + Send,
    ) -> Result<(), Error> {
        // Several processes that share a store write the entry in a transaction of its own.
        let pending = caller.audit_entry.as_ref().filter(|_| !self.store.is_shared());
        let taken = pending.zip(facts).and_then(|(pending, facts)| {
            let entry = pending.take_for_commit()?;
            Some((pending, facts.complete(entry, self.system.now())))
        });
        let entry = taken.as_ref().map(|(_, entry)| Mutation::Audit(entry.clone()));
        let all = changes.iter().cloned().chain(entry).collect();
        let Err(error) = self.store.commit(all).await else { return Ok(()) };
        if let Some((pending, entry)) = taken {
            // The HTTP layer writes its own. If this commit is in doubt and was made, the audit log has both: better than none.
            pending.restore(entry);
        }
        if matches!(error, StoreError::InDoubt(_)) {
            tracing::error!(%error, resource, "the commit of an outcome is in doubt; waiting until it is decided");
            let decided = self.pending_outcomes.push_and_wait(changes).await;
            return decided.map_err(|error| outcome_not_stored_error(&error, resource));
        }
        changes.extend(late().map(|event| Mutation::Event(Box::new(event))));
        self.pending_outcomes.push(changes);
        Err(outcome_not_stored_error(&error, resource))
    }
}

/// Returns the mutation that stores the record; `None` for an enrolment, which has none of its own.
pub(super) fn record_mutation(record: Record) -> Option<Mutation> {
    match record {
        Record::Candidate(candidate) => Some(Mutation::Candidate(*candidate)),
        Record::Assignment(assignment) => Some(Mutation::Assignment(*assignment)),
        Record::Enrolment(_) => None,
    }
}

/// Returns the mutations that store the record and the candidate's identities.
fn transition_mutations(transition: &Transition) -> impl Iterator<Item = Mutation> + use<> {
    let Transition { record, erased, identities, result: _ } = transition;
    let (record, identities) = match record {
        Record::Candidate(candidate) if *erased => (Some(Mutation::EraseCandidate(candidate.id.clone())), None),
        Record::Candidate(candidate) => {
            let identities = identities.clone().map(|all| Mutation::Identities(candidate.id.clone(), all));
            (record_mutation(record.clone()), identities)
        }
        Record::Assignment(_) | Record::Enrolment(_) => (record_mutation(record.clone()), None),
    };
    identities.into_iter().chain(record)
}

/// Builds the mutations that complete the idempotency key and bulk row of an applied write.
fn complete_origin(
    origin: WriteOrigin,
    record: &str,
    applied: &mut AppliedWrite,
) -> impl Iterator<Item = Mutation> + use<> {
    let key = origin.key.zip(applied.reply.take()).map(|(key, reply)| Mutation::CompleteKey(key, reply));
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), applied.row.clone()));
    key.into_iter().chain(item)
}

/// Builds the mutations that mark the idempotency key and bulk row of a failed or unknown write.
pub(super) fn fail_origin(origin: WriteOrigin, record: &str, error: &Error) -> impl Iterator<Item = Mutation> + use<> {
    let key = origin.key.map(|key| match error.outcome {
        Outcome::Unknown => Mutation::ReleaseKey(key),
        Outcome::Applied | Outcome::NotApplied => Mutation::FreeKey(key),
    });
    let end = ItemOutcome::failed(error.clone());
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), end));
    key.into_iter().chain(item)
}

/// Builds the mutation that returns the bulk row of a write without effect to waiting.
pub(super) fn requeue_origin(intent: &Intent) -> Option<Mutation> {
    let item = intent.origin.item.clone()?;
    Some(Mutation::RequeueItem(item, intent.write.record_id().to_owned()))
}
