//! Reports that match no booking and no person: they wait, are looked at again, and a person can decide.

use serde_json::{Value, json};

use super::*;

fn unassigned(id: &str, given: f64) -> Value {
    with(marks(id, given), "unassigned", json!(true))
}

#[tokio::test]
async fn a_parked_report_is_applied_as_soon_as_its_person_is_registered() {
    let (sandbox, gateway) = start().await;
    deliver(&sandbox, &gateway, &[unassigned("t1", 31.0), unassigned("t2", 32.0)]).await;
    let parked = wait_for_count(&gateway, "/reports?limit=10&state=parked", 2).await;
    assert!(parked.iter().all(|report| report.get("candidate").is_none()), "{parked:?}");
    let assignment = book(&gateway, THINK, "t1").await;
    let result = wait_for_activity(&gateway, &assignment, "completed").await;
    assert_eq!(result["progress"]["attempts"], 1, "{result}");
    wait_for_count(&gateway, "/reports?limit=10&state=parked", 1).await;
    assert_eq!(wait_for_count(&gateway, "/results?externalId=t1", 1).await[0]["score"]["given"], 31.0);

    // A bulk makes people known as well as a single request.
    let bulk = json!({ "connection": THINK, "items": [person_at(THINK, "t2")] });
    assert_eq!(gateway.post("/candidates/bulk", &bulk).await.body["summary"]["applied"], 1);
    wait_for_count(&gateway, "/results?externalId=t2", 1).await;
    assert_eq!(all(&gateway, "/reports?limit=10&state=parked").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_session_of_an_unknown_participant_waits_for_the_person() {
    let (sandbox, gateway) = start().await;
    let data = json!([{ "name": "Email", "value": "late@example.com" }]);
    let session = with(with(finished("", 5.0), "unregistered", json!(true)), "data", data);
    sit(&sandbox, &session).await;
    read_feed(&gateway).await;
    wait_for_count(&gateway, "/reports?limit=10&state=parked", 1).await;
    let person = with(person_at(START, "e1"), "email", json!("else@example.com"));
    let registered = gateway.post("/candidates", &person).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    // A change of the address makes it known as well.
    let path = format!("/candidates/{}", registered.text("/id"));
    let changed = gateway.patch(&path, &json!({ "email": "late@example.com" })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let result = wait_for_count(&gateway, "/results?externalId=e1", 1).await.remove(0);
    assert!(warning_codes(&result).contains(&"matched_by_email"), "{result}");
}

#[tokio::test]
async fn a_report_that_names_no_test_is_not_guessed_among_several_bookings() {
    let (sandbox, gateway) = start().await;
    let first = book(&gateway, THINK, "t1").await;
    let other = with(order("t1", accounts::thinkexam::TESTS[1].0), "connection", json!(THINK));
    let other = gateway.post("/assignments", &other).await;
    assert_eq!(other.status, 201, "{other:?}");
    deliver_unnamed(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let parked = wait_for_count(&gateway, "/reports?limit=10&state=parked", 1).await.remove(0);
    assert_eq!(text(&parked, "/parkedFor"), "several_open_bookings", "{parked}");

    // A person knows.
    let path = format!("/reports/{}", text(&parked, "/id"));
    let matched = gateway.post(&format!("{path}/match"), &json!({ "assignment": other.text("/id") })).await;
    assert_eq!((matched.status, matched.text("/state")), (200, "applied"), "{matched:?}");
    let result = wait_for_version(&gateway, &other.body, 1).await;
    assert_eq!(result["score"]["given"], 31.0, "{result}");
    let again = gateway.post(&format!("{path}/match"), &json!({ "assignment": text(&first, "/id") })).await;
    assert_eq!(again.problem(), (409, "report_matched", "not_applied"), "{again:?}");
    assert_eq!(gateway.post(&format!("{path}/dismiss"), &json!({})).await.problem().1, "report_matched");
    let shown = gateway.get(&path_of(&first)).await;
    assert_eq!(shown.text("/progress/activity"), "not_started", "{shown:?}");
}

#[tokio::test]
async fn a_person_can_name_the_candidate_or_dismiss_the_report() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    deliver(&sandbox, &gateway, &[unassigned("typo-of-t1", 31.0), unassigned("stranger", 32.0)]).await;
    wait_for_count(&gateway, "/reports?limit=10&state=parked", 2).await;
    let mut of = Vec::new();
    for report in all(&gateway, "/reports?limit=10&state=parked").await {
        let path = format!("/reports/{}", text(&report, "/id"));
        let body = gateway.get(&format!("{path}?include=body")).await;
        assert_eq!(body.status, 200, "{body:?}");
        of.push((body.body.to_string().contains("typo-of-t1"), path));
    }
    of.sort();
    let [(false, stranger), (true, typo)] = &of[..] else { panic!("{of:?}") };
    for wrong in
        [json!({}), json!({ "assignment": text(&assignment, "/id"), "candidate": text(&assignment, "/candidate/id") })]
    {
        let refused = gateway.post(&format!("{typo}/match"), &wrong).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{refused:?}");
    }
    let nowhere = json!({ "assignment": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" });
    let refused = gateway.post(&format!("{typo}/match"), &nowhere).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"), "{refused:?}");
    let matched =
        gateway.post(&format!("{typo}/match"), &json!({ "candidate": text(&assignment, "/candidate/id") })).await;
    assert_eq!((matched.status, matched.text("/state")), (200, "applied"), "{matched:?}");
    let result = wait_for_count(&gateway, "/results?externalId=t1", 1).await.remove(0);
    assert_eq!(result["score"]["given"], 31.0, "{result}");

    let dismissed = gateway.post(&format!("{stranger}/dismiss"), &json!({})).await;
    assert_eq!((dismissed.status, dismissed.text("/state")), (200, "dismissed"), "{dismissed:?}");
    // A dismissed report stays dismissed, also when its person is registered later.
    book(&gateway, THINK, "stranger").await;
    assert_eq!(gateway.get(stranger).await.text("/state"), "dismissed");
    assert_eq!(all(&gateway, "/results?limit=10").await.len(), 1);
    let audit = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
    let lines = audit.body.as_str().expect("lines");
    for path in [stranger, typo] {
        assert!(
            lines.lines().filter(|line| line.contains(path.trim_start_matches("/reports/"))).count() >= 2,
            "reading the body and deciding: {lines}"
        );
    }
}
