//! Sends batches: rows that share a vendor call and whose intents are committed. A batch is split if the vendor rejects
//! it as a whole, retried after a transient failure, and its rows' outcomes are committed in one transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::candidate::{Candidate, NewCandidate};
use crate::domain::error::{Code, Error, RejectionScope};
use crate::domain::intent::{Intent, Write};
use crate::domain::operation::Item;
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{BatchGroup, CallPurpose, RowResult, Vendor};
use crate::service::batching;
use crate::service::batching::BatchLimits;
use crate::service::bulk::run::{MAX_WAIT, OperationRun};
use crate::service::connections::{ClaimPermit, Connection};
use crate::service::write::executor::VendorReply;
use crate::service::write::locks::SubjectLock;
use crate::service::{Gateway, call_context};
use crate::store::{Mutation, StoreError, SubjectHash};

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
    pub(super) prepared: crate::service::candidates::PreparedRegistration,
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

/// Row whose record and intent are committed.
pub(super) struct JournaledRow<R> {
    pub(super) record: R,
    pub(super) intent: Intent,
    // Held until the row's outcome is committed, so that the next holder never finds the write still open.
    pub(super) turn: SubjectLock,
}

/// Record type that bulk rows write.
pub(super) trait BulkResource: Clone + Send + Sync + Sized + 'static {
    fn conclude(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Self, Error>);
}

impl BulkResource for Candidate {
    fn conclude(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Self, Error>) {
        gateway.candidate_conclusion(connection, self, intent, row)
    }
}

impl BulkResource for Assignment {
    fn conclude(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: RowResult<VendorReply>,
    ) -> (Vec<Mutation>, Result<Self, Error>) {
        gateway.assignment_conclusion(connection, self, intent, row)
    }
}

