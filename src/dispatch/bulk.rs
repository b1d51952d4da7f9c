//! Many writes in one request: each row keeps an outcome of its own, and one bad row never fails its neighbours.
//!
//! Rows go through the same steps as single requests (plan, claim and intent, call, outcome); only the vendor calls and
//! the store's transactions are shared.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream;

use super::assignments::PreparedBooking;
use super::candidates::Prepared;
use super::connections::Connection;
use super::journal::{Done, assignment_path, candidate_path};
use super::packing::packed;
use super::subjects::Turn;
use super::tickets::acceptance;
use super::{Caller, CandidateAnswer, Gateway, Written, call, store_fault, store_lost};
use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::candidate::{Candidate, Identity, NewCandidate};
use crate::domain::capability::Operation;
use crate::domain::ids::OperationId;
use crate::domain::journal::{Intent, Write};
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault, Reach};
use crate::domain::vendor::{Applied, Attempt, Booked, Packing, Row, Vendor};
use crate::secret::Secret;
use crate::store::{Change, Claim, StoreError};

/// Look-ups and claims of one bulk at once; the store commits those that wait together.
const AT_ONCE: usize = 64;

/// One row of a bulk: the caller's mark for it, and what was read, or why it could not be.
#[derive(Debug, Clone)]
pub struct BulkRow<T> {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// The row.
    pub row: Result<T, Fault>,
}

/// What became of a bulk, in input order.
#[derive(Debug, Clone)]
pub struct BulkReport<T> {
    /// The operation.
    pub operation: OperationId,
    /// One entry a row.
    pub results: Vec<BulkResult<T>>,
}

/// What became of one row.
#[derive(Debug, Clone)]
pub struct BulkResult<T> {
    /// The caller's mark.
    pub item_id: Option<String>,
    /// How it ended.
    pub result: Result<Written<T>, Fault>,
}

/// A row whose record and intent are in the store.
struct Ready<R> {
    index: usize,
    record: R,
    intent: Intent,
    own_password: Option<Secret>,
    // Held until the row's outcome is in the store: whoever has it next must not find the write open still.
    turn: Turn,
}

type Results<A> = Vec<Option<Result<Written<A>, Fault>>>;

impl Gateway {
    /// Registers many people.
    pub async fn create_candidates(
        &self,
        caller: &Caller,
        connection: Option<&str>,
        rows: Vec<BulkRow<NewCandidate>>,
        fail_on_errors: Option<usize>,
        strict: bool,
    ) -> Result<BulkReport<CandidateAnswer>, Fault> {
        let connection = self.chosen(caller, connection, None)?;
        connection.supported(Operation::CandidatesCreate)?;
        let (caller, name) = (caller.clone(), connection.name.clone());
        self.to_the_end(move |gateway| async move {
            let connection = gateway.named(&caller, &name)?;
            let (marks, rows) = divided(rows);
            let failures = Failures::new(fail_on_errors);
            let mut results: Results<CandidateAnswer> =
                rows.iter().map(|row| row.as_ref().err().cloned().map(Err)).collect();
            failures.count(&results);
            let (ready, held) = gateway.claim_all(&caller, connection, &rows, strict, &mut results).await;
            failures.count(&results);
            gateway.deliver_all(&caller, connection, ready, &failures, &mut results).await;
            // Rows about people the gateway already has go the way of single requests.
            let singles = held.into_iter().filter_map(|index| Some((index, rows.get(index)?.as_ref().ok()?.clone())));
            let (gateway, caller, name, failures) = (&gateway, &caller, &name, &failures);
            let mut ended = stream::iter(singles)
                .map(|(index, new)| async move {
                    if failures.reached() {
                        return (index, Err(skipped()));
                    }
                    (index, gateway.register(caller, name, new, strict, &acceptance().0).await)
                })
                .buffer_unordered(connection.max_in_flight());
            while let Some((index, result)) = ended.next().await {
                failures.add(&result);
                results[index] = Some(result);
            }
            drop(ended);
            Ok(gateway.report(marks, results))
        })
        .await
    }

