//! Bulks as they are sent and answered: many rows in one request, each with a result of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::assignment::{Assignment, assignment_example};
use super::candidate::{Candidate, CandidateItem, candidate_example};
use super::common::Outcome;
use super::order::{AssignmentItem, new_assignment_example};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::text::Faults;
use crate::http::edge::Context;
use crate::http::input::Input;
use crate::http::problem::{Problem, status};

/// Most rows of a bulk in JSON.
pub(in crate::http) const MOST_ROWS: usize = 1000;

/// What a bulk says besides its rows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Envelope {
    connection: Option<String>,
    fail_on_errors: Option<usize>,
}

impl Input for Envelope {
    type Checked = (Option<String>, Option<usize>);

    fn checked(self) -> Result<Self::Checked, Vec<FieldFault>> {
        let Self { connection, fail_on_errors } = self;
        let mut faults = Faults::new();
        faults.line("/connection", connection.as_deref(), 200);
        if fail_on_errors == Some(0) {
            faults.push(FieldFault::invalid("/failOnErrors", "must be at least 1"));
        }
        faults.or((connection, fail_on_errors))
    }
}

macro_rules! bulk {
    ($request:ident, $item:ident, $report:ident, $result:ident, $resource:ident, $request_example:ident, $report_example:ident) => {
        /// Many rows in one request. Each row succeeds or fails alone.
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($request_example))]
        #[expect(dead_code, reason = "only documented; rows are read one by one, so that a bad one fails alone")]
        pub struct $request {
            /// The connection all rows go to; chosen as for a single request when absent.
            #[schema(min_length = 1, max_length = 200)]
            connection: Option<String>,
            /// Stops sending after this many failed rows; the rest is skipped.
            #[schema(minimum = 1)]
            fail_on_errors: Option<usize>,
            /// The rows.
            #[schema(min_items = 1, max_items = 1000)]
            items: Vec<$item>,
        }

        /// What became of a bulk.
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($report_example))]
        pub struct $report {
            /// Names the bulk in logs and the audit record.
            pub operation: String,
            /// How many rows ended how; every row counts once.
            pub summary: BulkSummary,
            /// One entry a row, in the order of the request.
            pub results: Vec<$result>,
        }

        /// What became of one row.
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $result {
            /// Which row, from 0.
            pub index: usize,
            /// The caller's mark for the row.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub item_id: Option<String>,
            /// The status a single request would have been answered with.
            #[schema(minimum = 200, maximum = 599)]
            pub status: u16,
            /// What is known of the row.
            pub outcome: Outcome,
            /// What was made or found.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub resource: Option<$resource>,
            /// Why the row failed; its pointers point into the row.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub problem: Option<Problem>,
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

/// How many rows ended how. Every row counts once; reused resources count as applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkSummary {
    /// All rows.
    pub total: usize,
    /// Done, now or before.
    pub applied: usize,
    /// Failed, and nothing happened.
    pub not_applied: usize,
    /// Not known.
    pub unknown: usize,
    /// Not sent, because the bulk stopped before.
    pub skipped: usize,
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

fn report_example(resource: &Value, code: Code, error: FieldFault) -> Value {
    let fault = Fault::new(code, format!("{}: {}", error.pointer, error.detail)).about(error);
    json!({
        "operation": "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71",
        "summary": { "total": 2, "applied": 1, "notApplied": 1, "unknown": 0, "skipped": 0 },
        "results": [
            { "index": 0, "itemId": "row-1", "status": 201, "outcome": "applied", "resource": resource },
            { "index": 1, "itemId": "row-2", "status": status(code).as_u16(), "outcome": "not_applied",
              "problem": Problem::of(&fault, &Context::example()) },
        ],
    })
}

fn candidate_report_example() -> Value {
    let error = FieldFault::invalid("/email", "is not an e-mail address");
    report_example(&candidate_example(), Code::ValidationFailed, error)
}

fn assignment_report_example() -> Value {
    let code = Code::InvalidReference;
    let error = FieldFault::new("/candidate/externalId", code.as_str(), "there is no such candidate");
    report_example(&assignment_example(), code, error)
}
