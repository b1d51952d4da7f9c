//! `/candidates/bulk` and `/assignments/bulk`: many rows in one request, each standing for itself.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;

use self::intake::Bulk;
use self::rows::Kind;
use super::answer::{accepted, after_acceptance, finished};
use super::audit::Noted;
use super::dto::bulk::{AssignmentBulk, AssignmentBulkReport, CandidateBulk, CandidateBulkReport};
use super::dto::operation::Operation;
use super::edge::Context;
use super::prefer::Preferences;
use super::problem::Refused;
use super::state::App;
use super::stopping::Stopping;
use crate::dispatch::{Caller, Received};
use crate::domain::ids::OperationId;
use crate::domain::problem::Fault;

mod columns;
mod csv;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzed;
mod intake;
mod json;
mod lines;
mod pieces;
pub(super) mod report;
mod rows;

/// How long a caller waits who does not say.
const USUAL_WAIT: Duration = Duration::from_secs(10);

const CANDIDATE_LINES: &str = r#"{"itemId":"row-1","externalId":"emp-1001","email":"jane.doe@example.com"}
{"itemId":"row-2","externalId":"emp-1002","name":{"givenName":"Ravi","familyName":"Nair"}}
"#;
const CANDIDATE_TABLE: &str = "itemId,externalId,name.givenName,name.familyName,email,custom.Department\r\n\
                               row-1,emp-1001,Jane,Doe,jane.doe@example.com,Claims\r\n\
                               row-2,emp-1002,Ravi,Nair,,\r\n";
const ASSIGNMENT_LINES: &str = r#"{"itemId":"row-1","candidate":{"externalId":"emp-1001"},"assessment":"rust-101"}
{"itemId":"row-2","candidate":{"externalId":"emp-1002"},"assessment":"rust-101"}
"#;
const ASSIGNMENT_TABLE: &str = "itemId,candidate.externalId,assessment,validUntil\r\n\
                                row-1,emp-1001,rust-101,2026-12-15T18:00:00Z\r\n\
                                row-2,emp-1002,rust-101,\r\n";

/// Register many candidates
///
/// Every row succeeds or fails alone: a row that is invalid, or that the vendor refuses, does not touch its neighbours.
/// Rows come as JSON (at most 10,000), or as lines of JSON or a CSV table (at most 100,000), with `connection` and
/// `failOnErrors` in the query. A bulk is an operation: it goes on whatever becomes of the caller, who waits ten seconds for
/// its end unless `Prefer` says otherwise.
///
/// The columns of a table are the members of a row, named with dots: `itemId`, `connection`, `externalId`, `userName`,
/// `password`, `name.givenName`, `name.familyName`, `name.formatted`, `email`, `active`, `phoneNumbers.mobile`,
/// `phoneNumbers.work`, `address.streetAddress`, `address.locality`, `address.region`, `address.postalCode`,
/// `address.country`, `group`, `birthDate`, `gender`, `photo`, `ifExists` and `custom.<name>`. An empty cell is a member not
/// given.
#[utoipa::path(
    post, path = "/candidates/bulk", operation_id = "createCandidates", tag = "Candidates",
    params(
        ("connection" = Option<String>, Query, description = "The connection all rows go to. In JSON it stands in the body.", nullable = false, example = "startexam-main"),
        ("failOnErrors" = Option<u64>, Query, description = "Stops sending after this many failed rows. In JSON it stands in the body.", nullable = false, minimum = 1),
    ),
    request_body(content(
        (CandidateBulk = "application/json"),
        (String = "application/x-ndjson", example = json!(CANDIDATE_LINES)),
        (String = "text/csv", example = json!(CANDIDATE_TABLE)),
    )),
    responses(
        (status = 207, description = "All rows have ended; each has its own result.", body = CandidateBulkReport),
        (status = 202, description = "The bulk goes on; how far it is appears at `Location`.", body = Operation),
    ),
)]
pub(super) async fn candidates(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    stopping: Stopping,
    bulk: Bulk,
) -> Result<Response, Refused> {
    Ok(answered(&app, context, &stopping, bulk, Kind::Candidates).await?)
}

