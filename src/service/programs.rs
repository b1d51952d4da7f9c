//! Programs: enrols and withdraws employees, in as many vendor calls as needed.

use std::time::Duration;

use crate::domain::capability::WriteKind;
use crate::domain::error::{Error, FieldError, PartialResult};
use crate::domain::identity::ExternalId;
use crate::domain::ids::{CandidateId, OperationId};
use crate::domain::intent::StoredReply;
use crate::domain::operation::{Item, ItemRequest, ItemState, ItemStatus, Operation, OperationKind, OperationState};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::program::{AssessmentScope, Enrolled, Enrolment, EnrolmentCounts, ProgramRef};
use crate::domain::record::RecordId;
use crate::domain::vendor::EnrolmentBatch;
use crate::service::audit::entry::AuditFacts;
use crate::service::bulk::enrolments;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, reference, skipped_error, with_resource_if_unknown};
use crate::service::exchange_log::traceparent;
use crate::service::snapshot::Snapshot;
use crate::service::write::handle::{WriteHandle, WriteResult};
use crate::service::write::replay::Replayable;
use crate::service::{Gateway, OperationStatus, RequestContext};
use crate::store::Mutation;

/// Reference to an employee of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmployeeRef {
    /// Caller's own id.
    ExternalId(ExternalId),
    /// Gateway's candidate id.
    Id(CandidateId),
}

/// Requested change of a program's employees.
#[derive(Debug, Clone)]
pub struct EnrolmentRequest {
    /// Connection, if the caller names one.
    pub connection: Option<String>,
    /// Assessments, by catalogue id or the vendor's id; `None` for all assessments of the program.
    pub assessments: Option<Vec<String>>,
    /// Employees to enrol.
    pub register: Vec<EmployeeRef>,
    /// Employees to withdraw.
    pub unregister: Vec<EmployeeRef>,
}

/// Progress of a change of a program's employees.
#[derive(Debug, Clone, PartialEq)]
pub enum EnrolmentProgress {
    /// Running as this operation, with its status if this request queued it.
    Accepted(OperationId, Option<Box<OperationStatus>>),
    /// Finished change.
    Done(Enrolled),
}

impl Replayable for EnrolmentProgress {
    const IS_STORED_WITH_OUTCOME: bool = false;

    fn stored_reply(written: &WriteResult<Self>) -> Option<StoredReply> {
        match written {
            WriteResult::Created(Self::Done(enrolled)) | WriteResult::Existing(Self::Done(enrolled)) => {
                Some(StoredReply::Enrolled(enrolled.clone()))
            }
            _ => None,
        }
    }

    fn connection(_written: &WriteResult<Self>) -> Option<&str> {
        None
    }

    fn audit_facts(_written: &WriteResult<Self>) -> Option<AuditFacts> {
        None
    }

    fn from_stored(reply: StoredReply) -> Option<WriteResult<Self>> {
        let StoredReply::Enrolled(enrolled) = reply else { return None };
        Some(WriteResult::Created(Self::Done(enrolled)))
    }
}

impl Gateway {
    /// Enrols and withdraws employees of a program, as an operation with one row per vendor call, so that it survives a
    /// restart.
    pub fn enrol(
        &self,
        caller: &RequestContext,
        program: &str,
        order: EnrolmentRequest,
    ) -> Result<WriteHandle<EnrolmentProgress>, Error> {
        let program = program.to_owned();
        self.spawn_idempotent(caller, "programs.employees", move |gateway, caller, acceptance| async move {
            let accepted = |view: OperationStatus| {
                let id = view.operation.id.clone();
                acceptance.accept(EnrolmentProgress::Accepted(id.clone(), Some(Box::new(view))), id.path());
                id
            };
            let id = match caller.resumed.clone() {
                Some(RecordId::Operation(id)) => {
                    // An earlier request created it.
                    acceptance.accept(EnrolmentProgress::Accepted(id.clone(), None), id.path());
                    // Unknown calls are reconciled, then the unsent ones follow.
                    accepted(gateway.retry_operation(&caller, &id).await?)
                }
                _ => accepted(OperationStatus::queued(gateway.begin_enrolment(&caller, &program, order).await?)),
            };
            let ended = gateway.wait_for_operation(&caller, &id, Duration::MAX).await?;
            gateway
                .enrolled(&ended.operation)
                .await
                .map(|enrolled| WriteResult::Created(EnrolmentProgress::Done(enrolled)))
        })
    }

