//! A connection's change of state.

use super::*;

async fn check(gateway: &Gateway) {
    let checked = gateway.request(Method::POST, &format!("/connections/{START}/check")).send().await;
    assert_eq!(checked.status, 200, "{checked:?}");
}

/// Waits until so many changes of the connection were reported; returns what they say.
async fn changes(gateway: &Gateway, count: usize) -> Vec<Value> {
    let path = "/events?types=connection.changed";
    let reached = |page: &ApiResponse| page.body["items"].as_array().is_some_and(|items| items.len() >= count);
    let page = wait_until(gateway, path, reached).await;
    items(&page).into_iter().map(|event| json!([event["data"]["before"], event["data"]["status"]])).collect()
}

#[tokio::test]
async fn a_change_that_lasts_is_reported_once_also_over_a_restart() {
    let (sandbox, gateway) = start().await;
    let failing = json!({ "faults": [{ "name": "server_error" }] });
    set_faults(sandbox.startexam(), failing.clone()).await;
    check(&gateway).await;
    assert_eq!(changes(&gateway, 1).await, [json!([null, "degraded"])]);
    // Still so after a restart, which makes it no news.
    let gateway = Gateway::start_in(gateway.kill().await).await;
    check(&gateway).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(changes(&gateway, 1).await.len(), 1);
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    check(&gateway).await;
    let expected = [json!([null, "degraded"]), json!(["degraded", "ok"])];
    assert_eq!(changes(&gateway, 2).await, expected);
}
