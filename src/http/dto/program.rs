//! Changes to a program's employees in requests and responses.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::word_document;
use crate::domain::error::{Code, FieldError};
use crate::domain::identity::ExternalId;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::program::{self as domain, EnrolmentCounts};
use crate::domain::validation::{FieldErrors, sanitize_for_display};
use crate::http::extract::validate::{ApiInput, word};
use crate::service::{EmployeeRef, EnrolmentRequest};

word_document! {
    /// Which assessments of the program the change covers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
    pub enum EnrolmentScope {
        /// Every assessment of the program.
        All,
        /// The assessments listed in `assessments`.
        Selected,
    }
}

/// Employees to enrol in a program and to withdraw from it. At least one list must have an entry, and no employee may
/// appear twice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(enrolment_example))]
pub struct Enrolment {
    /// The program's connection. Default: the connection of its catalogue entry, the client's default, or the only
    /// connection.
    #[schema(min_length = 1, max_length = 200)]
    connection: Option<String>,
    /// Which assessments of the program the change covers.
    #[serde(default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    scope: Option<EnrolmentScope>,
    /// The assessments covered, by catalogue id or the vendor's own id; only with `selected`.
    assessments: Option<Vec<String>>,
    /// The employees to enrol.
    #[schema(value_type = Option<Vec<EmployeeReference>>, max_items = 10_000)]
    register: Option<Vec<Value>>,
    /// The employees to withdraw.
    #[schema(value_type = Option<Vec<EmployeeReference>>, max_items = 10_000)]
    unregister: Option<Vec<Value>>,
}

/// An employee: the caller's own id as a string, or the gateway's candidate as `{ "id": … }`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documentation only; entries are parsed one by one, so each error has its pointer")]
pub enum EmployeeReference {
    /// The caller's own id.
    ExternalId(String),
    /// The gateway's candidate.
    Candidate {
        /// The gateway's identifier.
        id: String,
    },
}

impl ApiInput for Enrolment {
    type Checked = EnrolmentRequest;

    fn checked(self) -> Result<EnrolmentRequest, Vec<FieldError>> {
        let Self { connection, scope, assessments, register, unregister } = self;
        let mut errors = FieldErrors::new();
        errors.check_line("/connection", connection.as_deref(), 200);
        for (index, assessment) in assessments.iter().flatten().enumerate() {
            errors.check_line(&format!("/assessments/{index}"), Some(assessment), 250);
        }
        let assessments = match (scope, assessments.unwrap_or_default()) {
            (None, _) => {
                errors.push(FieldError::missing("/scope", "is missing"));
                None
            }
            (Some(EnrolmentScope::Selected), list) if list.is_empty() => {
                errors.push(FieldError::missing("/assessments", "is required with scope \"selected\""));
                None
            }
            (Some(EnrolmentScope::All), list) if !list.is_empty() => {
                errors.push(FieldError::invalid("/assessments", "is only valid with scope \"selected\""));
                None
            }
            (Some(EnrolmentScope::Selected), list) => Some(list),
            (Some(EnrolmentScope::All), _) => None,
        };
        let register = employees(&mut errors, "/register", register.unwrap_or_default());
        let unregister = employees(&mut errors, "/unregister", unregister.unwrap_or_default());
        errors.into_result(EnrolmentRequest { connection, assessments, register, unregister })
    }
}

fn employees(errors: &mut FieldErrors, list: &str, entries: Vec<Value>) -> Vec<EmployeeRef> {
    if entries.len() > domain::Enrolment::MAX {
        let detail = format!("must not have more than {} entries", domain::Enrolment::MAX);
        errors.push(FieldError::invalid(list, detail));
        return Vec::new();
    }
    let mut employees = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        match employee(&format!("{list}/{index}"), entry) {
            Ok(employee) => employees.push(employee),
            Err(error) => errors.push(error),
        }
    }
    employees
}

