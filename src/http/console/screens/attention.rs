//! The first screen: what needs a person, each entry with the one thing to do about it.

use std::cmp::Reverse;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::documents::candidate::Candidate;
use crate::http::console::documents::connection::Connection;
use crate::http::console::documents::operation::{Operation, OperationProgress};
use crate::http::console::documents::record::LastProblem;
use crate::http::console::documents::report::Report;
use crate::http::console::documents::webhook::Webhook;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::screens::settle::SETTLED;
use crate::http::console::visit::Visit;

/// Maximum number of entries of a section.
const MOST: &str = "20";
/// Number of operations that are looked through, the newest.
const OPERATIONS: &str = "100";
/// An operation that is not done this long after it was created is shown.
const STUCK_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// An operation with failed rows is shown for this long.
const FAILED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/", get(show))
}

#[derive(Template)]
#[template(path = "attention.html", config = "src/http/console/askama.toml")]
struct AttentionView {
    page: Page,
    sections: Vec<Section>,
    /// What the client may not see.
    hidden: Vec<&'static str>,
    total: String,
    /// Whether a section may have more entries.
    has_more: bool,
    looked_at: Timestamp,
}

/// The entries of one kind.
struct Section {
    title: &'static str,
    /// The screen with all of them.
    all: (&'static str, &'static str),
    area: Area,
    tone: &'static str,
    entries: Vec<Entry>,
    /// Whether there may be more than the entries: the list has entries after those that were looked at.
    has_more: bool,
}

impl Section {
    fn count(&self) -> String {
        format!("{}{}", self.entries.len(), if self.has_more { "+" } else { "" })
    }
}

/// One thing that needs a person.
struct Entry {
    /// The API's word for its state.
    word: String,
    kind: &'static str,
    id: String,
    /// Its page below `console/`; empty if it has none.
    href: String,
    about: String,
    detail: String,
    time: Option<Timestamp>,
    action: Action,
}