/// Book many candidates
///
/// Every row succeeds or fails alone: a row that is invalid, or that the vendor refuses, does not touch its neighbours.
/// Rows come as JSON (at most 10,000), or as lines of JSON or a CSV table (at most 100,000), with `connection` and
/// `failOnErrors` in the query. A bulk is an operation: it goes on whatever becomes of the caller, who waits ten seconds for
/// its end unless `Prefer` says otherwise.
///
/// The columns of a table are the members of a row, named with dots: `itemId`, `connection`, `candidate.id`,
/// `candidate.externalId`, `candidate.email`, `assessment`, `validFrom`, `validUntil`, `center`, `notify`, `passwordless`,
/// `proctoring.enabled`, `proctoring.parameters.<name>`, `ifExists` and `reference`. An empty cell is a member not given.
#[utoipa::path(
    post, path = "/assignments/bulk", operation_id = "createAssignments", tag = "Assignments",
    params(
        ("connection" = Option<String>, Query, description = "The connection all rows go to. In JSON it stands in the body.", nullable = false, example = "startexam-main"),
        ("failOnErrors" = Option<u64>, Query, description = "Stops sending after this many failed rows. In JSON it stands in the body.", nullable = false, minimum = 1),
    ),
    request_body(content(
        (AssignmentBulk = "application/json"),
        (String = "application/x-ndjson", example = json!(ASSIGNMENT_LINES)),
        (String = "text/csv", example = json!(ASSIGNMENT_TABLE)),
    )),
    responses(
        (status = 207, description = "All rows have ended; each has its own result.", body = AssignmentBulkReport),
        (status = 202, description = "The bulk goes on; how far it is appears at `Location`.", body = Operation),
    ),
)]
pub(super) async fn assignments(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    stopping: Stopping,
    bulk: Bulk,
) -> Result<Response, Refused> {
    Ok(answered(&app, context, &stopping, bulk, Kind::Assignments).await?)
}

async fn answered(app: &App, context: Context, stopping: &Stopping, bulk: Bulk, kind: Kind) -> Result<Response, Fault> {
    let (caller, preferences) = (bulk.caller.clone(), bulk.preferences);
    let received = bulk.received(app, kind).await?;
    let patience = preferences.patience_or(USUAL_WAIT, app.terms.now().server.request_timeout.0);
    match received {
        // However quick the vendor is: what is answered must not depend on a race.
        Received::New(view) if patience.is_zero() => Ok(accepted(app, preferences, false, Operation::from(*view))),
        Received::New(view) => {
            let id = &view.operation.id;
            match ended(app, context, caller, (stopping, patience), preferences, id, false).await {
                Ok(response) => Ok(response),
                // It goes on all the same, and its address is known.
                Err(_) => Ok(accepted(app, preferences, false, Operation::from(*view))),
            }
        }
        Received::Earlier(id) => {
            let end = ended(app, context, caller, (stopping, patience), preferences, &id, true).await;
            end.map_err(|fault| after_acceptance(fault, &id))
        }
    }
}

/// Waits for the end of an operation as long as the caller does, and answers how far it is then.
///
/// # Errors
/// Those of looking it up; the operation goes on.
async fn ended(
    app: &App,
    context: Context,
    caller: Caller,
    (stopping, patience): (&Stopping, Duration),
    preferences: Preferences,
    id: &OperationId,
    replayed: bool,
) -> Result<Response, Fault> {
    let view = tokio::select! {
        view = app.gateway.operation_ended(&caller, id, patience) => view?,
        // The bulk is safe with the store; its caller need not hold the shutdown up.
        () = stopping.begun() => app.gateway.operation(&caller, id).await?,
    };
    if view.operation.state.ended() {
        let noted = Noted::operation(&view);
        let response = report::response(app, context, caller, view).await?;
        return Ok(noted.on(finished(app, preferences, replayed, None, response)));
    }
    Ok(accepted(app, preferences, replayed, Operation::from(view)))
}
