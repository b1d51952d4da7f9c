//! `/candidates/bulk` and `/assignments/bulk`: the envelope must be in order, every row stands for itself.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Map, Value};

use super::answer::add_applied;
use super::body::BulkBody;
use super::dto::assignment::Assignment;
use super::dto::bulk::{
    AssignmentBulk, AssignmentBulkReport, AssignmentBulkResult, BulkSummary, CandidateBulk, CandidateBulkReport,
    CandidateBulkResult, Envelope, MOST_ROWS,
};
use super::dto::candidate::{Candidate, CandidateItem, Registration};
use super::dto::common::{Outcome, outcome};
use super::dto::order::{AssignmentItem, Order};
use super::edge::Context;
use super::input::{Input, accepted, fault_of};
use super::problem::{Problem, Refused, status};
use super::request::Writing;
use super::state::App;
use crate::dispatch::{BulkReport, BulkResult, BulkRow, Written};
use crate::domain::problem::{Code, Fault, FieldFault};

/// Register many candidates
///
/// Every row succeeds or fails alone: a row that is invalid, or that the vendor refuses, does not touch its neighbours. The
/// answer comes when all rows are settled as far as they can be. At most 1,000 rows.
#[utoipa::path(
    post, path = "/candidates/bulk", operation_id = "createCandidates", tag = "Candidates",
    request_body(content = CandidateBulk),
    responses((status = 207, description = "Every row has its own result.", body = CandidateBulkReport)),
)]
pub(super) async fn candidates(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    Writing { caller, preferences, patience: _ }: Writing,
    BulkBody(members): BulkBody,
) -> Result<Response, Refused> {
    let bulk = read::<CandidateItem, _>(members, |Registration { connection, new }| (connection, new))?;
    let (connection, strict) = (bulk.connection.as_deref(), preferences.strict());
    let report = app.gateway.create_candidates(&caller, connection, bulk.rows, bulk.fail_on_errors, strict).await?;
    let (operation, summary, rows) = told(report, &context, Candidate::from);
    let results = rows.into_iter().map(|row| {
        let Told { index, item_id, status, outcome, resource, problem } = row;
        CandidateBulkResult { index, item_id, status, outcome, resource, problem }
    });
    let body = CandidateBulkReport { operation, summary, results: results.collect() };
    Ok(answered(preferences, Json(body).into_response()))
}

/// Book many candidates
///
/// Every row succeeds or fails alone: a row that is invalid, or that the vendor refuses, does not touch its neighbours. The
/// answer comes when all rows are settled as far as they can be. At most 1,000 rows.
#[utoipa::path(
    post, path = "/assignments/bulk", operation_id = "createAssignments", tag = "Assignments",
    request_body(content = AssignmentBulk),
    responses((status = 207, description = "Every row has its own result.", body = AssignmentBulkReport)),
)]
pub(super) async fn assignments(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    Writing { caller, preferences, patience: _ }: Writing,
    BulkBody(members): BulkBody,
) -> Result<Response, Refused> {
    let bulk = read::<AssignmentItem, _>(members, |Order { connection, order }| (connection, order))?;
    let (connection, strict) = (bulk.connection.as_deref(), preferences.strict());
    let report = app.gateway.create_assignments(&caller, connection, bulk.rows, bulk.fail_on_errors, strict).await?;
    let (operation, summary, rows) = told(report, &context, Assignment::from);
    let results = rows.into_iter().map(|row| {
        let Told { index, item_id, status, outcome, resource, problem } = row;
        AssignmentBulkResult { index, item_id, status, outcome, resource, problem }
    });
    let body = AssignmentBulkReport { operation, summary, results: results.collect() };
    Ok(answered(preferences, Json(body).into_response()))
}

fn answered(preferences: super::prefer::Preferences, mut response: Response) -> Response {
    *response.status_mut() = StatusCode::MULTI_STATUS;
    add_applied(preferences.without_waiting(), &mut response);
    response
}

/// A bulk whose envelope is in order.
struct Bulk<T> {
    connection: Option<String>,
    fail_on_errors: Option<usize>,
    rows: Vec<BulkRow<T>>,
}

fn read<I: Input, T>(
    mut members: Map<String, Value>,
    split: impl Fn(I::Checked) -> (Option<String>, T),
) -> Result<Bulk<T>, Fault> {
    let items = items(members.remove("items"));
    let envelope = accepted::<Envelope>(&Value::Object(members));
    let (items, (connection, fail_on_errors)) = match (items, envelope) {
        (Ok(items), Ok(envelope)) => (items, envelope),
        (Err(fault), Err(envelope)) => {
            return Err(fault_of(envelope.errors.into_iter().chain([fault]).collect()));
        }
        (Err(fault), Ok(_)) => return Err(fault_of(vec![fault])),
        (Ok(_), Err(fault)) => return Err(fault),
    };
    let rows = items.into_iter().map(|item| BulkRow {
        item_id: item.get("itemId").and_then(Value::as_str).filter(|id| id.len() <= 800).map(str::to_owned),
        row: row::<I, T>(&item, connection.as_deref(), &split),
    });
    Ok(Bulk { rows: rows.collect(), connection, fail_on_errors })
}

