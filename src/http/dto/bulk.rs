//! Bulk requests and reports: many rows in one request, each with its own result.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::assignment::{Assignment, assignment_example};
use super::candidate::{Candidate, CandidateItem, candidate_example};
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::operation::Progress;
use crate::domain::outcome::Outcome;
use crate::domain::validation::FieldErrors;
use crate::http::dto::assignment_input::{AssignmentItem, new_assignment_example};
use crate::http::exchange_context::ExchangeContext;
use crate::http::extract::validate::ApiInput;
use crate::http::problem::{Problem, status};

/// The fields of a bulk request besides its rows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Envelope {
    connection: Option<String>,
    fail_on_errors: Option<u64>,
}

impl ApiInput for Envelope {
    type Checked = (Option<String>, Option<u64>);

    fn checked(self) -> Result<Self::Checked, Vec<FieldError>> {
        let Self { connection, fail_on_errors } = self;
        let mut errors = FieldErrors::new();
        errors.check_line("/connection", connection.as_deref(), 200);
        if fail_on_errors == Some(0) {
            errors.push(FieldError::invalid("/failOnErrors", "must be at least 1"));
        }
        errors.into_result((connection, fail_on_errors))
    }
}

macro_rules! bulk {
    ($request:ident, $item:ident, $report:ident, $result:ident, $resource:ident, $request_example:ident, $report_example:ident) => {
        /// Many rows in one request. Each row succeeds or fails on its own.
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($request_example))]
        #[expect(dead_code, reason = "documentation only; rows are parsed one by one, so an invalid one fails alone")]
        pub struct $request {
            /// The connection for all rows. Default: chosen as for a single request.
            #[schema(min_length = 1, max_length = 200)]
            connection: Option<String>,
            /// Stop sending after this many failed rows; the remaining rows are skipped.
            #[schema(minimum = 1)]
            fail_on_errors: Option<u64>,
            /// The rows.
            #[schema(min_items = 1, max_items = 10_000)]
            items: Vec<$item>,
        }

        /// The results of a bulk request.
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($report_example))]
        pub struct $report {
            /// The operation created for the bulk request.
            operation: String,
            /// The number of rows by outcome; every row counts once.
            summary: BulkSummary,
            /// One entry per row, in the order of the request.
            results: Vec<$result>,
        }

        /// The result of one row.
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $result {
            /// Position of the row, from 0.
            index: u64,
            /// The caller's label for the row.
            #[serde(skip_serializing_if = "Option::is_none")]
            item_id: Option<String>,
            /// The status a single request would have returned.
            #[schema(minimum = 200, maximum = 599)]
            status: u16,
            /// What is known about the row.
            outcome: Outcome,
            /// The resource created or found.
            #[serde(skip_serializing_if = "Option::is_none")]
            resource: Option<$resource>,
            /// Present and true if the resource has since been erased; `resource` and `problem` are then absent.
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            #[schema(required = false)]
            erased: bool,
            /// Why the row failed; its pointers are relative to the row.
            #[serde(skip_serializing_if = "Option::is_none")]
            problem: Option<Problem>,
        }
    };
}

bulk!(
    CandidateBulk,
    CandidateItem,
    CandidateBulkReport,
    CandidateBulkResult,
    Candidate,
    candidate_bulk_example,
    candidate_report_example
);
bulk!(
    AssignmentBulk,
    AssignmentItem,
    AssignmentBulkReport,
    AssignmentBulkResult,
    Assignment,
    assignment_bulk_example,
    assignment_report_example
);

/// The number of rows by outcome. Every row counts once; reused resources count as applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkSummary {
    /// All rows.
    pub total: u64,
    /// Applied, now or before.
    pub applied: u64,
    /// Failed, without effect.
    pub not_applied: u64,
    /// Outcome unknown.
    pub unknown: u64,
    /// Not sent, because the bulk request stopped first.
    pub skipped: u64,
}

impl From<Progress> for BulkSummary {
    fn from(progress: Progress) -> Self {
        let Progress { total, applied, not_applied, unknown, skipped, pending: _, settling: _ } = progress;
        Self { total, applied, not_applied, unknown, skipped }
    }
}

