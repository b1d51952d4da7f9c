//! Attempts without an assignment, in programs and elsewhere; and what the catalogue says of attempts.

use serde_json::{Value, json};

use super::*;
use crate::support::connections::startexam;

const PROGRAM: &str = accounts::startexam::PROGRAM_ID;
const FIELD: &str = "Employee Id";

/// Registers a person and enrols them in the program, in which the vendor gives them ids that it never returns.
async fn enrol(gateway: &Gateway, id: &str) {
    let registered = gateway.post("/candidates", &person_at(START, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let body = json!({ "connection": START, "scope": "all", "register": [id] });
    let enrolled = gateway.post(&format!("/programs/{PROGRAM}/employees"), &body).await;
    assert_eq!(enrolled.status, 200, "{enrolled:?}");
}

/// Has an employee finish a test of the program.
async fn finish_in_program(sandbox: &Sandbox, id: &str, score: f64) -> Value {
    let mut session = finished("", score);
    let members = session.as_object_mut().expect("an object");
    members.remove("participantId");
    members.extend([
        ("employee".to_owned(), json!(id)),
        ("testId".to_owned(), json!(TEST)),
        ("program".to_owned(), json!(PROGRAM)),
    ]);
    sit(sandbox, &session).await
}

#[tokio::test]
async fn an_attempt_in_a_program_has_a_result_without_an_assignment() {
    let (sandbox, gateway) = start_with(&format!("candidate_field = \"{FIELD}\""), "").await;
    switch(&sandbox, "employee_id_field", json!(FIELD)).await;
    enrol(&gateway, "p1").await;
    finish_in_program(&sandbox, "p1", 5.0).await;
    read_feed(&gateway).await;
    let result = wait_for_count(&gateway, "/results?externalId=p1", 1).await.remove(0);
    assert_eq!((result.get("assignment"), text(&result, "/candidate/externalId")), (None, "p1"), "{result}");
    assert_eq!((text(&result, "/assessment"), &result["score"]["given"]), (RUST, &json!(5.0)), "{result}");
    assert!(warning_codes(&result).is_empty(), "found by the id the operator named: {result}");
}

#[tokio::test]
async fn without_a_field_for_the_id_the_only_person_with_the_address_is_taken() {
    let (sandbox, gateway) = start().await;
    enrol(&gateway, "p1").await;
    finish_in_program(&sandbox, "p1", 5.0).await;
    read_feed(&gateway).await;
    let result = wait_for_count(&gateway, "/results?externalId=p1", 1).await.remove(0);
    assert!(warning_codes(&result).contains(&"matched_by_email"), "{result}");
}

#[tokio::test]
async fn an_attempt_before_its_booking_is_claimed_by_it() {
    let (sandbox, gateway) = start().await;
    let registered = gateway.post("/candidates", &person_at(THINK, "t1")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    // The webhook overtakes the booking; it names the test in its path, so it is not guessed.
    let early = with(marks("t1", 31.0), "unassigned", json!(true));
    deliver(&sandbox, &gateway, &[early]).await;
    let unclaimed = wait_for_count(&gateway, "/results?limit=10", 1).await.remove(0);
    assert_eq!(unclaimed.get("assignment"), None, "{unclaimed}");
    let booked = gateway.post("/assignments", &booking(THINK, "t1")).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let claimed = wait_for_version(&gateway, &booked.body, 2).await;
    assert_eq!(
        (&claimed["id"], warning_codes(&claimed).contains(&"claimed_later")),
        (&unclaimed["id"], true),
        "{claimed}"
    );
    wait_for_activity(&gateway, &booked.body, "completed").await;
}

/// Starts a gateway with these rules for its assessment.
async fn start_with_rules(rules: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let feed = format!("[connections.{START}.results]\nmode = \"feed\"");
    let entry = format!("[assessments.{RUST}]\nname = \"Rust\"\nconnection = \"{START}\"\nref = \"{TEST}\"\n{rules}\n");
    let gateway = Gateway::start(&(startexam(&format!("http://{}", sandbox.startexam()), &feed) + &entry)).await;
    (sandbox, gateway)
}

#[tokio::test]
async fn the_catalogue_says_what_passes_and_which_attempt_counts() {
    let (sandbox, gateway) = start_with_rules("pass_percent = 70.0\ncounts = \"best\"").await;
    let assignment = book(&gateway, START, "e1").await;
    let participant = text(&assignment, "/vendorRef/id");
    for (number, score) in [(1, 4.0), (2, 6.0), (3, 5.0)] {
        let started = format!("2026-01-0{number}T09:00:00Z");
        let again = with(with(finished(participant, score), "restart", json!(true)), "started", json!(started));
        sit(&sandbox, &again).await;
    }
    read_feed(&gateway).await;
    let path = format!("/results?assignment={}", text(&assignment, "/id"));
    let results = wait_for_count(&gateway, &path, 3).await;
    let mut shown: Vec<_> = results
        .iter()
        .map(|result| (result["attempt"]["number"].as_u64(), result["passed"].as_bool(), result["counts"].as_bool()))
        .collect();
    shown.sort_unstable();
    let expected = [(1, false, false), (2, true, true), (3, false, false)];
    assert_eq!(shown, expected.map(|(number, passed, counts)| (Some(number), Some(passed), Some(counts))));
    let later = results.iter().find(|result| result["attempt"]["number"] == 2).expect("the second");
    assert!(warning_codes(later).contains(&"attempt_number_assumed"), "{later}");
    let shown = wait_for_activity(&gateway, &assignment, "completed").await;
    assert_eq!((&shown["progress"]["result"], &shown["progress"]["attempts"]), (&later["id"], &json!(3)), "{shown}");
    let counting = gateway.get(&format!("{path}&counts=true")).await;
    assert_eq!(counting.body["items"].as_array().map(Vec::len), Some(1), "{counting:?}");
    assert_eq!(counting.text("/items/0/id"), text(later, "/id"));
}

#[tokio::test]
async fn an_assessment_without_scores_has_none_and_passes_nothing() {
    let (sandbox, gateway) = start_with_rules("scored = false").await;
    let assignment = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 6.0)).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!(
        (text(&result, "/grading"), result.get("score"), result.get("passed")),
        ("not_graded", None, None),
        "{result}"
    );
}

#[tokio::test]
async fn figures_that_cannot_be_are_no_score() {
    let (sandbox, gateway) = start_with_rules("pass_percent = 50.0").await;
    let [negative, impossible, open] =
        [book(&gateway, START, "e1").await, book(&gateway, START, "e2").await, book(&gateway, START, "e3").await];
    sit(&sandbox, &finished(text(&negative, "/vendorRef/id"), -2.0)).await;
    sit(&sandbox, &with(finished(text(&impossible, "/vendorRef/id"), 5.0), "maxScore", json!(-1))).await;
    sit(&sandbox, &with(finished(text(&open, "/vendorRef/id"), 5.0), "score", Value::Null)).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &negative, 1).await;
    assert_eq!(
        (text(&result, "/grading"), &result["score"]["given"], &result["passed"]),
        ("fully_graded", &json!(-2.0), &json!(false)),
        "{result}"
    );
    let result = wait_for_version(&gateway, &impossible, 1).await;
    assert_eq!(
        (text(&result, "/grading"), result.get("score"), result.get("passed")),
        ("failed", None, None),
        "{result}"
    );
    assert!(warning_codes(&result).contains(&"score_implausible"), "{result}");
    let result = wait_for_version(&gateway, &open, 1).await;
    assert_eq!(
        (text(&result, "/grading"), result.get("score"), result.get("passed")),
        ("pending", None, None),
        "{result}"
    );
}