fn items(items: Option<Value>) -> Result<Vec<Value>, FieldFault> {
    match items {
        None => Err(FieldFault::missing("/items", "is missing")),
        Some(Value::Array(items)) if (1..=MOST_ROWS).contains(&items.len()) => Ok(items),
        Some(Value::Array(_)) => Err(FieldFault::invalid("/items", format!("must have 1 to {MOST_ROWS} entries"))),
        Some(_) => Err(FieldFault::invalid("/items", "must be a list")),
    }
}

fn row<I: Input, T>(
    item: &Value,
    connection: Option<&str>,
    split: impl Fn(I::Checked) -> (Option<String>, T),
) -> Result<T, Fault> {
    let (own, row) = split(accepted::<I>(item)?);
    match own {
        Some(own) if connection != Some(own.as_str()) => {
            let detail = "differs from the bulk's own; all rows of a bulk go to one connection";
            Err(fault_of(vec![FieldFault::invalid("/connection", detail)]))
        }
        _ => Ok(row),
    }
}

/// A row's result, before it is known whose.
struct Told<R> {
    index: usize,
    item_id: Option<String>,
    status: u16,
    outcome: Outcome,
    resource: Option<R>,
    problem: Option<Problem>,
}

fn told<T, R>(
    report: BulkReport<T>,
    context: &Context,
    resource: impl Fn(T) -> R,
) -> (String, BulkSummary, Vec<Told<R>>) {
    let BulkReport { operation, results } = report;
    let mut summary = BulkSummary { total: results.len(), ..BulkSummary::default() };
    let mut rows = Vec::with_capacity(results.len());
    for (index, BulkResult { item_id, result }) in results.into_iter().enumerate() {
        let skipped = matches!(&result, Err(fault) if fault.code == Code::Skipped);
        let (status, outcome, resource, problem) = match result {
            Ok(Written::Created(value)) => (StatusCode::CREATED, Outcome::Applied, Some(resource(value)), None),
            Ok(Written::Existing(value)) => (StatusCode::OK, Outcome::Applied, Some(resource(value)), None),
            Ok(Written::Pending(value)) => (StatusCode::ACCEPTED, Outcome::Unknown, Some(resource(value)), None),
            Err(fault) => (status(fault.code), outcome(fault.outcome), None, Some(Problem::of(&fault, context))),
        };
        match outcome {
            _ if skipped => summary.skipped += 1,
            Outcome::Applied => summary.applied += 1,
            Outcome::NotApplied => summary.not_applied += 1,
            Outcome::Unknown => summary.unknown += 1,
        }
        rows.push(Told { index, item_id, status: status.as_u16(), outcome, resource, problem });
    }
    (operation.into(), summary, rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::OperationId;

    fn candidates(body: &Value) -> Result<Bulk<crate::domain::candidate::NewCandidate>, Fault> {
        read::<CandidateItem, _>(body.as_object().unwrap().clone(), |Registration { connection, new }| {
            (connection, new)
        })
    }

    #[test]
    fn a_bad_row_fails_alone() {
        let body = json!({ "connection": "a", "items": [
            { "itemId": "1", "externalId": "x" },
            { "itemId": "2", "externalId": "", "odd": 1 },
            7,
            { "connection": "b", "externalId": "y" },
            { "connection": "a", "externalId": "z" },
        ]});
        let bulk = candidates(&body).unwrap();
        let faults: Vec<Vec<String>> = bulk
            .rows
            .iter()
            .map(|row| {
                row.row
                    .as_ref()
                    .err()
                    .map_or_else(Vec::new, |fault| fault.errors.iter().map(|error| error.pointer.clone()).collect())
            })
            .collect();
        assert_eq!(faults, [vec![], vec!["/odd", "/externalId"], vec![""], vec!["/connection"], vec![]]);
        assert_eq!(bulk.rows[1].item_id.as_deref(), Some("2"));
    }

    #[test]
    fn a_bad_envelope_fails_whole() {
        for (body, pointers) in [
            (json!({}), vec!["/items"]),
            (json!({ "items": [] }), vec!["/items"]),
            (json!({ "items": {}, "odd": 1 }), vec!["/odd", "/items"]),
            (json!({ "items": [{}], "failOnErrors": 0 }), vec!["/failOnErrors"]),
            (json!({ "items": vec![json!({}); MOST_ROWS + 1] }), vec!["/items"]),
        ] {
            let Err(fault) = candidates(&body) else { panic!("{body}") };
            let told: Vec<&str> = fault.errors.iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(told, pointers);
        }
    }

    #[test]
    fn every_row_counts_once() {
        let operation = OperationId::parse(&format!("op_{}", "0".repeat(32))).unwrap();
        let results = [
            Ok(Written::Created(1)),
            Ok(Written::Existing(1)),
            Ok(Written::Pending(1)),
            Err(Fault::new(Code::ValidationFailed, "x")),
            Err(Fault::unknown(Code::VendorTimeout, "x")),
            Err(Fault::new(Code::Skipped, "x")),
        ];
        let results = results.map(|result| BulkResult { item_id: None, result }).to_vec();
        let (_, summary, rows) = told(BulkReport { operation, results }, &Context::example(), |value| value);
        assert_eq!(summary, BulkSummary { total: 6, applied: 2, not_applied: 1, unknown: 2, skipped: 1 });
        assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [201, 200, 202, 422, 504, 424]);
        assert!(rows.iter().all(|row| row.resource.is_some() != row.problem.is_some()));
    }
}
