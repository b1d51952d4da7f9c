//! `Idempotency-Key`: a retry of a write is replayed, not done again.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, examtesting, sandbox_connections, start_startexam, startexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::vendor::{Stub, build_response, json_response};
use crate::support::watch::{call_count, changes};

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn send_with_key(gateway: &Gateway, method: Method, path: &str, key: &str, body: Option<&Value>) -> ApiResponse {
    let request = gateway.request(method, path).header("idempotency-key", key);
    let request = if let Some(body) = body { request.json(body) } else { request };
    request.send().await
}

fn is_replayed(response: &ApiResponse) -> bool {
    response.header("idempotent-replayed") == Some("true")
}

/// Sends the write twice: the second response is the same, and nothing reaches the vendor.
async fn send_twice(
    gateway: &Gateway,
    port: std::net::SocketAddr,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> ApiResponse {
    let connection = body.and_then(|body| body["connection"].as_str()).unwrap_or_default();
    let key = format!("{method}:{path}:{connection}");
    let first = send_with_key(gateway, method.clone(), path, &key, body).await;
    assert!((200..300).contains(&first.status) && !is_replayed(&first), "{method} {path}: {first:?}");
    let before = call_count(port).await;
    let again = send_with_key(gateway, method.clone(), path, &key, body).await;
    assert!(is_replayed(&again), "{method} {path}: {again:?}");
    assert_eq!((again.status, &again.body), (first.status, &first.body), "{method} {path}");
    assert_eq!(again.header("location"), first.header("location"), "{method} {path}");
    assert_eq!(call_count(port).await, before, "{method} {path}");
    first
}

#[tokio::test]
async fn every_write_is_replayed_unchanged() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let (start, think) = (sandbox.startexam(), sandbox.thinkexam());
    let mut body = person("e1");
    body["connection"] = json!("startexam-main");
    let candidate = send_twice(&gateway, start, Method::POST, "/candidates", Some(&body)).await;
    assert_eq!(candidate.status, 201);
    let path = format!("/candidates/{}", candidate.text("/id"));
    let changed = send_twice(&gateway, start, Method::PATCH, &path, Some(&json!({ "email": "new@example.com" }))).await;
    assert_eq!(changed.status, 200);
    let order = json!({ "connection": "startexam-main", "candidate": { "externalId": "e1" }, "assessment": TEST });
    assert_eq!(send_twice(&gateway, start, Method::POST, "/assignments", Some(&order)).await.status, 201);
    let program = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let enrolment = json!({ "connection": "startexam-main", "scope": "all", "register": ["e1"] });
    assert_eq!(send_twice(&gateway, start, Method::POST, &program, Some(&enrolment)).await.status, 200);
    assert_eq!(send_twice(&gateway, start, Method::DELETE, &path, None).await.status, 204);
    assert_eq!(gateway.get(&path).await.status, 404);

    body["connection"] = json!("thinkexam-main");
    send_twice(&gateway, think, Method::POST, "/candidates", Some(&body)).await;
    let order =
        json!({ "connection": "thinkexam-main", "candidate": { "email": "e1@example.com" }, "assessment": "2415" });
    let booked = gateway.post("/assignments", &order).await;
    let booking = format!("/assignments/{}", booked.text("/id"));
    assert_eq!(send_twice(&gateway, think, Method::DELETE, &booking, None).await.status, 204);
}

#[tokio::test]
async fn a_manual_settlement_is_replayed_too() {
    let stub = Stub::start(|_| build_response(500, "text/plain", "")).await;
    let connections = startexam(&stub.url(), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connections).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    let path = format!("{}/settle", unknown.text("/resource"));
    let settlement = json!({ "outcome": "applied" });
    let settled = send_with_key(&gateway, Method::POST, &path, "s", Some(&settlement)).await;
    assert_eq!((settled.status, settled.text("/state")), (200, "registered"), "{settled:?}");
    let again = send_with_key(&gateway, Method::POST, &path, "s", Some(&settlement)).await;
    assert_eq!((again.status, &again.body, is_replayed(&again)), (200, &settled.body, true), "{again:?}");
    assert_eq!(gateway.post(&path, &settlement).await.problem().0, 422, "without the key there is nothing to settle");
}

#[tokio::test]
async fn a_generated_password_is_in_the_replayed_response() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&examtesting(&format!("http://{}", sandbox.examtesting()), "")).await;
    let created = send_twice(&gateway, sandbox.examtesting(), Method::POST, "/candidates", Some(&person("e1"))).await;
    assert!(created.text("/initialPassword").len() >= 8, "{created:?}");
}

