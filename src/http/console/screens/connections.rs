//! The screens of connections: the list, and one with what became of its calls in the last hour and the steps of a check.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, Permitted as _, segment};
use crate::http::console::chart::{Mark, Shape};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::documents::connection::Connection;
use crate::http::console::documents::operation::Operation;
use crate::http::console::format as filters;
use crate::http::console::listing::Pager;
use crate::http::console::page::{Area, Page};
use crate::http::console::screens::call_charts::{CallCharts, CallHistory};
use crate::http::console::visit::Visit;

const NOTICES: &[(&str, &str)] = &[
    ("reading", "The feed of results is being read. New results are on their screen within seconds."),
    ("rereading", "The kept reports are being read again. Results that change get a version."),
];
/// Number of connections on a page.
const CONNECTIONS: &str = "100";

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/connections", get(list))
        .route("/console/connections/{name}", get(one))
        // A sign-in in between leads back here without the form.
        .route("/console/connections/{name}/check", get(unchecked).post(check))
        .route("/console/connections/{name}/read", post(read))
        .route("/console/connections/{name}/reread", post(reread))
}

#[derive(Template)]
#[template(path = "connections.html", config = "src/http/console/askama.toml")]
struct ListView {
    page: Page,
    connections: List<Connection>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "connection.html", config = "src/http/console/askama.toml")]
struct ConnectionView {
    page: Page,
    connection: Connection,
    charts: CallCharts,
    results: VendorResults,
    /// Until when the feed of results says what happened.
    feed_as_of: Option<Timestamp>,
    check: Option<CheckView>,
}

/// The steps of a check.
struct CheckView {
    verdict: &'static str,
    at: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct CheckedConnection {
    #[serde(flatten)]
    connection: Connection,
    checks: Vec<Step>,
}

/// A step of a check.
#[derive(Deserialize)]
struct Step {
    check: String,
    result: String,
    detail: String,
    advice: Option<String>,
}

#[derive(Deserialize)]
struct Vendor {
    results: VendorResults,
}

/// How the results of a vendor can reach the gateway.
#[derive(Deserialize)]
struct VendorResults {
    /// `feed`, `webhook` or `none`.
    source: String,
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::CatalogueRead)?;
    let cursor = visit.query("cursor").unwrap_or_default();
    let query = [("limit", CONNECTIONS), ("cursor", cursor)];
    let connections: List<Connection> = visit.api.list("/connections", &query).await?;
    let page = visit.page("Connections", Area::Connections).with_notices(NOTICES);
    let path = format!("{}connections", page.root);
    let pager = Pager::of(&path, &[], cursor, connections.next_cursor.as_deref());
    visit.render(&ListView { page, connections, pager })
}

async fn one(visit: Visit, Path(name): Path<String>) -> Result<Response, ConsoleError> {
    visit.require(Scope::CatalogueRead)?;
    let connection = visit.api.get(&format!("/connections/{}", segment(&name))).await?;
    show(&visit, connection, None).await
}

async fn show(visit: &Visit, connection: Connection, check: Option<CheckView>) -> Result<Response, ConsoleError> {
    let calls = format!("/connections/{}/calls", segment(&connection.name));
    let vendor = format!("/vendors/{}", segment(&connection.vendor));
    let (history, vendor, feed_as_of) = tokio::try_join!(
        visit.api.get::<CallHistory>(&calls),
        visit.api.get::<Vendor>(&vendor),
        feed_as_of(visit, &connection.name)
    )?;
    let page = visit.page(&connection.name, Area::Connections).with_notices(NOTICES);
    visit.render(&ConnectionView {
        page,
        connection,
        charts: CallCharts::of(history),
        results: vendor.results,
        feed_as_of,
        check,
    })
}

/// Returns until when the feed says what happened, as the newest booking has it: absent if the gateway reads no feed there.
async fn feed_as_of(visit: &Visit, connection: &str) -> Result<Option<Timestamp>, ConsoleError> {
    if !visit.may(Scope::AssignmentsRead) {
        return Ok(None);
    }
    let query = [("connection", connection), ("limit", "1")];
    let newest = visit.api.list::<Assignment>("/assignments", &query).await.permitted()?;
    let newest = newest.and_then(|list| list.items.into_iter().next());
    Ok(newest.and_then(|assignment| assignment.progress?.as_of))
}

async fn unchecked(visit: Visit, Path(name): Path<String>) -> Result<Response, ConsoleError> {
    visit.redirect(&format!("connections/{}", segment(&name)), "")
}

/// Shows the findings at once: they are kept nowhere. Sending the form again only checks again.
async fn check(visit: Visit, Path(name): Path<String>) -> Result<Response, ConsoleError> {
    // The page that shows the findings needs it.
    visit.require(Scope::CatalogueRead)?;
    let path = format!("/connections/{}/check", segment(&name));
    let CheckedConnection { connection, checks: steps } = visit.api.post(&path, None, visit.key()).await?.read()?;
    let verdict = if steps.iter().any(|step| step.result == "fault") { "fault" } else { "ok" };
    let check = CheckView { verdict, at: visit.now().to_string(), steps };
    show(&visit, connection, Some(check)).await
}

async fn read(visit: Visit, Path(name): Path<String>) -> Result<Response, ConsoleError> {
    let name = segment(&name);
    visit.api.post(&format!("/connections/{name}/read"), None, visit.key()).await?;
    visit.redirect(&format!("connections/{name}"), "reading")
}

/// Reads kept reports again: those since a day (UTC), or all.
async fn reread(visit: Visit, Path(name): Path<String>) -> Result<Response, ConsoleError> {
    let name = segment(&name);
    let since = visit.field("since");
    let is_date = since.is_empty() || since.parse::<jiff::civil::Date>().is_ok();
    if !is_date {
        let detail = "The day must be written as 2026-11-30.";
        return Err(ConsoleError::Refused(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let body = if since.is_empty() { json!({}) } else { json!({ "since": format!("{since}T00:00:00Z") }) };
    let begun = visit.api.post(&format!("/connections/{name}/reread"), Some(&body), visit.key()).await?;
    let begun: Operation = begun.read()?;
    if visit.may(Scope::OperationsRead) {
        return visit.redirect(&begun.path(), "begun");
    }
    visit.redirect(&format!("connections/{name}"), "rereading")
}
