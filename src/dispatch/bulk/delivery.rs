//! One call's rows, their intents in the store: sent, split where the vendor refuses the call whole, tried again where
//! nothing came of it through no fault of the rows, and each row's end written down with those of its call.

use std::sync::Arc;
use std::time::Duration;

use super::worker::{LONGEST_WAIT, Work};
use crate::dispatch::connections::{Begun, Connection};
use crate::dispatch::journal::Done;
use crate::dispatch::packing::{CallLimits, packed};
use crate::dispatch::turns::Turn;
use crate::dispatch::{Gateway, call};
use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::candidate::{Candidate, NewCandidate};
use crate::domain::journal::{Intent, Write};
use crate::domain::operation::Item;
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault, Reach};
use crate::domain::vendor::{Attempt, Packing, Row, Vendor};
use crate::store::{Change, StoreError, Subject};

/// Rows that share one vendor call.
pub(super) enum Planned {
    People(Vec<PersonRow>),
    Bookings(Vec<BookingRow>),
}

impl Planned {
    /// How many.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::People(rows) => rows.len(),
            Self::Bookings(rows) => rows.len(),
        }
    }
}

/// A row about a person, planned.
pub(super) struct PersonRow {
    pub(super) item: Item,
    pub(super) new: NewCandidate,
    pub(super) prepared: crate::dispatch::candidates::Prepared,
    pub(super) subjects: Vec<Subject>,
}

/// A row about a booking, planned.
pub(super) struct BookingRow {
    pub(super) item: Item,
    pub(super) order: NewAssignment,
    pub(super) assignment: Assignment,
    pub(super) intent: Intent,
    pub(super) subjects: Vec<Subject>,
}

/// A row whose record and intent are in the store.
pub(super) struct Ready<R> {
    pub(super) record: R,
    pub(super) intent: Intent,
    // Held until the row's outcome is in the store: whoever has it next must not find the write open still.
    pub(super) turn: Turn,
}

/// What a call needs of a record, besides what every write needs.
pub(super) trait Record: Clone + Send + Sync + Sized + 'static {
    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>);
}

impl Record for Candidate {
    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>) {
        gateway.candidate_after(connection, self, intent, row)
    }
}

impl Record for Assignment {
    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>) {
        gateway.assignment_after(connection, self, intent, row)
    }
}

