//! What was expected and what came: counts what was met and keeps what differed.

use std::fmt;

use serde_json::Value;

/// Expectations against answers. The number planned is fixed beforehand, so an expectation nobody looked at is missed too.
#[derive(Debug)]
pub(super) struct Ledger {
    planned: usize,
    looked_at: usize,
    met: usize,
    differences: Vec<String>,
}

impl Ledger {
    pub(super) fn new(planned: usize) -> Self {
        Self { planned, looked_at: 0, met: 0, differences: Vec::new() }
    }

    /// Notes whether what was found is what was expected.
    pub(super) fn expect<T: PartialEq + fmt::Display>(&mut self, what: impl fmt::Display, expected: T, found: T) {
        self.looked_at += 1;
        if expected == found {
            self.met += 1;
        } else {
            self.differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    }

    pub(super) fn looked_at(&self) -> usize {
        self.looked_at
    }

    pub(super) fn met(&self) -> usize {
        self.met
    }

    pub(super) fn planned(&self) -> usize {
        self.planned
    }

    pub(super) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Whether everything planned was looked at and as expected.
    pub(super) fn is_clean(&self) -> bool {
        self.met == self.planned && self.looked_at == self.planned
    }
}

/// The part of an answer an expectation is about: the status, and the state and outcome of the resource or the code and
/// outcome of the problem.
pub(super) fn gist(status: u64, body: &Value) -> String {
    let word = |name: &str| body[name].as_str().unwrap_or("–");
    let first = if body["code"].is_string() { word("code") } else { word("state") };
    format!("{status} {first} {}", word("outcome"))
}
