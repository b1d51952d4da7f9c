//! Sends batches: rows that share a vendor call and whose intents are committed. A batch is split if the vendor rejects
//! it as a whole, retried after a transient failure, and its rows' outcomes are committed in one transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::candidate::NewCandidate;
use crate::domain::error::Error;
use crate::domain::intent::{Intent, Write};
use crate::domain::operation::Item;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::{BatchGroup, CallPurpose, RowResult, Vendor};
use crate::service::batching::{self, is_transient, may_split};
use crate::service::bulk::operation_run::{MAX_WAIT, OperationRun};
use crate::service::bulk_limits::ClaimPermit;
use crate::service::candidates::registration::PreparedRegistration;
use crate::service::connections::Connection;
use crate::service::write::conclusion::RowFate;
use crate::service::write::executor::InFlightWrite;
use crate::store::SubjectHash;

/// Batch of rows that share one vendor call.
pub(super) enum Batch {
    People(Vec<CandidateRow>),
    Bookings(Vec<AssignmentRow>),
}

impl Batch {
    /// Returns the number of rows.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::People(rows) => rows.len(),
            Self::Bookings(rows) => rows.len(),
        }
    }
}

/// Planned row about a person.
pub(super) struct CandidateRow {
    pub(super) item: Item,
    pub(super) new: NewCandidate,
    pub(super) prepared: PreparedRegistration,
    pub(super) subjects: Vec<SubjectHash>,
}

/// Planned row about a booking.
pub(super) struct AssignmentRow {
    pub(super) item: Item,
    pub(super) order: NewAssignment,
    pub(super) assignment: Assignment,
    pub(super) intent: Intent,
    pub(super) subjects: Vec<SubjectHash>,
}

impl OperationRun {
    /// Sends journaled rows, each call once it has an in-flight permit. Outcomes that cannot be committed are queued
    /// and committed later. Releases the claim permit once nothing more will be sent, so that the next batch may start
    /// while the outcomes are committed, unless `more` calls follow.
    pub(super) async fn send_ready(
        &self,
        connection: &Connection,
        rows: Vec<InFlightWrite>,
        begun: &mut Option<ClaimPermit>,
        more: bool,
    ) -> Result<(), Error> {
        let executor = &self.gateway.0.executor;
        let (mut parts, mut end) = (vec![(rows, 1)], Ok(()));
        let mut successor: Option<Arc<Connection>> = None;
        while let Some((mut rows, tried)) = parts.pop() {
            let connection = successor.as_deref().unwrap_or(connection);
            let permit = connection.acquire_in_flight(begun.as_ref(), &self.queue_key()).await;
            if let Some(next) = self.gateway.successor(connection) {
                parts.push((rows, tried));
                parts = rebatch(&next, parts);
                successor = Some(next);
                continue;
            }
            let writes: Vec<Write> = rows.iter().map(|row| row.intent.write.clone()).collect();
            let call = self.caller.call_context(CallPurpose::Initial);
            let results = executor.send(connection, &writes, &call).await;
            drop(permit);
            let transient = results.iter().all(|result| result.as_ref().is_err_and(|error| is_transient(error)));
            let again = transient && tried < connection.bulk_attempts();
            if again {
                let wait = results.iter().filter_map(|result| result.as_ref().err()?.retry_after).max();
                self.pause(wait.unwrap_or_else(|| self.with_jitter(connection.bulk_pause()))).await;
            }
            let split = rows.len() > 1 && may_split(&results);
            if (again && self.should_yield()) || ((again || split) && self.is_cancelled().await) {
                end = end.and(self.conclude(connection, rows, results, RowFate::Requeue).await);
                continue;
            }
            // Continue with the other parts even if this one fails: their intents are marked as in flight.
            if !again && !split {
                begun.take_if(|_| !more && parts.is_empty());
                end = end.and(self.conclude(connection, rows, results, RowFate::End).await);
            } else if executor.begin_attempts(connection, rows.iter_mut().map(|row| &mut row.intent)).await.is_err() {
                end = end.and(self.conclude(connection, rows, results, RowFate::Requeue).await);
            } else if split {
                let second = rows.split_off(rows.len() / 2);
                parts.extend([(second, tried), (rows, tried)]);
            } else {
                parts.push((rows, tried + 1));
            }
        }
        end
    }

    /// Returns between half and all of the pause, so that the retries of several operations do not synchronise.
    fn with_jitter(&self, pause: Duration) -> Duration {
        let share = f64::from(u16::from_be_bytes(self.gateway.0.system.random())) / f64::from(u16::MAX);
        pause.mul_f64(0.5 + share / 2.0)
    }

    /// Sleeps, but returns early when the process is stopping.
    async fn pause(&self, wait: Duration) {
        let resting = self.gateway.0.stopping.clone();
        let _ = resting.run_until_cancelled(tokio::time::sleep(wait.min(MAX_WAIT))).await;
    }

    /// Returns whether the operation was cancelled meanwhile. A failed read counts as no: committing the next attempt
    /// then fails too.
    async fn is_cancelled(&self) -> bool {
        let found = self.gateway.0.store.operation(&self.operation.tenant, &self.operation.id).await;
        matches!(found, Ok(Some((operation, _))) if operation.cancelling)
    }

    /// Commits the outcomes of one call's rows. Rows that had no effect are requeued if this process is stopping, has lost
    /// its store, or the operation was cancelled; the next run sends or skips them.
    async fn conclude(
        &self,
        connection: &Connection,
        rows: Vec<InFlightWrite>,
        results: Vec<RowResult<VendorReply>>,
        fate: RowFate,
    ) -> Result<(), Error> {
        if fate == RowFate::End {
            self.failures.add(results.iter().filter(|result| result.is_err()).count() as u64);
        }
        let resource = self.operation.id.path();
        self.gateway.0.executor.conclude(connection, rows, results, fate, None, &resource).await.map(drop)
    }
}

/// Groups rows by their writes into the largest batches the vendor accepts safely.
pub(super) fn into_batches<T>(connection: &Connection, rows: Vec<T>, write: impl Fn(&T) -> &Write) -> Vec<Vec<T>> {
    batching::into_batches(connection, rows, |row| batch_group(connection.vendor(), write(row)))
}

/// Regroups the parts by the batch limits of a replaced connection, which may be smaller.
fn rebatch(connection: &Connection, parts: Vec<(Vec<InFlightWrite>, u32)>) -> Vec<(Vec<InFlightWrite>, u32)> {
    let again = |(rows, tried)| {
        let calls = into_batches(connection, rows, |row: &InFlightWrite| &row.intent.write);
        calls.into_iter().map(move |rows| (rows, tried))
    };
    parts.into_iter().flat_map(again).collect()
}

fn batch_group(vendor: &dyn Vendor, write: &Write) -> BatchGroup {
    match write {
        Write::Register(registration) => vendor.registration_batch(registration),
        Write::Assign(booking) => vendor.booking_batch(booking),
        Write::Update(_) | Write::Hide(_) | Write::Cancel(_) | Write::Enrol(_) => BatchGroup::Single,
    }
}
