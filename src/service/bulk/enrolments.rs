//! Rows that are vendor calls changing a program's employees: one after the other, each journalled; after one that failed
//! nothing more is sent.
//!
//! Calls are ordered by employee over all programs of a connection, since the vendor's id of a program and the account's own
//! (`ext:`) cannot be told to be the same one.

use std::time::Duration;

use crate::domain::error::{Code, Error};
use crate::domain::ids::OperationId;
use crate::domain::intent::{EnrolmentWrite, Intent, Write};
use crate::domain::operation::{Item, ItemId, ItemOutcome, ItemRequest, ItemState, ItemStatus};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::{CallContext, CallPurpose, EnrolmentBatch, WriteSuccess};
use crate::service::bulk::run::OperationRun;
use crate::service::connections::Connection;
use crate::service::write::executor::{VendorReply, attempt_held, bind_origin, fail_origin, resource_path};
use crate::service::write::locks;
use crate::service::write::reconciler::blocked_by_unknown_write;
use crate::service::{Gateway, StoreResultExt as _, call};
use crate::store::{Mutation, StoreError};

/// Pause between two looks at a call whose grace is not over.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What is written as an enrolment's subject. Its turns are those of its employees, and open ones are found by connection.
fn subject(connection: &Connection) -> String {
    format!("{}\nprograms", connection.name)
}

