//! `/exchanges`: a caller with a problem can look up what the vendor really responded.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, sandbox_connections, startexam, thinkexam};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::vendor::{Stub, build_response, json_response};
use crate::support::watch::wait_for_state;

fn person(number: usize) -> Value {
    json!({ "connection": "startexam-main", "externalId": format!("emp-{number}"), "email": format!("p{number}@example.org"),
            "name": { "givenName": "Ada", "familyName": "Lovelace" } })
}

async fn read_exchange(gateway: &Gateway, problem: &Value) -> Value {
    let instance = problem["instance"].as_str().expect("an instance");
    let response = gateway.get(instance).await;
    assert_eq!(response.status, 200, "{instance}: {}", response.body);
    response.body
}

#[tokio::test]
async fn a_problem_links_to_the_vendor_exchange() {
    let message = json!({ "message": "Ada Lovelace (p1@example.org, EMP-1) is blocked", "trace": "internal" });
    let vendor = Stub::start(move |_| json_response(400, &message)).await;
    let gateway = Gateway::start(&startexam(&vendor.url(), "")).await;
    let refused = gateway.request(Method::POST, "/candidates").header("x-request-id", "from-lms").json(&person(1));
    let refused = refused.send().await;
    assert_eq!(refused.problem(), (422, "vendor_rejected_request", "not_applied"));
    let seen = read_exchange(&gateway, &refused.body).await;
    let field = |pointer: &str| seen.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(
        [field("/requestId"), field("/client"), field("/method"), field("/route"), field("/status"), field("/code")],
        [
            json!("from-lms"),
            json!("lms"),
            json!("POST"),
            json!("/candidates"),
            json!(422),
            json!("vendor_rejected_request")
        ]
    );
    assert_eq!(seen["calls"].as_array().map(Vec::len), Some(1));
    assert_eq!(field("/calls/0/status"), 400);
    assert_eq!(field("/calls/0/ended"), "answered");
    assert_eq!(field("/calls/0/address"), format!("{}/v1/employees", vendor.url()));
    assert_eq!(field("/calls/0/answer"), json!({ "message": "*** *** (***, ***) is blocked", "…": "1 not shown" }));
    assert_eq!(field("/calls/0/request/employees/0"), json!({ "status": "active", "…": "2 not shown" }));
    assert!(field("/vendorMs").as_u64() <= field("/durationMs").as_u64());
}

#[tokio::test]
async fn exchanges_are_listed_newest_first_and_only_for_the_tenant() {
    let sandbox = sandbox().await;
    let clients = [
        client("lms", "", "[\"*\"]"),
        client("hr", "other", "[\"*\"]"),
        client_with("blind", "lms", "[\"*\"]", "[\"candidates:write\"]"),
    ]
    .concat();
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    for number in 0..3 {
        assert_eq!(gateway.post("/candidates", &person(number)).await.status, 201);
    }
    let first = gateway.get("/exchanges?limit=2&connection=startexam-main").await;
    let items = first.body["items"].as_array().expect("items").clone();
    assert_eq!(items.len(), 2);
    assert!(items[0]["id"].as_str() > items[1]["id"].as_str(), "the latest first");
    let cursor = first.text("/nextCursor").to_owned();
    let rest = gateway.get(&format!("/exchanges?limit=2&connection=startexam-main&cursor={cursor}")).await;
    assert_eq!((rest.body["items"].as_array().map(Vec::len), &rest.body["nextCursor"]), (Some(1), &Value::Null));

    let foreign = gateway.request_as(&key("hr"), Method::GET, "/exchanges").send().await;
    let foreign: Vec<&Value> =
        foreign.body["items"].as_array().expect("items").iter().filter(|item| item["client"] != "hr").collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let one = format!("/exchanges/{}", items[0]["id"].as_str().expect("an id"));
    assert_eq!(gateway.request_as(&key("hr"), Method::GET, &one).send().await.problem().1, "not_found");
    assert_eq!(gateway.request_as(&key("blind"), Method::GET, &one).send().await.problem().1, "insufficient_scope");
    for odd in ["/exchanges?cursor=x", "/exchanges?operation=x", "/exchanges?limit=0"] {
        assert_eq!(gateway.get(odd).await.problem().1, "validation_failed", "{odd}");
    }
    assert_eq!(gateway.get("/exchanges/exc_x").await.problem().1, "not_found");
}