/// The people of the examples: id, name and e-mail address.
const PEOPLE: [(&str, &str, &str, &str); 2] =
    [("emp-1011", "Ravi", "Nair", "ravi.nair@example.com"), ("emp-1012", "Mia", "Lund", "mia.lund@example.com")];

fn candidate_bulk_example() -> Value {
    let rows = PEOPLE.into_iter().zip(1..).map(|((id, given_name, family_name, email), row)| {
        json!({ "itemId": format!("row-{row}"), "externalId": id, "email": email,
                "name": { "givenName": given_name, "familyName": family_name } })
    });
    json!({ "connection": "startexam-main", "failOnErrors": 10, "items": rows.collect::<Vec<_>>() })
}

fn assignment_bulk_example() -> Value {
    let rows = ["emp-1003", "emp-1004"].into_iter().zip(1..).map(|(candidate, row)| {
        let mut order = new_assignment_example();
        order["itemId"] = json!(format!("row-{row}"));
        order["candidate"] = json!({ "externalId": candidate });
        order["reference"] = json!(format!("order-778{row}"));
        order
    });
    json!({ "connection": "startexam-main", "items": rows.collect::<Vec<_>>() })
}

fn report_example(results: &[Value]) -> Value {
    let applied = results.iter().filter(|result| result["outcome"] == "applied").count();
    let not_applied = results.len() - applied;
    json!({
        "operation": "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71",
        "summary": { "total": results.len(), "applied": applied, "notApplied": not_applied, "unknown": 0, "skipped": 0 },
        "results": results,
    })
}

fn applied_row(index: usize, resource: &Value) -> Value {
    json!({ "index": index, "itemId": format!("row-{}", index + 1), "status": 201, "outcome": "applied",
            "resource": resource })
}

fn failed_row(index: usize, code: Code, error: FieldError) -> Value {
    let fault = Error::new(code, format!("{}: {}", error.pointer, error.detail)).with_field(error);
    json!({ "index": index, "itemId": format!("row-{}", index + 1), "status": status(code).as_u16(),
            "outcome": "not_applied", "problem": Problem::of(&fault, &ExchangeContext::example()) })
}

fn candidate_rows() -> Vec<Value> {
    let rows = PEOPLE.into_iter().enumerate().map(|(index, (id, given_name, family_name, email))| {
        let mut person = candidate_example();
        person["id"] = json!(format!("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e7{index}"));
        person["externalId"] = json!(id);
        person["email"] = json!(email);
        person["name"] = json!({ "givenName": given_name, "familyName": family_name });
        person["vendorRef"] = json!({ "id": id });
        applied_row(index, &person)
    });
    rows.collect()
}

/// Builds the example of a report on candidates.
pub(in crate::http) fn candidate_report_example() -> Value {
    report_example(&candidate_rows())
}

/// Builds the example of an operation's rows, one of which failed.
pub(super) fn candidate_results_example() -> Vec<Value> {
    let error = FieldError::invalid("/email", "is not an e-mail address");
    let [first, ..] = &*candidate_rows() else { return Vec::new() };
    vec![first.clone(), failed_row(1, Code::ValidationFailed, error)]
}

fn assignment_rows() -> Vec<Value> {
    let rows = ["emp-1003", "emp-1004"].into_iter().enumerate().map(|(index, candidate)| {
        let mut booking = assignment_example();
        booking["id"] = json!(format!("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e8{index}"));
        booking["candidate"] =
            json!({ "id": format!("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6{index}"), "externalId": candidate });
        booking["reference"] = json!(format!("order-778{}", index + 1));
        applied_row(index, &booking)
    });
    rows.collect()
}

/// Builds the example of a report on assignments.
pub(in crate::http) fn assignment_report_example() -> Value {
    report_example(&assignment_rows())
}

/// Builds the example of a report on candidates in which a row failed.
pub(in crate::http) fn candidate_failure_example() -> Value {
    report_example(&candidate_results_example())
}

/// Builds the example of a report on assignments in which a row failed.
pub(in crate::http) fn assignment_failure_example() -> Value {
    let code = Code::InvalidReference;
    let error = FieldError::new("/candidate/externalId", code.as_str(), "there is no such candidate");
    let [first, ..] = &*assignment_rows() else { return Value::Null };
    report_example(&[first.clone(), failed_row(1, code, error)])
}
