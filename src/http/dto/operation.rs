//! Operations in responses: their progress and the result of each row.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::assignment::Assignment;
use super::bulk::candidate_results_example;
use super::candidate::Candidate;
use super::common::{Moment, SettledOutcome, page_document, word_document};
use super::program::Enrolled;
use crate::domain::error::FieldError;
use crate::domain::operation as domain;
use crate::domain::operation::OperationKind;
use crate::domain::outcome::Outcome;
use crate::domain::results::Progress;
use crate::domain::validation::FieldErrors;
use crate::http::exchange_context::ExchangeContext;
use crate::http::extract::validate::{ApiInput, word};
use crate::http::problem::{Problem, status};
use crate::service;
use crate::service::{OperationStatus, ResultFilter, ResultRow, RowOutcome, RowResource};

word_document! {
    /// The progress of an operation.
    #[derive(Debug, Clone, Copy, Serialize)]
    pub enum OperationState {
        /// Work has not started.
        Queued,
        /// Rows are being sent.
        Running,
        /// Every row has ended.
        Completed,
        /// The operation was cancelled; rows not yet sent were skipped.
        Cancelled,
    }
}

impl From<domain::OperationState> for OperationState {
    fn from(state: domain::OperationState) -> Self {
        match state {
            domain::OperationState::Receiving | domain::OperationState::Queued => Self::Queued,
            domain::OperationState::Running => Self::Running,
            domain::OperationState::Completed => Self::Completed,
            domain::OperationState::Cancelled => Self::Cancelled,
        }
    }
}

/// The number of rows by state. Every row counts once (besides, perhaps, in `settling`); reused resources count as
/// applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationProgress {
    /// All rows.
    pub total: u64,
    /// Applied, now or before.
    pub applied: u64,
    /// Failed, without effect.
    pub not_applied: u64,
    /// Outcome unknown.
    pub unknown: u64,
    /// Not sent, because the operation stopped first.
    pub skipped: u64,
    /// Not ended yet.
    pub pending: u64,
    /// Of the rows counted as `pending` or `unknown`: those that were sent and whose outcome the gateway is finding out
    /// by itself, for example after a restart. Rows left to a person are not among them.
    pub settling: u64,
}

impl From<domain::Progress> for OperationProgress {
    fn from(progress: domain::Progress) -> Self {
        let domain::Progress { total, applied, not_applied, unknown, skipped, pending, settling } = progress;
        Self { total, applied, not_applied, unknown, skipped, pending, settling }
    }
}

/// A job with many rows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(operation_example))]
pub struct Operation {
    /// The gateway's identifier.
    pub id: String,
    /// The kind of rows.
    pub kind: OperationKind,
    /// The connection for all rows; absent of a replay, which has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub connection: String,
    /// The state of the operation.
    pub state: OperationState,
    /// Whether cancellation has been requested; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub cancelling: bool,
    /// The number of rows by state.
    pub progress: OperationProgress,
    /// When the operation was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When sending began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Moment>,
    /// When the operation ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Moment>,
    /// When the operation's personal data is removed, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Moment>,
}

impl From<OperationStatus> for Operation {
    fn from(view: OperationStatus) -> Self {
        let OperationStatus { operation, progress, expires } = view;
        let domain::Operation {
            id,
            tenant: _,
            client: _,
            kind,
            connection,
            strict: _,
            fail_on_errors: _,
            state,
            cancelling,
            total: _,
            created,
            accepted: _,
            started,
            finished,
            request_id: _,
            traceparent: _,
            replay: _,
        } = operation;
        Self {
            id: id.into(),
            kind,
            connection,
            state: state.into(),
            cancelling,
            progress: progress.into(),
            created_at: created.into(),
            started_at: started.map(Into::into),
            finished_at: finished.map(Into::into),
            expires_at: expires.map(Into::into),
        }
    }
}

page_document!(OperationList, Operation, operation_list_example, "Operations, newest first.");

/// The true outcome of an operation's unknown rows, as a person verified it at the vendor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "outcome": "not_applied", "items": [0] })))]
pub struct OperationSettlement {
    /// The verified outcome.
    #[serde(default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    outcome: Option<SettledOutcome>,
    /// The rows concerned, by their `index`. Default: all rows whose outcome is unknown.
    #[schema(min_items = 1, max_items = 100_000)]
    items: Option<Vec<u64>>,
}

impl ApiInput for OperationSettlement {
    type Checked = service::OperationSettlement;

    fn checked(self) -> Result<service::OperationSettlement, Vec<FieldError>> {
        let Self { outcome, items } = self;
        let mut errors = FieldErrors::new();
        if outcome.is_none() {
            errors.push(FieldError::missing("/outcome", "is missing"));
        }
        if items.as_ref().is_some_and(Vec::is_empty) {
            errors.push(FieldError::invalid("/items", "must name a row, or be left out"));
        }
        let outcome = outcome.map_or(Outcome::Unknown, Into::into);
        errors.into_result(service::OperationSettlement { outcome, items })
    }
}

