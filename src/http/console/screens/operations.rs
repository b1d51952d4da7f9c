//! The screens of operations: the list, and one with its progress and its rows.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName};
use serde_json::json;

use crate::domain::operation::OperationKind;
use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::chart::counted;
use crate::http::console::documents::operation::{Operation, OperationProgress};
use crate::http::console::format as filters;
use crate::http::console::listing::{Choice, Pager, Tab, connection_names, with_query};
use crate::http::console::page::{Area, Page};
use crate::http::console::screens::operation_rows::Row;
use crate::http::console::screens::operation_table;
use crate::http::console::screens::settle::SETTLED;
use crate::http::console::visit::Visit;

const NOTICES: &[(&str, &str)] = &[
    ("cancelled", "The operation is cancelled: rows that were not sent are skipped, rows in flight run to their end."),
    (
        "retried",
        "The rows that were not applied are sent again; unknown ones once the gateway knows what became of them.",
    ),
    SETTLED,
];
/// The states by which the API filters.
const STATES: [&str; 4] = ["queued", "running", "completed", "cancelled"];
/// Number of operations and of rows on a page.
const OPERATIONS: &str = "50";
const ROWS: &str = "100";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/operations", get(list))
        .route("/console/operations/{id}", get(one))
        .route("/console/operations/{id}/events", get(events))
        .route("/console/operations/{id}/rows.csv", get(operation_table::table))
        .route("/console/operations/{id}/cancel", post(cancel))
        .route("/console/operations/{id}/retry", post(retry))
        .route("/console/operations/{id}/settle", post(settle))
}

#[derive(Template)]
#[template(path = "operations.html", config = "src/http/console/askama.toml")]
struct ListView {
    page: Page,
    state: String,
    states: Vec<Tab>,
    choices: Vec<Choice>,
    operations: List<Operation>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "operation.html", config = "src/http/console/askama.toml")]
struct OperationView {
    page: Page,
    operation: Operation,
    outcomes: Vec<Tab>,
    rows: List<Row>,
    pager: Pager,
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::OperationsRead)?;
    let given = |name| visit.query(name).unwrap_or_default();
    let (state, kind, connection, cursor) = (given("state"), given("kind"), given("connection"), given("cursor"));
    let filter = [("state", state), ("kind", kind), ("connection", connection)];
    let query = [&filter[..], &[("limit", OPERATIONS), ("cursor", cursor)]].concat();
    let connections = connection_names(&visit);
    let (operations, connections) = tokio::try_join!(visit.api.list("/operations", &query), connections)?;
    let page = visit.page("Operations", Area::Operations).with_notices(NOTICES);
    let path = format!("{}operations", page.root);
    let tab = |label: &str, value: &str| Tab {
        label: label.to_owned(),
        href: with_query(&path, &[("state", value), ("kind", kind), ("connection", connection)]),
        is_current: state == value,
    };
    let states = [tab("all", "")].into_iter().chain(STATES.map(|word| tab(word, word))).collect();
    let kinds: Vec<&str> = OperationKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let choices = vec![
        Choice::of_words("kind", "Kind", kind, &kinds),
        Choice::of_names("connection", "Connection", connection, connections),
    ];
    let operations: List<Operation> = operations;
    let pager = Pager::of(&path, &filter, cursor, operations.next_cursor.as_deref());
    visit.render(&ListView { page, state: state.to_owned(), states, choices, operations, pager })
}

async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.require(Scope::OperationsRead)?;
    let outcome = visit.query("outcome").unwrap_or_default();
    let cursor = visit.query("cursor").unwrap_or_default();
    let path = format!("/operations/{}", segment(&id));
    let rows = format!("{path}/items");
    let rows_query = [("outcome", outcome), ("limit", ROWS), ("cursor", cursor)];
    let (operation, rows) =
        tokio::try_join!(visit.api.get::<Operation>(&path), visit.api.list::<Row>(&rows, &rows_query))?;
    let page = visit.page(&operation.id, Area::Operations).with_notices(NOTICES);
    let here = format!("{}operations/{}", page.root, segment(&operation.id));
    let OperationProgress { applied, not_applied, unknown, skipped, .. } = operation.progress;
    let tab = |(label, value, number): (&str, &str, Option<u64>)| Tab {
        label: number.map_or_else(|| label.to_owned(), |number| counted(number, label, label)),
        href: with_query(&here, &[("outcome", value)]),
        is_current: outcome == value,
    };
    let outcomes = [
        ("all", "", None),
        ("applied", "applied", Some(applied)),
        // The API's filter takes skipped rows for rows that were not applied.
        ("not applied", "not_applied", Some(not_applied + skipped)),
        ("unknown", "unknown", Some(unknown)),
        ("skipped", "skipped", Some(skipped)),
    ];
    let outcomes = outcomes.into_iter().map(tab).collect();
    let pager = Pager::of(&here, &[("outcome", outcome)], cursor, rows.next_cursor.as_deref());
    visit.render(&OperationView { page, operation, outcomes, rows, pager })
}

/// Passes the API's event stream on, for the script of the page.
async fn events(visit: Visit, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, ConsoleError> {
    let last = headers.get(&LAST_EVENT_ID).and_then(|value| value.to_str().ok()).map(|id| (LAST_EVENT_ID, id));
    let headers: Vec<(HeaderName, &str)> = [(ACCEPT, "text/event-stream")].into_iter().chain(last).collect();
    visit.api.forward(&format!("/operations/{}/events", segment(&id)), &headers).await
}

async fn cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    act(&visit, &id, "cancel", None, "cancelled").await
}

async fn retry(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    act(&visit, &id, "retry", None, "retried").await
}

/// Records what became of an enrolment's unknown calls: of the one that the form names, else of all.
async fn settle(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let mut settlement = json!({ "outcome": visit.field("outcome") });
    if !visit.field("item").is_empty() {
        let index: u64 = visit.field("item").parse().map_err(|_| {
            ConsoleError::Refused(http::StatusCode::UNPROCESSABLE_ENTITY, "A row is named by its number.")
        })?;
        settlement["items"] = json!([index]);
    }
    act(&visit, &id, "settle", Some(&settlement), SETTLED.0).await
}

async fn act(
    visit: &Visit,
    id: &str,
    action: &str,
    body: Option<&serde_json::Value>,
    notice: &str,
) -> Result<Response, ConsoleError> {
    let id = segment(id);
    visit.api.post(&format!("/operations/{id}/{action}"), body, visit.key()).await?;
    visit.redirect(&format!("operations/{id}"), notice)
}
