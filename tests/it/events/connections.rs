//! A connection's change of state.

use super::*;
use crate::support::connections::thinkexam;
use crate::support::people::person_at;

const THINK: &str = "thinkexam-main";

async fn check(gateway: &Gateway, connection: &str) {
    let checked = gateway.request(Method::POST, &format!("/connections/{connection}/check")).send().await;
    assert_eq!(checked.status, 200, "{checked:?}");
}

/// Waits until so many changes of connections were reported; returns what they say.
async fn changes(gateway: &Gateway, count: usize) -> Vec<Value> {
    let path = "/events?types=connection.changed";
    let reached = |page: &ApiResponse| page.body["items"].as_array().is_some_and(|items| items.len() >= count);
    let page = wait_until(gateway, path, reached).await;
    let shown = |event: Value| json!([event["data"]["connection"], event["data"]["before"], event["data"]["status"]]);
    items(&page).into_iter().map(shown).collect()
}

#[tokio::test]
async fn a_change_that_lasts_is_reported_once_also_over_a_restart() {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "")
        + &thinkexam(&format!("http://{}", sandbox.thinkexam()), "");
    let gateway = Gateway::start(&connections).await;
    let failing = json!({ "faults": [{ "name": "server_error" }] });
    set_faults(sandbox.startexam(), failing.clone()).await;
    check(&gateway, START).await;
    let first = json!([START, null, "degraded"]);
    assert_eq!(changes(&gateway, 1).await, std::slice::from_ref(&first));
    // Still so after a restart, which makes it no news. The other connection shows that the monitor has looked.
    let gateway = Gateway::start_in(gateway.kill().await).await;
    set_faults(sandbox.thinkexam(), failing).await;
    check(&gateway, START).await;
    let failed = gateway.post("/candidates", &person_at(THINK, "e1")).await;
    assert!(failed.status >= 500, "{failed:?}");
    let second = json!([THINK, null, "degraded"]);
    assert_eq!(changes(&gateway, 2).await, [first.clone(), second.clone()]);
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    check(&gateway, START).await;
    assert_eq!(changes(&gateway, 3).await, [first, second, json!([START, "degraded", "ok"])]);
}