/// The result of one row of an operation. Rows that have not ended yet have no entry.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationItem {
    /// Position of the row, from 0.
    pub index: u64,
    /// The caller's label for the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The status a single request would have returned.
    #[schema(minimum = 200, maximum = 599)]
    pub status: u16,
    /// What is known about the row.
    pub outcome: Outcome,
    /// The resource created or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ItemResource>,
    /// Present and true if the resource has since been erased; `resource` and `problem` are then absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub erased: bool,
    /// Why the row failed; its pointers are relative to the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The resource of a row, by the operation's kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ItemResource {
    /// A person.
    Candidate(Box<Candidate>),
    /// A booking.
    Assignment(Box<Assignment>),
    /// The vendor's counters.
    Enrolled(Enrolled),
}

impl OperationItem {
    /// Builds the entry of a row; a problem in it refers to this request. `progress` is that of the row's assignment.
    pub(in crate::http) fn of(row: ResultRow, context: &ExchangeContext, progress: Option<Progress>) -> Self {
        let ResultRow { index, item_id, end } = row;
        let entry = |status: u16, outcome, resource: Option<ItemResource>, problem: Option<Problem>| {
            let erased = resource.is_none() && problem.is_none();
            Self { index, item_id, status, outcome, resource, erased, problem }
        };
        match end {
            // A change to a program's employees creates no addressable resource.
            RowOutcome::Created(resource @ RowResource::Enrolled(_)) | RowOutcome::Existing(resource) => {
                entry(200, Outcome::Applied, ItemResource::of(resource, progress), None)
            }
            RowOutcome::Created(resource) => entry(201, Outcome::Applied, ItemResource::of(resource, progress), None),
            RowOutcome::Failed(error) => {
                let status = status(error.code).as_u16();
                entry(status, error.outcome, None, Some(Problem::of(&error, context)))
            }
        }
    }
}

impl ItemResource {
    fn of(resource: RowResource, progress: Option<Progress>) -> Option<Self> {
        match resource {
            RowResource::Candidate(answer) => Some(Self::Candidate(Box::new(answer.into()))),
            RowResource::Assignment(assignment) => {
                Some(Self::Assignment(Box::new(Assignment::of(assignment, progress))))
            }
            RowResource::Enrolled(enrolled) => Some(Self::Enrolled(enrolled.into())),
            RowResource::Erased => None,
        }
    }
}

page_document!(OperationItemList, OperationItem, item_list_example, "Rows that have ended, in input order.");

word_document! {
    /// The outcome to filter rows by.
    pub enum ItemOutcome into ResultFilter {
        /// Applied, now or before.
        Applied,
        /// Failed or skipped: without effect.
        NotApplied,
        /// Outcome unknown.
        Unknown,
        /// Not sent, because the operation stopped first.
        Skipped,
    }
}

/// Builds the example of an operation, also used in events.
pub(in crate::http) fn operation_example() -> Value {
    json!({
        "id": "op_0192f0c1a3b47c8d9e0f1a2b3c4d5e71",
        "kind": "candidates",
        "connection": "startexam-main",
        "state": "running",
        "progress": { "total": 20_000, "applied": 6998, "notApplied": 2, "unknown": 0, "skipped": 0, "pending": 13_000, "settling": 0 },
        "createdAt": "2026-11-22T09:30:21.024Z",
        "startedAt": "2026-11-22T09:30:21.310Z",
    })
}

fn operation_list_example() -> Value {
    json!({ "items": [operation_example()], "nextCursor": null })
}

fn item_list_example() -> Value {
    json!({ "items": candidate_results_example(), "nextCursor": null })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::{Code, Error};

    fn item_json(end: RowOutcome) -> Value {
        let row = ResultRow { index: 7, item_id: Some("x".to_owned()), end };
        serde_json::to_value(OperationItem::of(row, &ExchangeContext::example(), None)).unwrap()
    }

    #[test]
    fn row_has_the_status_of_a_single_request() {
        use crate::domain::program::{self, EnrolmentCounts};
        let counts = EnrolmentCounts { employees_registered: 3, ..EnrolmentCounts::default() };
        let enrolled = || RowResource::Enrolled(program::Enrolled { counts, warnings: Vec::new() });
        let row = item_json(RowOutcome::Created(enrolled()));
        assert_eq!((&row["index"], &row["itemId"], &row["status"]), (&json!(7), &json!("x"), &json!(200)));
        assert_eq!((&row["outcome"], &row["resource"]["employeesRegistered"]), (&json!("applied"), &json!(3)));
        assert_eq!(item_json(RowOutcome::Existing(enrolled()))["status"], 200);
        for (error, status, outcome) in [
            (Error::new(Code::ValidationFailed, "x"), 422, "not_applied"),
            (Error::unknown(Code::VendorTimeout, "x"), 504, "unknown"),
            (Error::new(Code::Skipped, "x"), 424, "not_applied"),
        ] {
            let row = item_json(RowOutcome::Failed(error));
            assert_eq!((&row["status"], &row["outcome"]), (&json!(status), &json!(outcome)));
            assert_eq!(row["problem"]["status"], status);
            assert!(row.get("resource").is_none() && row.get("erased").is_none(), "{row}");
        }
    }

    #[test]
    fn erased_resource_is_marked_as_erased() {
        let row = item_json(RowOutcome::Created(RowResource::Erased));
        let expected = json!({ "index": 7, "itemId": "x", "status": 201, "outcome": "applied", "erased": true });
        assert_eq!(row, expected);
    }
}