    /// Plans an enrolment and queues it as an operation, which an instance starts at once.
    async fn begin_enrolment(
        &self,
        caller: &RequestContext,
        program: &str,
        order: EnrolmentRequest,
    ) -> Result<Operation, Error> {
        let configured = self.configured();
        let connection = &*configured.connection_of_program(caller, order.connection.as_deref(), program)?;
        let capability = connection.require_capability(WriteKind::ProgramsEmployees)?;
        let program_ref = configured.program_ref(caller, connection, program)?;
        let enrolment = self.enrolment(&configured, caller, connection, order).await?;
        self.reject_other_tenants_people(caller, connection, enrolment.employees()).await?;
        let calls = split_by_rows(&program_ref, &enrolment, connection.batch(capability.max_batch));
        let calls = split_by_bytes(&calls, connection.call_bytes());
        let now = self.0.system.now();
        let mut operation = Operation {
            id: OperationId::generate(&self.0.system),
            tenant: caller.tenant.clone(),
            client: caller.client.clone(),
            kind: OperationKind::ProgramEmployees,
            connection: connection.name.clone(),
            strict: false,
            fail_on_errors: Some(1),
            state: OperationState::Receiving,
            cancelling: false,
            total: calls.len() as u64,
            created: now,
            accepted: now,
            started: None,
            finished: None,
            request_id: caller.exchange.request_id().to_owned(),
            traceparent: traceparent(&caller.exchange),
            replay: None,
        };
        let id = operation.id.clone();
        self.0.store.open_operation(&operation).await.or_not_applied()?;
        caller.exchange.set_operation(id.clone());
        self.0.store.add_items(enrolments::items(&id, calls)).await.or_not_applied()?;
        operation.state = OperationState::Queued;
        let key = caller.origin.key.clone().map(|key| Mutation::BindKey(key, id.to_string()));
        let queued = key.into_iter().chain([Mutation::Operation(operation.clone())]).collect();
        let committed = self.0.store.commit(queued).await.or_not_applied();
        committed.map_err(|error| with_resource_if_unknown(error, &id.path()))?;
        self.0.active_operations.notify();
        Ok(operation)
    }

    /// Returns the combined result of an ended enrolment's calls.
    async fn enrolled(&self, operation: &Operation) -> Result<Enrolled, Error> {
        let resource = operation.id.path();
        let calls = self.0.store.items(&operation.id, &[], 0, usize::MAX).await.or_unknown(&resource)?;
        let mut counts = EnrolmentCounts::default();
        let mut warnings: Vec<Warning> = Vec::new();
        let mut error = None;
        for end in calls.iter().filter_map(|call| call.outcome.as_ref()) {
            counts = end.counts.map_or(counts, |later| counts.combine(later));
            for warning in &end.warnings {
                if !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            if let ItemStatus::Failed(failed) = &end.result
                && error.is_none()
            {
                error = Some(failed.as_ref().clone());
            }
        }
        let cancelled = || calls.iter().any(|call| call.state == ItemState::Skipped).then(skipped_error);
        match error.or_else(cancelled) {
            None => Ok(Enrolled { counts, warnings }),
            Some(error) => Err(combined_error(error, &calls, &resource)),
        }
    }

    async fn enrolment(
        &self,
        configured: &Snapshot,
        caller: &RequestContext,
        connection: &Connection,
        order: EnrolmentRequest,
    ) -> Result<Enrolment, Error> {
        let EnrolmentRequest { connection: _, assessments, register, unregister } = order;
        let scope = match assessments {
            None => AssessmentScope::All,
            Some(named) => {
                let mut references = Vec::with_capacity(named.len());
                for (index, text) in named.iter().enumerate() {
                    let pointer = format!("/assessments/{index}");
                    references.push(configured.assessment_ref(caller, connection, text, &pointer)?);
                }
                AssessmentScope::Selected(references)
            }
        };
        let enrolment = Enrolment {
            scope,
            register: self.employees(caller, connection, "/register", register).await?,
            unregister: self.employees(caller, connection, "/unregister", unregister).await?,
        };
        enrolment.checked().map_err(|errors| connection.tag_connection(Error::from_fields(errors)))
    }

    /// Resolves the references to the caller's own ids.
    async fn employees(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        pointer: &str,
        keys: Vec<EmployeeRef>,
    ) -> Result<Vec<String>, Error> {
        let mut ids = Vec::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            ids.push(match key {
                EmployeeRef::ExternalId(id) => self.registered_spelling(caller, connection, id).await?.into(),
                EmployeeRef::Id(id) => {
                    let found = self.0.store.candidate(&caller.tenant, &id).await.or_not_applied()?;
                    let here = found.filter(|candidate| candidate.connection == connection.name);
                    here.and_then(|candidate| candidate.person.external_id).map(String::from).ok_or_else(|| {
                        let detail = "there is no such candidate with an externalId at this connection";
                        connection
                            .tag_connection(reference(FieldError::invalid(format!("{pointer}/{index}/id"), detail)))
                    })?
                }
            });
        }
        Ok(ids)
    }
}

