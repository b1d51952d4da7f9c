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

fn candidate_bulk_example() -> Value {
    json!({
        "connection": "startexam-main",
        "failOnErrors": 10,
        "items": [
            { "itemId": "row-1", "externalId": "emp-1001", "email": "jane.doe@example.com",
              "name": { "givenName": "Jane", "familyName": "Doe" } },
            { "itemId": "row-2", "externalId": "emp-1002", "email": "nobody" },
        ],
    })
}

fn assignment_bulk_example() -> Value {
    let rows = ["emp-1001", "emp-1002"].into_iter().zip(["row-1", "row-2"]).map(|(candidate, mark)| {
        let mut row = new_assignment_example();
        row["itemId"] = json!(mark);
        row["candidate"] = json!({ "externalId": candidate });
        row
    });
    json!({ "items": rows.collect::<Vec<_>>() })
}

fn results_example(resource: &Value, code: Code, error: FieldError) -> Value {
    let fault = Error::new(code, format!("{}: {}", error.pointer, error.detail)).with_field(error);
    json!([
        { "index": 0, "itemId": "row-1", "status": 201, "outcome": "applied", "resource": resource },
        { "index": 1, "itemId": "row-2", "status": status(code).as_u16(), "outcome": "not_applied",
          "problem": Problem::of(&fault, &ExchangeContext::example()) },
    ])
}

fn report_example(results: &Value) -> Value {
    json!({
        "operation": "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71",
        "summary": { "total": 2, "applied": 1, "notApplied": 1, "unknown": 0, "skipped": 0 },
        "results": results,
    })
}

/// Builds the example of an operation's rows.
pub(super) fn candidate_results_example() -> Value {
    let error = FieldError::invalid("/email", "is not an e-mail address");
    results_example(&candidate_example(), Code::ValidationFailed, error)
}

fn candidate_report_example() -> Value {
    report_example(&candidate_results_example())
}

fn assignment_report_example() -> Value {
    let code = Code::InvalidReference;
    let error = FieldError::new("/candidate/externalId", code.as_str(), "there is no such candidate");
    report_example(&results_example(&assignment_example(), code, error))
}
