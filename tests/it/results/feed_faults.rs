//! A feed that fails, ends wrongly or never ends: nothing is lost or doubled, and the watermark stays where it was.

use serde_json::{Value, json};

use super::*;
use crate::support::watch::{calls_of, wait_for_calls};

fn as_of(assignment: &Value) -> String {
    text(assignment, "/progress/asOf").to_owned()
}

/// Every fault that ends a run, with what it strikes.
const FAULTS: [&str; 7] = [
    "rate_limited",
    "html_page",
    "truncated_body",
    "truncated_json",
    "server_error",
    "reset_after_effect",
    "empty_body",
];

#[tokio::test]
async fn a_run_that_fails_leaves_the_watermark_and_the_next_one_finds_everything() {
    let (sandbox, gateway) = start().await;
    switch(&sandbox, "session_page_size", json!(2)).await;
    for (number, name) in FAULTS.into_iter().enumerate() {
        let mut booked = Vec::new();
        for place in 0..3 {
            booked.push(book(&gateway, START, &format!("f{number}-{place}")).await);
        }
        wait_for_first_run(&gateway, &booked[0]).await;
        fault(&sandbox, json!({ "name": name })).await;
        for assignment in &booked {
            sit(&sandbox, &finished(text(assignment, "/vendorRef/id"), 5.0)).await;
        }
        // Runs come one after the other, so one that was asked for earlier is over.
        let asked = calls_of(sandbox.startexam(), "sessions").await;
        read_feed(&gateway).await;
        wait_for_calls(sandbox.startexam(), "sessions", asked).await;
        let before = as_of(&gateway.get(&path_of(&booked[0])).await.body);
        // The first page of a run is answered, and no other one.
        fault(&sandbox, json!({ "name": name, "after": 1 })).await;
        let asked = calls_of(sandbox.startexam(), "sessions").await;
        read_feed(&gateway).await;
        wait_for_calls(sandbox.startexam(), "sessions", asked + 1).await;
        let during = as_of(&gateway.get(&path_of(&booked[0])).await.body);
        assert_eq!(during, before, "{name}: the watermark moved although the run did not end");
        fault(&sandbox, Value::Null).await;
        for assignment in &booked {
            let path = format!("/results?assignment={}", text(assignment, "/id"));
            read_until(&gateway, &path, |page| !page.text("/items/0/id").is_empty()).await;
            wait_for_version(&gateway, assignment, 1).await;
        }
    }
    let results = all(&gateway, "/results?limit=100").await;
    assert_eq!(results.len(), 3 * FAULTS.len());
}

#[tokio::test]
async fn a_token_that_is_refused_or_leads_back_ends_the_run_and_loses_nothing() {
    let (sandbox, gateway) = start().await;
    switch(&sandbox, "session_page_size", json!(2)).await;
    let participants = book_many(&gateway, 5).await;
    for token in ["refused", "loop"] {
        switch(&sandbox, "fresh_token", json!(token)).await;
        for participant in &participants {
            sit(&sandbox, &finished(participant, if token == "loop" { 5.0 } else { 6.0 })).await;
        }
        let asked = calls_of(sandbox.startexam(), "sessions").await;
        read_feed(&gateway).await;
        wait_for_calls(sandbox.startexam(), "sessions", asked + 1).await;
    }
    switch(&sandbox, "fresh_token", Value::Null).await;
    let complete = |page: &ApiResponse| {
        let items = page.body["items"].as_array().into_iter().flatten();
        items.filter(|result| result["score"]["given"] == 5.0).count() == 5
    };
    read_until(&gateway, "/results?limit=100", complete).await;
    assert_eq!(all(&gateway, "/results?limit=100").await.len(), 5);
}

