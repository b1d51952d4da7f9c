//! What became of a connection's calls in the last hour.

use reqwest::Method;
use serde_json::json;

use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::people::person_at;

#[tokio::test]
async fn calls_and_failures_are_counted_for_each_connection() {
    let sandbox = sandbox().await;
    let clients = client("lms", "", "[\"*\"]") + &client("narrow", "", "[\"startexam-main\"]");
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    let path = "/connections/examtesting-main/calls";
    let before = gateway.get(path).await;
    assert_eq!(before.status, 200, "{before:?}");
    assert_eq!((&before.body["hour"]["calls"], &before.body["minutes"]), (&json!(0), &json!([])), "{before:?}");
    assert!(before.body["hour"].get("p50Ms").is_none(), "absent, not zero: {before:?}");

    let registered = gateway.post("/candidates", &person_at("examtesting-main", "c1")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    set_faults(sandbox.examtesting(), json!({ "faults": [{ "name": "server_error", "times": 1 }] })).await;
    let failed = gateway.post("/candidates", &person_at("examtesting-main", "c2")).await;
    assert!(failed.status >= 400, "{failed:?}");

    let after = gateway.get(path).await;
    let hour = &after.body["hour"];
    let (calls, failed) = (hour["calls"].as_u64().expect("a count"), hour["failures"]["httpError"].as_u64());
    assert!(calls >= 2 && failed == Some(1), "{after:?}");
    assert!(hour["p50Ms"].is_u64() && hour["p95Ms"].is_u64(), "{after:?}");
    let minutes = after.body["minutes"].as_array().expect("a list");
    let sum: u64 = minutes.iter().filter_map(|minute| minute["calls"].as_u64()).sum();
    assert_eq!(sum, calls, "{after:?}");
    assert_eq!(after.body["connection"], "examtesting-main");

    let other = gateway.request_as(&key("narrow"), Method::GET, "/connections/startexam-main/calls").send().await;
    assert_eq!((other.status, &other.body["hour"]["calls"]), (200, &json!(0)), "{other:?}");
    let forbidden = gateway.request_as(&key("narrow"), Method::GET, path).send().await;
    assert_eq!(forbidden.problem(), (403, "connection_forbidden", "not_applied"), "{forbidden:?}");
    let unknown = gateway.get("/connections/none-such/calls").await;
    assert_eq!(unknown.problem(), (404, "connection_not_found", "not_applied"), "{unknown:?}");
}
