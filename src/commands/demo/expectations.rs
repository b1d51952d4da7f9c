//! What was expected and what came: counts what was met and keeps what differed.

use std::fmt;

use serde_json::Value;

/// Expectations against answers. The number planned is fixed beforehand, so an expectation nobody looked at is missed too.
#[derive(Debug)]
pub(super) struct Expectations {
    planned: usize,
    looked_at: usize,
    met: usize,
    differences: Vec<String>,
}

impl Expectations {
    pub(super) fn new(planned: usize) -> Self {
        Self { planned, looked_at: 0, met: 0, differences: Vec::new() }
    }

    /// Notes whether what was found reads as what was expected.
    pub(super) fn expect(&mut self, what: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) {
        let (expected, found) = (expected.to_string(), found.to_string());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_everything_as_planned_is_clean() {
        let mut ledger = Expectations::new(2);
        ledger.expect("one", 1, 1);
        assert!(!ledger.is_clean(), "one was never looked at");
        ledger.expect("another", "a", "a");
        assert!(ledger.is_clean());
        ledger.expect("one too many", 1, 1);
        assert!(!ledger.is_clean(), "more than planned is a plan nobody kept");
    }

    #[test]
    fn what_differs_is_told() {
        let mut ledger = Expectations::new(1);
        ledger.expect("times StartExam has Hana", 1, 2);
        assert!(!ledger.is_clean());
        assert_eq!(ledger.differences(), ["times StartExam has Hana: expected 1, found 2"]);
    }

    #[test]
    fn the_gist_is_of_resources_and_of_problems() {
        assert_eq!(gist(201, &json!({ "state": "registered", "outcome": "applied" })), "201 registered applied");
        let problem = json!({ "code": "vendor_timeout", "outcome": "unknown", "state": "x" });
        assert_eq!(gist(504, &problem), "504 vendor_timeout unknown");
        assert_eq!(gist(0, &Value::Null), "0 – –");
    }
}
