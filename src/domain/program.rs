//! Enrolment of employees in a vendor-side program, and their withdrawal.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::error::FieldError;
use super::identity::ExternalId;
use super::outcome::Warning;
use super::validation::FieldErrors;

/// The reference by which the vendor identifies a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramRef {
    /// The vendor's own id.
    Id(String),
    /// The account's own id for the program, stored at the vendor.
    External(String),
}

/// The assessments of a program that an enrolment covers (the vendor's own ids).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssessmentScope {
    /// All assessments of the program.
    All,
    /// Only these assessments.
    Selected(Vec<String>),
}

/// A valid enrolment: two disjoint lists without duplicates, not both empty, at most [`Enrolment::MAX`] entries each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The assessments covered.
    pub scope: AssessmentScope,
    /// The caller's ids of the employees to enrol, in the spellings that the vendor knows.
    pub register: Vec<String>,
    /// The caller's ids of the employees to withdraw.
    pub unregister: Vec<String>,
}

impl Enrolment {
    /// Maximum entries in one list.
    pub const MAX: usize = 10_000;

    /// Validates the enrolment.
    ///
    /// # Errors
    /// All invalid entries.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut faults = FieldErrors::new();
        if let AssessmentScope::Selected(assessments) = &self.scope {
            if assessments.is_empty() {
                faults.push(FieldError::missing("/assessments", "is required with scope \"selected\""));
            }
            report_duplicates(&mut faults, "/assessments", assessments);
        }
        for (pointer, list) in [("/register", &self.register), ("/unregister", &self.unregister)] {
            if list.len() > Self::MAX {
                let detail = format!("must not have more than {} entries", Self::MAX);
                faults.push(FieldError::invalid(pointer, detail));
            }
            report_duplicates(&mut faults, pointer, &keys(list));
        }
        let registered: HashSet<String> = keys(&self.register).into_iter().collect();
        for (index, id) in keys(&self.unregister).iter().enumerate() {
            if registered.contains(id) {
                let pointer = format!("/unregister/{index}");
                faults.push(FieldError::new(pointer, "duplicate_item", "is also in register"));
            }
        }
        if self.register.is_empty() && self.unregister.is_empty() {
            faults.push(FieldError::missing("/register", "register or unregister must have at least one entry"));
        }
        faults.into_result(self)
    }
}

impl Enrolment {
    /// Returns all employees in the enrolment.
    pub fn employees(&self) -> impl Iterator<Item = &str> {
        self.register.iter().chain(&self.unregister).map(String::as_str)
    }

    /// Returns whether both enrolments contain the same employee.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let here: HashSet<&str> = self.employees().collect();
        other.employees().any(|id| here.contains(id))
    }
}

/// Returns the keys by which employees are compared.
fn keys(employees: &[String]) -> Vec<String> {
    employees.iter().map(|id| ExternalId::from(id.as_str()).identity().into_owned()).collect()
}

fn report_duplicates(faults: &mut FieldErrors, pointer: &str, list: &[String]) {
    let mut seen = HashSet::new();
    for (index, id) in list.iter().enumerate() {
        if !seen.insert(id) {
            faults.push(FieldError::new(
                format!("{pointer}/{index}"),
                "duplicate_item",
                "is a duplicate of an earlier entry",
            ));
        }
    }
}

/// The vendor's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentCounts {
    /// Employees newly in the program.
    pub employees_registered: u64,
    /// Attempts newly granted.
    pub attempts_registered: u64,
    /// Employees removed from the program.
    pub employees_unregistered: u64,
    /// Attempts withdrawn.
    pub attempts_unregistered: u64,
    /// Employees in the program after the call.
    pub total_employees_in_program: u64,
}

impl EnrolmentCounts {
    /// Combines the counts of two consecutive calls: adds the changes and takes the later total.
    #[must_use]
    pub fn combine(self, later: Self) -> Self {
        Self {
            employees_registered: self.employees_registered + later.employees_registered,
            attempts_registered: self.attempts_registered + later.attempts_registered,
            employees_unregistered: self.employees_unregistered + later.employees_unregistered,
            attempts_unregistered: self.attempts_unregistered + later.attempts_unregistered,
            total_employees_in_program: later.total_employees_in_program,
        }
    }
}

/// A finished enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The vendor's counts over all calls.
    pub counts: EnrolmentCounts,
    /// Warnings for the caller.
    pub warnings: Vec<Warning>,
}