/// Sends an operation's calls, each through the connection as it is configured when its turn has come; none any more when the
/// connection has left the configuration.
pub(super) async fn send_all(work: &OperationRun, connection: &str) -> Result<(), Error> {
    let id = &work.operation.id;
    loop {
        let states = [ItemState::Waiting, ItemState::Claimed];
        let next = work.gateway.0.store.items(id, &states, 0, 1).await.or_not_applied()?.pop();
        let Some(item) = next.filter(|_| !work.should_yield()) else { return Ok(()) };
        let Some(ItemRequest::Enrolment(enrolment)) = item.request.clone() else {
            let fault = Error::new(Code::Internal, "The row is no change of a program's employees.");
            work.ended(vec![Mutation::ItemEnded(item.id, None, ItemOutcome::failed(fault))]).await?;
            continue;
        };
        let Ok((connection, place)) = work.gateway.acquire_enrolment(connection, &work.queue_key()).await else {
            return Ok(());
        };
        let connection = connection.as_ref();
        let employees = locks::employee_subjects(&connection.name, &enrolment);
        let turns = work.gateway.0.turns.lock_all(&employees).await.or_not_applied()?;
        let sent = match item.record.clone() {
            Some(record) => {
                let asked = call(&work.caller, CallPurpose::Reconcile);
                let settled = work.gateway.reconcile_enrolment(connection, &record, &asked).await;
                settled.and_then(|refused| refused.map_or(Ok(()), Err))
            }
            None => work.send_call(connection, &item, *enrolment).await,
        };
        // Whoever takes over what a dead process was sending needs the turns.
        drop((turns, place));
        match sent {
            Ok(()) if item.record.is_some() => {
                // Settled; if nothing came of it, it is sent now.
                let told =
                    work.gateway.0.store.items(id, &[ItemState::Waiting], item.id.index, 1).await.or_not_applied()?;
                if told.iter().any(|now| now.id == item.id) {
                    let again = vec![Mutation::ItemWaiting(item.id.clone())];
                    work.gateway.0.store.commit(again).await.or_not_applied()?;
                }
            }
            Ok(()) => {}
            // Too early to look what became of it.
            Err(fault) if item.record.is_some() && fault.retry_after.is_some() && fault.outcome != Outcome::Unknown => {
                work.gateway.0.board.release_slot(id);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            // Neither what failed nor what comes after it is sent again by itself.
            Err(fault) => {
                let told = work.gateway.0.store.items(id, &states, item.id.index, 1).await.or_not_applied()?;
                if told.iter().any(|now| now.id == item.id) {
                    let end = ItemOutcome::failed(fault);
                    work.ended(vec![Mutation::ItemEnded(item.id.clone(), item.record.clone(), end)]).await?;
                }
                work.gateway.0.store.skip_waiting(id).await.or_not_applied()?;
                return Ok(());
            }
        }
    }
}

impl OperationRun {
    /// Sends one call for the first time; what was open about its employees before is settled first. The caller holds their
    /// turns.
    async fn send_call(&self, connection: &Connection, item: &Item, enrolment: EnrolmentBatch) -> Result<(), Error> {
        let gateway = &self.gateway;
        gateway.refuse_people_of_others(&self.caller, connection, enrolment.enrolment.employees()).await?;
        let mut open = gateway.0.store.enrolment_intents(&connection.name).await.or_not_applied()?;
        open.retain(|intent| shares_employees(&intent.write, &enrolment));
        let (own, of_others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|intent| intent.tenant == self.caller.tenant);
        gateway.settle_writes_of_others(&self.caller, connection, of_others).await?;
        for earlier in own {
            let asked = call(&self.caller, CallPurpose::Reconcile);
            let settled = gateway.reconcile_enrolment(connection, earlier.write.record_id(), &asked).await;
            settled.map_err(|fault| blocked_by_unknown_write(connection, fault))?;
        }
        let write = Write::Enrol(EnrolmentWrite { id: EnrolmentWrite::id_for(&item.id), call: enrolment });
        let intent = gateway.intent(&self.caller_of(item), connection, &subject(connection), write);
        let mut changes = vec![Mutation::Intent(intent.clone())];
        changes.extend(bind_origin(&intent, &[]));
        match gateway.commit_intents(changes).await {
            Err(StoreError::ItemNotWaiting) => return Ok(()),
            kept => kept.or_not_applied()?,
        }
        let row = gateway.send_one(connection, &intent.write, &call(&self.caller, CallPurpose::Initial)).await;
        gateway.conclude_enrolment(connection, intent, row).await
    }
}

/// Whether an open write changes employees of this call too.
fn shares_employees(write: &Write, call: &EnrolmentBatch) -> bool {
    matches!(write, Write::Enrol(open) if open.call.enrolment.overlaps(&call.enrolment))
}

impl Gateway {
    /// Settles the call with this record, if it is open; the caller holds its employees' turns. The fault that proved that
    /// nothing came of it, if that is how it ended.
    ///
    /// # Errors
    /// As [`Gateway::reconcile_candidate`]: it stays open.
    pub(in crate::service) async fn reconcile_enrolment(
        &self,
        connection: &Connection,
        record: &str,
        call: &CallContext,
    ) -> Result<Option<Error>, Error> {
        let Some(intent) = self.0.store.intent(record).await.or_not_applied()? else {
            // Settled before, and its row told.
            return Ok(None);
        };
        let resource = resource_path(&intent.write);
        let (intent, row) = self.resend(connection, intent, &resource, call).await?;
        match self.conclude_enrolment(connection, intent, row).await {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            end => Ok(end.err()),
        }
    }

    /// Writes down how a call ended.
    pub(in crate::service) async fn conclude_enrolment(
        &self,
        connection: &Connection,
        intent: Intent,
        row: crate::domain::vendor::RowResult<VendorReply>,
    ) -> Result<(), Error> {
        let resource = resource_path(&intent.write);
        let (changes, result) = self.enrolment_conclusion(connection, intent, row);
        self.commit_outcome(changes, &resource).await?;
        result
    }

    /// The changes that write down how a call ended, and the answer.
    pub(in crate::service) fn enrolment_conclusion(
        &self,
        connection: &Connection,
        mut intent: Intent,
        row: crate::domain::vendor::RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<(), Error>) {
        let record = intent.write.record_id().to_owned();
        let held = attempt_held(&intent);
        self.end_grace(&intent, &row);
        let line = self.reconciled_entry(&intent, &row);
        let (changes, result): (Vec<Mutation>, _) = match row {
            Ok(WriteSuccess { value, mut warnings }) => {
                let counts = if let VendorReply::Enrolled(counts) = value {
                    counts
                } else {
                    let detail = "The call was settled by hand; what it changed is not counted.";
                    warnings.push(Warning::new(WarningCode::CountsLowerBound, detail));
                    EnrolmentCounts::default()
                };
                let end = ItemOutcome { warnings, counts: Some(counts), ..ItemOutcome::of(ItemStatus::Created) };
                let told = intent.origin.item.map(|item| Mutation::ItemEnded(item, Some(record.clone()), end));
                (told.into_iter().chain([Mutation::Settled(record)]).collect(), Ok(()))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                self.schedule_reconciliation(&mut intent, connection, &fault);
                let mut changes = fail_origin(intent.origin.clone(), &record, &fault);
                changes.push(Mutation::Intent(intent));
                (changes, Err(fault))
            }
            Err(fault) => {
                let mut changes = fail_origin(intent.origin, &record, &fault);
                changes.push(Mutation::Settled(record));
                (changes, Err(fault))
            }
        };
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }
}

/// The rows of an operation that makes these calls.
pub(in crate::service) fn items(id: &OperationId, calls: Vec<EnrolmentBatch>) -> Vec<Item> {
    let item = |(index, call): (usize, EnrolmentBatch)| Item {
        id: ItemId { operation: id.clone(), index: index as u64 },
        item_id: None,
        state: ItemState::Waiting,
        record: None,
        request: Some(ItemRequest::Enrolment(Box::new(call))),
        password_gone: false,
        outcome: None,
    };
    calls.into_iter().enumerate().map(item).collect()
}