/// What a person can do about an entry.
enum Action {
    /// Say what became of a write.
    Settle { path: String, subject: &'static str },
    /// A form of one button.
    Post { path: String, label: &'static str },
    /// The page of the entry.
    Open(&'static str),
}

async fn show(visit: Visit) -> Result<Response, ConsoleError> {
    let (writes, operations, reports, webhooks, connections) = tokio::try_join!(
        unknown_writes(&visit),
        operations(&visit),
        reports(&visit),
        webhooks(&visit),
        connections(&visit)
    )?;
    let all = [writes, operations, reports, webhooks, connections];
    let has_more = all.iter().any(|section| section.has_more);
    let sections: Vec<Section> = all.into_iter().filter(|section| !section.entries.is_empty()).collect();
    let total = sections.iter().map(|section| section.entries.len()).sum::<usize>();
    let mut page = visit.page("Attention", Area::Attention).with_notices(&[SETTLED]);
    let total = format!("{total}{}", if has_more || page.lacking.is_some() { "+" } else { "" });
    if !sections.is_empty() {
        page = page.with_count(Area::Attention, &total, "warn");
    }
    for section in sections.iter().filter(|section| section.area != Area::Attention) {
        page = page.with_count(section.area, &section.count(), section.tone);
    }
    let needed = [
        (Scope::CandidatesRead, "candidates"),
        (Scope::AssignmentsRead, "bookings"),
        (Scope::OperationsRead, "operations"),
        (Scope::ReportsRead, "reports"),
        (Scope::WebhooksRead, "webhooks"),
        (Scope::CatalogueRead, "connections"),
    ];
    let hidden = needed.into_iter().filter(|(scope, _)| !visit.may(*scope)).map(|(_, name)| name).collect();
    visit.render(&AttentionView { page, sections, hidden, total, has_more, looked_at: visit.now() })
}

/// Reads a list if the client may, and if it can be read just now; `name` is what the page lacks without it.
async fn listed<T: DeserializeOwned>(
    visit: &Visit,
    scope: Scope,
    (name, path): (&'static str, &str),
    query: &[(&str, &str)],
) -> Result<List<T>, ConsoleError> {
    let read = if visit.may(scope) { visit.part(name, visit.api.list(path, query).await)? } else { None };
    Ok(read.unwrap_or(List { items: Vec::new(), next_cursor: None }))
}

async fn unknown_writes(visit: &Visit) -> Result<Section, ConsoleError> {
    let query = [("state", "unknown"), ("limit", MOST)];
    let candidates = listed::<Candidate>(visit, Scope::CandidatesRead, ("candidates", "/candidates"), &query);
    let assignments = listed::<Assignment>(visit, Scope::AssignmentsRead, ("bookings", "/assignments"), &query);
    let (candidates, assignments) = tokio::try_join!(candidates, assignments)?;
    let has_more = candidates.next_cursor.is_some() || assignments.next_cursor.is_some();
    let candidates = candidates.items.into_iter().map(|candidate| of_candidate(visit, candidate));
    let mut entries: Vec<Entry> = candidates.collect();
    entries.extend(assignments.items.into_iter().map(|assignment| of_assignment(visit, assignment)));
    newest_first(&mut entries);
    let (title, all) = ("Unknown writes", ("people", "People"));
    Ok(Section { title, all, area: Area::Attention, tone: "warn", entries, has_more })
}

fn of_candidate(visit: &Visit, candidate: Candidate) -> Entry {
    let Candidate { id, connection, state, problem, meta, .. } = candidate;
    let href = format!("people/{}", segment(&id));
    let path = format!("candidates/{}/settle", segment(&id));
    Entry {
        word: state,
        kind: "Candidate",
        href,
        about: String::new(),
        detail: cause(&connection, problem),
        time: Some(meta.last_modified),
        action: settle(visit.may(Scope::CandidatesWrite), path, "registration"),
        id,
    }
}

fn of_assignment(visit: &Visit, assignment: Assignment) -> Entry {
    let Assignment { id, connection, state, assessment, candidate, problem, meta, .. } = assignment;
    let candidate = candidate.id.filter(|_| visit.may(Scope::CandidatesRead));
    let path = format!("assignments/{}/settle", segment(&id));
    Entry {
        word: state,
        kind: "Booking",
        href: candidate.map(|candidate| format!("people/{}", segment(&candidate))).unwrap_or_default(),
        about: format!("for {assessment}"),
        detail: cause(&connection, problem),
        time: Some(meta.last_modified),
        action: settle(visit.may(Scope::AssignmentsWrite), path, "booking"),
        id,
    }
}

fn settle(may: bool, path: String, subject: &'static str) -> Action {
    if may { Action::Settle { path, subject } } else { Action::Open("Open") }
}

fn cause(connection: &str, problem: Option<LastProblem>) -> String {
    match problem {
        Some(LastProblem { code, title, .. }) => format!("{connection} · {code}: {title}"),
        None => connection.to_owned(),
    }
}

/// Reads what needs a person among the newest operations.
async fn operations(visit: &Visit) -> Result<Section, ConsoleError> {
    let query = [("limit", OPERATIONS)];
    let listed = listed::<Operation>(visit, Scope::OperationsRead, ("operations", "/operations"), &query).await?;
    let now = visit.now();
    let mut entries: Vec<Entry> =
        listed.items.into_iter().filter_map(|operation| of_operation(operation, now)).collect();
    newest_first(&mut entries);
    let (title, all, has_more) = ("Operations", ("operations", "All operations"), listed.next_cursor.is_some());
    Ok(Section { title, all, area: Area::Operations, tone: "warn", entries, has_more })
}

fn of_operation(operation: Operation, now: Timestamp) -> Option<Entry> {
    let Operation { id, kind, connection, state, progress, created_at, finished_at, .. } = operation;
    let OperationProgress { total, not_applied, unknown, settling, .. } = progress;
    let stuck = finished_at.is_none() && now.duration_since(created_at) > STUCK_AFTER;
    let failed = finished_at.is_some_and(|finished| now.duration_since(finished) < FAILED_FOR) && not_applied > 0;
    let (word, what) = if unknown > 0 && finished_at.is_some() {
        let settling = if settling > 0 { ", the gateway is finding out" } else { "" };
        ("unknown".to_owned(), format!("{unknown} of {total} rows are unknown{settling}"))
    } else if stuck {
        (state, "it is not done yet".to_owned())
    } else if failed {
        ("failed".to_owned(), format!("{not_applied} of {total} rows failed"))
    } else {
        return None;
    };
    let connection = connection.map(|name| format!(" · {name}")).unwrap_or_default();
    Some(Entry {
        word,
        kind: "Operation",
        href: format!("operations/{}", segment(&id)),
        about: String::new(),
        detail: format!("{what}{connection} · {}", filters::spaced(&kind)),
        time: finished_at.or(Some(created_at)),
        action: Action::Open("Open"),
        id,
    })
}

async fn reports(visit: &Visit) -> Result<Section, ConsoleError> {
    let (parked, rejected) = ([("state", "parked"), ("limit", MOST)], [("state", "rejected"), ("limit", MOST)]);
    let parked = listed::<Report>(visit, Scope::ReportsRead, ("reports", "/reports"), &parked);
    let rejected = listed::<Report>(visit, Scope::ReportsRead, ("reports", "/reports"), &rejected);
    let (parked, rejected) = tokio::try_join!(parked, rejected)?;
    let has_more = parked.next_cursor.is_some() || rejected.next_cursor.is_some();
    let mut entries: Vec<Entry> = parked.items.into_iter().chain(rejected.items).map(of_report).collect();
    newest_first(&mut entries);
    let (title, all) = ("Reports that are not applied", ("reports", "All parked reports"));
    Ok(Section { title, all, area: Area::Reports, tone: "warn", entries, has_more })
}

fn of_report(report: Report) -> Entry {
    let (why, action) = (report.why(), Action::Open(if report.can_match() { "Match" } else { "Read" }));
    let Report { id, connection, kind, state, received_at, .. } = report;
    Entry {
        word: state,
        kind: "Report",
        href: format!("reports/{}", segment(&id)),
        about: if why.is_empty() { String::new() } else { format!("– {why}") },
        detail: format!("{connection} · {}", filters::spaced(&kind)),
        time: Some(received_at),
        action,
        id,
    }
}

async fn webhooks(visit: &Visit) -> Result<Section, ConsoleError> {
    let listed = listed::<Webhook>(visit, Scope::WebhooksRead, ("webhooks", "/webhooks"), &[("limit", "200")]).await?;
    let ill = listed.items.into_iter().filter(|webhook| ["failing", "disabled"].contains(&webhook.state.as_str()));
    let mut entries: Vec<Entry> = ill.map(|webhook| of_webhook(visit, webhook)).collect();
    newest_first(&mut entries);
    let (title, all, has_more) = ("Webhooks", ("webhooks", "All webhooks"), listed.next_cursor.is_some());
    Ok(Section { title, all, area: Area::Webhooks, tone: "bad", entries, has_more })
}

fn of_webhook(visit: &Visit, webhook: Webhook) -> Entry {
    let behind = webhook.behind();
    let Webhook { id, name, state, reason, failing_since, meta, .. } = webhook;
    let reason = reason.map(|reason| format!(" · {}", filters::spaced(&reason))).unwrap_or_default();
    let href = format!("webhooks/{}", segment(&id));
    let action = match (visit.may(Scope::WebhooksWrite), state.as_str()) {
        (true, "disabled") => Action::Post { path: format!("{href}/resume"), label: "Resume" },
        (true, _) => Action::Post { path: format!("{href}/ping"), label: "Ping" },
        (false, _) => Action::Open("Open"),
    };
    let lag = if behind > 0 {
        format!("up to {} events behind", filters::grouped(&behind.to_string()))
    } else {
        String::new()
    };
    Entry {
        word: state,
        kind: "Webhook",
        href,
        about: name.unwrap_or_default(),
        detail: if lag.is_empty() { format!("nothing is waiting{reason}") } else { lag + &reason },
        time: failing_since.or(Some(meta.last_modified)),
        action,
        id,
    }
}

async fn connections(visit: &Visit) -> Result<Section, ConsoleError> {
    let listed =
        listed::<Connection>(visit, Scope::CatalogueRead, ("connections", "/connections"), &[("limit", "200")]).await?;
    let ill = listed.items.into_iter().filter(|connection| !["ok", "unchecked"].contains(&connection.status.as_str()));
    let mut entries: Vec<Entry> = ill.map(|connection| of_connection(visit, connection)).collect();
    newest_first(&mut entries);
    let (title, all, has_more) = ("Connections", ("connections", "All connections"), listed.next_cursor.is_some());
    Ok(Section { title, all, area: Area::Connections, tone: "bad", entries, has_more })
}

fn of_connection(visit: &Visit, connection: Connection) -> Entry {
    let href = connection.path();
    let Connection { name, status, detail, since, .. } = connection;
    let action = if visit.may(Scope::ConnectionsCheck) {
        Action::Post { path: format!("{href}/check"), label: "Check" }
    } else {
        Action::Open("Open")
    };
    Entry { word: status, kind: "Connection", href, about: String::new(), detail, time: since, action, id: name }
}

fn newest_first(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| Reverse(entry.time));
}
