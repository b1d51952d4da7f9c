//! Kills in the middle of a run and between a webhook and its reading: every session and every webhook comes to exactly
//! one result.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::support::gateway::read_effects;

/// Waits until so many calls to the feed were held back, that is, runs are in the middle of their pages.
async fn wait_for_held_calls(sandbox: &Sandbox, count: usize) {
    let started = std::time::Instant::now();
    loop {
        let log = read_effects(sandbox.startexam()).await;
        let is_held = |call: &&Value| call["operation"] == "sessions" && call["fault"] == "delay_before_effect";
        if log["calls"].as_array().expect("a list").iter().filter(is_held).count() >= count {
            return;
        }
        assert!(started.elapsed().as_secs() < 300, "no run got so far");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_run_that_a_kill_ends_is_repeated_and_every_session_is_there_once() {
    let (sandbox, gateway) = start().await;
    switch(&sandbox, "session_page_size", json!(10)).await;
    let participants = book_many(&gateway, 60).await;
    for (number, participant) in (0..).zip(&participants) {
        sit(&sandbox, &finished(participant, f64::from(number % 9))).await;
    }
    let mut folder = gateway.kill().await;
    for pages in 1..=5 {
        // So many pages are answered to the run that begins at the start; the gateway dies waiting for the next.
        fault(&sandbox, json!({ "name": "delay_before_effect", "after": pages, "delayMs": 600_000 })).await;
        let gateway = Gateway::start_in(folder).await;
        wait_for_held_calls(&sandbox, pages).await;
        folder = gateway.kill().await;
    }
    fault(&sandbox, Value::Null).await;
    let gateway = Gateway::start_in(folder).await;
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(60);
    wait_until(&gateway, "/results?limit=100", complete).await;
    let results = all(&gateway, "/results?limit=100").await;
    let seen: BTreeSet<&str> = results.iter().map(|result| text(result, "/vendorRef/participantId")).collect();
    assert_eq!((results.len(), seen.len()), (60, 60), "each once");
    assert!(results.iter().all(|result| result["version"] == 1 && result["grading"] == "fully_graded"), "{results:?}");
    assert_eq!(all(&gateway, "/reports?limit=100&state=applied").await.len(), 60, "no report was recorded twice");
}

#[tokio::test]
async fn a_webhook_that_was_acknowledged_survives_a_kill() {
    let (sandbox, gateway) = start().await;
    let mut gateway = gateway;
    let mut booked = Vec::new();
    for number in 0..8 {
        booked.push(book(&gateway, THINK, &format!("t{number}")).await);
    }
    for (number, assignment) in (0..8).zip(&booked) {
        deliver(&sandbox, &gateway, &[marks(&format!("t{number}"), 30.0 + f64::from(number))]).await;
        // Sometimes before it is read, sometimes after.
        gateway = Gateway::start_in(gateway.kill().await).await;
        let result = wait_for_version(&gateway, assignment, 1).await;
        assert_eq!(result["score"]["given"], json!(30.0 + f64::from(number)), "{result}");
    }
    assert_eq!(all(&gateway, "/results?limit=100").await.len(), 8);
    assert_eq!(all(&gateway, "/reports?limit=100").await.len(), 8);
}