impl OperationRun {
    /// Sends journaled rows, each call once it has an in-flight permit. Outcomes that cannot be committed are queued
    /// and committed later. Releases the claim permit once nothing more will be sent, so that the next batch may start
    /// while the outcomes are committed, unless `more` calls follow.
    pub(super) async fn send_ready<R: BulkResource>(
        &self,
        connection: &Connection,
        rows: Vec<JournaledRow<R>>,
        begun: &mut Option<ClaimPermit>,
        more: bool,
    ) -> Result<(), Error> {
        let (mut parts, mut end) = (vec![(rows, 1)], Ok(()));
        let mut successor: Option<Arc<Connection>> = None;
        while let Some((mut rows, tried)) = parts.pop() {
            let connection = successor.as_deref().unwrap_or(connection);
            let place = connection.acquire_in_flight(begun.as_ref(), &self.queue_key()).await;
            if let Some(next) = self.gateway.successor(connection) {
                parts.push((rows, tried));
                parts = rebatch(&next, parts);
                successor = Some(next);
                continue;
            }
            let writes: Vec<Write> = rows.iter().map(|row| row.intent.write.clone()).collect();
            let answers =
                self.gateway.send(connection, &writes, &call_context(&self.caller, CallPurpose::Initial)).await;
            drop(place);
            let moment = answers.iter().all(|answer| answer.as_ref().is_err_and(is_transient));
            let again = moment && tried < connection.bulk_attempts();
            if again {
                let wait = answers.iter().filter_map(|answer| answer.as_ref().err()?.retry_after).max();
                self.pause(wait.unwrap_or_else(|| self.with_jitter(connection.bulk_pause()))).await;
            }
            let split = !moment && rows.len() > 1 && answers.iter().all(is_batch_rejection);
            if (again && self.should_yield()) || ((again || split) && self.is_cancelled().await) {
                end = end.and(self.requeue(connection, rows, answers).await);
                continue;
            }
            // Continue with the other parts even if this one fails: their intents are marked as in flight.
            if !again && !split {
                begun.take_if(|_| !more && parts.is_empty());
                end = end.and(self.conclude_all(connection, rows, answers).await);
            } else if self.begin_attempts(connection, &mut rows).await.is_err() {
                end = end.and(self.requeue(connection, rows, answers).await);
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

    /// Concludes rows that had no effect and queues them again, because this process is stopping, has lost its store,
    /// or the operation was cancelled. The next run sends or skips them.
    async fn requeue<R: BulkResource>(
        &self,
        connection: &Connection,
        rows: Vec<JournaledRow<R>>,
        answers: Vec<RowResult<VendorReply>>,
    ) -> Result<(), Error> {
        let (mut changes, mut turns) = (Vec::new(), Vec::with_capacity(rows.len()));
        for (row, answer) in rows.into_iter().zip(answers) {
            let JournaledRow { record, intent, turn } = row;
            turns.push(turn);
            let item = intent.origin.item.clone();
            changes.extend(record.conclude(&self.gateway, connection, intent, answer).0);
            changes.extend(item.map(Mutation::RequeueItem));
        }
        let kept = self.gateway.commit_outcome(changes, &format!("/operations/{}", self.operation.id)).await;
        drop(turns);
        kept
    }

    /// Commits one more attempt of rows before they are resent; if that fails they must not be sent. The last attempt
    /// had no effect, so it does not count towards the back-off.
    async fn begin_attempts<R>(&self, connection: &Connection, rows: &mut [JournaledRow<R>]) -> Result<(), StoreError> {
        for row in rows.iter_mut() {
            self.stamp_attempt(connection, &mut row.intent);
        }
        let changes: Vec<Mutation> = rows.iter().map(|row| Mutation::Intent(row.intent.clone())).collect();
        self.gateway.0.store.commit(changes).await
    }

    /// Stamps the start of an attempt on the intent.
    pub(super) fn stamp_attempt(&self, connection: &Connection, intent: &mut Intent) {
        intent.started = self.gateway.now();
        intent.settle_from = connection.reconcile_from(intent.started);
        intent.due = Some(intent.settle_from);
    }

    /// Commits the outcomes of one call's rows, in one transaction.
    async fn conclude_all<R: BulkResource>(
        &self,
        connection: &Connection,
        rows: Vec<JournaledRow<R>>,
        answers: Vec<RowResult<VendorReply>>,
    ) -> Result<(), Error> {
        let (mut changes, mut turns, mut failed) = (Vec::new(), Vec::with_capacity(rows.len()), 0);
        for (row, answer) in rows.into_iter().zip(answers) {
            let JournaledRow { record, intent, turn } = row;
            turns.push(turn);
            let (more, end) = record.conclude(&self.gateway, connection, intent, answer);
            changes.extend(more);
            failed += u64::from(end.is_err());
        }
        self.failures.add(failed);
        let kept = self.gateway.commit_outcome(changes, &format!("/operations/{}", self.operation.id)).await;
        drop(turns);
        kept
    }
}

/// Groups rows into the largest batches the vendor accepts safely.
pub(super) fn into_batches<P>(connection: &Connection, rows: Vec<P>, write: impl Fn(&P) -> &Write) -> Vec<Vec<P>> {
    let packings: Vec<BatchGroup> = rows.iter().map(|row| batch_group(connection.vendor(), write(row))).collect();
    let mut rows: Vec<Option<P>> = rows.into_iter().map(Some).collect();
    batching::into_batches(
        &packings,
        &BatchLimits { rows: |most| connection.batch(most), bytes: connection.call_bytes() },
    )
    .into_iter()
    .map(|positions| positions.into_iter().filter_map(|position| rows[position].take()).collect())
    .collect()
}

/// Regroups the parts by the batch limits of a replaced connection, which may be smaller.
fn rebatch<R>(connection: &Connection, parts: Vec<(Vec<JournaledRow<R>>, u32)>) -> Vec<(Vec<JournaledRow<R>>, u32)> {
    let again = |(rows, tried)| {
        let calls = into_batches(connection, rows, |row: &JournaledRow<R>| &row.intent.write);
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

/// Returns whether the vendor rejected the whole call, regardless of individual rows.
pub(in crate::service) fn is_batch_rejection(answer: &RowResult<VendorReply>) -> bool {
    matches!(answer, Err(fault) if fault.reach == RejectionScope::Batch && fault.outcome == Outcome::NotApplied)
}

/// Returns whether the call had no effect for a transient reason: the rows are valid and worth retrying.
pub(in crate::service) fn is_transient(fault: &Error) -> bool {
    let moment = matches!(
        fault.code,
        Code::ConnectionSaturated
            | Code::VendorCircuitOpen
            | Code::VendorRateLimited
            | Code::VendorUnreachable
            // This instance had lost contact with the shared store, so it sent nothing.
            | Code::StoreUnavailable
    );
    moment && fault.outcome == Outcome::NotApplied
}