#[tokio::test]
async fn a_feed_that_never_ends_is_left_at_its_first_repeated_page_and_the_watermark_stays() {
    let (sandbox, gateway) = start_with("max_pages = 20", "").await;
    let assignment = book(&gateway, START, "e1").await;
    let before = as_of(&wait_for_first_run(&gateway, &assignment).await);
    fault(&sandbox, json!({ "name": "endless_feed" })).await;
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 5.0)).await;
    let asked = calls_of(sandbox.startexam(), "sessions").await;
    read_feed(&gateway).await;
    // What the pages say is true all the same.
    wait_for_version(&gateway, &assignment, 1).await;
    let connection = format!("/connections/{START}");
    let shown = wait_until(&gateway, &connection, |shown| shown.body.to_string().contains("feed")).await;
    assert!(calls_of(sandbox.startexam(), "sessions").await - asked <= 20, "{shown:?}");
    assert_eq!(as_of(&gateway.get(&path_of(&assignment)).await.body), before);
    fault(&sandbox, Value::Null).await;
    let path = path_of(&assignment);
    read_until(&gateway, &path, |shown| as_of(&shown.body) > before).await;
    wait_for_version(&gateway, &assignment, 1).await;
}

#[tokio::test]
async fn a_watermark_never_moves_backwards() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, START, "e1").await;
    let before = as_of(&wait_for_first_run(&gateway, &assignment).await);
    switch(&sandbox, "modified_until", json!("backwards")).await;
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 5.0)).await;
    read_feed(&gateway).await;
    wait_for_version(&gateway, &assignment, 1).await;
    assert!(as_of(&gateway.get(&path_of(&assignment)).await.body) >= before);
    // A page that does not say where the feed continues is faulty as a whole.
    switch(&sandbox, "modified_until", json!("absent")).await;
    let asked = calls_of(sandbox.startexam(), "sessions").await;
    read_feed(&gateway).await;
    wait_for_calls(sandbox.startexam(), "sessions", asked).await;
    assert!(as_of(&gateway.get(&path_of(&assignment)).await.body) >= before);
    switch(&sandbox, "modified_until", Value::Null).await;
    let path = path_of(&assignment);
    read_until(&gateway, &path, |shown| as_of(&shown.body) > before).await;
}

#[tokio::test]
async fn sessions_of_any_documented_spelling_are_read() {
    let (sandbox, gateway) = start().await;
    let switches = json!({ "test_id_name": "testID", "data_name": "key", "section_maximum": "maxScore",
                           "session_list_name": "items", "unfinished_figures": "absent" });
    set_faults(sandbox.startexam(), json!({ "switches": switches })).await;
    let assignment = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 5.0)).await;
    fault(&sandbox, json!({ "name": "numbers_as_strings" })).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!(result["score"], json!({ "given": 5.0, "maximum": 8.0, "percent": 62.5 }), "{result}");
    assert_eq!(result["parts"][0]["score"], json!({ "given": 5.0, "maximum": 8.0 }), "{result}");
}

#[tokio::test]
async fn a_feed_that_opens_the_circuit_is_read_on_once_the_vendor_answers_again() {
    let sandbox = sandbox().await;
    let breaker = "breaker = { failures = 3, cooldown = \"1s\" }";
    let gateway = Gateway::start(&connections(&sandbox, "", "").replace(NO_BREAKER, breaker)).await;
    switch(&sandbox, "session_page_size", json!(2)).await;
    let participants = book_many(&gateway, 5).await;
    fault(&sandbox, json!({ "name": "server_error" })).await;
    for participant in &participants {
        sit(&sandbox, &finished(participant, 5.0)).await;
    }
    let connection = format!("/connections/{START}");
    let shown = read_until(&gateway, &connection, |shown| shown.text("/circuit") == "open").await;
    assert_eq!(shown.text("/status"), "circuit_open", "{shown:?}");
    fault(&sandbox, Value::Null).await;
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(5);
    read_until(&gateway, "/results?limit=100", complete).await;
    let shown = read_until(&gateway, &connection, |shown| shown.text("/status") == "ok").await;
    assert_eq!(shown.text("/circuit"), "closed", "{shown:?}");
    let results = all(&gateway, "/results?limit=100").await;
    assert!(results.iter().all(|result| result["version"] == 1 && result["score"]["given"] == 5.0), "{results:?}");
}
