//! Programs: enrolling and withdrawing employees, in as many vendor calls as it takes.

use std::time::Duration;

use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError, PartialResult};
use crate::domain::ids::{CandidateId, OperationId};
use crate::domain::operation::{Item, ItemRequest, ItemState, ItemStatus, Operation, OperationKind, OperationState};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::program::{AssessmentScope, Enrolled, Enrolment, EnrolmentCounts, ProgramRef};
use crate::domain::validation::sanitize_for_display;
use crate::domain::vendor::EnrolmentBatch;
use crate::service::assignments::reference;
use crate::service::bulk::{enrolments, skipped_error};
use crate::service::connections::Connection;
use crate::service::exchange_log::traceparent;
use crate::service::snapshot::Snapshot;
use crate::service::write::executor::operation_path;
use crate::service::{
    Gateway, OperationStatus, RequestContext, StoreResultExt as _, WriteHandle, WriteResult, doubt_at,
};
use crate::store::Mutation;

/// How an employee of a program is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmployeeRef {
    /// By the caller's own id.
    ExternalId(String),
    /// By the gateway's candidate.
    Id(CandidateId),
}

/// A change of a program's employees as a caller asks for it.
#[derive(Debug, Clone)]
pub struct EnrolmentRequest {
    /// The connection, where the caller names one.
    pub connection: Option<String>,
    /// `None`: all assessments of the program; else these, by catalogue id or the vendor's own.
    pub assessments: Option<Vec<String>>,
    /// Who shall be enrolled.
    pub register: Vec<EmployeeRef>,
    /// Who shall be withdrawn.
    pub unregister: Vec<EmployeeRef>,
}

/// A change of a program's employees under way, or done.
#[derive(Debug, Clone, PartialEq)]
pub enum EnrolmentProgress {
    /// It goes on; this operation tells how it ends. As it was accepted, where that was now.
    Accepted(OperationId, Option<Box<OperationStatus>>),
    /// It is done.
    Done(Enrolled),
}

