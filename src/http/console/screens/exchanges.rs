//! Recent exchanges with vendors, redacted by the API.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::exchange::Exchange;
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
