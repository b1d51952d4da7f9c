//! One person: who they are, their bookings, and everything that happened, with what can be done.

use std::cmp::Reverse;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::SignedDuration;
use serde::Deserialize;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::documents::candidate::Candidate;
use crate::http::console::documents::record::{LastProblem, Meta, Warning};
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::screens::settle::SETTLED;
use crate::http::console::screens::timeline::{LineEntry, of_events, of_exchanges, of_results};
use crate::http::console::visit::Visit;

/// Maximum number of bookings on the page.
const MOST: &str = "50";
/// What was changed no later than this after its creation was changed by the same write.
const SAME_WRITE: SignedDuration = SignedDuration::from_secs(60);

const NOTICES: &[(&str, &str)] = &[
    SETTLED,
    ("refreshed", "The vendor was asked: this is the booking as it is there now."),
    ("cancelled", "The booking is cancelled at the vendor."),
    ("accepted", "The gateway is still working on it. Look again in a moment."),
];

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/people/{id}", get(show))
        .route("/console/people/{id}/initial-password", post(initial_password).get(back))
        .route("/console/assignments/{id}", get(of_assignment))
        .route("/console/assignments/{id}/refresh", post(refresh))
        .route("/console/assignments/{id}/cancel", post(cancel))
}

/// Leads from the address of an action to the person.
async fn back(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.redirect(&format!("people/{}", segment(&id)), "")
}

#[derive(Template)]
#[template(path = "person.html", config = "src/http/console/askama.toml")]
struct PersonView {
    page: Page,
    candidate: Candidate,
    assignments: Option<List<Assignment>>,
    line: Vec<LineEntry>,
    /// The generated password, only after it was asked for.
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitialPassword {
    initial_password: String,
}

async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    view(&visit, &id, None).await
}

async fn view(visit: &Visit, id: &str, password: Option<String>) -> Result<Response, ConsoleError> {
    let candidate: Candidate = visit.api.get(&format!("/candidates/{}", segment(id))).await?;
    let assignments: Option<List<Assignment>> = if visit.may(Scope::AssignmentsRead) {
        Some(visit.api.list("/assignments", &[("candidate", id), ("limit", MOST)]).await?)
    } else {
        None
    };
    let booked = assignments.as_ref().map(|list| list.items.as_slice()).unwrap_or_default();
    let ids: Vec<&str> = booked.iter().map(|assignment| assignment.id.as_str()).collect();
    let mut resources = vec![format!("/candidates/{id}")];
    resources.extend(ids.iter().map(|id| format!("/assignments/{id}")));
    let (results, events, exchanges) =
        tokio::try_join!(of_results(visit, id), of_events(visit, &ids), of_exchanges(visit, &resources))?;
    let mut line = of_registration(&candidate);
    line.extend(booked.iter().flat_map(of_booking));
    line.extend(results.into_iter().chain(events).chain(exchanges));
    line.sort_by_key(|entry| Reverse(entry.time));
    let page = visit.page(&format!("Person {}", filters::shortened(id)), Area::People).with_notices(NOTICES);
    visit.render(&PersonView { page, candidate, assignments, line, password })
}

/// Returns what is known of the registration and of the last write to it.
fn of_registration(candidate: &Candidate) -> Vec<LineEntry> {
    let Candidate { outcome, problem, warnings, meta, .. } = candidate;
    of_record("Registration", (outcome, problem.as_ref()), warnings, meta, None)
}

/// Returns what is known of a booking and of the last write to it.
fn of_booking(assignment: &Assignment) -> Vec<LineEntry> {
    let Assignment { outcome, assessment, reference, problem, warnings, meta, .. } = assignment;
    of_record(&format!("Booking for {assessment}"), (outcome, problem.as_ref()), warnings, meta, reference.as_deref())
}

fn of_record(
    name: &str,
    (outcome, problem): (&str, Option<&LastProblem>),
    warnings: &[Warning],
    meta: &Meta,
    reference: Option<&str>,
) -> Vec<LineEntry> {
    let changed = meta.last_modified.duration_since(meta.created) > SAME_WRITE;
    let mut last = LineEntry::new(meta.last_modified, format!("{name}: last write"), outcome);
    if !changed {
        name.clone_into(&mut last.text);
    }
    if let Some(LastProblem { code, detail, instance, .. }) = problem {
        last.notes.push(format!("{code}: {detail}"));
        let exchange = instance.as_ref().and_then(|path| path.strip_prefix("/exchanges/"));
        last.links.extend(exchange.map(|id| (format!("exchanges/{}", segment(id)), "Exchange")));
    }
    last.notes.extend(warnings.iter().map(|warning| format!("warning {}: {}", warning.code, warning.detail)));
    let mut entries = vec![last];
    if changed {
        entries.push(LineEntry::new(meta.created, format!("{name}: requested"), ""));
    }
    if let (Some(first), Some(reference)) = (entries.last_mut(), reference) {
        first.notes.push(format!("reference {reference}"));
    }
    entries
}

async fn initial_password(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let path = format!("/candidates/{}/initial-password", segment(&id));
    let InitialPassword { initial_password } = visit.api.post(&path, None, None).await?.read()?;
    view(&visit, &id, Some(initial_password)).await
}

/// Leads to the person of a booking.
async fn of_assignment(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let assignment: Assignment = visit.api.get(&format!("/assignments/{}", segment(&id))).await?;
    visit.redirect(&person_of(&assignment), "")
}

async fn refresh(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let path = format!("/assignments/{}/refresh", segment(&id));
    let assignment: Assignment = visit.api.post(&path, None, None).await?.read()?;
    visit.redirect(&person_of(&assignment), "refreshed")
}

async fn cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let reply = visit.api.delete(&format!("/assignments/{}", segment(&id)), visit.key()).await?;
    let notice = if reply.status == http::StatusCode::ACCEPTED { "accepted" } else { "cancelled" };
    visit.redirect(&visit.back(), notice)
}

/// Returns the page of a booking's person; the list of people if the gateway has none.
fn person_of(assignment: &Assignment) -> String {
    let id = assignment.candidate.id.as_ref();
    id.map_or_else(|| "people".to_owned(), |id| format!("people/{}", segment(id)))
}
