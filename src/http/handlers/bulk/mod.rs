//! `/candidates/bulk` and `/assignments/bulk`: many rows in one request, each independent of the others.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;

use self::rows::BulkItem;
use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::dto::bulk::{
    AssignmentBulk, AssignmentBulkReport, CandidateBulk, CandidateBulkReport, assignment_failure_example,
    assignment_report_example, candidate_failure_example, candidate_report_example,
};
use crate::http::dto::operation::Operation;
use crate::http::exchange_context::ExchangeContext;
use crate::http::extract::prefer::Preferences;
use crate::http::handlers::bulk::upload::BulkRequest;
use crate::http::problem::ApiError;
use crate::http::response::{accepted_response, into_accepted_error, with_write_headers};
use crate::http::server::shutdown::ShutdownSignal;
use crate::service::{AcceptedOperation, RequestContext};

mod chunk_reader;
mod csv;
mod csv_columns;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::http) mod fuzz;
mod json;
mod ndjson;
pub(in crate::http) mod preview;
pub(in crate::http) mod report;
mod rows;
mod upload;

/// How long a caller without `Prefer: wait` waits.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

const CANDIDATE_LINES: &str = r#"{"itemId":"row-1","connection":"startexam-main","externalId":"emp-1011","name":{"givenName":"Ravi","familyName":"Nair"}}
{"itemId":"row-2","connection":"startexam-main","externalId":"emp-1012","email":"mia.lund@example.com"}
"#;
const CANDIDATE_TABLE: &str = "itemId,connection,externalId,name.givenName,name.familyName,email,custom.Department\r\n\
                               row-1,startexam-main,emp-1011,Ravi,Nair,ravi.nair@example.com,Claims\r\n\
                               row-2,startexam-main,emp-1012,Mia,Lund,,\r\n";
const ASSIGNMENT_LINES: &str = r#"{"itemId":"row-1","connection":"startexam-main","candidate":{"externalId":"emp-1001"},"assessment":"english-b2"}
{"itemId":"row-2","connection":"startexam-main","candidate":{"externalId":"emp-1002"},"assessment":"english-b2"}
"#;
const ASSIGNMENT_TABLE: &str = "itemId,connection,candidate.externalId,assessment,validUntil\r\n\
                                row-1,startexam-main,emp-1001,data-protection,2035-03-15T18:00:00Z\r\n\
                                row-2,startexam-main,emp-1002,data-protection,\r\n";

/// Register many candidates
///
/// Every row succeeds or fails on its own: a row that is invalid, or that the vendor rejects, does not affect the
/// others. Rows are sent as JSON (at most 10,000), or as NDJSON or CSV (at most 100,000) with `connection` and
/// `failOnErrors` in the query. A bulk request is an operation: it continues even if the caller disconnects. The
/// response waits up to ten seconds for its end unless `Prefer` sets another time.
///
/// The columns of a CSV body are the fields of a row, named with dots: `itemId`, `connection`, `externalId`,
/// `userName`, `password`, `name.givenName`, `name.familyName`, `name.formatted`, `email`, `active`,
/// `phoneNumbers.mobile`, `phoneNumbers.work`, `address.streetAddress`, `address.locality`, `address.region`,
/// `address.postalCode`, `address.country`, `group`, `birthDate`, `gender`, `photo`, `ifExists` and `custom.<name>`. An
/// empty cell means that the field is not given. `active` is `true` or `false`, `yes` or `no`, `1` or `0`. Rows of
/// blank cells and columns with neither name nor content are ignored. Ids that a spreadsheet has damaged are
/// refused.
#[utoipa::path(
    post, path = "/candidates/bulk", operation_id = "createCandidatesBulk", tag = "Candidates",
    params(
        ("connection" = Option<String>, Query, description = "The connection for all rows. In JSON it is a field of the body instead.", nullable = false),
        ("failOnErrors" = Option<u64>, Query, description = "Stop sending after this many failed rows. In JSON it is a field of the body instead.", nullable = false, minimum = 1),
        ("allowDamagedIds" = Option<bool>, Query, description = "Take ids in a CSV body as they are, even if they look damaged by a spreadsheet (`1.23457E+11`, `=\"00123\"`, `'00124`, `#N/A`). For CSV only.", nullable = false),
    ),
    request_body(content(
        (CandidateBulk = "application/json"),
        (String = "application/x-ndjson", example = json!(CANDIDATE_LINES)),
        (String = "text/csv", example = json!(CANDIDATE_TABLE)),
    )),
    responses(
        (status = 207, description = "All rows have ended; each has its own result.", body = CandidateBulkReport, examples(
            ("applied" = (summary = "Every row was applied", value = json!(candidate_report_example()))),
            ("rowFailed" = (summary = "A row failed", value = json!(candidate_failure_example()))),
        )),
        (status = 202, description = "The bulk request is still running; its progress appears at `Location`.", body = Operation),
    ),
)]
pub(in crate::http) async fn candidates(
    State(app): State<AppState>,
    Extension(context): Extension<ExchangeContext>,
    stopping: ShutdownSignal,
    bulk: BulkRequest,
) -> Result<Response, ApiError> {
    Ok(respond(&app, context, &stopping, bulk, BulkItem::Candidates).await?)
}

