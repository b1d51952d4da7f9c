//! Sending a bulk's rows: packed into vendor calls, several at once, each row's outcome written down with those of its call.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream;

use super::Results;
use crate::dispatch::connections::Connection;
use crate::dispatch::journal::{Done, assignment_path, candidate_path};
use crate::dispatch::packing::packed;
use crate::dispatch::subjects::Turn;
use crate::dispatch::{Caller, CandidateAnswer, Gateway, Written, call, store_lost};
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::Candidate;
use crate::domain::journal::{Intent, Write};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault, Reach};
use crate::domain::vendor::{Applied, Attempt, Booked, Packing, Row, Vendor};
use crate::secret::Secret;
use crate::store::{Change, StoreError};

/// A row whose record and intent are in the store.
pub(super) struct Ready<R> {
    pub(super) index: usize,
    pub(super) record: R,
    pub(super) intent: Intent,
    pub(super) own_password: Option<Secret>,
    // Held until the row's outcome is in the store: whoever has it next must not find the write open still.
    pub(super) turn: Turn,
}

impl Gateway {
    /// Sends every row that is ready, packed into calls, several calls at once.
    pub(super) async fn deliver_all<R: Record>(
        &self,
        caller: &Caller,
        connection: &Connection,
        ready: Vec<Ready<R>>,
        failures: &Failures,
        results: &mut Results<R::Answer>,
    ) {
        let packings: Vec<Packing> = ready.iter().map(|row| packing(connection.vendor(), &row.intent.write)).collect();
        let mut rows: Vec<Option<Ready<R>>> = ready.into_iter().map(Some).collect();
        let calls: Vec<Vec<Ready<R>>> = packed(&packings, |most| connection.batch(most))
            .into_iter()
            .map(|positions| positions.into_iter().filter_map(|position| rows[position].take()).collect())
            .collect();
        let mut ended = stream::iter(calls)
            .map(|rows| self.deliver_call(caller, connection, rows, failures))
            .buffer_unordered(connection.max_in_flight());
        while let Some(ends) = ended.next().await {
            for (index, end) in ends {
                results[index] = Some(end);
            }
        }
    }

    /// Sends one call's rows; a call refused whole is split and sent again in parts.
    async fn deliver_call<R: Record>(
        &self,
        caller: &Caller,
        connection: &Connection,
        rows: Vec<Ready<R>>,
        failures: &Failures,
    ) -> Vec<(usize, Result<Written<R::Answer>, Fault>)> {
        let mut ended = Vec::with_capacity(rows.len());
        let mut parts = vec![rows];
        while let Some(mut rows) = parts.pop() {
            if failures.reached() {
                ended.extend(self.skip(rows).await);
                continue;
            }
            let writes: Vec<Write> = rows.iter().map(|row| row.intent.write.clone()).collect();
            let answers = self.send(connection, &writes, &call(caller, Attempt::First)).await;
            if rows.len() > 1 && answers.iter().all(refused_whole) {
                match self.another_attempt(connection, &mut rows).await {
                    Ok(()) => {
                        let second = rows.split_off(rows.len() / 2);
                        parts.extend([second, rows]);
                    }
                    Err(error) => ended.extend(rows.iter().map(|row| (row.index, Err(left_open(&error, row))))),
                }
                continue;
            }
            let ends = self.conclude_all(connection, rows, answers).await;
            for (_, end) in &ends {
                failures.add(end);
            }
            ended.extend(ends);
        }
        ended
    }

    /// Journals one more attempt of rows that are about to be sent again.
    async fn another_attempt<R: Record>(
        &self,
        connection: &Connection,
        rows: &mut [Ready<R>],
    ) -> Result<(), StoreError> {
        let now = self.0.environment.now();
        for row in rows.iter_mut() {
            row.intent.attempts += 1;
            row.intent.started = now;
            row.intent.settle_from = connection.settle_from(now);
        }
        let changes = rows.iter().map(|row| Change::Intent(row.intent.clone())).collect();
        self.0.store.commit(changes).await
    }

