//! The rows of a storm.

use std::fmt::Write as _;

use examgate::sandbox::accounts;
use serde_json::{Value, json};

/// What a bulk's rows are, and where they go.
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
    /// So many rows, each like no other.
    pub fn new(kind: Kind, count: usize) -> Self {
        let row = |number| match kind {
            Kind::People(_) => person(number),
            Kind::Bookings(connection) => booking(connection, number),
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

fn person(number: usize) -> Value {
    json!({
        "itemId": format!("row-{number}"), "externalId": external_id(number), "email": email(number),
        "name": { "givenName": "Ada", "familyName": format!("King {number}") },
    })
}

/// Everybody for two tests.
fn booking(connection: &str, number: usize) -> Value {
    let (people, round) = (number / 2, number % 2);
    let mut order = json!({ "itemId": format!("row-{number}") });
    if connection == "startexam-main" {
        order["candidate"] = json!({ "externalId": external_id(people) });
        order["assessment"] = json!(accounts::startexam::TESTS[round].0);
    } else {
        order["candidate"] = json!({ "email": email(people) });
        order["assessment"] = json!(accounts::thinkexam::TESTS[round].0);
        order["notify"] = json!("vendor_email");
    }
    order
}