    /// Books many candidates.
    pub async fn create_assignments(
        &self,
        caller: &Caller,
        connection: Option<&str>,
        rows: Vec<BulkRow<NewAssignment>>,
        fail_on_errors: Option<usize>,
        strict: bool,
    ) -> Result<BulkReport<Assignment>, Fault> {
        // The rows of one bulk go to one connection: the one named, else the first row's.
        let first = rows.iter().find_map(|row| row.row.as_ref().ok());
        let connection = match first {
            Some(order) => self.connection_of_order(caller, connection, order).await?,
            None => self.chosen(caller, connection, None)?,
        };
        connection.supported(Operation::AssignmentsCreate)?;
        let (caller, name) = (caller.clone(), connection.name.clone());
        self.to_the_end(move |gateway| async move {
            let connection = gateway.named(&caller, &name)?;
            let (marks, rows) = divided(rows);
            let failures = Failures::new(fail_on_errors);
            let mut results: Results<Assignment> =
                rows.iter().map(|row| row.as_ref().err().cloned().map(Err)).collect();
            let ready = gateway.book_all(&caller, connection, &rows, strict, &mut results).await;
            failures.count(&results);
            gateway.deliver_all(&caller, connection, ready, &failures, &mut results).await;
            Ok(gateway.report(marks, results))
        })
        .await
    }

    /// Runs the work in a task of its own: a caller who hangs up changes nothing.
    async fn to_the_end<T, W>(&self, work: impl FnOnce(Self) -> W) -> Result<T, Fault>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.refuse_when_draining()?;
        self.0.tasks.spawn(work(self.clone())).await.unwrap_or_else(|error| {
            tracing::error!(panicked = error.is_panic(), "a bulk's task ended without an answer");
            Err(Fault::unknown(Code::Internal, "The gateway failed while it was writing."))
        })
    }

    fn report<A>(&self, marks: Vec<Option<String>>, results: Results<A>) -> BulkReport<A> {
        let lost = || Err(Fault::unknown(Code::Internal, "The row was lost."));
        let results = marks
            .into_iter()
            .zip(results)
            .map(|(item_id, result)| BulkResult { item_id, result: result.unwrap_or_else(lost) })
            .collect();
        BulkReport { operation: OperationId::generate(&self.0.environment), results }
    }

    /// Plans and claims every row. Gives back those ready to be sent, and the positions of those the gateway already has.
    async fn claim_all(
        &self,
        caller: &Caller,
        connection: &Connection,
        rows: &[Result<NewCandidate, Fault>],
        strict: bool,
        results: &mut Results<CandidateAnswer>,
    ) -> (Vec<Ready<Candidate>>, Vec<usize>) {
        let mut seen: HashMap<Identity, usize> = HashMap::new();
        let mut prepared = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let Ok(new) = row else { continue };
            let row = self.prepare(caller, connection, new.clone(), strict).and_then(|row| {
                refuse_repeat(&mut seen, &row.identities, index)?;
                Ok(row)
            });
            match row {
                Ok(row) => prepared.push((index, row)),
                Err(fault) => results[index] = Some(Err(fault)),
            }
        }
        let mut claims = stream::iter(prepared)
            .map(|(index, row)| async move {
                let turn = self.0.subjects.turn(row.candidate.id.as_str()).await;
                let claim = self.0.store.claim(&row.candidate, &row.identities, &row.intent).await;
                (index, row, turn, claim)
            })
            .buffered(AT_ONCE);
        let (mut ready, mut held) = (Vec::new(), Vec::new());
        while let Some((index, row, turn, claim)) = claims.next().await {
            let Prepared { candidate, identities: _, intent, own_password } = row;
            match claim {
                Ok(Claim::Claimed) => ready.push(Ready { index, record: candidate, intent, own_password, turn }),
                Ok(Claim::Held(_) | Claim::HeldByOthers) => held.push(index),
                Err(error) => results[index] = Some(Err(store_fault(&error))),
            }
        }
        (ready, held)
    }

    /// Looks up, plans and journals every order. Gives back those ready to be sent.
    async fn book_all(
        &self,
        caller: &Caller,
        connection: &Connection,
        rows: &[Result<NewAssignment, Fault>],
        strict: bool,
        results: &mut Results<Assignment>,
    ) -> Vec<Ready<Assignment>> {
        let accepted = self.0.environment.now();
        // Owned orders: the compiler cannot follow borrowed ones through the stream's futures.
        let orders: Vec<(usize, NewAssignment)> =
            rows.iter().enumerate().filter_map(|(index, row)| Some((index, row.clone().ok()?))).collect();
        let mut resolved = stream::iter(orders)
            .map(|(index, order)| async move {
                let prepared = match self.resolve(caller, connection, &order).await {
                    Ok(resolved) => self.prepare_booking(caller, connection, &order, resolved, accepted, strict),
                    Err(fault) => Err(fault),
                };
                (index, order, prepared)
            })
            .buffered(AT_ONCE);
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut prepared = Vec::new();
        while let Some((index, order, row)) = resolved.next().await {
            let row = row.and_then(|row| {
                refuse_repeat(&mut seen, &[row.assignment.turn()], index)?;
                Ok(row)
            });
            match row {
                Ok(row) => prepared.push((index, order, row)),
                Err(fault) => results[index] = Some(Err(fault)),
            }
        }
        drop(resolved);
        // Turns are taken in one order by everybody who takes several, so that two bulks never wait for each other.
        prepared.sort_by_cached_key(|(_, _, row)| row.assignment.turn());
        let mut ready = Vec::with_capacity(prepared.len());
        for (index, order, row) in prepared {
            match self.journalled(caller, connection, index, &order, row).await {
                Ok(row) => ready.push(row),
                Err(end) => results[index] = Some(*end),
            }
        }
        ready.sort_by_key(|row| row.index);
        ready
    }

    /// One booking with its record and intent in the store, or how it ended without.
    async fn journalled(
        &self,
        caller: &Caller,
        connection: &Connection,
        index: usize,
        order: &NewAssignment,
        row: PreparedBooking,
    ) -> Result<Ready<Assignment>, Box<Result<Written<Assignment>, Fault>>> {
        let PreparedBooking { assignment, mut intent } = row;
        let turn = self.0.subjects.turn(&assignment.turn()).await;
        match self.earlier_booking(caller, connection, order, &assignment.subject).await {
            Ok(Some(existing)) => return Err(Box::new(Ok(Written::Existing(existing)))),
            Ok(None) => {}
            Err(fault) => return Err(Box::new(Err(fault))),
        }
        let written = async {
            self.mark_first_booking(connection, &assignment, &mut intent).await?;
            let changes = vec![Change::Assignment(assignment.clone()), Change::Intent(intent.clone())];
            self.0.store.commit(changes).await.map_err(|error| store_fault(&error))
        };
        written.await.map_err(|fault| Box::new(Err(fault)))?;
        Ok(Ready { index, record: assignment, intent, own_password: None, turn })
    }

    /// Sends every row that is ready, packed into calls, several calls at once.
    async fn deliver_all<R: Record>(
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
trait Record: Clone + Send + Sync + Sized + 'static {
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
        let failed =
            Self { state: crate::domain::assignment::AssignmentState::Failed, outcome: Outcome::NotApplied, ..self };
        vec![Change::Assignment(failed), Change::Settled(id)]
    }
}