#[tokio::test]
async fn unauthenticated_requests_displace_no_exchanges() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for _ in 0..20 {
        assert_eq!(gateway.anonymous(Method::GET, "/operations").send().await.status, 401);
    }
    let listed = gateway.get("/exchanges").await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1), "only the list itself");
}

#[tokio::test]
async fn the_calls_of_a_bulk_are_in_its_exchange_and_its_rows_link_there() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "batch_size = 1")).await;
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "bad_request", "times": 1 }] })).await;
    let items: Vec<Value> = (0..40).map(person).collect();
    let done = gateway.post("/candidates/bulk", &json!({ "connection": "startexam-main", "items": items })).await;
    assert_eq!(done.status, 207, "{}", done.body);
    let failed = done.body["results"].as_array().expect("rows").iter().find(|row| row["outcome"] == "not_applied");
    let seen = read_exchange(&gateway, &failed.expect("a failed row")["problem"]).await;
    assert_eq!((&seen["route"], &seen["operation"]), (&json!("/candidates/bulk"), &done.body["operation"]));
    let calls = seen["calls"].as_array().expect("calls");
    assert!(calls.iter().any(|call| call["status"] == 400), "the failed one is kept: {calls:?}");
    assert_eq!(calls.len() as u64 + seen["callsLeftOut"].as_u64().expect("a number"), 40);
    let id = done.text("/operation");
    let found = gateway.get(&format!("/exchanges?operation={id}")).await;
    assert_eq!(found.body["items"][0]["id"], seen["id"]);
    // Read later, the row still links to the vendor call.
    let rows = gateway.get(&format!("/operations/{id}/items?outcome=not_applied")).await;
    assert_eq!(
        rows.body["items"][0]["problem"]["instance"],
        format!("/exchanges/{}", seen["id"].as_str().expect("an id"))
    );
}

#[tokio::test]
async fn background_reconciliation_is_recorded_too() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "reset_after_effect", "times": 1 }] })).await;
    let lost = gateway.post("/candidates", &person(1)).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    assert_eq!(read_exchange(&gateway, &lost.body).await["calls"][0]["ended"], "vendor_timeout");
    let resource = lost.text("/resource").to_owned();
    wait_for_state(&gateway, &resource, "registered").await;
    let all = gateway.get("/exchanges?connection=startexam-main").await;
    let settling = all.body["items"].as_array().expect("items").iter().find(|item| item["cause"] == "settling");
    let settling = settling.expect("an exchange of the background");
    assert_eq!((&settling["resource"], &settling["calls"][0]["settling"]), (&json!(resource), &json!(true)));
}

#[tokio::test]
async fn a_call_that_was_never_sent_is_recorded_with_the_reason() {
    let gateway =
        Gateway::start(&startexam("http://127.0.0.1:1", "breaker = { failures = 1, cooldown = \"1h\" }")).await;
    assert_eq!(gateway.post("/candidates", &person(1)).await.problem().1, "vendor_unreachable");
    let refused = gateway.post("/candidates", &person(2)).await;
    assert_eq!(refused.problem(), (503, "vendor_circuit_open", "not_applied"));
    let seen = read_exchange(&gateway, &refused.body).await;
    assert_eq!(
        (&seen["calls"][0]["ended"], &seen["calls"][0]["status"]),
        (&json!("vendor_circuit_open"), &Value::Null)
    );
}

#[tokio::test]
async fn signature_calls_and_unexpected_formats_reveal_only_listed_fields() {
    let vendor = Stub::start(|seen| match seen.uri.path() {
        "/sim/signature" => json_response(200, &json!({ "ak": "AkMark", "sgn": "SgMark", "ts": "1" })),
        _ => build_response(500, "text/html", "<html><title>Ada Lovelace</title>p1@example.org</html>".to_owned()),
    })
    .await;
    let gateway = Gateway::start(&thinkexam(&vendor.url(), "")).await;
    let mut someone = person(1);
    someone["connection"] = json!("thinkexam-main");
    let failed = gateway.post("/candidates", &someone).await;
    assert_eq!(failed.problem().1, "vendor_internal_error");
    let seen = read_exchange(&gateway, &failed.body).await;
    assert_eq!(seen["calls"].as_array().map(Vec::len), Some(2), "the signature and the call");
    let text = seen.to_string();
    for mark in ["AkMark", "SgMark", "Ada", "Lovelace", "p1@", "emp-1"] {
        assert!(!text.contains(mark), "{mark} in {text}");
    }
}
