//! StartExam's feed: from the first sight of an attempt to its correction.

use serde_json::{Value, json};

use super::*;
use crate::support::watch::{bodies, call_count};

#[tokio::test]
async fn an_attempt_is_followed_from_its_start_to_a_correction() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, START, "e1").await;
    let before = wait_for_first_run(&gateway, &assignment).await;
    let progress = &before["progress"];
    assert_eq!((text(progress, "/activity"), text(progress, "/grading")), ("not_started", "not_ready"), "{before}");
    assert_eq!((progress["attempts"].as_u64(), progress.get("result")), (Some(0), None), "{before}");

    let participant = text(&assignment, "/vendorRef/id");
    sit(&sandbox, &json!({ "participantId": participant })).await;
    read_feed(&gateway).await;
    let begun = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!((text(&begun, "/activity"), text(&begun, "/grading")), ("in_progress", "not_ready"), "{begun}");
    assert_eq!((begun.get("score"), begun.get("level"), begun.get("passed")), (None, None, None), "{begun}");
    assert_eq!((begun["attempt"]["number"].as_u64(), text(&begun, "/source")), (Some(1), "feed"), "{begun}");
    let shown = wait_for_activity(&gateway, &assignment, "in_progress").await;
    assert_eq!((shown["progress"]["attempts"].as_u64(), text(&shown, "/state")), (Some(1), "assigned"), "{shown}");

    sit(&sandbox, &finished(participant, 6.0)).await;
    read_feed(&gateway).await;
    let graded = wait_for_version(&gateway, &assignment, 2).await;
    assert_eq!(graded["id"], begun["id"]);
    assert_eq!((text(&graded, "/activity"), text(&graded, "/grading")), ("completed", "fully_graded"), "{graded}");
    assert_eq!(graded["score"], json!({ "given": 6.0, "maximum": 8.0, "percent": 75.0 }));
    let part = json!({ "kind": "section", "label": "Section #1", "score": { "given": 6.0, "maximum": 8.0 }, "level": "passed" });
    assert_eq!((&graded["parts"], text(&graded, "/level")), (&json!([part]), "Medium"), "{graded}");
    assert_eq!(graded["candidate"], json!({ "id": assignment["candidate"]["id"], "externalId": "e1" }));
    assert_eq!((&graded["assignment"]["id"], text(&graded, "/assessment")), (&assignment["id"], RUST), "{graded}");
    assert_eq!(graded["vendorRef"], json!({ "participantId": participant }));
    let attempt = &graded["attempt"];
    assert_eq!(
        (&attempt["elapsedSeconds"], &attempt["approximate"]),
        (&json!(754), &json!(["completedAt"])),
        "{graded}"
    );
    assert_eq!((text(attempt, "/closedBy"), &graded["counts"]), ("candidate", &json!(true)), "{graded}");
    assert_eq!(
        (graded.get("passed"), graded["warnings"].clone()),
        (None, json!([])),
        "no rule says what passes: {graded}"
    );
    let shown = wait_for_activity(&gateway, &assignment, "completed").await;
    assert_eq!((&shown["progress"]["result"], text(&shown, "/progress/grading")), (&graded["id"], "fully_graded"));

    sit(&sandbox, &finished(participant, 7.0)).await;
    read_feed(&gateway).await;
    let corrected = wait_for_version(&gateway, &assignment, 3).await;
    assert_eq!((&corrected["id"], &corrected["score"]["given"]), (&graded["id"], &json!(7.0)), "{corrected}");
    let versions = versions(&gateway, &graded).await;
    let numbers: Vec<_> = versions.iter().map(|version| version["version"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)], "{versions:?}");
    let second = changed(&versions[1]);
    assert!(
        ["activity", "grading", "score", "parts", "attempt"].iter().all(|member| second.contains(member)),
        "{second:?}"
    );
    assert_eq!(changed(&versions[2]), ["score", "parts"], "{versions:?}");
}

#[tokio::test]
async fn a_session_that_comes_again_is_counted_and_only_moves_the_time() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 5.0)).await;
    read_feed(&gateway).await;
    let first = wait_for_version(&gateway, &assignment, 1).await;
    let path = path_of(&assignment);
    let as_of = |body: &Value| text(body, "/progress/asOf").parse::<jiff::Timestamp>().ok();
    let before = as_of(&gateway.get(&path).await.body);
    assert!(before.is_some());
    // The vendor's clock has whole seconds: a later run need not have a later time.
    read_until(&gateway, &path, |response| as_of(&response.body) > before).await;
    let again = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!((&again["id"], &again["score"]), (&first["id"], &first["score"]));
    assert!(again["asOf"].as_str() > first["asOf"].as_str(), "{again}");
    let reports = all(&gateway, "/reports?limit=100").await;
    assert_eq!((reports.len(), text(&reports[0], "/state")), (1, "applied"), "{reports:?}");
    assert!(reports[0]["repeats"].as_u64() >= Some(1), "{reports:?}");
}

#[tokio::test]
async fn a_feed_of_many_pages_is_read_with_the_vendors_own_time() {
    let (sandbox, gateway) = start().await;
    switch(&sandbox, "session_page_size", json!(7)).await;
    let participants = book_many(&gateway, 30).await;
    for (number, participant) in (0..).zip(&participants) {
        sit(&sandbox, &finished(participant, f64::from(number % 9))).await;
    }
    read_feed(&gateway).await;
    wait_until(&gateway, "/results?limit=100", |page| page.body["items"].as_array().map(Vec::len) == Some(30)).await;
    let results = all(&gateway, "/results?limit=7").await;
    assert_eq!(results.len(), 30, "as many over several pages of ours");
    assert!(results.iter().all(|result| result["version"] == 1 && result["grading"] == "fully_graded"), "{results:?}");
    let queries = feed_queries(&sandbox).await;
    assert!(queries.iter().filter(|query| query.contains("continuationToken=")).count() >= 4, "{queries:?}");
    // The filters are repeated with each token, and no question is ahead of the vendor's clock: it refuses such ones.
    assert!(queries.iter().all(|query| query.contains("modifiedSince=") && query.contains("center=mycenter")));
}