    /// Writes down how the rows of one call ended, in one transaction.
    async fn conclude_all<R: Record>(
        &self,
        connection: &Connection,
        rows: Vec<Ready<R>>,
        answers: Vec<Row<Done>>,
    ) -> Vec<(usize, Result<Written<R::Answer>, Fault>)> {
        let (mut changes, mut ended) = (Vec::new(), Vec::with_capacity(rows.len()));
        let (mut places, mut turns) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (row, answer) in rows.into_iter().zip(answers) {
            let Ready { index, record, intent, own_password, turn } = row;
            let there = matches!(&answer, Ok(Applied { value: Done::Booked(Booked { already_there: true, .. }), .. }));
            places.push((index, record.path()));
            turns.push(turn);
            let (more, end) = record.after(self, connection, intent, answer);
            changes.extend(more);
            let end = end.map(|record| R::answer(record, own_password));
            let end = end.map(|answer| if there { Written::Existing(answer) } else { Written::Created(answer) });
            ended.push((index, end));
        }
        let kept = self.0.store.commit(changes).await;
        drop(turns);
        match kept {
            Ok(()) => ended,
            Err(error) => {
                let fault = store_lost(&error, "");
                places.into_iter().map(|(index, path)| (index, Err(fault.clone().at(path)))).collect()
            }
        }
    }

    /// Takes back rows that are not going to be sent.
    async fn skip<R: Record>(&self, rows: Vec<Ready<R>>) -> Vec<(usize, Result<Written<R::Answer>, Fault>)> {
        // The rows keep their turns until they are taken back: nobody may settle them meanwhile.
        let changes = rows.iter().flat_map(|row| row.record.clone().withdrawn()).collect();
        match self.0.store.commit(changes).await {
            Ok(()) => rows.into_iter().map(|row| (row.index, Err(skipped()))).collect(),
            Err(error) => rows.iter().map(|row| (row.index, Err(left_open(&error, row)))).collect(),
        }
    }
}

/// What bulk needs of a record, besides what every write needs.
pub(super) trait Record: Clone + Send + Sync + Sized + 'static {
    type Answer: Clone + Send + Sync + 'static;

    fn path(&self) -> String;
    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>);
    fn answer(self, own_password: Option<Secret>) -> Self::Answer;
    fn withdrawn(self) -> Vec<Change>;
}

impl Record for Candidate {
    type Answer = CandidateAnswer;

    fn path(&self) -> String {
        candidate_path(&self.id)
    }

    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>) {
        gateway.candidate_after(connection, self, intent, row)
    }

    fn answer(self, own_password: Option<Secret>) -> CandidateAnswer {
        CandidateAnswer { candidate: self, initial_password: own_password }
    }

    fn withdrawn(self) -> Vec<Change> {
        vec![Change::EraseCandidate(self.id)]
    }
}

impl Record for Assignment {
    type Answer = Self;

    fn path(&self) -> String {
        assignment_path(&self.id)
    }

    fn after(
        self,
        gateway: &Gateway,
        connection: &Connection,
        intent: Intent,
        row: Row<Done>,
    ) -> (Vec<Change>, Result<Self, Fault>) {
        gateway.assignment_after(connection, self, intent, row)
    }

    fn answer(self, _: Option<Secret>) -> Self {
        self
    }

    fn withdrawn(self) -> Vec<Change> {
        let id = self.id.to_string();
        let failed = Self { state: AssignmentState::Failed, outcome: Outcome::NotApplied, ..self };
        vec![Change::Assignment(failed), Change::Settled(id)]
    }
}

/// Counts failed rows against `failOnErrors`.
pub(super) struct Failures {
    most: usize,
    failed: AtomicUsize,
}

impl Failures {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most: most.unwrap_or(usize::MAX), failed: AtomicUsize::new(0) }
    }

    pub(super) fn reached(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.most
    }

    pub(super) fn add<T>(&self, end: &Result<T, Fault>) {
        if end.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what failed before anything was sent, once more from the beginning.
    pub(super) fn count<A>(&self, results: &Results<A>) {
        let failed = results.iter().filter(|result| matches!(result, Some(Err(_)))).count();
        self.failed.store(failed, Ordering::Relaxed);
    }
}

fn packing(vendor: &dyn Vendor, write: &Write) -> Packing {
    match write {
        Write::Register(registration) => vendor.packing_of_registration(registration),
        Write::Assign(booking) => vendor.packing_of_booking(booking),
        Write::Update(_) | Write::Hide(_) | Write::Cancel(_) => Packing::Alone,
    }
}

fn refused_whole(answer: &Row<Done>) -> bool {
    matches!(answer, Err(fault) if fault.reach == Reach::Call && fault.outcome == Outcome::NotApplied)
}

/// A row whose intent could not be taken back or renewed: nothing of it was applied, but the runner will send it.
fn left_open<R: Record>(error: &StoreError, row: &Ready<R>) -> Fault {
    tracing::error!(%error, "a row that was not sent stays open in the store");
    let detail = "The store failed before the row could be taken back; it was not sent, but still may be.";
    Fault::unknown(Code::StoreUnavailable, detail).at(row.record.path())
}

pub(super) fn skipped() -> Fault {
    Fault::new(Code::Skipped, "The bulk stopped before this row: as many rows failed as failOnErrors allows.")
}
