//! Callers of bulk requests, and the check that an operation's report is true row by row.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::domain::intent::Write;
use crate::domain::operation::{ItemRequest, OperationKind, Progress};
use crate::domain::outcome::Outcome;
use crate::service::simulation::callers::{caller, callers_key, newcomer, order};
use crate::service::simulation::names::token;
use crate::service::simulation::sim::{CONNECTION, Sim};
use crate::service::simulation::steps::Rows;
use crate::service::simulation::vendor_oracle::RowState;
use crate::service::{
    AcceptedOperation, BulkOptions, BulkRow, Gateway, OperationStatus, ResultRow, RowOutcome, RowResource,
};

/// A submitted bulk request.
#[derive(Debug, Clone)]
pub(super) struct Bulk {
    rows: Rows,
    fail_on_errors: Option<u64>,
    token: String,
    key: Option<String>,
    pub(super) id: Option<OperationId>,
}

impl Bulk {
    pub(super) fn new(rows: Rows, fail_on_errors: Option<u64>, number: usize, keyed: bool) -> Self {
        let key = keyed.then(|| format!("bulk {number}"));
        Self { rows, fail_on_errors, token: format!("b{number}"), key, id: None }
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Sends the bulk, a few rows at a time.
    pub(super) async fn send(
        &self,
        gateway: &Gateway,
        world: crate::service::simulation::vendor_oracle::Profile,
    ) -> Result<AcceptedOperation, Error> {
        let kind = match &self.rows {
            Rows::People(_) => OperationKind::Candidates,
            Rows::Bookings(_) => OperationKind::Assignments,
        };
        let mut reception = gateway.receive(&caller(None), kind, false).await?;
        for part in self.rows(world).chunks(10) {
            reception.push(part.to_vec()).await?;
        }
        let key = caller(self.key.as_deref().map(|key| (key, self.token.as_str()))).key;
        let envelope = BulkOptions { connection: Some(CONNECTION.to_owned()), fail_on_errors: self.fail_on_errors };
        reception.finish(envelope, key).await
    }

    fn rows(&self, profile: crate::service::simulation::vendor_oracle::Profile) -> Vec<BulkRow> {
        let row = |row| BulkRow { item_id: None, line: None, row: Ok(row) };
        let token = |index: usize| format!("{}.{index}", self.token);
        match &self.rows {
            Rows::People(people) => {
                let person = |(index, new)| row(ItemRequest::Candidate(Box::new(newcomer(new, &token(index)))));
                people.iter().enumerate().map(person).collect()
            }
            Rows::Bookings(orders) => {
                let booking = |(index, wanted): (usize, &crate::service::simulation::steps::Order)| {
                    let candidate = callers_key(profile, wanted.person);
                    row(ItemRequest::Assignment(Box::new(order(wanted, candidate, &token(index)))))
                };
                orders.iter().enumerate().map(booking).collect()
            }
        }
    }

    /// Records the response to the sender.
    pub(super) fn heard(
        &mut self,
        received: Result<AcceptedOperation, Error>,
        store_failed: bool,
    ) -> Result<(), String> {
        match received {
            Ok(received) => {
                let replayed = matches!(received, AcceptedOperation::Earlier(_));
                let same = self.id.as_ref().is_none_or(|known| known == received.id() && replayed);
                self.id = Some(received.id().clone());
                if same { Ok(()) } else { Err(format!("{self:?} became another operation")) }
            }
            Err(_) if store_failed => Ok(()),
            Err(fault) if self.id.is_none() => Err(format!("{self:?} was refused: {fault:?}")),
            Err(fault) => Err(format!("{self:?} is accepted, and now {fault:?}")),
        }
    }

    pub(super) async fn wait(&self, gateway: &Gateway, seconds: u8) -> Option<OperationStatus> {
        let patience = Duration::from_secs(seconds.into());
        gateway.wait_for_operation(&caller(None), self.id.as_ref()?, patience).await.ok()
    }

    /// Checks the report against the truth. At the end only the rows of the records in `at_the_end` may still be
    /// unknown.
    pub(super) fn judge(&self, world: &mut Sim, at_the_end: Option<&BTreeSet<String>>) -> Result<(), String> {
        let Some(id) = self.id.clone() else { return Ok(()) };
        let found = world.run(async |gateway| {
            let view = gateway.operation(&caller(None), &id).await?;
            let results = gateway.operation_results(&caller(None), &id, None, 0, 1000).await?.0;
            Ok::<_, Error>((view, results))
        });
        let Some(Ok((view, results))) = found else { return Ok(()) };
        let Progress { total, applied, not_applied, unknown, skipped, pending, settling: _ } = view.progress;
        if applied + not_applied + unknown + skipped + pending != total {
            return Err(format!("{id}: the counts do not add up: {:?}", view.progress));
        }
        if at_the_end.is_some() && (!view.operation.state.is_terminal() || pending > 0) {
            return Err(format!("{id} has not ended: {view:?}"));
        }
        results.iter().try_for_each(|result| self.judge_row(result, &id, world, at_the_end))
    }

    fn judge_row(
        &self,
        result: &ResultRow,
        id: &OperationId,
        world: &Sim,
        at_the_end: Option<&BTreeSet<String>>,
    ) -> Result<(), String> {
        let exam = world.exam.lock().unwrap();
        let mine = format!("{}.{}", self.token, result.index);
        let done = |found: &dyn Fn(&Write) -> bool| {
            exam.sent.iter().any(|sent| matches!(sent.truth, RowState::Done(_)) && found(&sent.write))
        };
        let is_mine = |write: &Write| token(write).as_ref() == Some(&mine);
        let of = |record: &str| {
            done(&|write| matches!(write, Write::Register(_) | Write::Assign(_)) && write.record_id() == record)
        };
        let there = |resource: &RowResource| match resource {
            RowResource::Candidate(answer) => of(answer.candidate.id.as_str()),
            RowResource::Assignment(assignment) => of(assignment.id.as_str()),
            RowResource::Enrolled(_) | RowResource::Erased => true,
        };
        let fine = match &result.end {
            RowOutcome::Created(RowResource::Erased) => done(&is_mine),
            RowOutcome::Created(resource) => there(resource) && done(&is_mine),
            RowOutcome::Existing(resource) => there(resource),
            RowOutcome::Failed(fault) if fault.outcome == Outcome::NotApplied => !done(&is_mine),
            RowOutcome::Failed(fault) => at_the_end.is_none_or(|open| {
                let record = fault.resource.as_ref().and_then(|path| path.rsplit('/').next());
                record.is_some_and(|record| open.contains(record))
            }),
        };
        if fine { Ok(()) } else { Err(format!("{id}, row {mine}: {:?} is not true", result.end)) }
    }
}