impl Gateway {
    /// Enrols and withdraws employees of a program: an operation of one row for each vendor call, so that it survives what
    /// may come in between.
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
                acceptance.accept(EnrolmentProgress::Accepted(id.clone(), Some(Box::new(view))), operation_path(&id));
                id
            };
            let id = match caller.resumed.as_deref().and_then(|record| OperationId::parse(record).ok()) {
                Some(id) => {
                    // It was accepted by an earlier request.
                    acceptance.accept(EnrolmentProgress::Accepted(id.clone(), None), operation_path(&id));
                    // Unknown calls are settled, those not sent before follow.
                    accepted(gateway.retry_operation(&caller, &id).await?)
                }
                None => accepted(OperationStatus::queued(gateway.begin_enrolment(&caller, &program, order).await?)),
            };
            let ended = gateway.operation_ended(&caller, &id, Duration::MAX).await?;
            gateway
                .enrolled(&ended.operation)
                .await
                .map(|enrolled| WriteResult::Created(EnrolmentProgress::Done(enrolled)))
        })
    }

    /// Plans an enrolment and stores it as an operation; its calls are sent at once, by whoever takes it up.
    async fn begin_enrolment(
        &self,
        caller: &RequestContext,
        program: &str,
        order: EnrolmentRequest,
    ) -> Result<Operation, Error> {
        let configured = self.configured();
        let of_entry = configured.catalogue.programs.get(program).map(|entry| entry.connection.as_str());
        let connection = &*configured.chosen(caller, order.connection.as_deref(), of_entry)?;
        let capability = connection.supported(WriteKind::ProgramsEmployees)?;
        let program_ref = configured.program_ref(connection, program)?;
        let enrolment = self.enrolment(&configured, caller, connection, order).await?;
        self.refuse_people_of_others(caller, connection, enrolment.employees()).await?;
        let calls = in_calls(&program_ref, &enrolment, connection.batch(capability.max_batch));
        let calls = within_bytes(&calls, connection.call_bytes());
        let now = self.0.environment.now();
        let mut operation = Operation {
            id: OperationId::generate(&self.0.environment),
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
        };
        let id = operation.id.clone();
        self.0.store.open_operation(&operation).await.or_not_applied()?;
        caller.exchange.set_operation(id.clone());
        self.0.store.add_items(enrolments::items(&id, calls)).await.or_not_applied()?;
        operation.state = OperationState::Queued;
        let key = caller.origin.key.clone().map(|key| Mutation::KeyBound(key, id.to_string()));
        let queued = key.into_iter().chain([Mutation::Operation(operation.clone())]).collect();
        let committed = self.0.store.commit(queued).await.or_not_applied();
        committed.map_err(|fault| doubt_at(fault, &operation_path(&id)))?;
        self.0.board.notify();
        Ok(operation)
    }

    /// What became of an enrolment that has ended, all its calls together.
    async fn enrolled(&self, operation: &Operation) -> Result<Enrolled, Error> {
        let resource = operation_path(&operation.id);
        let calls = self.0.store.items(&operation.id, &[], 0, usize::MAX).await.or_unknown(&resource)?;
        let mut counts = EnrolmentCounts::default();
        let mut warnings: Vec<Warning> = Vec::new();
        let mut fault = None;
        for end in calls.iter().filter_map(|call| call.outcome.as_ref()) {
            counts = end.counts.map_or(counts, |later| counts.then(later));
            for warning in &end.warnings {
                if !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            if let ItemStatus::Failed(failed) = &end.result
                && fault.is_none()
            {
                fault = Some(failed.as_ref().clone());
            }
        }
        let cancelled = || calls.iter().any(|call| call.state == ItemState::Skipped).then(skipped_error);
        match fault.or_else(cancelled) {
            None => Ok(Enrolled { counts, warnings }),
            Some(fault) => Err(partly(fault, &calls, &resource)),
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
                    references.push(configured.assessment_ref(connection, text, &format!("/assessments/{index}"))?);
                }
                AssessmentScope::Selected(references)
            }
        };
        let enrolment = Enrolment {
            scope,
            register: self.employees(caller, connection, "/register", register).await?,
            unregister: self.employees(caller, connection, "/unregister", unregister).await?,
        };
        enrolment.checked().map_err(|faults| connection.tag_connection(Error::from_fields(faults)))
    }

    /// The caller's own ids of the employees named.
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
                EmployeeRef::ExternalId(id) => id,
                EmployeeRef::Id(id) => {
                    let found = self.0.store.candidate(&caller.tenant, &id).await.or_not_applied()?;
                    let here = found.filter(|candidate| candidate.connection == connection.name);
                    here.and_then(|candidate| candidate.person.external_id).ok_or_else(|| {
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

impl Snapshot {
    /// The vendor's own name of a program: by the catalogue, else as the vendor spells its ids.
    fn program_ref(&self, connection: &Connection, program: &str) -> Result<ProgramRef, Error> {
        let text = match self.catalogue.programs.get(program) {
            Some(entry) if entry.connection == connection.name => &entry.reference,
            Some(_) => "",
            None => program,
        };
        connection.vendor().program_ref(text).ok_or_else(|| {
            let detail = format!(
                "`{}` is neither in the catalogue nor a possible program at the vendor.",
                sanitize_for_display(program, 100)
            );
            connection.tag_connection(Error::new(Code::ProgramNotFound, detail))
        })
    }
}

/// The vendor calls an enrolment takes: the lists side by side, so many of each a call.
fn in_calls(program: &ProgramRef, enrolment: &Enrolment, at_most: usize) -> Vec<EnrolmentBatch> {
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

/// The calls, each cut so that its body is within so many bytes; one pair of employees is never cut.
fn within_bytes(calls: &[EnrolmentBatch], limit: usize) -> Vec<EnrolmentBatch> {
    // As JSON at its longest: quotes, a comma, and every character of an id escaped.
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

/// The fault of one call as the fault of the whole: what was applied before stays applied, what comes after was not sent.
fn partly(fault: Error, calls: &[Item], resource: &str) -> Error {
    let mut fault = fault;
    if calls.len() > 1 {
        fault.chunks = chunks(calls);
    }
    if calls.iter().any(|call| call.state == ItemState::Applied) {
        // Neither "applied" nor "not applied" is true of the whole; the chunks say what is.
        fault.outcome = Outcome::Unknown;
        fault.detail = format!("{} Calls before this one were applied; see chunks.", fault.detail);
    }
    if fault.outcome == Outcome::Unknown { fault.with_resource(resource) } else { fault }
}

/// What became of each call, with its place in the lists of the request.
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
