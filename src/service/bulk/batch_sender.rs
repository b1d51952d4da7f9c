//! One call's rows, their intents in the store: sent, split where the vendor refuses the call whole, tried again where
//! nothing came of it through no fault of the rows, and each row's end written down with those of its call.

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
use crate::service::{Gateway, call};
use crate::store::{Mutation, StoreError, SubjectHash};

/// Rows that share one vendor call.
pub(super) enum Batch {
    People(Vec<CandidateRow>),
    Bookings(Vec<AssignmentRow>),
}

impl Batch {
    /// How many.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::People(rows) => rows.len(),
            Self::Bookings(rows) => rows.len(),
        }
    }
}

/// A row about a person, planned.
pub(super) struct CandidateRow {
    pub(super) item: Item,
    pub(super) new: NewCandidate,
    pub(super) prepared: crate::service::candidates::PreparedRegistration,
    pub(super) subjects: Vec<SubjectHash>,
}

/// A row about a booking, planned.
pub(super) struct AssignmentRow {
    pub(super) item: Item,
    pub(super) order: NewAssignment,
    pub(super) assignment: Assignment,
    pub(super) intent: Intent,
    pub(super) subjects: Vec<SubjectHash>,
}

/// A row whose record and intent are in the store.
pub(super) struct JournaledRow<R> {
    pub(super) record: R,
    pub(super) intent: Intent,
    // Held until the row's outcome is in the store: whoever has it next must not find the write open still.
    pub(super) turn: SubjectLock,
}

/// What a call needs of a record, besides what every write needs.
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
    /// Sends rows that are ready, each call when it has a place at the vendor. What cannot be written down is written later;
    /// nothing is lost with it. When nothing is to be sent any more the next call may begin, while the ends are written down;
    /// unless more comes of this one.
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
            let answers = self.gateway.send(connection, &writes, &call(&self.caller, CallPurpose::Initial)).await;
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
            // The other parts go on whatever becomes of this one: their intents say that they are being sent.
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

    /// Between half of it and the whole, so that the calls of several operations do not come back in step.
    fn with_jitter(&self, pause: Duration) -> Duration {
        let share = f64::from(u16::from_be_bytes(self.gateway.0.environment.random())) / f64::from(u16::MAX);
        pause.mul_f64(0.5 + share / 2.0)
    }

    /// Waits, but not for longer than the process stays.
    async fn pause(&self, wait: Duration) {
        let resting = self.gateway.0.resting.clone();
        let _ = resting.run_until_cancelled(tokio::time::sleep(wait.min(MAX_WAIT))).await;
    }

    /// Whether somebody has asked for the operation's end meanwhile. Where that cannot be read, the attempt's own record in the
    /// store fails as well.
    async fn is_cancelled(&self) -> bool {
        let found = self.gateway.0.store.operation(&self.operation.tenant, &self.operation.id).await;
        matches!(found, Ok(Some((operation, _))) if operation.cancelling)
    }

    /// Nothing came of the rows, and this process goes, has lost its store, or the operation was cancelled: they wait again, for
    /// whoever goes on with the operation, or are skipped.
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
            changes.extend(item.map(Mutation::ItemWaiting));
        }
        let kept = self.gateway.commit_outcome(changes, &format!("/operations/{}", self.operation.id)).await;
        drop(turns);
        kept
    }

    /// Journals one more attempt of rows that are about to be sent again. Where that cannot be kept, they are not. Nothing came
    /// of the last attempt, so it does not count among the attempts either, by which the background's pauses grow.
    async fn begin_attempts<R>(&self, connection: &Connection, rows: &mut [JournaledRow<R>]) -> Result<(), StoreError> {
        for row in rows.iter_mut() {
            self.stamp_attempt(connection, &mut row.intent);
        }
        let changes: Vec<Mutation> = rows.iter().map(|row| Mutation::Intent(row.intent.clone())).collect();
        self.gateway.0.store.commit(changes).await
    }

    /// The intent's attempt begins now.
    pub(super) fn stamp_attempt(&self, connection: &Connection, intent: &mut Intent) {
        intent.started = self.gateway.now();
        intent.settle_from = connection.settle_from(intent.started);
        intent.due = Some(intent.settle_from);
    }

    /// Writes down how the rows of one call ended, in one transaction.
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

/// Rows packed into the largest calls the vendor takes safely.
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

/// Parts of calls as another connection takes them, which may be fewer rows at once.
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

/// Whether the call was refused, whatever its rows said one by one.
pub(in crate::service) fn is_batch_rejection(answer: &RowResult<VendorReply>) -> bool {
    matches!(answer, Err(fault) if fault.reach == RejectionScope::Batch && fault.outcome == Outcome::NotApplied)
}

/// Whether nothing came of a call because of how things stand at the moment: the rows are in order and worth another try.
pub(in crate::service) fn is_transient(fault: &Error) -> bool {
    let moment = matches!(
        fault.code,
        Code::ConnectionSaturated
            | Code::VendorCircuitOpen
            | Code::VendorRateLimited
            | Code::VendorUnreachable
            // This instance had lost touch with the store it shares, so it sent nothing.
            | Code::StoreUnavailable
    );
    moment && fault.outcome == Outcome::NotApplied
}
