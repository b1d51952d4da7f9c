//! The rows of an operation, as far as pages and tables show them: what became of each, why, and whose it is.

use serde::Deserialize;

use crate::http::console::api::{ProblemField, segment};

/// A row that has ended. What the API says of the person besides ids is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Row {
    /// Its position in the request, from 0.
    pub(in crate::http::console) index: u64,
    /// The caller's label.
    pub(in crate::http::console) item_id: Option<String>,
    /// The status of a single request.
    pub(in crate::http::console) status: u16,
    /// What is known of it.
    pub(in crate::http::console) outcome: String,
    /// Whether what it is about was erased since.
    #[serde(default)]
    pub(in crate::http::console) erased: bool,
    /// Why it failed.
    pub(in crate::http::console) problem: Option<RowProblem>,
    resource: Option<Resource>,
}

/// Why a row failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct RowProblem {
    /// The code to act on.
    pub(in crate::http::console) code: String,
    /// What went wrong.
    pub(in crate::http::console) detail: String,
    /// The invalid fields.
    #[serde(default)]
    pub(in crate::http::console) errors: Vec<ProblemField>,
    /// The row that it repeats.
    pub(in crate::http::console) duplicate_of: Option<u64>,
    resource: Option<String>,
    vendor: Option<RowVendor>,
}

#[derive(Deserialize)]
struct RowVendor {
    message: Option<String>,
}

/// A candidate, an assignment, or the counters of an enrolment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    id: Option<String>,
    candidate: Option<ResourceCandidate>,
    employees_registered: Option<u64>,
    employees_unregistered: Option<u64>,
}

#[derive(Deserialize)]
struct ResourceCandidate {
    id: Option<String>,
}

impl RowProblem {
    /// Returns what the vendor said.
    pub(in crate::http::console) fn vendor_message(&self) -> Option<&str> {
        self.vendor.as_ref()?.message.as_deref()
    }
}

impl Row {
    /// Returns the id of the candidate that it is about.
    pub(in crate::http::console) fn candidate(&self) -> Option<&str> {
        let of_assignment = || self.resource.as_ref()?.candidate.as_ref()?.id.as_deref();
        of_assignment().or_else(|| self.record("/candidates/", "cand_"))
    }

    /// Returns the id of the assignment that it is about.
    pub(in crate::http::console) fn assignment(&self) -> Option<&str> {
        self.record("/assignments/", "asg_")
    }

    /// Returns the numbers of employees enrolled and withdrawn.
    pub(in crate::http::console) fn enrolled(&self) -> Option<(u64, u64)> {
        let resource = self.resource.as_ref()?;
        Some((resource.employees_registered?, resource.employees_unregistered.unwrap_or_default()))
    }

    fn record(&self, path: &str, prefix: &str) -> Option<&str> {
        let made = self.resource.as_ref().and_then(|resource| resource.id.as_deref());
        let unclear = || self.problem.as_ref()?.resource.as_deref()?.strip_prefix(path);
        made.filter(|id| id.starts_with(prefix)).or_else(unclear)
    }

    /// Returns the path below `console/` at which a person says what became of a row of a bulk, and what it is.
    pub(in crate::http::console) fn settle(&self) -> Option<(String, &'static str, &'static str)> {
        if self.outcome != "unknown" {
            return None;
        }
        let of = |kind: &str, id: &str| format!("{kind}/{}/settle", segment(id));
        let assignment = self.assignment().map(|id| (of("assignments", id), "booking", "assignments:write"));
        assignment.or_else(|| self.candidate().map(|id| (of("candidates", id), "registration", "candidates:write")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(outcome: &str, fields: &Value) -> Row {
        let mut row = json!({ "index": 4, "status": 200, "outcome": outcome });
        row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn a_row_leads_to_its_person() {
        let candidate = row("applied", &json!({ "resource": { "id": "cand_1", "name": {} } }));
        assert_eq!((candidate.candidate(), candidate.assignment()), (Some("cand_1"), None));
        let assignment = row("applied", &json!({ "resource": { "id": "asg_1", "candidate": { "id": "cand_2" } } }));
        assert_eq!((assignment.candidate(), assignment.assignment()), (Some("cand_2"), Some("asg_1")));
        let enrolment = row("applied", &json!({ "resource": { "employeesRegistered": 3 } }));
        assert_eq!((enrolment.candidate(), enrolment.assignment()), (None, None));
        assert_eq!(enrolment.enrolled(), Some((3, 0)));
    }

    #[test]
    fn an_unknown_row_is_settled_at_its_record_and_no_other_is() {
        let problem = |resource: &str| json!({ "problem": { "code": "x", "detail": "y", "resource": resource } });
        let settled = |row: Row| row.settle().map(|(path, ..)| path);
        assert_eq!(
            settled(row("unknown", &problem("/candidates/cand_1"))).as_deref(),
            Some("candidates/cand_1/settle")
        );
        assert_eq!(
            settled(row("unknown", &problem("/assignments/asg_1"))).as_deref(),
            Some("assignments/asg_1/settle")
        );
        assert_eq!(settled(row("unknown", &problem("/operations/op_1"))), None);
        assert_eq!(settled(row("not_applied", &problem("/candidates/cand_1"))), None);
    }
}