/// Splits an enrolment into vendor calls, with at most `at_most` entries of each list per call.
fn split_by_rows(program: &ProgramRef, enrolment: &Enrolment, at_most: usize) -> Vec<EnrolmentBatch> {
    let Enrolment { scope, register, unregister } = enrolment;
    let longest = register.len().max(unregister.len());
    let part = |list: &[String], from: usize| list.iter().skip(from).take(at_most).cloned().collect();
    (0..longest)
        .step_by(at_most)
        .map(|from| {
            let enrolment =
                Enrolment { scope: scope.clone(), register: part(register, from), unregister: part(unregister, from) };
            EnrolmentBatch { program: program.clone(), enrolment }
        })
        .collect()
}

/// Splits the calls so that each body stays within `limit` bytes; a single pair of employees is never split.
fn split_by_bytes(calls: &[EnrolmentBatch], limit: usize) -> Vec<EnrolmentBatch> {
    // Worst-case JSON: quotes, a comma, and every character of an id escaped.
    let bytes = |list: &[String], position: usize| list.get(position).map_or(0, |id| 2 * id.len() + 3);
    let part = |list: &[String], from: usize, length: usize| list.iter().skip(from).take(length).cloned().collect();
    let mut within = Vec::with_capacity(calls.len());
    for EnrolmentBatch { program, enrolment: Enrolment { scope, register, unregister } } in calls {
        let shared = match scope {
            AssessmentScope::All => 0,
            AssessmentScope::Selected(assessments) => (0..assessments.len()).map(|at| bytes(assessments, at)).sum(),
        };
        let longest = register.len().max(unregister.len());
        let entries = (0..longest).map(|position| bytes(register, position) + bytes(unregister, position));
        let mut from = 0;
        for length in crate::service::batching::parts(entries, limit.saturating_sub(shared)) {
            let (register, unregister) = (part(register, from, length), part(unregister, from, length));
            from += length;
            let enrolment = Enrolment { scope: scope.clone(), register, unregister };
            within.push(EnrolmentBatch { program: program.clone(), enrolment });
        }
    }
    within
}

/// Turns the error of one call into that of the enrolment: earlier calls stay applied, later ones were not sent.
fn combined_error(error: Error, calls: &[Item], resource: &str) -> Error {
    let mut error = error;
    if calls.len() > 1 {
        error.chunks = chunks(calls);
    }
    if calls.iter().any(|call| call.state == ItemState::Applied) {
        // Neither "applied" nor "not applied" is true of the whole; the chunks give the details.
        error.outcome = Outcome::Unknown;
        error.detail = format!("{} Calls before this one were applied; see chunks.", error.detail);
    }
    if error.outcome == Outcome::Unknown { error.with_resource(resource) } else { error }
}

/// Returns the outcome of each call with its range in the request's lists.
fn chunks(calls: &[Item]) -> Vec<PartialResult> {
    let mut from = 0;
    let chunk = |call: &Item| {
        let length = match &call.request {
            Some(ItemRequest::Enrolment(call)) => call.enrolment.register.len().max(call.enrolment.unregister.len()),
            _ => 0,
        };
        let outcome = match call.state {
            ItemState::Applied => Outcome::Applied,
            ItemState::Unknown | ItemState::Claimed => Outcome::Unknown,
            ItemState::NotApplied | ItemState::Skipped | ItemState::Waiting => Outcome::NotApplied,
        };
        let chunk = PartialResult { from, to: from + length, outcome };
        from = chunk.to;
        chunk
    };
    calls.iter().map(chunk).collect()
}
