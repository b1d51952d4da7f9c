//! The `StartExam` simulator: routing, the order of checks, state and responses in the vendor's layout.
//!
//! It implements all nine methods of the current front page. The legacy v1 calls (`v1/participants`, `v1/session`) get
//! 404 like any unknown path.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Value, json};

use super::accounts::startexam as account;
use super::ids::Ids;
use crate::sandbox::http_types::{Answer, Body, Call};
use crate::sandbox::ordered_json::{Json, Layout, object};
use crate::sandbox::vendor::{Context, Order, Profile, Reaction, UNKNOWN, Vendor};

mod employees;
mod feed;
mod misbehaviour;
mod program_setup;
mod programs;
mod report;
mod sessions;
mod sign;
mod sitting;
mod tests_list;
mod validate;

/// The static description of this vendor.
pub(super) const PROFILE: Profile = Profile {
    name: "startexam",
    operations: &[
        "employees",
        "employees_participants",
        "participants",
        "program",
        "program_employees",
        "tests",
        "create_test",
        "sessions",
        "session",
        UNKNOWN,
    ],
    apart: &[],
    faults: misbehaviour::FAULTS,
    // None of its strings consists of digits only.
    without: &["strings_as_numbers"],
    switches: misbehaviour::SWITCHES,
};

const CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// Path, method and operation of every implemented call.
const ROUTES: [(&str, &str, &str); 9] = [
    ("/v1/employees", "POST", "employees"),
    ("/v2/employees-participants", "POST", "employees_participants"),
    ("/v2/participants", "POST", "participants"),
    ("/v1/program", "POST", "program"),
    ("/v1/program/employees", "POST", "program_employees"),
    ("/v1/tests", "GET", "tests"),
    ("/v1/create-test", "POST", "create_test"),
    ("/v2/sessions", "GET", "sessions"),
    ("/v2/session", "GET", "session"),
];

/// The state of the account.
pub(super) struct StartExam {
    start: SystemTime,
    ids: Ids,
    employees: BTreeMap<String, Employee>,
    /// Participant ids by center, test and employee, oldest first; more than one means a double registration.
    registrations: BTreeMap<(String, String, String), Vec<String>>,
    /// Whose each employee's participant id is, and for which tests.
    bookings: BTreeMap<String, Booking>,
    /// Participant ids of employees who took a test in a program, by employee and test.
    program_participants: BTreeMap<(String, String), String>,
    /// Participants registered with personal data: id, and what they were registered for.
    participants: BTreeMap<String, Participant>,
    programs: Vec<program_setup::Program>,
    tests: Vec<Test>,
    sessions: sessions::Sessions,
    tokens: feed::Tokens,
}

struct Booking {
    employee: String,
    tests: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Employee {
    hidden: bool,
    data: BTreeMap<String, String>,
}

struct Participant {
    center: String,
    tests: Vec<String>,
    data: Vec<(String, String)>,
}

struct Test {
    id: String,
    project_id: String,
    kind: &'static str,
    title: String,
    modified: String,
}

/// A rejection: the status and the vendor's one `message`.
#[derive(Debug, PartialEq)]
struct Refusal {
    status: u16,
    message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Refusal { status: 400, message: message.into() }
    }

    fn forbidden(message: &str) -> Self {
        Refusal { status: 403, message: message.to_owned() }
    }

    /// Rejects an unknown reference; whether with 404 or 400 is undocumented, hence a switch.
    fn unknown(context: &Context<'_>, what: &str, id: &str) -> Self {
        let status = if context.switches.is("unknown_reference", "400") { 400 } else { 404 };
        Refusal { status, message: format!("{what} '{id}' is not found") }
    }
}

impl StartExam {
    /// Creates the account in its seed state.
    pub(super) fn new(start: SystemTime) -> Self {
        let program = program_setup::Program::seed;
        let modified = |_| "2026-01-12T09:00:00Z".to_owned();
        StartExam {
            start,
            ids: Ids::new(start),
            employees: BTreeMap::new(),
            registrations: BTreeMap::new(),
            bookings: BTreeMap::new(),
            program_participants: BTreeMap::new(),
            participants: BTreeMap::new(),
            sessions: sessions::Sessions::default(),
            tokens: feed::Tokens::default(),
            programs: vec![
                program(account::PROGRAM_ID, account::PROGRAM_EXTERNAL_ID, true, account::TESTS),
                program(
                    account::AUTOMATIC_PROGRAM_ID,
                    account::AUTOMATIC_PROGRAM_EXTERNAL_ID,
                    false,
                    &account::TESTS[..2],
                ),
            ],
            tests: account::TESTS
                .iter()
                .map(|&(id, title)| Test {
                    id: id.to_owned(),
                    project_id: account::PROJECT_ID.to_owned(),
                    kind: "test",
                    title: title.to_owned(),
                    modified: modified(id),
                })
                .collect(),
        }
    }

