//! Recent exchanges with vendors, redacted by the API.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/exchanges", get(list)).route("/console/exchanges/{id}", get(one))
}

#[derive(Template)]
#[template(path = "exchanges.html", config = "src/http/console/askama.toml")]
struct ExchangesView {
    page: Page,
    exchanges: List<Exchange>,
    connection: String,
    operation: String,
}

#[derive(Template)]
#[template(path = "exchange.html", config = "src/http/console/askama.toml")]
struct ExchangeView {
    page: Page,
    exchange: Exchange,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exchange {
    id: String,
    cause: String,
    request_id: String,
    traceparent: Option<String>,
    started_at: String,
    client: Option<String>,
    key: Option<String>,
    method: Option<String>,
    route: Option<String>,
    resource: Option<String>,
    operation: Option<String>,
    status: Option<u16>,
    code: Option<String>,
    duration_ms: Option<u64>,
    vendor_ms: u64,
    calls: Vec<Call>,
    calls_left_out: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    connection: String,
    operation: String,
    #[serde(default)]
    settling: bool,
    started_at: String,
    waited_ms: u64,
    duration_ms: u64,
    method: String,
    address: String,
    ended: String,
    detail: Option<String>,
    status: Option<u16>,
    request: Option<Value>,
    answer: Option<Value>,
}

impl Exchange {
    /// Returns what the exchange was about, in a few words.
    fn subject(&self) -> String {
        let route = self.route.as_ref().map(|route| format!("{} {route}", self.method.as_deref().unwrap_or_default()));
        let connection = || self.calls.first().map(|call| call.connection.clone());
        route.or_else(|| self.resource.clone()).or_else(connection).unwrap_or_default()
    }

    /// Returns the page of the record that it was about, below `console/`; empty if there is none.
    fn resource_page(&self) -> String {
        self.resource.as_ref().map(|path| page_of(path)).unwrap_or_default()
    }

    fn all_calls(&self) -> u64 {
        self.calls_left_out.saturating_add(self.calls.len() as u64)
    }
}

impl Call {
    fn tone(&self) -> &'static str {
        match self.status {
            Some(200..=399) => "good",
            None if self.ended == "answered" => "good",
            Some(_) | None => "bad",
        }
    }
}

/// Returns the page about a resource of the API, below `console/`; empty if there is none.
pub(in crate::http::console) fn page_of(resource: &str) -> String {
    let Some((kind, id)) = resource.trim_start_matches('/').split_once('/') else { return String::new() };
    let screen = match kind {
        "candidates" => "people",
        "assignments" | "operations" | "reports" | "webhooks" | "connections" | "results" | "exchanges" => kind,
        _ => return String::new(),
    };
    format!("{screen}/{}", segment(id))
}

/// Prints JSON for people.
fn printed(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::ExchangesRead)?;
    let [connection, operation, cursor] =
        ["connection", "operation", "cursor"].map(|name| visit.query(name).unwrap_or_default());
    let query = [("connection", connection), ("operation", operation), ("limit", "50"), ("cursor", cursor)];
    let exchanges = visit.api.list("/exchanges", &query).await?;
    let page = visit.page("Exchanges", Area::Exchanges);
    let (connection, operation) = (connection.to_owned(), operation.to_owned());
    visit.render(&ExchangesView { page, exchanges, connection, operation })
}

async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let exchange: Exchange = visit.api.get(&format!("/exchanges/{}", segment(&id))).await?;
    let page = visit.page(&format!("Exchange {}", filters::shortened(&exchange.id)), Area::Exchanges);
    visit.render(&ExchangeView { page, exchange })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_lead_to_their_pages() {
        for (resource, page) in [
            ("/candidates/cand_1", "people/cand_1"),
            ("/operations/op_1", "operations/op_1"),
            ("/connections/a b", "connections/a%20b"),
            ("/deliveries/del_1", ""),
            ("/problems", ""),
        ] {
            assert_eq!(page_of(resource), page, "{resource}");
        }
    }
}