fn employee(pointer: &str, entry: Value) -> Result<EmployeeRef, FieldError> {
    match entry {
        Value::String(id) => {
            let id = ExternalId::parse(&id).map_err(|detail| FieldError::invalid(pointer, detail))?;
            Ok(EmployeeRef::ExternalId(id))
        }
        Value::Object(members) => {
            if let Some(odd) = members.keys().find(|name| *name != "id") {
                let detail = format!("unknown field `{}`", sanitize_for_display(odd, 100));
                return Err(FieldError::new(pointer, FieldError::UNKNOWN, detail));
            }
            let Some(Value::String(id)) = members.get("id") else {
                return Err(FieldError::missing(format!("{pointer}/id"), "must be a candidate's identifier"));
            };
            CandidateId::parse(id).map(EmployeeRef::Id).map_err(|_| {
                let code = Code::InvalidReference.as_str();
                FieldError::new(format!("{pointer}/id"), code, "there is no such candidate")
            })
        }
        _ => Err(FieldError::invalid(pointer, "must be a string or an object with id")),
    }
}

/// The vendor's counters, summed over all calls.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(enrolled_example))]
pub struct Enrolled {
    /// Employees newly enrolled in the program.
    pub employees_registered: u64,
    /// Attempts newly granted.
    pub attempts_registered: u64,
    /// Employees removed from the program.
    pub employees_unregistered: u64,
    /// Attempts withdrawn.
    pub attempts_unregistered: u64,
    /// Employees in the program after the last call.
    pub total_employees_in_program: u64,
    /// Always `applied`: any other outcome is reported as a problem.
    pub outcome: Outcome,
    /// Remarks on the result: `counts_lower_bound`, …
    pub warnings: Vec<Warning>,
}

impl From<domain::Enrolled> for Enrolled {
    fn from(enrolled: domain::Enrolled) -> Self {
        let domain::Enrolled { counts, warnings } = enrolled;
        let EnrolmentCounts {
            employees_registered,
            attempts_registered,
            employees_unregistered,
            attempts_unregistered,
            total_employees_in_program,
        } = counts;
        Self {
            employees_registered,
            attempts_registered,
            employees_unregistered,
            attempts_unregistered,
            total_employees_in_program,
            outcome: Outcome::Applied,
            warnings,
        }
    }
}

fn enrolment_example() -> Value {
    json!({
        "scope": "selected",
        "assessments": ["rust-101"],
        "register": ["emp-1001", "emp-1002"],
        "unregister": ["emp-1008"],
    })
}

fn enrolled_example() -> Value {
    json!({
        "employeesRegistered": 2, "attemptsRegistered": 2, "employeesUnregistered": 1, "attemptsUnregistered": 1,
        "totalEmployeesInProgram": 41, "outcome": "applied", "warnings": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::validate::parse;

    #[test]
    fn employees_are_identified_in_two_ways() {
        let mut tree = enrolment_example();
        tree["register"][1] = json!({ "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" });
        let order = parse::<Enrolment>(&tree).unwrap();
        assert_eq!(order.assessments, Some(vec!["rust-101".to_owned()]));
        assert!(matches!(order.register.as_slice(), [EmployeeRef::ExternalId(_), EmployeeRef::Id(_)]));
        assert_eq!(order.unregister, [EmployeeRef::ExternalId("emp-1008".into())]);
    }

    #[test]
    fn every_error_has_a_pointer() {
        let tree =
            json!({ "register": ["a", 1, { "id": "cand_x" }, { "id": "cand_x", "odd": 1 }, {}], "assessments": [""] });
        let errors = parse::<Enrolment>(&tree).unwrap_err().errors;
        let found: Vec<_> = errors.iter().map(|error| (error.pointer.as_str(), &*error.code)).collect();
        let expected = [
            ("/assessments/0", "invalid_field"),
            ("/scope", "missing_field"),
            ("/register/1", "invalid_field"),
            ("/register/2/id", "invalid_reference"),
            ("/register/3", "unknown_field"),
            ("/register/4/id", "missing_field"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn scope_and_assessments_must_agree() {
        for (tree, pointer) in [
            (json!({ "scope": "all", "assessments": ["a"], "register": ["x"] }), "/assessments"),
            (json!({ "scope": "selected", "register": ["x"] }), "/assessments"),
            (json!({ "scope": { "all": null }, "register": ["x"] }), "/scope"),
        ] {
            assert_eq!(parse::<Enrolment>(&tree).unwrap_err().errors[0].pointer, pointer);
        }
    }
}
