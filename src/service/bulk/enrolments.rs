//! Enrolment operations: each row is one vendor call that changes a program's employees. The rows are sent one after
//! the other, each under its own intent; after a failed row nothing more is sent.
//!
//! Calls are serialised by employee across all programs of a connection, because the gateway cannot match the vendor's
//! id of a program with the account's own (`ext:`).

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
use crate::service::write::executor::{VendorReply, attempt_condition, bind_origin, fail_origin, resource_path};
use crate::service::write::locks;
use crate::service::write::reconciler::blocked_by_unknown_write;
use crate::service::{Gateway, StoreResultExt as _, call_context};
use crate::store::{Mutation, StoreError};

/// Interval between checks of a call in its grace period.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the subject recorded for an enrolment. Its locks are those of its employees, and open ones are found by
/// connection.
fn subject(connection: &Connection) -> String {
    format!("{}\nprograms", connection.name)
}

/// Sends an operation's calls, each through the connection as configured at that time; stops if the connection was
/// removed from the configuration.
pub(super) async fn send_all(work: &OperationRun, connection: &str) -> Result<(), Error> {
    let id = &work.operation.id;
    loop {
        let states = [ItemState::Waiting, ItemState::Claimed];
        let next = work.gateway.0.store.items(id, &states, 0, 1).await.or_not_applied()?.pop();
        let Some(item) = next.filter(|_| !work.should_yield()) else { return Ok(()) };
        let Some(ItemRequest::Enrolment(enrolment)) = item.request.clone() else {
            let fault = Error::new(Code::Internal, "The row is not a change of a program's employees.");
            work.commit_unsent_outcomes(vec![Mutation::EndItem(item.id, None, ItemOutcome::failed(fault))]).await?;
            continue;
        };
        let Ok((connection, place)) = work.gateway.acquire_enrolment(connection, &work.queue_key()).await else {
            return Ok(());
        };
        let connection = connection.as_ref();
        let employees = locks::employee_subjects(&connection.name, &enrolment);
        let turns = work.gateway.0.subject_locks.lock_all(&employees).await.or_not_applied()?;
        let sent = match item.record.clone() {
            Some(record) => {
                let asked = call_context(&work.caller, CallPurpose::Reconcile);
                let settled = work.gateway.reconcile_enrolment(connection, &record, &asked).await;
                settled.and_then(|refused| refused.map_or(Ok(()), Err))
            }
            None => work.send_call(connection, &item, *enrolment).await,
        };
        // Release the locks before waiting: the task that adopts a dead process's writes needs them.
        drop((turns, place));
        match sent {
            Ok(()) if item.record.is_some() => {
                // Reconciled; if it was not applied, it is sent now.
                let told =
                    work.gateway.0.store.items(id, &[ItemState::Waiting], item.id.index, 1).await.or_not_applied()?;
                if told.iter().any(|now| now.id == item.id) {
                    let again = vec![Mutation::RequeueItem(item.id.clone())];
                    work.gateway.0.store.commit(again).await.or_not_applied()?;
                }
            }
            Ok(()) => {}
            // Too early to reconcile.
            Err(fault) if item.record.is_some() && fault.retry_after.is_some() && fault.outcome != Outcome::Unknown => {
                work.gateway.0.active_operations.release_slot(id);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            // Neither the failed call nor those after it are retried automatically.
            Err(fault) => {
                let told = work.gateway.0.store.items(id, &states, item.id.index, 1).await.or_not_applied()?;
                if told.iter().any(|now| now.id == item.id) {
                    let end = ItemOutcome::failed(fault);
                    work.commit_unsent_outcomes(vec![Mutation::EndItem(item.id.clone(), item.record.clone(), end)])
                        .await?;
                }
                work.gateway.0.store.skip_waiting(id).await.or_not_applied()?;
                return Ok(());
            }
        }
    }
}

impl OperationRun {
    /// Sends one call for the first time, after reconciling earlier open writes about its employees. The caller holds
    /// their locks.
    async fn send_call(&self, connection: &Connection, item: &Item, enrolment: EnrolmentBatch) -> Result<(), Error> {
        let gateway = &self.gateway;
        gateway.reject_other_tenants_people(&self.caller, connection, enrolment.enrolment.employees()).await?;
        let mut open = gateway.0.store.enrolment_intents(&connection.name).await.or_not_applied()?;
        open.retain(|intent| shares_employees(&intent.write, &enrolment));
        let (own, of_others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|intent| intent.tenant == self.caller.tenant);
        gateway.reconcile_other_tenants_writes(&self.caller, connection, of_others).await?;
        for earlier in own {
            let asked = call_context(&self.caller, CallPurpose::Reconcile);
            let settled = gateway.reconcile_enrolment(connection, earlier.write.record_id(), &asked).await;
            settled.map_err(|fault| blocked_by_unknown_write(connection, fault))?;
        }
        let write = Write::Enrol(EnrolmentWrite { id: EnrolmentWrite::id_for(&item.id), call: enrolment });
        let intent = gateway.intent(&self.row_context(item), connection, &subject(connection), write);
        let mut changes = vec![Mutation::Intent(intent.clone())];
        changes.extend(bind_origin(&intent, &[]));
        match gateway.commit_intents(changes).await {
            Err(StoreError::ItemNotWaiting) => return Ok(()),
            kept => kept.or_not_applied()?,
        }
        let row = gateway.send_one(connection, &intent.write, &call_context(&self.caller, CallPurpose::Initial)).await;
        gateway.conclude_enrolment(connection, intent, row).await
    }
}

/// Returns whether an open write changes any employee of this call.
fn shares_employees(write: &Write, call: &EnrolmentBatch) -> bool {
    matches!(write, Write::Enrol(open) if open.call.enrolment.overlaps(&call.enrolment))
}

impl Gateway {
    /// Reconciles the call with this record, if it is open; the caller holds its employees' locks. Returns the error
    /// that proved it not applied, if it ended so.
    ///
    /// # Errors
    /// As [`Gateway::reconcile_candidate`]: the call stays open.
    pub(in crate::service) async fn reconcile_enrolment(
        &self,
        connection: &Connection,
        record: &str,
        call: &CallContext,
    ) -> Result<Option<Error>, Error> {
        let Some(intent) = self.0.store.intent(record).await.or_not_applied()? else {
            // Reconciled before; its row has its outcome.
            return Ok(None);
        };
        let resource = resource_path(&intent.write);
        let (intent, row) = self.resend(connection, intent, &resource, call).await?;
        match self.conclude_enrolment(connection, intent, row).await {
            Err(fault) if fault.outcome == Outcome::Unknown => Err(fault),
            end => Ok(end.err()),
        }
    }

    /// Commits the outcome of a call.
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

    /// Builds the mutations that record the outcome of a call, and the result for the caller.
    pub(in crate::service) fn enrolment_conclusion(
        &self,
        connection: &Connection,
        mut intent: Intent,
        row: crate::domain::vendor::RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<(), Error>) {
        let record = intent.write.record_id().to_owned();
        let held = attempt_condition(&intent);
        self.end_grace(&intent, &row);
        let line = self.reconciled_entry(&intent, &row);
        let (changes, result): (Vec<Mutation>, _) = match row {
            Ok(WriteSuccess { value, mut warnings }) => {
                let counts = if let VendorReply::Enrolled(counts) = value {
                    counts
                } else {
                    let detail = "The call was settled manually; its changes are not counted.";
                    warnings.push(Warning::new(WarningCode::CountsLowerBound, detail));
                    EnrolmentCounts::default()
                };
                let end = ItemOutcome { warnings, counts: Some(counts), ..ItemOutcome::of(ItemStatus::Created) };
                let told = intent.origin.item.map(|item| Mutation::EndItem(item, Some(record.clone()), end));
                (told.into_iter().chain([Mutation::RemoveIntent(record)]).collect(), Ok(()))
            }
            Err(fault) if fault.outcome == Outcome::Unknown => {
                self.schedule_reconciliation(&mut intent, connection, &fault);
                let mut changes = fail_origin(intent.origin.clone(), &record, &fault);
                changes.push(Mutation::Intent(intent));
                (changes, Err(fault))
            }
            Err(fault) => {
                let mut changes = fail_origin(intent.origin, &record, &fault);
                changes.push(Mutation::RemoveIntent(record));
                (changes, Err(fault))
            }
        };
        (held.into_iter().chain(changes).chain(line).collect(), result)
    }
}

/// Builds the rows of an operation that makes these calls.
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
