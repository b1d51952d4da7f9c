//! A report as evidence: it settles a booking whose outcome is unknown, and never overrides what is known.

use serde_json::{Value, json};

use super::*;
use crate::support::connections::{client, startexam, thinkexam};
use crate::support::watch::changes;

/// Starts a gateway that leaves unknown writes alone for an hour, so that only evidence settles them.
async fn start_patient() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connections = connections(&sandbox, "", "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start_with(&connections, &client("lms", "", "[\"*\"]")).await;
    (sandbox, gateway)
}

/// Books an assessment and loses the response; returns the assignment's path and the answer's idempotency key.
async fn book_unknown(sandbox: &Sandbox, gateway: &Gateway, connection: &str, id: &str, fault: &str) -> String {
    let registered = gateway.post("/candidates", &person_at(connection, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let (port, operation) = match connection {
        START => (sandbox.startexam(), "employees_participants"),
        _ => (sandbox.thinkexam(), "assignTest"),
    };
    let lost = json!({ "name": fault, "operation": operation, "times": 1 });
    set_faults(port, json!({ "faults": [lost] })).await;
    let unknown = gateway.post_with_key("/assignments", &format!("book-{id}"), &booking(connection, id)).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    unknown.text("/resource").to_owned()
}

#[tokio::test]
async fn a_report_settles_an_unknown_booking_and_supplies_the_participant() {
    let (sandbox, gateway) = start_patient().await;
    let start = book_unknown(&sandbox, &gateway, START, "e1", "reset_after_effect").await;
    let think = book_unknown(&sandbox, &gateway, THINK, "t1", "reset_after_effect").await;
    // The vendor has both bookings; only the gateway does not know.
    sit(&sandbox, &with(with(finished("", 5.0), "employee", json!("e1")), "testId", json!(TEST))).await;
    read_feed(&gateway).await;
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    for path in [&start, &think] {
        let settled = wait_until(&gateway, path, |shown| shown.text("/outcome") == "applied").await;
        assert_eq!(settled.text("/state"), "assigned", "{settled:?}");
        wait_until(&gateway, path, |shown| shown.text("/progress/activity") == "completed").await;
    }
    let shown = gateway.get(&start).await;
    assert!(!shown.text("/vendorRef/id").is_empty(), "the participant is known now: {shown:?}");
    // The key's reply is final, and nothing was booked twice.
    let again = gateway.post_with_key("/assignments", "book-e1", &booking(START, "e1")).await;
    assert_eq!((again.text("/outcome"), again.text("/id")), ("applied", shown.text("/id")), "{again:?}");
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 1);
    assert_eq!(changes(sandbox.thinkexam(), "assignTest", "created").await.len(), 1);
    let audit = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
    let lines = audit.body.as_str().expect("lines");
    for path in [&start, &think] {
        assert!(lines.lines().filter(|line| line.contains(path.as_str())).count() >= 2, "{path}: {lines}");
    }
}

#[tokio::test]
async fn a_booking_that_was_withdrawn_stays_withdrawn() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    assert_eq!(gateway.delete(&path_of(&assignment)).await.status, 204);
    let late = with(marks("t1", 31.0), "unassigned", json!(true));
    deliver(&sandbox, &gateway, &[late]).await;
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert!(warning_codes(&result).contains(&"after_cancellation"), "{result}");
    let shown = gateway.get(&path_of(&assignment)).await;
    assert_eq!((shown.text("/state"), shown.text("/outcome")), ("cancelled", "applied"), "{shown:?}");
}

#[tokio::test]
async fn a_booking_that_a_person_settled_as_not_applied_stays_so() {
    let (sandbox, gateway) = start_patient().await;
    let path = book_unknown(&sandbox, &gateway, THINK, "t1", "reset_before_effect").await;
    let settled = gateway.post(&format!("{path}/settle"), &json!({ "outcome": "not_applied" })).await;
    assert_eq!(settled.status, 200, "{settled:?}");
    let stated = gateway.get(&path).await;
    let late = with(marks("t1", 31.0), "unassigned", json!(true));
    deliver(&sandbox, &gateway, &[late]).await;
    wait_for_count(&gateway, "/reports?limit=10", 1).await;
    wait_for_count(&gateway, "/results?limit=10", 1).await;
    let shown = gateway.get(&path).await;
    assert_eq!(
        (shown.text("/state"), shown.text("/outcome")),
        (stated.text("/state"), stated.text("/outcome")),
        "{shown:?}"
    );
}