/// Book many candidates
///
/// Every row succeeds or fails on its own: a row that is invalid, or that the vendor rejects, does not affect the
/// others. Rows are sent as JSON (at most 10,000), or as NDJSON or CSV (at most 100,000) with `connection` and
/// `failOnErrors` in the query. A bulk request is an operation: it continues even if the caller disconnects. The
/// response waits up to ten seconds for its end unless `Prefer` sets another time.
///
/// The columns of a CSV body are the fields of a row, named with dots: `itemId`, `connection`, `candidate.id`,
/// `candidate.externalId`, `candidate.email`, `assessment`, `validFrom`, `validUntil`, `center`, `notify`,
/// `passwordless`, `proctoring.enabled`, `proctoring.parameters.<name>`, `ifExists` and `reference`. An empty cell
/// means that the field is not given. Flags are `true` or `false`, `yes` or `no`, `1` or `0`. Rows of blank cells and
/// columns with neither name nor content are ignored. Ids that a spreadsheet has damaged are refused.
#[utoipa::path(
    post, path = "/assignments/bulk", operation_id = "createAssignmentsBulk", tag = "Assignments",
    params(
        ("connection" = Option<String>, Query, description = "The connection for all rows. In JSON it is a field of the body instead.", nullable = false),
        ("failOnErrors" = Option<u64>, Query, description = "Stop sending after this many failed rows. In JSON it is a field of the body instead.", nullable = false, minimum = 1),
        ("allowDamagedIds" = Option<bool>, Query, description = "Take ids in a CSV body as they are, even if they look damaged by a spreadsheet (`1.23457E+11`, `=\"00123\"`, `'00124`, `#N/A`). For CSV only.", nullable = false),
    ),
    request_body(content(
        (AssignmentBulk = "application/json"),
        (String = "application/x-ndjson", example = json!(ASSIGNMENT_LINES)),
        (String = "text/csv", example = json!(ASSIGNMENT_TABLE)),
    )),
    responses(
        (status = 207, description = "All rows have ended; each has its own result.", body = AssignmentBulkReport, examples(
            ("applied" = (summary = "Every row was applied", value = json!(assignment_report_example()))),
            ("rowFailed" = (summary = "A row failed", value = json!(assignment_failure_example()))),
        )),
        (status = 202, description = "The bulk request is still running; its progress appears at `Location`.", body = Operation),
    ),
)]
pub(in crate::http) async fn assignments(
    State(app): State<AppState>,
    Extension(context): Extension<ExchangeContext>,
    stopping: ShutdownSignal,
    bulk: BulkRequest,
) -> Result<Response, ApiError> {
    Ok(respond(&app, context, &stopping, bulk, BulkItem::Assignments).await?)
}

async fn respond(
    app: &AppState,
    context: ExchangeContext,
    stopping: &ShutdownSignal,
    bulk: BulkRequest,
    kind: BulkItem,
) -> Result<Response, Error> {
    let (caller, preferences) = (bulk.caller.clone(), bulk.preferences);
    let received = bulk.receive_all(app, kind).await?;
    let patience = preferences.wait_or(DEFAULT_WAIT, app.terms.now().server.request_timeout.0);
    match received {
        // Always 202, however fast the vendor is: the response must not depend on a race.
        AcceptedOperation::New(view) if patience.is_zero() => {
            Ok(accepted_response(app, preferences, false, Operation::from(*view)))
        }
        AcceptedOperation::New(view) => {
            let id = &view.operation.id;
            match wait_for_end(app, context, caller, (stopping, patience), preferences, id, false).await {
                Ok(response) => Ok(response),
                // The operation continues anyway, and its address is known.
                Err(_) => Ok(accepted_response(app, preferences, false, Operation::from(*view))),
            }
        }
        AcceptedOperation::Earlier(id) => {
            let end = wait_for_end(app, context, caller, (stopping, patience), preferences, &id, true).await;
            end.map_err(|error| into_accepted_error(error, &id))
        }
    }
}

/// Waits for the end of an operation as long as the caller does, and returns its state at that point.
///
/// # Errors
/// Errors of reading the operation; the operation itself continues.
async fn wait_for_end(
    app: &AppState,
    context: ExchangeContext,
    caller: RequestContext,
    (stopping, patience): (&ShutdownSignal, Duration),
    preferences: Preferences,
    id: &OperationId,
    replayed: bool,
) -> Result<Response, Error> {
    let view = tokio::select! {
        view = app.gateway.wait_for_operation(&caller, id, patience) => view?,
        // The rows are in the store, so the waiting caller need not delay the shutdown.
        () = stopping.wait_begun() => app.gateway.operation(&caller, id).await?,
    };
    if view.operation.state.is_terminal() {
        let audit_info = AuditInfo::operation(&view);
        let response = report::response(app, context, caller, view).await?;
        return Ok(audit_info.on(with_write_headers(app, preferences, replayed, None, response)));
    }
    Ok(accepted_response(app, preferences, replayed, Operation::from(view)))
}