#[tokio::test]
async fn a_key_reused_for_another_request_is_rejected() {
    let (sandbox, gateway) = start_startexam("").await;
    assert_eq!(send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await.status, 201);
    let other = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e2"))).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused", "not_applied"));
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["e1"]);
    // On another path it is another key.
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": TEST });
    let booked = send_with_key(&gateway, Method::POST, "/assignments", "k", Some(&order)).await;
    assert_eq!((booked.status, is_replayed(&booked)), (201, false));
}

#[tokio::test]
async fn requests_are_compared_by_content_not_by_formatting() {
    let (_sandbox, gateway) = start_startexam("").await;
    let send = |key: &'static str, body: &'static str| {
        let request = gateway.request(Method::POST, "/candidates").header("idempotency-key", key);
        request.body("application/json", body).send()
    };
    let first = send("a-key", r#"{"externalId":"e1","name":{"givenName":"1"},"active":true}"#).await;
    assert_eq!(first.status, 201, "{first:?}");
    for (key, body) in [
        ("a-key", "{ \"active\" : true,\n \"name\":{\"givenName\":\"\\u0031\"}, \"externalId\" : \"e1\" }"),
        ("\"a-key\"", r#"{"externalId":"e1","name":{"givenName":"1"},"active":true}"#),
    ] {
        let again = send(key, body).await;
        assert_eq!((again.status, &again.body, is_replayed(&again)), (201, &first.body, true), "{key} {body}");
    }
    let other = send("a-key", r#"{"externalId":"e1","name":{"givenName":"2"},"active":true}"#).await;
    assert_eq!(other.problem().1, "idempotency_key_reused");
}

#[tokio::test]
async fn a_write_that_was_not_applied_releases_its_key() {
    let stub = Stub::start(|_| json_response(400, &json!({ "message": "no" }))).await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let refused = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!(refused.problem(), (422, "vendor_rejected_request", "not_applied"));
    let invalid = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&json!({ "odd": 1 }))).await;
    assert_eq!(invalid.problem(), (422, "validation_failed", "not_applied"));
    stub.respond_with(|_| json_response(200, &json!({})));
    let created = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e2"))).await;
    assert_eq!((created.status, is_replayed(&created)), (201, false), "{created:?}");
}

#[tokio::test]
async fn an_unknown_write_is_reconciled_by_its_retry() {
    let (sandbox, gateway) = start_startexam("").await;
    let lost = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
    let unknown = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    let settled = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!((settled.text("/state"), settled.text("/outcome")), ("registered", "applied"), "{settled:?}");
    let again = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!((again.status, &again.body, is_replayed(&again)), (settled.status, &settled.body, true), "{again:?}");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 1);
}

#[tokio::test]
async fn a_retry_that_comes_too_early_gets_a_conflict_with_retry_after() {
    let (sandbox, gateway) = start_startexam("").await;
    let slow = json!({ "name": "delay_before_effect", "delayMs": 5_000 });
    set_faults(sandbox.startexam(), json!({ "faults": [slow] })).await;
    let request = gateway.request(Method::POST, "/candidates").header("idempotency-key", "k");
    let first = request.header("prefer", "respond-async").json(&person("e1")).send().await;
    assert_eq!(first.status, 202, "{first:?}");
    let early = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!(early.problem(), (409, "idempotency_in_progress", "not_applied"));
    assert!(early.text("/detail").contains("its outcome is not known yet. This request sent nothing"), "{early:?}");
    assert!(early.header("retry-after").is_some());
    let other = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e2"))).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused", "not_applied"));
    crate::support::watch::wait_for_state(&gateway, &format!("/candidates/{}", first.text("/id")), "registered").await;
    let late = send_with_key(&gateway, Method::POST, "/candidates", "k", Some(&person("e1"))).await;
    assert_eq!((late.status, is_replayed(&late)), (201, true), "{late:?}");
    assert_eq!(call_count(sandbox.startexam()).await, 1);
}

