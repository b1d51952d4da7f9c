//! Programs: enrolling and withdrawing employees, in as many vendor calls as it takes.

use super::assignments::reference;
use super::connections::Connection;
use super::{BeforeSending as _, Caller, Gateway, call};
use crate::domain::capability::Operation;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Chunk, Code, Fault, FieldFault};
use crate::domain::program::{AssessmentScope, Enrolled, Enrolment, EnrolmentCounts, ProgramRef};
use crate::domain::text::shown;
use crate::domain::vendor::{Attempt, Call, EnrolmentCall};

/// How an employee of a program is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmployeeKey {
    /// By the caller's own id.
    ExternalId(String),
    /// By the gateway's candidate.
    Id(CandidateId),
}

/// A change of a program's employees as a caller asks for it.
#[derive(Debug, Clone)]
pub struct EnrolmentOrder {
    /// The connection, where the caller names one.
    pub connection: Option<String>,
    /// `None`: all assessments of the program; else these, by catalogue id or the vendor's own.
    pub assessments: Option<Vec<String>>,
    /// Who shall be enrolled.
    pub register: Vec<EmployeeKey>,
    /// Who shall be withdrawn.
    pub unregister: Vec<EmployeeKey>,
}

impl Gateway {
    /// Enrols and withdraws employees of a program. Runs to its end even if the caller hangs up.
    pub async fn enrol(&self, caller: &Caller, program: &str, order: EnrolmentOrder) -> Result<Enrolled, Fault> {
        self.refuse_when_draining()?;
        let (gateway, caller, program) = (self.clone(), caller.clone(), program.to_owned());
        let work = self.0.tasks.spawn(async move { gateway.enrol_to_the_end(&caller, &program, order).await });
        work.await.unwrap_or_else(|error| {
            tracing::error!(panicked = error.is_panic(), "an enrolment's task ended without an answer");
            Err(Fault::unknown(Code::Internal, "The gateway failed while it was writing."))
        })
    }

    async fn enrol_to_the_end(&self, caller: &Caller, program: &str, order: EnrolmentOrder) -> Result<Enrolled, Fault> {
        let entry = self.0.catalogue.programs.get(program);
        let of_entry = entry.map(|entry| entry.connection.as_str());
        let connection = self.chosen(caller, order.connection.as_deref(), of_entry)?;
        let capability = connection.supported(Operation::ProgramsEmployees)?;
        let program_ref = self.program_ref(connection, program)?;
        let enrolment = self.enrolment(caller, connection, order).await?;
        // Calls about one program run one after the other, so that an earlier answer never overtakes a later one.
        let _turn = self.0.subjects.turn(&format!("{}\nprogram\n{program_ref:?}", connection.name)).await;
        let calls = in_calls(&program_ref, &enrolment, connection.batch(capability.max_batch));
        let resource = format!("/programs/{}/employees", program_path(program));
        self.send_enrolment(connection, &calls, &resource, &call(caller, Attempt::First)).await
    }

    /// The vendor's own name of a program: by the catalogue, else as the vendor spells its ids.
    fn program_ref(&self, connection: &Connection, program: &str) -> Result<ProgramRef, Fault> {
        let text = match self.0.catalogue.programs.get(program) {
            Some(entry) if entry.connection == connection.name => &entry.reference,
            Some(_) => "",
            None => program,
        };
        connection.vendor().program_ref(text).ok_or_else(|| {
            let detail =
                format!("`{}` is neither in the catalogue nor a possible program at the vendor.", shown(program, 100));
            connection.own(Fault::new(Code::ProgramNotFound, detail))
        })
    }

    async fn enrolment(
        &self,
        caller: &Caller,
        connection: &Connection,
        order: EnrolmentOrder,
    ) -> Result<Enrolment, Fault> {
        let EnrolmentOrder { connection: _, assessments, register, unregister } = order;
        let scope = match assessments {
            None => AssessmentScope::All,
            Some(named) => {
                let mut references = Vec::with_capacity(named.len());
                for (index, text) in named.iter().enumerate() {
                    references.push(self.assessment_ref(connection, text, &format!("/assessments/{index}"))?);
                }
                AssessmentScope::Selected(references)
            }
        };
        let enrolment = Enrolment {
            scope,
            register: self.employees(caller, connection, "/register", register).await?,
            unregister: self.employees(caller, connection, "/unregister", unregister).await?,
        };
        enrolment.checked().map_err(|faults| connection.own(Fault::of_fields(faults)))
    }

