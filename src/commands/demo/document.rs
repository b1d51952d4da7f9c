//! The demo's output as one JSON document.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::commands::demo::expectations::Expectations;
use crate::commands::demo::terminal::{Closing, Row};

/// Renders the table, how many outcomes were as expected, and the addresses.
pub(super) fn of(rows: &[Row], ledger: &Expectations, taken: Duration, closing: &Closing<'_>) -> Value {
    let simulators = closing.simulators.iter();
    let simulators: Map<String, Value> =
        simulators.map(|(vendor, address)| ((*vendor).to_owned(), json!(format!("http://{address}")))).collect();
    json!({
        "people": rows.iter().map(person).collect::<Vec<_>>(),
        "outcomes": { "planned": ledger.planned, "asExpected": ledger.met, "differences": ledger.differences },
        "milliseconds": u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
        "api": format!("http://{}", closing.gateway),
        "console": format!("http://{}/console/", closing.gateway),
        "apiKey": closing.key.expose(),
        "simulators": simulators,
        "lms": format!("http://{}", closing.lms),
        "serving": closing.stays,
    })
}

fn person(row: &Row) -> Value {
    let Row { person, vendor, candidate, state, outcome, assignment, score, passed, verified, link, as_expected } = row;
    json!({
        "person": person, "vendor": vendor, "candidate": candidate, "state": state, "outcome": outcome,
        "assignment": assignment, "score": score, "passed": passed, "webhookVerified": verified, "launchLink": link,
        "asExpected": as_expected,
    })
}
