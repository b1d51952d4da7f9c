//! Two gateways on one PostgreSQL database: both receive webhooks, each of which comes to one result, and one takes over the
//! other's feed. For both reading a feed see the storm (`chaos/results.rs`).

use serde_json::json;

use super::*;
use crate::support::postgres::Server;

async fn start_two(sandbox: &Sandbox) -> [Gateway; 2] {
    let url = Server::shared().schema().await;
    let connections = connections(sandbox, "", "");
    [Gateway::replica(&url, &connections).await, Gateway::replica(&url, &connections).await]
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