#[tokio::test]
async fn no_report_brings_an_erased_person_back() {
    let (sandbox, gateway) = start().await;
    set_faults(sandbox.startexam(), json!({ "switches": { "hidden_employee": "accepted" } })).await;
    let [start, think] = [book(&gateway, START, "e1").await, book(&gateway, THINK, "t1").await];
    let participant = text(&start, "/vendorRef/id");
    sit(&sandbox, &finished(participant, 5.0)).await;
    read_feed(&gateway).await;
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let mut results = Vec::new();
    for assignment in [&start, &think] {
        results.push(format!("/results/{}", text(&wait_for_version(&gateway, assignment, 1).await, "/id")));
        let erased = gateway.delete(&format!("/candidates/{}", text(assignment, "/candidate/id"))).await;
        assert_eq!(erased.status, 204, "{erased:?}");
    }
    for path in &results {
        assert_eq!(gateway.get(path).await.problem(), (404, "not_found", "not_applied"));
        assert_eq!(gateway.get(&format!("{path}/versions")).await.status, 404);
    }
    assert_eq!(all(&gateway, "/results?limit=10").await, Vec::<Value>::new());

    // Later reports: a correction, a repetition, another webhook, in either form.
    sit(&sandbox, &finished(participant, 6.0)).await;
    read_feed(&gateway).await;
    deliver(
        &sandbox,
        &gateway,
        &[marks("t1", 31.0), marks("t1", 32.0), with(marks("t1", 33.0), "form", json!("older"))],
    )
    .await;
    // This one is read after those.
    let other = book(&gateway, THINK, "t2").await;
    deliver(&sandbox, &gateway, &[marks("t2", 40.0)]).await;
    wait_for_version(&gateway, &other, 1).await;
    let path = "/reports?limit=100&state=dismissed";
    wait_until(&gateway, path, |page| page.body["items"].as_array().map(Vec::len) >= Some(4)).await;
    for report in all(&gateway, path).await {
        assert!(!report.to_string().contains("@example.com") && report.get("candidate").is_none(), "{report}");
        let kept = gateway.get(&format!("/reports/{}?include=body", text(&report, "/id"))).await;
        assert_eq!((kept.status, kept.body.get("body")), (200, None), "{kept:?}");
    }
    assert_eq!(all(&gateway, "/results?limit=10").await.len(), 1, "only the other one's");
    let reread = gateway.post(&format!("/connections/{THINK}/reread"), &json!({})).await;
    assert_eq!(reread.status, 202, "{reread:?}");
    wait_until(&gateway, &format!("/operations/{}", reread.text("/id")), |shown| shown.text("/state") == "completed")
        .await;
    assert_eq!(all(&gateway, "/results?limit=10").await.len(), 1);
}

#[tokio::test]
async fn a_booking_without_a_participant_gets_it_from_the_feed() {
    let sandbox = sandbox().await;
    // The vendor leaves out who is registered already, so the booking has no participant.
    switch(&sandbox, "existing_registration", json!("left_out")).await;
    let feed = format!("existing_registration = \"left_out\"\n[connections.{START}.results]\nmode = \"feed\"");
    let connections = startexam(&format!("http://{}", sandbox.startexam()), &feed)
        + &thinkexam(&format!("http://{}", sandbox.thinkexam()), "")
        + &catalogue("");
    let gateway = Gateway::start(&connections).await;
    let registered = gateway.post("/candidates", &person_at(START, "e1")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let elsewhere = Gateway::start(&connections).await;
    assert_eq!(elsewhere.post("/candidates", &person_at(START, "e1")).await.status, 201);
    let first = book_registered(&elsewhere, START, "e1").await;
    let booked = gateway.post("/assignments", &booking(START, "e1")).await;
    assert!(crate::support::watch::warnings(&booked).iter().any(|(code, _)| code == "launch_unknown"), "{booked:?}");
    let participant = text(&first, "/vendorRef/id");
    sit(&sandbox, &with(finished(participant, 5.0), "data", json!([{ "name": "Email", "value": "e1@example.com" }])))
        .await;
    let path = path_of(&booked.body);
    read_until(&gateway, &path, |shown| shown.text("/vendorRef/id") == participant).await;
}