    fn perform(&mut self, call: &Call, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let operation = route(call, context)?;
        sign::check(call, context.now, context.switches)?;
        match operation {
            "tests" => return self.list_tests(call, context),
            "sessions" => return self.session_feed(call, context),
            "session" => return self.session_report(call, context),
            _ => {}
        }
        let body: Value =
            serde_json::from_slice(&call.body).map_err(|_| Refusal::bad("The request body is not valid JSON"))?;
        let fields = validate::Fields::of(&body, "The request body")?;
        match operation {
            "employees" => self.sync_employees(&fields, context),
            "employees_participants" => self.register_employees(&fields, context),
            "participants" => self.register_participants(&fields, context),
            "program" => self.create_or_update_program(&fields, context),
            "program_employees" => self.register_program_employees(&fields, context),
            _ => self.create_test(&fields, context),
        }
    }
}

impl Vendor for StartExam {
    fn operation(&self, call: &Call) -> &'static str {
        let path = call.path.to_ascii_lowercase();
        ROUTES.iter().find(|route| route.0 == path).map_or(UNKNOWN, |route| route.2)
    }

    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer {
        match self.perform(call, context) {
            // The response to a synchronisation of employees is undocumented; an empty body is one of the two guesses.
            Ok(Json::Null) => Answer::empty(200),
            Ok(json) => Answer::new(200, CONTENT_TYPE, Body::Json(json, Layout::Indented("\n"))),
            Err(refusal) => self.error(refusal.status, &refusal.message),
        }
    }

    fn error(&self, status: u16, message: &str) -> Answer {
        // The published example's Content-Length of 80 only fits lines ending in CR LF.
        Answer::new(status, CONTENT_TYPE, Body::Json(object([("message", message.into())]), Layout::Indented("\r\n")))
    }

    fn arrive(&mut self, _: &Call, _: &Context<'_>) {
        // The log of calls is enough here.
    }

    fn control(&mut self, order: &Order<'_>) -> Option<Result<Reaction, String>> {
        order.is("POST", "/_sessions").then(|| self.sit_tests(order).map(Reaction::Answer))
    }

    fn state(&self) -> Value {
        let registrations = self.registrations.iter().map(|((center, test, employee), ids)| {
            json!({ "center": center, "test": test, "employee": employee, "participantIds": ids })
        });
        let programs = self.programs.iter().map(program_setup::Program::to_json);
        let participants = self.participants.iter().map(
            |(id, person)| json!({ "id": id, "center": person.center, "tests": person.tests, "data": person.data }),
        );
        let employees = self.employees.iter().map(|(id, employee)| {
            json!({ "id": id, "status": if employee.hidden { "hidden" } else { "active" }, "data": employee.data })
        });
        let tests = self.tests.iter().map(|test| json!({ "testId": test.id, "title": test.title, "type": test.kind }));
        json!({
            "employees": employees.collect::<Vec<_>>(),
            "registrations": registrations.collect::<Vec<_>>(),
            "participants": participants.collect::<Vec<_>>(),
            "programs": programs.collect::<Vec<_>>(),
            "tests": tests.collect::<Vec<_>>(),
            "sessions": self.sessions.to_json(),
        })
    }

    fn reset(&mut self) {
        let mut seed = StartExam::new(self.start);
        // Keep counting ids, so that an id issued before a reset never refers to someone else after it.
        seed.ids = self.ids.clone();
        *self = seed;
    }
}

fn route(call: &Call, context: &Context<'_>) -> Result<&'static str, Refusal> {
    let path = call.path.to_ascii_lowercase();
    let not_found =
        |status| Refusal { status, message: format!("No method is found at {} {}", call.method, call.path) };
    match ROUTES.iter().find(|route| route.0 == path) {
        Some(route) if route.1 == call.method => Ok(route.2),
        Some(_) if context.switches.is("wrong_verb", "405") => Err(not_found(405)),
        _ => Err(not_found(404)),
    }
}
