//! Compares the demo's outcomes with expectations: counts those met and keeps the differences.

use std::fmt;

use serde_json::Value;

/// The expectations of one run. Their number is fixed beforehand, so that a skipped check counts as missed.
#[derive(Debug)]
pub(super) struct Expectations {
    pub(super) planned: usize,
    pub(super) checked: usize,
    pub(super) met: usize,
    pub(super) differences: Vec<String>,
}

impl Expectations {
    pub(super) fn new(planned: usize) -> Self {
        Self { planned, checked: 0, met: 0, differences: Vec::new() }
    }

    /// Records whether `found` reads the same as `expected`.
    pub(super) fn expect(&mut self, what: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) {
        let (expected, found) = (expected.to_string(), found.to_string());
        self.checked += 1;
        if expected == found {
            self.met += 1;
        } else {
            self.differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    }

    /// Returns whether every planned expectation was checked and met.
    pub(super) fn is_clean(&self) -> bool {
        self.met == self.planned && self.checked == self.planned
    }
}

/// Summarises a response as status and outcome, with the state of a resource or the code of a problem.
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
    fn is_clean_only_if_every_planned_expectation_is_met() {
        let mut ledger = Expectations::new(2);
        ledger.expect("one", 1, 1);
        assert!(!ledger.is_clean(), "one was never checked");
        ledger.expect("another", "a", "a");
        assert!(ledger.is_clean());
        ledger.expect("one too many", 1, 1);
        assert!(!ledger.is_clean(), "more checks than planned");
    }

    #[test]
    fn differences_are_described() {
        let mut ledger = Expectations::new(1);
        ledger.expect("times StartExam has Hana", 1, 2);
        assert!(!ledger.is_clean());
        assert_eq!(ledger.differences, ["times StartExam has Hana: expected 1, found 2"]);
    }

    #[test]
    fn summarises_resources_and_problems() {
        assert_eq!(gist(201, &json!({ "state": "registered", "outcome": "applied" })), "201 registered applied");
        let problem = json!({ "code": "vendor_timeout", "outcome": "unknown", "state": "x" });
        assert_eq!(gist(504, &problem), "504 vendor_timeout unknown");
        assert_eq!(gist(0, &Value::Null), "0 – –");
    }
}
