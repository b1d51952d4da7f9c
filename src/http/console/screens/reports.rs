//! The screens of reports: what vendors said about attempts, and whose it is not known or what cannot be read; and what a
//! person can say about it.
//!
//! A report's body is personal data: it is shown only when it is asked for, which the audit log records.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};

use self::one::NOTICES;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List};
use crate::http::console::documents::report::Report;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

mod identities;
mod matches;
mod one;

/// The states of reports, by which the list is filtered; empty for those that need a person.
const STATES: [&str; 6] = ["", "parked", "rejected", "applied", "repeated", "dismissed"];
/// Number of reports on a page.
const MOST: &str = "50";
/// Number of reports of a state on the first page.
const FIRST: &str = "20";

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/reports", get(list))
        .route("/console/reports/{id}", get(one::show))
        .route("/console/reports/{id}/body", post(one::show_body).get(one::back))
        .route("/console/reports/{id}/search", post(one::search).get(one::back))
        .route("/console/reports/{id}/match", post(one::match_target).get(one::back))
        .route("/console/reports/{id}/dismiss", post(one::dismiss).get(one::back))
}

#[derive(Template)]
#[template(path = "reports.html", config = "src/http/console/askama.toml")]
struct ListView {
    page: Page,
    tabs: Vec<Tab>,
    sections: Vec<Section>,
    is_first: bool,
}

/// A link to the reports in one state.
struct Tab {
    state: &'static str,
    is_current: bool,
}

/// The reports in one state.
struct Section {
    state: &'static str,
    reports: Vec<Report>,
    next_cursor: Option<String>,
    /// Whether it is only the beginning of the list.
    is_excerpt: bool,
}

impl Section {
    fn title(&self) -> &'static str {
        if self.state == "parked" { "Parked" } else { "Rejected" }
    }

    /// Says that there are none.
    fn empty_state(&self) -> String {
        match self.state {
            "parked" => "No report is parked: it is known of each one whose it is.".to_owned(),
            "rejected" => "No report is rejected: each one could be read.".to_owned(),
            state => format!("No report is {state}."),
        }
    }
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    let wanted = visit.query("state").unwrap_or_default();
    let current = STATES.into_iter().find(|state| *state == wanted).unwrap_or_default();
    let cursor = visit.query("cursor").unwrap_or_default();
    let sections = if current.is_empty() {
        let (parked, rejected) = tokio::try_join!(excerpt(&visit, "parked"), excerpt(&visit, "rejected"))?;
        vec![parked, rejected]
    } else {
        vec![section(&visit, current, MOST, cursor).await?]
    };
    let tabs = STATES.into_iter().map(|state| Tab { state, is_current: state == current }).collect();
    let page = visit.page("Parked reports", Area::Reports).with_notices(NOTICES);
    visit.render(&ListView { page, tabs, sections, is_first: cursor.is_empty() })
}

async fn excerpt(visit: &Visit, state: &'static str) -> Result<Section, ConsoleError> {
    Ok(Section { is_excerpt: true, ..section(visit, state, FIRST, "").await? })
}

async fn section(visit: &Visit, state: &'static str, most: &str, cursor: &str) -> Result<Section, ConsoleError> {
    let query = [("state", state), ("limit", most), ("cursor", cursor)];
    let List { items: reports, next_cursor } = visit.api.list("/reports", &query).await?;
    Ok(Section { state, reports, next_cursor, is_excerpt: false })
}