/// Counts failed rows against `failOnErrors`.
struct Failures {
    most: usize,
    failed: AtomicUsize,
}

impl Failures {
    fn new(most: Option<usize>) -> Self {
        Self { most: most.unwrap_or(usize::MAX), failed: AtomicUsize::new(0) }
    }

    fn reached(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.most
    }

    fn add<T>(&self, end: &Result<T, Fault>) {
        if end.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what failed before anything was sent, once more from the beginning.
    fn count<A>(&self, results: &Results<A>) {
        let failed = results.iter().filter(|result| matches!(result, Some(Err(_)))).count();
        self.failed.store(failed, Ordering::Relaxed);
    }
}

fn divided<T>(rows: Vec<BulkRow<T>>) -> (Vec<Option<String>>, Vec<Result<T, Fault>>) {
    rows.into_iter().map(|BulkRow { item_id, row }| (item_id, row)).unzip()
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

/// Refuses a row about something an earlier row is about, and remembers what this one is about.
fn refuse_repeat<K: std::hash::Hash + Eq + Clone>(
    seen: &mut HashMap<K, usize>,
    keys: &[K],
    index: usize,
) -> Result<(), Fault> {
    if let Some(earlier) = keys.iter().find_map(|key| seen.get(key)) {
        let detail = format!("Row {earlier} of this bulk is about the same; this one was not sent.");
        return Err(Fault::new(Code::DuplicateItem, detail));
    }
    seen.extend(keys.iter().map(|key| (key.clone(), index)));
    Ok(())
}

/// A row whose intent could not be taken back or renewed: nothing of it was applied, but the runner will send it.
fn left_open<R: Record>(error: &StoreError, row: &Ready<R>) -> Fault {
    tracing::error!(%error, "a row that was not sent stays open in the store");
    let detail = "The store failed before the row could be taken back; it was not sent, but still may be.";
    Fault::unknown(Code::StoreUnavailable, detail).at(row.record.path())
}

fn skipped() -> Fault {
    Fault::new(Code::Skipped, "The bulk stopped before this row: as many rows failed as failOnErrors allows.")
}
