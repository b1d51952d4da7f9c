//! Finds the candidates and bookings that may be a report's, through the API.

use serde_json::json;

use super::identities::Identity;
use crate::domain::scope::Scope;
use crate::http::console::api::{ConsoleError, List};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::documents::candidate::Candidate;
use crate::http::console::documents::report::Report;
use crate::http::console::visit::Visit;

/// Maximum number of bookings of a person, and of a connection.
const BOOKINGS: &str = "20";
/// Maximum number of people.
const PEOPLE: usize = 5;

/// A candidate that may be the report's, with their bookings at its connection.
pub(super) struct Person {
    pub(super) candidate: Candidate,
    pub(super) bookings: Vec<Assignment>,
}

/// Finds the people with these identities.
///
/// # Errors
/// The problem of the API.
pub(super) async fn people(
    visit: &Visit,
    report: &Report,
    identities: &[Identity],
) -> Result<Vec<Person>, ConsoleError> {
    let mut people: Vec<Person> = Vec::new();
    for Identity { field, value } in identities {
        let search = json!({ "connection": report.connection, *field: value });
        let found = match visit.api.post("/candidates/search", Some(&search), None).await {
            Ok(reply) => reply.read::<List<Candidate>>()?.items,
            // What was taken from a body may only look like an identity.
            Err(ConsoleError::Problem(problem)) if problem.code == "validation_failed" && identities.len() > 1 => {
                continue;
            }
            Err(error) => return Err(error),
        };
        for candidate in found {
            if people.len() < PEOPLE && !people.iter().any(|person| person.candidate.id == candidate.id) {
                let bookings = bookings_of(visit, report, &candidate.id).await?;
                people.push(Person { candidate, bookings });
            }
        }
    }
    Ok(people)
}

/// Finds the open bookings that the report may belong to, as far as it can be known without its body: those at its
/// connection, for its assessment if it names one; first those that the vendor knows by the id that the report names.
///
/// # Errors
/// The problem of the API.
pub(super) async fn open_bookings(visit: &Visit, report: &Report) -> Result<Vec<Assignment>, ConsoleError> {
    if !visit.may(Scope::AssignmentsRead) {
        return Ok(Vec::new());
    }
    let context = report.context.as_ref();
    let assessment = context.and_then(|context| context.assessment.as_deref()).unwrap_or_default();
    let query = [
        ("connection", report.connection.as_str()),
        ("assessment", assessment),
        ("state", "assigned"),
        ("limit", BOOKINGS),
    ];
    let mut open = visit.api.list::<Assignment>("/assignments", &query).await?.items;
    open.retain(Assignment::is_open);
    if let Some(participant) = context.and_then(|context| context.participant.as_deref()) {
        open.sort_by_key(|booking| !booking.is_registered_as(participant));
    }
    Ok(open)
}

async fn bookings_of(visit: &Visit, report: &Report, candidate: &str) -> Result<Vec<Assignment>, ConsoleError> {
    if !visit.may(Scope::AssignmentsRead) {
        return Ok(Vec::new());
    }
    let query = [("candidate", candidate), ("connection", report.connection.as_str()), ("limit", BOOKINGS)];
    Ok(visit.api.list("/assignments", &query).await?.items)
}
