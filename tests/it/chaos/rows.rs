//! The rows of a storm.

use std::fmt::Write as _;

use examgate::sandbox::accounts;
use serde_json::{Value, json};

/// What a bulk's rows are, and their connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    People(&'static str),
    Bookings(&'static str),
}

impl Kind {
    pub fn connection(self) -> &'static str {
        let (Self::People(connection) | Self::Bookings(connection)) = self;
        connection
    }
}

/// A bulk to be sent.
#[derive(Debug, Clone)]
pub struct Bulk {
    pub kind: Kind,
    pub key: String,
    pub rows: Vec<Value>,
}

impl Bulk {
    /// Creates a bulk of this many distinct rows.
    pub fn new(kind: Kind, count: usize) -> Self {
        let row = |number| match kind {
            Kind::People(connection) => person(connection, number, count),
            Kind::Bookings(connection) => booking(connection, number, count),
        };
        Self {
            kind,
            key: format!("storm-{kind:?}").replace(['(', ')', '"', ' '], "-"),
            rows: (0..count).map(row).collect(),
        }
    }

    pub fn path(&self) -> String {
        let what = if matches!(self.kind, Kind::People(_)) { "candidates" } else { "assignments" };
        format!("/{what}/bulk?connection={}", self.kind.connection())
    }

    pub fn ndjson(&self) -> String {
        self.rows.iter().fold(String::new(), |mut text, row| {
            let _ = writeln!(text, "{row}");
            text
        })
    }
}

pub fn external_id(number: usize) -> String {
    format!("p{number}")
}

pub fn email(number: usize) -> String {
    format!("p{number}@example.com")
}

/// Returns the interval of rows that the vendor rejects each time they are sent: longer in a large bulk, since each
/// rejection splits its call.
fn refused_every(count: usize) -> usize {
    (count / 25).clamp(40, 400)
}

/// Returns whether the vendor rejects this row of a bulk of this size.
pub fn is_refused(kind: Kind, number: usize, count: usize) -> bool {
    let every = refused_every(count);
    // StartExam has no groups; bookings of unknown people are rejected there.
    matches!(kind, Kind::People("thinkexam-main" | "examtesting-main") | Kind::Bookings("startexam-main"))
        && number % every == every - 1
}

fn person(connection: &'static str, number: usize, count: usize) -> Value {
    let mut person = json!({
        "itemId": format!("row-{number}"), "externalId": external_id(number), "email": email(number),
        "name": { "givenName": "Ada", "familyName": format!("King {number}") },
    });
    if is_refused(Kind::People(connection), number, count) {
        person["group"] = json!("No such group");
    }
    person
}

/// Returns a booking: everybody no vendor rejected, for two tests.
fn booking(connection: &'static str, number: usize, count: usize) -> Value {
    let (nth, round) = (number / 2, number % 2);
    let people = nth + nth / (refused_every(count) - 1);
    let mut order = json!({ "itemId": format!("row-{number}") });
    if connection == "startexam-main" {
        let nobody = is_refused(Kind::Bookings(connection), number, count);
        let id = if nobody { format!("nobody-{number}") } else { external_id(people) };
        order["candidate"] = json!({ "externalId": id });
        order["assessment"] = json!(accounts::startexam::TESTS[round].0);
    } else {
        order["candidate"] = json!({ "email": email(people) });
        order["assessment"] = json!(accounts::thinkexam::TESTS[round].0);
        order["notify"] = json!("vendor_email");
    }
    order
}
