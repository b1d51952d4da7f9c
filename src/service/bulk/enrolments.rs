//! Enrolment operations: each row is one vendor call that changes a program's employees. The rows are sent one after
//! the other, each under its own intent; after a failed row nothing more is sent.
//!
//! Calls are serialised by employee across all programs of a connection, because the gateway cannot match the vendor's
//! id of a program with the account's own (`ext:`).

use std::time::Duration;

use crate::domain::error::{Code, Error};
use crate::domain::event::SettledBy;
use crate::domain::ids::{EnrolmentId, OperationId};
use crate::domain::intent::{EnrolmentWrite, Write};
use crate::domain::operation::{Item, ItemId, ItemOutcome, ItemRequest, ItemState};
use crate::domain::outcome::Outcome;
use crate::domain::record::RecordId;
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::{CallPurpose, EnrolmentBatch};
use crate::service::bulk::operation_run::OperationRun;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::write::locks;
use crate::service::write::reconciler::blocked_by_unknown_write;
use crate::store::{Mutation, PreparedRecord, PreparedWrite};

/// Interval between checks of a call in its grace period.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Sends an operation's calls, each through the connection as configured at that time; stops if the connection was
/// removed from the configuration.
pub(super) async fn send_all(work: &OperationRun, connection: &str) -> Result<(), Error> {
    let id = &work.operation.id;
    loop {
        let states = [ItemState::Waiting, ItemState::Claimed];
        let next = work.gateway.0.store.items(id, &states, 0, 1).await.or_not_applied()?.pop();
        let Some(item) = next.filter(|_| !work.should_yield()) else { return Ok(()) };
        let Some(ItemRequest::Enrolment(enrolment)) = item.request.clone() else {
            let error = Error::new(Code::Internal, "The row is not a change of a program's employees.");
            work.commit_unsent_outcomes(vec![Mutation::EndItem(item.id, None, ItemOutcome::failed(error))]).await?;
            continue;
        };
        let Ok((connection, permit)) = work.gateway.acquire_enrolment(connection, &work.queue_key()).await else {
            return Ok(());
        };
        let connection = connection.as_ref();
        let employees = locks::employee_subjects(&connection.name, &enrolment);
        let locks = work.gateway.0.subject_locks.lock_all(&employees).await.or_not_applied()?;
        let sent = match item.record.clone() {
            Some(record) => work.reconcile_call(connection, &record).await,
            None => work.send_call(connection, &item, *enrolment).await,
        };
        // Release the locks before waiting: the task that adopts a dead process's writes needs them.
        drop((locks, permit));
        match sent {
            Ok(()) => {
                let Some(record) = item.record else { continue };
                // Reconciled; if it was not applied, it is sent now.
                let waiting =
                    work.gateway.0.store.items(id, &[ItemState::Waiting], item.id.index, 1).await.or_not_applied()?;
                if waiting.iter().any(|now| now.id == item.id) {
                    let again = vec![Mutation::RequeueItem(item.id, record)];
                    work.gateway.0.store.commit(again).await.or_not_applied()?;
                }
            }
            // Too early to reconcile.
            Err(error) if item.record.is_some() && error.retry_after.is_some() && error.outcome != Outcome::Unknown => {
                work.gateway.0.active_operations.release_slot(id);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            // Neither the failed call nor those after it are retried automatically.
            Err(error) => {
                let waiting = work.gateway.0.store.items(id, &states, item.id.index, 1).await.or_not_applied()?;
                if waiting.iter().any(|now| now.id == item.id) {
                    let end = ItemOutcome::failed(error);
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
            let call = self.caller.call_context(CallPurpose::Reconcile);
            let id = earlier.write.record();
            let settled =
                gateway.0.reconciler.reconcile_locked(&earlier.tenant, connection, &id, &call, SettledBy::Caller).await;
            settled.map_err(|error| blocked_by_unknown_write(connection, error))?;
        }
        let id = EnrolmentId::new(&item.id.operation, item.id.index);
        let write = Write::Enrol(EnrolmentWrite { id: id.clone(), call: enrolment });
        let executor = &gateway.0.executor;
        let intent =
            executor.intent(&self.row_context(item), connection, SubjectKey::programs(&connection.name), write);
        let write = PreparedWrite { record: PreparedRecord::Enrolment(id), intent, subjects: Vec::new() };
        // A row that was cancelled meanwhile is not sent.
        executor.execute(&self.caller, connection, None, write, |_| ()).await.map(drop)
    }

    /// Reconciles the call that an earlier run has left open; the caller holds its employees' locks.
    async fn reconcile_call(&self, connection: &Connection, record: &str) -> Result<(), Error> {
        let Some(id) = RecordId::parse(record) else { return Ok(()) };
        let call = self.caller.call_context(CallPurpose::Reconcile);
        let reconciler = &self.gateway.0.reconciler;
        let settled =
            reconciler.reconcile_locked(&self.operation.tenant, connection, &id, &call, SettledBy::Caller).await?;
        settled.and_then(|settled| settled.rejection).map_or(Ok(()), Err)
    }
}

/// Returns whether an open write changes any employee of this call.
fn shares_employees(write: &Write, call: &EnrolmentBatch) -> bool {
    matches!(write, Write::Enrol(open) if open.call.enrolment.overlaps(&call.enrolment))
}

/// Builds the rows of an operation that makes these calls.
pub(in crate::service) fn items(id: &OperationId, calls: Vec<EnrolmentBatch>) -> Vec<Item> {
    let item = |(index, call): (usize, EnrolmentBatch)| Item {
        id: ItemId { operation: id.clone(), index: index as u64 },
        item_id: None,
        line: None,
        state: ItemState::Waiting,
        record: None,
        request: Some(ItemRequest::Enrolment(Box::new(call))),
        password_gone: false,
        outcome: None,
    };
    calls.into_iter().enumerate().map(item).collect()
}
