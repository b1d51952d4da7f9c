//! The events of attempts, results and reports.

use serde_json::{Value, json};

use super::*;
use crate::support::connections::client;

/// Returns the events so far.
async fn events(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.get("/events?limit=200").await;
    assert_eq!(page.status, 200, "{page:?}");
    page.body["items"].as_array().expect("a list").clone()
}

/// Waits until there is an event of this type about the assignment, or any of the type.
async fn wait_for(gateway: &Gateway, event_type: &str, assignment: Option<&Value>) -> Value {
    let about = assignment.map(|assignment| format!("&assignment={}", text(assignment, "/id"))).unwrap_or_default();
    let path = format!("/events?limit=200&types={event_type}{about}");
    let page = wait_until(gateway, &path, |page| page.body["items"].as_array().is_some_and(|items| !items.is_empty()));
    page.await.body["items"][0].clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| text(event, "/type")).collect()
}

#[tokio::test]
async fn an_attempt_is_told_from_its_start_to_a_correction() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, START, "e1").await;
    assert_eq!(events(&gateway).await, Vec::<Value>::new(), "a response has told all of it");
    let participant = text(&assignment, "/vendorRef/id");
    sit(&sandbox, &json!({ "participantId": participant })).await;
    read_feed(&gateway).await;
    wait_for(&gateway, "attempt.started", Some(&assignment)).await;
    sit(&sandbox, &finished(participant, 4.0)).await;
    read_feed(&gateway).await;
    wait_for(&gateway, "result.published", Some(&assignment)).await;
    sit(&sandbox, &finished(participant, 5.0)).await;
    read_feed(&gateway).await;
    let corrected = wait_for(&gateway, "result.corrected", Some(&assignment)).await;
    let all = events(&gateway).await;
    assert_eq!(types(&all), ["attempt.started", "attempt.completed", "result.published", "result.corrected"]);
    let results = gateway.get("/results").await;
    let result = &results.body["items"][0];
    assert_eq!(text(&corrected, "/data/resource"), format!("/results/{}", text(result, "/id")));
    assert_eq!(corrected["data"]["version"], result["version"]);
    assert_eq!(corrected["data"]["assignment"], path_of(&assignment));
    assert!(corrected["data"]["changed"].as_array().is_some_and(|changed| changed.contains(&json!("score"))));
}

#[tokio::test]
async fn evidence_and_reports_that_need_a_person_are_told() {
    let sandbox = sandbox().await;
    let patient = connections(&sandbox, "", "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start_with(&patient, &client("lms", "", "[\"*\"]")).await;
    let registered = gateway.post("/candidates", &person_at(THINK, "t1")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let lost = json!({ "name": "reset_after_effect", "operation": "assignTest", "times": 1 });
    set_faults(sandbox.thinkexam(), json!({ "faults": [lost] })).await;
    let unknown = gateway.post("/assignments", &booking(THINK, "t1")).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let settled = wait_for(&gateway, "assignment.settled", None).await;
    assert_eq!(
        (text(&settled, "/data/resource"), text(&settled, "/data/by"), text(&settled, "/data/outcome")),
        (unknown.text("/resource"), "evidence", "applied")
    );
    let all = events(&gateway).await;
    assert_eq!(types(&all), ["assignment.settled", "attempt.completed", "result.published"]);

    deliver(&sandbox, &gateway, &[with(marks("stranger", 31.0), "unassigned", json!(true))]).await;
    let parked = wait_for(&gateway, "report.parked", None).await;
    let report = gateway.get(text(&parked, "/data/resource")).await;
    assert_eq!((report.text("/state"), report.text("/parkedFor")), ("parked", text(&parked, "/data/reason")));
    let unreadable = gateway.anonymous(Method::POST, &format!("/receivers/{THINK}/{TOKEN}"));
    let unreadable = unreadable.header("x-webhook_key", accounts::thinkexam::WEBHOOK_KEY);
    unreadable.body("application/json", "{\"result\": {\"name\": ").send().await;
    let rejected = wait_for(&gateway, "report.rejected", None).await;
    let report = gateway.get(text(&rejected, "/data/resource")).await;
    assert_eq!(
        (report.text("/state"), report.text("/rejection/reason")),
        ("rejected", text(&rejected, "/data/reason"))
    );
}

#[tokio::test]
async fn a_report_says_nothing_of_a_person_by_its_events() {
    const PLANTED: &str = "plmark";
    let (sandbox, gateway) = start().await;
    let email = format!("{PLANTED}@example.com");
    let result = json!({
        "email": email, "testId": THINK_TEST, "marks": 73117, "totalMarks": 99999, "unassigned": true,
        "subjectNames": [format!("Subject{PLANTED}")], "subjectMarks": [73117], "enrollmentNo": format!("{PLANTED}-no"),
    });
    deliver(&sandbox, &gateway, &[result]).await;
    wait_for(&gateway, "report.parked", None).await;
    let person = json!({
        "connection": THINK, "externalId": format!("{PLANTED}-1"), "email": email,
        "name": { "givenName": format!("Given{PLANTED}"), "familyName": "King" },
    });
    let registered = gateway.post("/candidates", &person).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    wait_for(&gateway, "result.published", None).await;
    let before = events(&gateway).await;
    let shown = json!(before).to_string();
    assert!(!shown.contains(PLANTED) && !shown.contains("73117"), "{shown}");
    let id = registered.text("/id");
    assert_eq!(gateway.delete(&format!("/candidates/{id}")).await.status, 204);
    let after = events(&gateway).await;
    assert_eq!(after, before, "erasing a person leaves the events as they are");
    let result = before.iter().find(|event| event["type"] == "result.published").expect("the event");
    assert_eq!(gateway.get(text(result, "/data/resource")).await.status, 404, "but the result is gone");
}

#[tokio::test]
async fn a_kill_between_reports_leaves_one_event_for_each_result() {
    let (sandbox, gateway) = start().await;
    switch(&sandbox, "session_page_size", json!(5)).await;
    let participants = book_many(&gateway, 30).await;
    for (number, participant) in (0..).zip(&participants) {
        sit(&sandbox, &finished(participant, f64::from(number % 9))).await;
    }
    let mut gateway = gateway;
    for pause in [0, 20, 60, 120] {
        read_feed(&gateway).await;
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        gateway = Gateway::start_in(gateway.kill().await).await;
    }
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(30);
    read_until(&gateway, "/results?limit=100", complete).await;
    wait_until(&gateway, "/events?limit=200&types=result.published", complete).await;
    let all = events(&gateway).await;
    let resources: std::collections::BTreeSet<&str> = all
        .iter()
        .filter(|event| event["type"] == "result.published")
        .map(|event| text(event, "/data/resource"))
        .collect();
    assert_eq!(resources.len(), 30, "each once");
    for (number, event) in (1..).zip(&all) {
        assert_eq!(event["sequence"], number, "{event}");
    }
}
