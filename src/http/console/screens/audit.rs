//! The audit record, newest first.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{Api, ConsoleError, List};
use crate::http::console::documents::record::page_of;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// Number of entries of a page.
const ENTRIES: u64 = 50;
/// Where the search for the latest entry begins.
const FIRST_GUESS: u64 = 64;

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/audit", get(list))
}

#[derive(Template)]
#[template(path = "audit.html", config = "src/http/console/askama.toml")]
struct AuditView {
    page: Page,
    /// The entries, newest first.
    lines: Vec<Line>,
    /// The entry before which the next page begins, if there is one.
    older: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    time: String,
    client: Option<String>,
    event: String,
    action: String,
    object: Option<String>,
    status: Option<u16>,
    outcome: Option<String>,
    code: Option<String>,
    #[serde(default)]
    replayed: bool,
}

impl Line {
    /// Returns the page of its object below `console/`; empty if there is none.
    fn object_page(&self) -> String {
        self.object.as_ref().map(|path| page_of(path)).unwrap_or_default()
    }

    /// Returns the id of its object.
    fn object_id(&self) -> &str {
        self.object.as_ref().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
    }
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::AuditRead)?;
    let before = match visit.query("before").and_then(|text| text.parse::<u64>().ok()) {
        Some(before) => before,
        None => latest(&visit.api).await?.saturating_add(1),
    };
    let after = before.saturating_sub(ENTRIES + 1);
    let limit = before.saturating_sub(after).saturating_sub(1);
    let mut lines = if limit == 0 { Vec::new() } else { entries(&visit.api, after, limit).await? };
    lines.reverse();
    let older = lines.last().map(|line| line.seq).filter(|seq| *seq > 1);
    let page = visit.page("Audit", Area::Audit);
    visit.render(&AuditView { page, lines, older })
}

async fn entries(api: &Api, after: u64, limit: u64) -> Result<Vec<Line>, ConsoleError> {
    let (after, limit) = (after.to_string(), limit.to_string());
    let list: List<Line> = api.list("/audit", &[("after", &after), ("limit", &limit)]).await?;
    Ok(list.items)
}

/// Returns the number of the latest entry; 0 if there is none. The API reads forward only: since numbers have no gaps, a
/// search by halves finds the end in a few calls.
async fn latest(api: &Api) -> Result<u64, ConsoleError> {
    let (mut known, mut guess) = (0, FIRST_GUESS);
    // Doubles the guess until nothing comes after it.
    let mut beyond = loop {
        match entries(api, guess, 1).await?.first() {
            Some(line) => (known, guess) = (line.seq, line.seq.saturating_mul(4)),
            None => break guess,
        }
    };
    // There is an entry `known` (or none at all), and none after `beyond`.
    while known < beyond {
        let middle = known + (beyond - known) / 2;
        match entries(api, middle, 1).await?.first() {
            Some(line) => known = line.seq,
            None => beyond = middle,
        }
    }
    Ok(known)
}