    /// The caller's own ids of the employees named.
    async fn employees(
        &self,
        caller: &Caller,
        connection: &Connection,
        pointer: &str,
        keys: Vec<EmployeeKey>,
    ) -> Result<Vec<String>, Fault> {
        let mut ids = Vec::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            ids.push(match key {
                EmployeeKey::ExternalId(id) => id,
                EmployeeKey::Id(id) => {
                    let found = self.0.store.candidate(&caller.tenant, &id).await.before_sending()?;
                    let here = found.filter(|candidate| candidate.connection == connection.name);
                    here.and_then(|candidate| candidate.person.external_id).ok_or_else(|| {
                        let detail = "there is no such candidate with an externalId at this connection";
                        connection.own(reference(FieldFault::invalid(format!("{pointer}/{index}/id"), detail)))
                    })?
                }
            });
        }
        Ok(ids)
    }

    async fn send_enrolment(
        &self,
        connection: &Connection,
        calls: &[(Chunk, EnrolmentCall)],
        resource: &str,
        request: &Call,
    ) -> Result<Enrolled, Fault> {
        let mut counts = EnrolmentCounts::default();
        let mut warnings = Vec::new();
        for (number, (_, enrolment)) in calls.iter().enumerate() {
            let row = connection.vendor().enrol(enrolment, request).await;
            connection.note(row.as_ref().map(|_| ()), self.0.environment.now());
            match row {
                Ok(applied) => {
                    counts = counts.then(applied.value);
                    warnings.extend(applied.warnings);
                }
                Err(fault) => return Err(connection.own(partly(fault, calls, number, resource))),
            }
        }
        Ok(Enrolled { counts, warnings })
    }
}

/// The vendor calls an enrolment takes: the lists side by side, so many of each a call.
fn in_calls(program: &ProgramRef, enrolment: &Enrolment, at_most: usize) -> Vec<(Chunk, EnrolmentCall)> {
    let Enrolment { scope, register, unregister } = enrolment;
    let longest = register.len().max(unregister.len());
    let part = |list: &[String], from: usize| list.iter().skip(from).take(at_most).cloned().collect();
    (0..longest)
        .step_by(at_most)
        .map(|from| {
            let enrolment =
                Enrolment { scope: scope.clone(), register: part(register, from), unregister: part(unregister, from) };
            let chunk = Chunk { from, to: (from + at_most).min(longest), outcome: Outcome::NotApplied };
            (chunk, EnrolmentCall { program: program.clone(), enrolment })
        })
        .collect()
}

/// The fault of one call as the fault of the whole: what was applied before stays applied, what comes after was not sent.
fn partly(fault: Fault, calls: &[(Chunk, EnrolmentCall)], failed: usize, resource: &str) -> Fault {
    let mut fault = fault;
    if calls.len() > 1 {
        fault.chunks = calls.iter().map(|(chunk, _)| *chunk).collect();
        for (number, chunk) in fault.chunks.iter_mut().enumerate() {
            chunk.outcome = match number.cmp(&failed) {
                std::cmp::Ordering::Less => Outcome::Applied,
                std::cmp::Ordering::Equal => fault.outcome,
                std::cmp::Ordering::Greater => Outcome::NotApplied,
            };
        }
    }
    if failed > 0 {
        // Neither "applied" nor "not applied" is true of the whole; the chunks say what is.
        fault.outcome = Outcome::Unknown;
        fault.detail = format!("{} Calls before this one were applied; see chunks.", fault.detail);
    }
    if fault.outcome == Outcome::Unknown { fault.at(resource) } else { fault }
}

fn program_path(program: &str) -> String {
    percent_encoding::utf8_percent_encode(program, percent_encoding::NON_ALPHANUMERIC).to_string()
}