/// Returns the queries to the feed so far.
async fn feed_queries(sandbox: &Sandbox) -> Vec<String> {
    let log = crate::support::gateway::read_effects(sandbox.startexam()).await;
    let calls = log["calls"].as_array().expect("a list").iter().filter(|call| call["operation"] == "sessions");
    calls.map(|call| text(call, "/query").to_owned()).collect()
}

#[tokio::test]
async fn a_session_that_appears_late_is_found_by_the_overlap() {
    let (sandbox, gateway) = start().await;
    let [late, prompt] = [book(&gateway, START, "e1").await, book(&gateway, START, "e2").await];
    sit(&sandbox, &with(finished(text(&late, "/vendorRef/id"), 5.0), "lagSeconds", json!(3))).await;
    sit(&sandbox, &finished(text(&prompt, "/vendorRef/id"), 6.0)).await;
    let shown = |assignment: &Value| format!("/results?assignment={}", text(assignment, "/id"));
    read_until(&gateway, &shown(&prompt), |page| !page.text("/items/0/id").is_empty()).await;
    // By now the watermark is later than the modification, unless this machine was slow: then it was not late.
    read_until(&gateway, &shown(&late), |page| !page.text("/items/0/id").is_empty()).await;
    wait_for_version(&gateway, &late, 1).await;
}

#[tokio::test]
async fn a_report_is_fetched_where_the_feed_says_too_little_and_refreshing_fetches_it_now() {
    let (sandbox, gateway) = start().await;
    let [one, other] = [book(&gateway, START, "e1").await, book(&gateway, START, "e2").await];
    wait_for_first_run(&gateway, &one).await;
    let mut bare = finished(text(&one, "/vendorRef/id"), 5.0);
    bare.as_object_mut().expect("an object").remove("sections");
    sit(&sandbox, &bare).await;
    read_feed(&gateway).await;
    wait_for_version(&gateway, &one, 1).await;
    wait_for_count(&gateway, "/reports?limit=100&state=applied", 2).await;
    assert_eq!(bodies(sandbox.startexam(), "session").await.len(), 1, "the report was fetched once");
    let versions = versions(&gateway, &wait_for_version(&gateway, &one, 1).await).await;
    assert_eq!(versions.len(), 1, "and said nothing new");

    sit(&sandbox, &finished(text(&other, "/vendorRef/id"), 6.0)).await;
    let refreshed = gateway.post(&format!("{}/refresh", path_of(&other)), &json!({})).await;
    assert_eq!((refreshed.status, refreshed.text("/id")), (200, text(&other, "/id")), "{refreshed:?}");
    assert_eq!(refreshed.text("/progress/activity"), "completed", "{refreshed:?}");
    let result = wait_for_version(&gateway, &other, 1).await;
    assert_eq!((text(&result, "/source"), &result["score"]["given"]), ("report", &json!(6.0)), "{result}");
    assert_eq!(bodies(sandbox.startexam(), "session").await.len(), 2);
}

#[tokio::test]
async fn a_vendor_that_cannot_be_asked_says_so_before_it_is_called() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    let before = call_count(sandbox.thinkexam()).await;
    let refused = gateway.post(&format!("{}/refresh", path_of(&assignment)), &json!({})).await;
    assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"), "{refused:?}");
    let refused = gateway.request(Method::POST, &format!("/connections/{THINK}/read")).send().await;
    assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"), "{refused:?}");
    assert_eq!(call_count(sandbox.thinkexam()).await, before);
    // ThinkExam never says that nothing happened, so there is no time until which this is known.
    let shown = gateway.get(&path_of(&assignment)).await;
    assert_eq!(
        (shown.text("/progress/activity"), shown.body["progress"].get("asOf")),
        ("not_started", None),
        "{shown:?}"
    );
}

#[tokio::test]
async fn a_step_back_needs_the_vendors_confirmation() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, START, "e1").await;
    let participant = text(&assignment, "/vendorRef/id");
    sit(&sandbox, &finished(participant, 6.0)).await;
    read_feed(&gateway).await;
    let graded = wait_for_version(&gateway, &assignment, 1).await;
    // The feed shows an earlier stage and the report, while it cannot be fetched, confirms nothing.
    let unanswered = json!({ "name": "server_error", "operation": "session" });
    set_faults(sandbox.startexam(), json!({ "faults": [unanswered] })).await;
    sit(&sandbox, &json!({ "participantId": participant })).await;
    read_feed(&gateway).await;
    wait_for_count(&gateway, "/reports?limit=100&state=applied", 2).await;
    let kept = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!((&kept["activity"], &kept["score"]), (&json!("completed"), &graded["score"]), "{kept}");
    // The report says the same: the vendor has opened the session again.
    fault(&sandbox, Value::Null).await;
    let path = format!("/results/{}", text(&graded, "/id"));
    let opened = read_until(&gateway, &path, |result| result.text("/activity") == "in_progress").await;
    assert_eq!((opened.body["version"].as_u64(), opened.body.get("score")), (Some(2), None), "{opened:?}");
}
