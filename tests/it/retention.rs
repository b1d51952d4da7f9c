//! Expired data is deleted in time.

use reqwest::Method;
use serde_json::json;

use crate::support::connections::{client, examtesting};
use crate::support::gateway::{ApiResponse, Gateway, sandbox};
use crate::support::people::person;
use crate::support::watch::{changes, wait_until};

const OPERATIONS: &str = "EXAMGATE__STORE__RETENTION";
const KEYS: &str = "EXAMGATE__STORE__IDEMPOTENCY_RETENTION";

async fn start(address: &str, short: &[&str]) -> Gateway {
    let connections = examtesting(address, "");
    let environment: Vec<(&str, &str)> = short.iter().map(|variable| (*variable, "1s")).collect();
    Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), &environment).await
}

#[tokio::test]
async fn a_finished_operation_is_deleted_with_its_rows() {
    let sandbox = sandbox().await;
    let gateway = start(&format!("http://{}", sandbox.examtesting()), &[OPERATIONS, KEYS]).await;
    let bulk = gateway.post("/candidates/bulk", &json!({ "items": [person("e1")] })).await;
    let operation = format!("/operations/{}", bulk.text("/operation"));
    wait_until(&gateway, &operation, |response| response.status == 404).await;
    for path in [format!("{operation}/items"), format!("{operation}/events")] {
        assert_eq!(gateway.get(&path).await.problem(), (404, "not_found", "not_applied"), "{path}");
    }
    assert_eq!(gateway.get("/operations").await.body["items"], json!([]));
    // The person stays: only what the operation stored is gone.
    assert_eq!(gateway.get("/candidates?externalId=e1").await.body["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn stored_responses_and_generated_passwords_are_deleted() {
    let sandbox = sandbox().await;
    let port = sandbox.examtesting();
    let gateway = start(&format!("http://{port}"), &[KEYS]).await;
    let send = async || -> ApiResponse {
        let request = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
        request.json(&person("e1")).send().await
    };
    let first = send().await;
    assert_eq!(first.status, 201, "{first:?}");
    assert!(first.body["initialPassword"].is_string());
    let mut again = send().await;
    while again.header("idempotent-replayed") == Some("true") {
        assert_eq!(again.body, first.body);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        again = send().await;
    }
    // A new request, for a person the gateway knows already.
    assert_eq!((again.status, again.text("/id")), (200, first.text("/id")), "{again:?}");
    assert!(again.body.get("initialPassword").is_none(), "{again:?}");
    assert_eq!(changes(port, "add", "created").await.len(), 1);

    let other = json!({ "externalId": "e2", "email": "e2@example.com", "name": { "givenName": "Grace" } });
    let bulk = gateway.post("/candidates/bulk", &json!({ "items": [other] })).await;
    let items = format!("/operations/{}/items", bulk.text("/operation"));
    let has_password = |response: &ApiResponse| response.body["items"][0]["resource"].get("initialPassword").is_some();
    wait_until(&gateway, &items, |response| !has_password(response)).await;
    assert_eq!(gateway.get(&items).await.body["items"][0]["outcome"], "applied");
}
