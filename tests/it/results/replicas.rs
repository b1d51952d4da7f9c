//! Two gateways on one PostgreSQL database: one of them reads a feed at a time, and both receive webhooks; each session and
//! each webhook comes to one result.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::support::postgres::Server;

async fn start_two(sandbox: &Sandbox) -> [Gateway; 2] {
    let url = Server::shared().schema().await;
    let connections = connections(sandbox, "", "");
    [Gateway::replica(&url, &connections).await, Gateway::replica(&url, &connections).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_both_replicas_are_asked_to_read_have_one_result_each() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox).await;
    switch(&sandbox, "session_page_size", json!(10)).await;
    let participants = book_many(&one, 60).await;
    for (number, participant) in (0..).zip(&participants) {
        sit(&sandbox, &finished(participant, f64::from(number % 9))).await;
        // Runs begin while sessions are still coming, at both at once.
        if number % 12 == 0 {
            tokio::join!(read_feed(&one), read_feed(&other));
        }
    }
    tokio::join!(read_feed(&one), read_feed(&other));
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(60);
    read_until(&one, "/results?limit=100", complete).await;
    let results = all(&other, "/results?limit=100").await;
    let seen: BTreeSet<&str> = results.iter().map(|result| text(result, "/vendorRef/participantId")).collect();
    assert_eq!((results.len(), seen.len()), (60, 60), "each once");
    assert!(results.iter().all(|result| result["version"] == 1), "{results:?}");
    assert_eq!(all(&one, "/reports?limit=100&state=applied").await.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_webhooks_at_both_replicas_have_one_result_each_and_a_dead_ones_are_read_by_the_other() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox).await;
    for number in 0..12 {
        book(&one, THINK, &format!("t{number}")).await;
    }
    for number in 0..12 {
        let result = [with(marks(&format!("t{number}"), 30.0 + f64::from(number)), "copies", json!(2))];
        tokio::join!(deliver(&sandbox, &one, &result), deliver(&sandbox, &other, &result));
    }
    drop(one.kill().await);
    let complete = |page: &ApiResponse| page.body["items"].as_array().map(Vec::len) == Some(12);
    wait_until(&other, "/results?limit=100", complete).await;
    let repeats = |page: &ApiResponse| {
        let items = page.body["items"].as_array().into_iter().flatten();
        items.filter_map(|report| report["repeats"].as_u64()).sum::<u64>() == 36
    };
    let reports = wait_until(&other, "/reports?limit=100", repeats).await;
    assert_eq!(reports.body["items"].as_array().map(Vec::len), Some(12), "{reports:?}");
    let results = all(&other, "/results?limit=100").await;
    assert!(results.iter().all(|result| result["version"] == 1 && result["attempt"]["number"] == 1), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_is_read_on_after_the_replica_that_reads_it_died() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox).await;
    let assignment = book(&one, START, "e1").await;
    wait_for_first_run(&other, &assignment).await;
    drop(one.kill().await);
    sit(&sandbox, &finished(text(&assignment, "/vendorRef/id"), 5.0)).await;
    read_feed(&other).await;
    wait_for_version(&other, &assignment, 1).await;
}