#[tokio::test]
async fn keys_are_scoped_to_a_tenant() {
    let sandbox = sandbox().await;
    let clients = client("lms", "", "[\"*\"]") + &client("rival", "", "[\"*\"]") + &client("sibling", "lms", "[\"*\"]");
    let gateway = Gateway::start_with(&startexam(&format!("http://{}", sandbox.startexam()), ""), &clients).await;
    let send = async |client: &str, id: &str| {
        let request = gateway.request_as(&key(client), Method::POST, "/candidates").header("idempotency-key", "k");
        request.json(&person(id)).send().await
    };
    assert_eq!(send("lms", "e1").await.status, 201);
    let rival = send("rival", "e2").await;
    assert_eq!((rival.status, is_replayed(&rival)), (201, false), "{rival:?}");
    let sibling = send("sibling", "e1").await;
    assert_eq!((sibling.status, is_replayed(&sibling)), (201, true), "clients of one tenant share their keys");
}

#[tokio::test]
async fn a_resent_bulk_is_the_same_operation() {
    let (sandbox, gateway) = start_startexam("").await;
    let send = |form: &'static str, query: &'static str, key: &'static str, body: &'static str| {
        let request = gateway.request(Method::POST, &format!("/candidates/bulk{query}")).header("idempotency-key", key);
        request.body(form, body).send()
    };
    let json_form = "application/json";
    let first = send(json_form, "", "j", r#"{"failOnErrors":5,"items":[{"externalId":"1"},{"externalId":"2"}]}"#).await;
    assert_eq!((first.status, is_replayed(&first)), (207, false), "{first:?}");
    let same = "{ \"items\": [ {\"externalId\":\"1\"}, {\"externalId\":\"2\"} ],\n\"failOnErrors\": 5 }";
    let again = send(json_form, "", "\"j\"", same).await;
    assert_eq!((again.status, &again.body["operation"], is_replayed(&again)), (207, &first.body["operation"], true));
    assert_eq!(again.body["results"], first.body["results"]);
    for other in [
        r#"{"failOnErrors":5,"items":[{"externalId":"2"},{"externalId":"1"}]}"#,
        r#"{"failOnErrors":6,"items":[{"externalId":"1"},{"externalId":"2"}]}"#,
    ] {
        assert_eq!(
            send(json_form, "", "j", other).await.problem(),
            (422, "idempotency_key_reused", "not_applied"),
            "{other}"
        );
    }
    let table = "externalId\n3\n4\n";
    let first = send("text/csv", "?failOnErrors=5", "t", table).await;
    assert_eq!(first.status, 207, "{first:?}");
    let again = send("text/csv", "?failOnErrors=5", "t", table).await;
    assert_eq!((&again.body["operation"], is_replayed(&again)), (&first.body["operation"], true));
    for (query, body) in [("?failOnErrors=6", table), ("?failOnErrors=5", "externalId\r\n3\r\n4\r\n")] {
        assert_eq!(send("text/csv", query, "t", body).await.problem().1, "idempotency_key_reused", "{query}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 4);
    assert_eq!(gateway.get("/operations").await.body["items"].as_array().unwrap().len(), 2, "what was refused is gone");
}

#[tokio::test]
async fn a_stored_response_is_replayed_only_to_clients_allowed_on_its_connection() {
    let sandbox = sandbox().await;
    let first = startexam(&format!("http://{}", sandbox.startexam()), "");
    let second = first.replace("startexam-main", "startexam-two");
    let narrow = client("narrow", "lms", "[\"startexam-two\"]") + "default_connection = \"startexam-two\"\n";
    let wide = client("lms", "", "[\"*\"]") + "default_connection = \"startexam-main\"\n";
    let gateway = Gateway::start_with(&(first + &second), &(wide + &narrow)).await;
    let post = async |who: &str, key: &str, body: &Value| {
        let request = gateway.request_as(&crate::support::gateway::key(who), Method::POST, "/candidates");
        request.header("Idempotency-Key", key).json(body).send().await
    };
    let body = json!({ "externalId": "e1", "name": { "givenName": "Ada" } });
    assert_eq!(post("lms", "k1", &body).await.status, 201);
    assert_eq!(post("narrow", "k1", &body).await.problem(), (403, "connection_forbidden", "not_applied"));
    assert_eq!(post("lms", "k1", &body).await.header("idempotent-replayed"), Some("true"));

    // Nor is the outcome of an unknown write.
    let lost = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
    let body = json!({ "externalId": "e2", "name": { "givenName": "Ada" } });
    assert_eq!(post("lms", "k2", &body).await.text("/outcome"), "unknown");
    assert_eq!(post("narrow", "k2", &body).await.problem(), (403, "connection_forbidden", "not_applied"));
    assert_eq!(post("lms", "k2", &body).await.status, 201);
}
