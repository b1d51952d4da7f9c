//! What really happened at the vendors, and whether the gateway reports it.

use std::collections::HashMap;
use std::net::SocketAddr;

use examgate::sandbox::Sandbox;
use serde_json::Value;

use super::rows::{Bulk, Kind, is_refused};
use crate::support::gateway::http;

/// How often something was done for each subject.
#[derive(Debug, Default)]
pub struct Effects {
    created: HashMap<String, usize>,
    mails: HashMap<String, usize>,
}

/// The number of rows by outcome.
#[derive(Debug, Default)]
pub struct Counts {
    applied: usize,
    not_applied: usize,
    mails: usize,
}

/// Reads the vendor's effects of this kind.
pub async fn read_effects(sandbox: &Sandbox, kind: Kind) -> Effects {
    let (port, operation) = match kind {
        Kind::People("startexam-main") => (sandbox.startexam(), "employees"),
        Kind::People("thinkexam-main") => (sandbox.thinkexam(), "bulkCandidateRegister"),
        Kind::People(_) => (sandbox.examtesting(), "add"),
        Kind::Bookings("startexam-main") => (sandbox.startexam(), "employees_participants"),
        Kind::Bookings(_) => (sandbox.thinkexam(), "assignTest"),
    };
    let mut effects = Effects::default();
    for effect in read_effect_log(port).await {
        if effect["operation"] != operation {
            continue;
        }
        let subject = subject_of_effect(kind, &effect);
        match effect["change"].as_str() {
            Some("created") => *effects.created.entry(subject).or_default() += 1,
            Some("mail_sent") => *effects.mails.entry(subject).or_default() += 1,
            _ => {}
        }
    }
    effects
}

/// Compares each row's outcome with the effects.
pub fn compare(bulk: &Bulk, results: &[Value], effects: &Effects) -> Counts {
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    let mut known = 0;
    for (index, (row, result)) in bulk.rows.iter().zip(results).enumerate() {
        assert_eq!(result["index"], index);
        assert_eq!(result["itemId"], row["itemId"]);
        let subject = subject_of_row(bulk.kind, row);
        let made = effects.created.get(&subject).copied().unwrap_or(0);
        let mails = effects.mails.get(&subject).copied().unwrap_or(0);
        known += made;
        counts.mails += mails;
        let outcome = result["outcome"].as_str().unwrap_or_default();
        match outcome {
            "applied" => counts.applied += 1,
            "not_applied" => counts.not_applied += 1,
            _ => {}
        }
        // A row that met the vendor's limit, or a circuit the faults had opened, at each of its attempts ends unsent;
        // that is rare, and true.
        let code = result["problem"]["code"].as_str().unwrap_or_default();
        let is_unsent = ["vendor_rate_limited", "vendor_circuit_open", "connection_saturated"].contains(&code);
        let is_refused = is_refused(bulk.kind, index, bulk.rows.len());
        let expected = if is_refused || is_unsent { "not_applied" } else { "applied" };
        if outcome != expected || made != usize::from(outcome == "applied") || mails > 1 {
            wrong.push(format!("{subject}: {outcome}, made {made} times, {mails} mails: {result}"));
        }
        if bulk.kind == Kind::Bookings("startexam-main") && outcome == "applied" {
            assert!(result["resource"]["launch"]["url"].is_string(), "a launch link is lost: {result}");
        }
    }
    let all: usize = effects.created.values().sum();
    assert_eq!(all, known, "{:?}: the vendor has more than was requested", bulk.kind);
    assert!(
        wrong.is_empty(),
        "{:?}: {} rows are not as reported:\n{}",
        bulk.kind,
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    counts
}

fn subject_of_row(kind: Kind, row: &Value) -> String {
    let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind {
        Kind::People("startexam-main") => text("/externalId"),
        Kind::People(_) => text("/email"),
        Kind::Bookings("startexam-main") => format!("{}/{}", text("/assessment"), text("/candidate/externalId")),
        Kind::Bookings(_) => format!("{}/{}", text("/candidate/email"), text("/assessment")),
    }
}

fn subject_of_effect(kind: Kind, effect: &Value) -> String {
    let text = |name: &str| effect[name].as_str().unwrap_or_default();
    match kind {
        Kind::People("startexam-main") => text("employee").to_owned(),
        Kind::People(_) => text("email").to_owned(),
        Kind::Bookings("startexam-main") => format!("{}/{}", text("test"), text("employee")),
        Kind::Bookings(_) => format!("{}/{}", text("email"), text("testId")),
    }
}

async fn read_effect_log(port: SocketAddr) -> Vec<Value> {
    let url = format!("http://{port}/_effects?calls=false&state=false");
    let response = http().get(url).send().await.expect("the sandbox responds");
    let log: Value = response.json().await.expect("JSON");
    assert_eq!(log["effectsDropped"], 0, "the log is too short for this storm");
    log["effects"].as_array().expect("a list").clone()
}