impl Work {
    /// Sends rows that are ready, each call when it has a place at the vendor. What cannot be written down is written later;
    /// nothing is lost with it. When nothing is to be sent any more the next call may begin, while the ends are written down;
    /// unless more comes of this one.
    pub(super) async fn send_ready<R: Record>(
        &self,
        connection: &Connection,
        rows: Vec<Ready<R>>,
        begun: &mut Option<Begun>,
        more: bool,
    ) -> Result<(), Fault> {
        let (mut parts, mut end) = (vec![(rows, 1)], Ok(()));
        let mut successor: Option<Arc<Connection>> = None;
        while let Some((mut rows, tried)) = parts.pop() {
            let connection = successor.as_deref().unwrap_or(connection);
            let place = connection.place_for(begun.as_ref(), &self.queue_key()).await;
            if let Some(next) = self.gateway.successor(connection) {
                parts.push((rows, tried));
                parts = packed_again(&next, parts);
                successor = Some(next);
                continue;
            }
            let writes: Vec<Write> = rows.iter().map(|row| row.intent.write.clone()).collect();
            let answers = self.gateway.send(connection, &writes, &call(&self.caller, Attempt::First)).await;
            drop(place);
            let moment = answers.iter().all(|answer| answer.as_ref().is_err_and(of_the_moment));
            let again = moment && tried < connection.bulk_attempts();
            if again {
                let wait = answers.iter().filter_map(|answer| answer.as_ref().err()?.retry_after).max();
                self.pause(wait.unwrap_or_else(|| self.jittered(connection.bulk_pause()))).await;
            }
            let split = !moment && rows.len() > 1 && answers.iter().all(refused_whole);
            if (again && self.rests()) || ((again || split) && self.is_cancelled().await) {
                end = end.and(self.put_back(connection, rows, answers).await);
                continue;
            }
            // The other parts go on whatever becomes of this one: their intents say that they are being sent.
            if !again && !split {
                begun.take_if(|_| !more && parts.is_empty());
                end = end.and(self.conclude_all(connection, rows, answers).await);
            } else if self.another_attempt(connection, &mut rows).await.is_err() {
                end = end.and(self.put_back(connection, rows, answers).await);
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
    fn jittered(&self, pause: Duration) -> Duration {
        let share = f64::from(u16::from_be_bytes(self.gateway.0.environment.random())) / f64::from(u16::MAX);
        pause.mul_f64(0.5 + share / 2.0)
    }

    /// Waits, but not for longer than the process stays.
    async fn pause(&self, wait: Duration) {
        let resting = self.gateway.0.resting.clone();
        let _ = resting.run_until_cancelled(tokio::time::sleep(wait.min(LONGEST_WAIT))).await;
    }

    /// Whether somebody has asked for the operation's end meanwhile. Where that cannot be read, the attempt's own record in the
    /// store fails as well.
    async fn is_cancelled(&self) -> bool {
        let found = self.gateway.0.store.operation(&self.operation.tenant, &self.operation.id).await;
        matches!(found, Ok(Some((operation, _))) if operation.cancelling)
    }

    /// Nothing came of the rows, and this process goes, has lost its store, or the operation was cancelled: they wait again, for
    /// whoever goes on with the operation, or are skipped.
    async fn put_back<R: Record>(
        &self,
        connection: &Connection,
        rows: Vec<Ready<R>>,
        answers: Vec<Row<Done>>,
    ) -> Result<(), Fault> {
        let (mut changes, mut turns) = (Vec::new(), Vec::with_capacity(rows.len()));
        for (row, answer) in rows.into_iter().zip(answers) {
            let Ready { record, intent, turn } = row;
            turns.push(turn);
            let item = intent.origin.item.clone();
            changes.extend(record.after(&self.gateway, connection, intent, answer).0);
            changes.extend(item.map(Change::ItemWaiting));
        }
        let kept = self.gateway.kept(changes, &format!("/operations/{}", self.operation.id)).await;
        drop(turns);
        kept
    }

    /// Journals one more attempt of rows that are about to be sent again. Where that cannot be kept, they are not. Nothing came
    /// of the last attempt, so it does not count among the attempts either, by which the background's pauses grow.
    async fn another_attempt<R>(&self, connection: &Connection, rows: &mut [Ready<R>]) -> Result<(), StoreError> {
        for row in rows.iter_mut() {
            self.begun(connection, &mut row.intent);
        }
        let changes: Vec<Change> = rows.iter().map(|row| Change::Intent(row.intent.clone())).collect();
        self.gateway.0.store.commit(changes).await
    }

    /// The intent's attempt begins now.
    pub(super) fn begun(&self, connection: &Connection, intent: &mut Intent) {
        intent.started = self.gateway.now();
        intent.settle_from = connection.settle_from(intent.started);
        intent.due = Some(intent.settle_from);
    }

    /// Writes down how the rows of one call ended, in one transaction.
    async fn conclude_all<R: Record>(
        &self,
        connection: &Connection,
        rows: Vec<Ready<R>>,
        answers: Vec<Row<Done>>,
    ) -> Result<(), Fault> {
        let (mut changes, mut turns, mut failed) = (Vec::new(), Vec::with_capacity(rows.len()), 0);
        for (row, answer) in rows.into_iter().zip(answers) {
            let Ready { record, intent, turn } = row;
            turns.push(turn);
            let (more, end) = record.after(&self.gateway, connection, intent, answer);
            changes.extend(more);
            failed += u64::from(end.is_err());
        }
        self.failures.add(failed);
        let kept = self.gateway.kept(changes, &format!("/operations/{}", self.operation.id)).await;
        drop(turns);
        kept
    }
}

/// Rows packed into the largest calls the vendor takes safely.
pub(super) fn in_calls<P>(connection: &Connection, rows: Vec<P>, write: impl Fn(&P) -> &Write) -> Vec<Vec<P>> {
    let packings: Vec<Packing> = rows.iter().map(|row| packing(connection.vendor(), write(row))).collect();
    let mut rows: Vec<Option<P>> = rows.into_iter().map(Some).collect();
    packed(&packings, &CallLimits { rows: |most| connection.batch(most), bytes: connection.call_bytes() })
        .into_iter()
        .map(|positions| positions.into_iter().filter_map(|position| rows[position].take()).collect())
        .collect()
}

/// Parts of calls as another connection takes them, which may be fewer rows at once.
fn packed_again<R>(connection: &Connection, parts: Vec<(Vec<Ready<R>>, u32)>) -> Vec<(Vec<Ready<R>>, u32)> {
    let again = |(rows, tried)| {
        let calls = in_calls(connection, rows, |row: &Ready<R>| &row.intent.write);
        calls.into_iter().map(move |rows| (rows, tried))
    };
    parts.into_iter().flat_map(again).collect()
}

fn packing(vendor: &dyn Vendor, write: &Write) -> Packing {
    match write {
        Write::Register(registration) => vendor.packing_of_registration(registration),
        Write::Assign(booking) => vendor.packing_of_booking(booking),
        Write::Update(_) | Write::Hide(_) | Write::Cancel(_) | Write::Enrol(_) => Packing::Alone,
    }
}

/// Whether the call was refused, whatever its rows said one by one.
pub(in crate::dispatch) fn refused_whole(answer: &Row<Done>) -> bool {
    matches!(answer, Err(fault) if fault.reach == Reach::Call && fault.outcome == Outcome::NotApplied)
}

/// Whether nothing came of a call because of how things stand at the moment: the rows are in order and worth another try.
pub(in crate::dispatch) fn of_the_moment(fault: &Fault) -> bool {
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
