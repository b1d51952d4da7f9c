//! The page of one report: what is known of it, whose it may be, and what a person says about it.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::identities::{Identity, identities_of};
use super::matches::{Person, open_bookings, people};
use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, Problem, segment};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::documents::report::Report;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// The words of `?notice=` after what a person has said.
pub(super) const NOTICES: &[(&str, &str)] =
    &[("matched", "The report is matched, and a result is made from it."), ("dismissed", "The report is dismissed.")];

/// The identities a person can be searched by, with their names.
const IDENTITIES: [(&str, &str); 3] =
    [("externalId", "External id"), ("email", "E-mail address"), ("userName", "User name")];

/// The part of an id that says that it is a candidate's.
const CANDIDATE: &str = "cand_";

#[derive(Template)]
#[template(path = "report.html", config = "src/http/console/askama.toml")]
struct ReportView {
    page: Page,
    report: Report,
    /// The people that were found; `None` without a search.
    people: Option<Vec<Person>>,
    /// Open bookings; empty after a search.
    bookings: Vec<Assignment>,
    /// What was searched for.
    by: String,
    value: String,
}

/// What the page shows besides the report itself.
#[derive(Default)]
struct Occasion {
    has_body: bool,
    search: Option<Identity>,
    problem: Option<Problem>,
}

impl ReportView {
    fn is_by(&self, field: &str) -> bool {
        self.by == field
    }

    fn may_match(&self) -> bool {
        self.report.can_match() && self.page.may(Scope::ReportsWrite.as_str())
    }

    fn may_dismiss(&self) -> bool {
        self.report.can_dismiss() && self.page.may(Scope::ReportsWrite.as_str())
    }

    fn may_search(&self) -> bool {
        self.page.may(Scope::CandidatesRead.as_str())
    }
}

pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    render(&visit, &id, Occasion::default()).await
}

/// Leads from the address of an action, as after signing in again, to the report.
pub(super) async fn back(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.redirect(&format!("reports/{}", segment(&id)), "")
}

/// Shows the report with its body, and whom the body names.
pub(super) async fn show_body(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    render(&visit, &id, Occasion { has_body: true, ..Occasion::default() }).await
}

pub(super) async fn search(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let by =
        IDENTITIES.into_iter().find(|(field, _)| *field == visit.field("by")).map_or("externalId", |(field, _)| field);
    let identity = Identity { field: by, value: visit.field("value").trim().to_owned() };
    render(&visit, &id, Occasion { search: Some(identity), ..Occasion::default() }).await
}

pub(super) async fn match_target(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let target = visit.field("target").trim();
    let order =
        if target.starts_with(CANDIDATE) { json!({ "candidate": target }) } else { json!({ "assignment": target }) };
    match visit.api.post(&format!("/reports/{}/match", segment(&id)), Some(&order), visit.key()).await {
        Ok(_) => visit.redirect(&format!("reports/{}", segment(&id)), "matched"),
        Err(ConsoleError::Problem(problem)) => {
            render(&visit, &id, Occasion { problem: Some(*problem), ..Occasion::default() }).await
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn dismiss(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.api.post(&format!("/reports/{}/dismiss", segment(&id)), None, visit.key()).await?;
    visit.redirect(&format!("reports/{}", segment(&id)), "dismissed")
}

async fn render(visit: &Visit, id: &str, occasion: Occasion) -> Result<Response, ConsoleError> {
    let Occasion { has_body, search, mut problem } = occasion;
    let include = if has_body { "?include=body" } else { "" };
    let report: Report = visit.api.get(&format!("/reports/{}{include}", segment(id))).await?;
    let of_body = report.body.as_ref().filter(|body| body.encoding == "text").map(|body| identities_of(&body.content));
    let of_body = of_body.filter(|identities| !identities.is_empty());
    let may_match = report.can_match() && visit.may(Scope::ReportsWrite);
    let may_search = may_match && visit.may(Scope::CandidatesRead);
    let (by, value) = search.as_ref().map_or(("externalId", ""), |search| (search.field, &*search.value));
    let (by, value) = (by.to_owned(), value.to_owned());
    let wanted = search.map(|search| vec![search]).or(of_body).filter(|_| may_search);
    let found = match wanted {
        Some(identities) => match people(visit, &report, &identities).await {
            Ok(found) => Some(found),
            // The form is shown again with what is wrong with it.
            Err(ConsoleError::Problem(of_search)) => {
                problem = problem.or(Some(*of_search));
                None
            }
            Err(error) => return Err(error),
        },
        None => None,
    };
    let bookings = if found.is_none() && may_match { open_bookings(visit, &report).await? } else { Vec::new() };
    let mut page = visit.page(&format!("Report {}", report.id), Area::Reports).with_notices(NOTICES);
    let mut status = StatusCode::OK;
    if let Some(problem) = problem {
        status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        page = page.with_problem(problem);
    }
    visit.render_as(status, &ReportView { page, report, people: found, bookings, by, value })
}
