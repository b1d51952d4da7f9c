//! Many writes in one request: each row keeps an outcome of its own, and one bad row never fails its neighbours.
//!
//! Rows go through the same steps as single requests (plan, claim and intent, call, outcome); only the vendor calls and
//! the store's transactions are shared.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream;

use self::delivery::{Failures, Ready, skipped};
use super::assignments::PreparedBooking;
use super::candidates::Prepared;
use super::connections::Connection;
use super::tickets::acceptance;
use super::{BeforeSending as _, Caller, CandidateAnswer, Gateway, Written};
use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::candidate::{Candidate, Identity, NewCandidate};
use crate::domain::capability::Operation;
use crate::domain::ids::OperationId;
use crate::domain::problem::{Code, Fault};
use crate::store::{Change, Claim};

mod delivery;

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
                Err(error) => results[index] = Some(Err(error).before_sending()),
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
            self.0.store.commit(changes).await.before_sending()
        };
        written.await.map_err(|fault| Box::new(Err(fault)))?;
        Ok(Ready { index, record: assignment, intent, own_password: None, turn })
    }
}

fn divided<T>(rows: Vec<BulkRow<T>>) -> (Vec<Option<String>>, Vec<Result<T, Fault>>) {
    rows.into_iter().map(|BulkRow { item_id, row }| (item_id, row)).unzip()
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
