//! Whole problems and outcomes as a caller sees them, compared with those stored in `snapshots`: what clients parse and
//! people read. Which situation leads to which code is tested elsewhere.

use examgate::sandbox::accounts;
use http::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, examtesting, start_startexam, startexam};
use crate::support::gateway::{Gateway, key};
use crate::support::people::{order, order_if_exists, person_at, with};
use crate::support::snapshots::assert_response;
use crate::support::vendor::{Stub, build_response, json_response};

const TEST: &str = accounts::startexam::TESTS[0].0;

fn startexam_person(id: &str) -> Value {
    person_at("startexam-main", id)
}

#[tokio::test]
async fn problems_of_requests_that_reach_no_vendor() {
    let stub = Stub::accepting_startexam().await;
    let clients = client("lms", "", "[\"*\"]") + &client_with("reader", "", "[\"*\"]", "[\"candidates:read\"]");
    let connections = startexam(&stub.url(), "") + &examtesting("http://127.0.0.1:9", "");
    let gateway = Gateway::start_with(&connections, &clients).await;
    let post = |body: &'static str| gateway.request(Method::POST, "/candidates").body("application/json", body);

    let response = gateway.anonymous(Method::GET, "/candidates").send().await;
    assert_response("problem-unauthenticated", &response);
    let response = gateway.request_as(&key("reader"), Method::POST, "/candidates").json(&startexam_person("e1")).send();
    assert_response("problem-insufficient-scope", &response.await);
    let response = gateway.get("/candidates/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").await;
    assert_response("problem-not-found", &response);
    let response = gateway.request(Method::PUT, "/candidates").send().await;
    assert_response("problem-method-not-allowed", &response);
    let response = gateway.request(Method::GET, "/connections").header("Accept", "text/html").send().await;
    assert_response("problem-not-acceptable", &response);
    let response = gateway.request(Method::POST, "/candidates").body("text/plain", "externalId=e1").send().await;
    assert_response("problem-unsupported-media-type", &response);
    assert_response("problem-malformed-json", &post("{\"externalId\": \"e1\",").send().await);
    let fields = json!({ "connection": "startexam-main", "externalId": "", "email": "nobody", "emial": "a@b.example" });
    assert_response("problem-validation-failed", &gateway.post("/candidates", &fields).await);
    let response = gateway.get("/candidates?limit=0&state=odd").await;
    assert_response("problem-invalid-query", &response);
    let response = gateway.post("/candidates", &with(startexam_person("e1"), "connection", json!("nowhere"))).await;
    assert_response("problem-connection-not-found", &response);
    let response =
        gateway.post("/assignments", &with(order("e1", TEST), "connection", json!("examtesting-main"))).await;
    assert_response("problem-capability-unsupported", &response);

    let created = gateway.post_with_key("/candidates", "key-1", &startexam_person("e1")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let response = gateway.post_with_key("/candidates", "key-1", &startexam_person("e2")).await;
    assert_response("problem-idempotency-key-reused", &response);
    let again = with(startexam_person("e1"), "ifExists", json!("fail"));
    assert_response("problem-candidate-already-exists", &gateway.post("/candidates", &again).await);
    let response = gateway.post("/candidates", &person_at("examtesting-main", "e1")).await;
    assert_response("problem-vendor-unreachable", &response);
}

#[tokio::test]
async fn problems_of_writes_that_a_vendor_does_not_confirm() {
    let stub = Stub::start(|_| json_response(400, &json!({ "message": "employee e1 is no good" }))).await;
    // Nothing is reconciled between the requests.
    let connection = startexam(&stub.url(), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connection).await;
    assert_response("problem-vendor-rejected-request", &gateway.post("/candidates", &startexam_person("e1")).await);
    stub.respond_with(|_| json_response(401, &json!({ "message": "Authorization is incorrect" })));
    let response = gateway.post("/candidates", &startexam_person("e2")).await;
    assert_response("problem-connection-credentials-invalid", &response);
    stub.respond_with(|_| build_response(200, "text/html", "<html><title>Sign in</title></html>"));
    let response = gateway.post("/assignments", &order("e3", TEST)).await;
    assert_response("problem-vendor-bad-response", &response);
    stub.respond_with(|_| build_response(500, "text/html", "<html><title>Server Error</title></html>"));
    let response = gateway.post("/candidates", &startexam_person("e4")).await;
    assert_response("outcome-unknown", &response);
    assert_response("outcome-unknown-record", &gateway.get(response.text("/resource")).await);
    // Apart from the others: their reconciliation could be what pauses the connection.
    let busy = Stub::start(|_| json_response(429, &json!({ "message": "Too many requests" }))).await;
    let gateway = Gateway::start(&startexam(&busy.url(), "")).await;
    let response = gateway.post("/candidates", &startexam_person("e5")).await;
    assert_response("problem-vendor-rate-limited", &response);
}

#[tokio::test]
async fn outcomes_of_applied_writes() {
    let (_sandbox, gateway) = start_startexam("").await;
    assert_response("outcome-created", &gateway.post("/candidates", &startexam_person("e1")).await);
    let differing = with(startexam_person("e1"), "email", json!("other@example.com"));
    assert_response("outcome-reused-with-warnings", &gateway.post("/candidates", &differing).await);
    let booking = order_if_exists("e1", TEST, "create_new");
    assert_response("outcome-assigned", &gateway.post("/assignments", &booking).await);
}
