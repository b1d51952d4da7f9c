//! Fair sharing of a connection: a large bulk delays neither single requests nor a small bulk until its end.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, examtesting, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::watch::{changes, wait_for_state, wait_until};

async fn start_bulk(gateway: &Gateway, name: &str, count: usize) -> String {
    let items: Vec<Value> = (0..count).map(|number| person(&format!("{name}{number}"))).collect();
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    format!("/operations/{}", accepted.text("/id"))
}

#[tokio::test]
async fn a_large_bulk_starves_neither_single_requests_nor_a_small_bulk() {
    for in_flight in [1, 4] {
        let sandbox = sandbox().await;
        let port = sandbox.examtesting();
        let slow = examtesting(&format!("http://{port}"), &format!("max_in_flight = {in_flight}"))
            .replace("requests_per_second = 0", "requests_per_second = 50");
        let gateway = Gateway::start(&slow).await;
        let large = start_bulk(&gateway, "great", 400).await;
        wait_until(&gateway, &large, |response| response.body["progress"]["applied"].as_u64() >= Some(5)).await;
        let small = start_bulk(&gateway, "small", 10).await;
        assert_eq!(gateway.post("/candidates", &person("single")).await.status, 201);
        wait_for_state(&gateway, &small, "completed").await;
        let response: ApiResponse = gateway.get(&large).await;
        assert_eq!(response.text("/state"), "running", "{in_flight}: {response:?}");
        let ended = gateway.request(Method::POST, &format!("{large}/cancel")).send().await;
        assert_eq!(ended.status, 202);
        let ended = wait_for_state(&gateway, &large, "cancelled").await;
        let applied = ended.body["progress"]["applied"].as_u64().unwrap();
        assert_eq!(changes(port, "add", "created").await.len() as u64, applied + 10 + 1);
    }
}

/// Sends a bulk as this client; returns the operation's path.
async fn start_bulk_as(gateway: &Gateway, client: &str, connection: &str, name: &str, count: usize) -> String {
    let items: Vec<Value> = (0..count).map(|number| person(&format!("{name}-{number}"))).collect();
    let request = gateway.request_as(&key(client), Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&json!({ "connection": connection, "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    format!("/operations/{}", accepted.text("/id"))
}

/// Reads the operation as this client until it has completed.
async fn wait_until_completed_as(gateway: &Gateway, client: &str, path: &str) {
    let started = tokio::time::Instant::now();
    loop {
        let response = gateway.request_as(&key(client), Method::GET, path).send().await;
        if response.text("/state") == "completed" {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{path} never ended: {response:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn long_operations_do_not_block_those_of_another_tenant_or_vendor() {
    let sandbox = sandbox().await;
    let quick = startexam(&format!("http://{}", sandbox.startexam()), "");
    // One row per second: hours of work.
    let slow = examtesting(&format!("http://{}", sandbox.examtesting()), "")
        .replace("requests_per_second = 0", "requests_per_second = 1");
    let clients = ["a", "b"].map(|name| client(name, "", "[\"*\"]")).concat();
    let gateway = Gateway::start_with(&format!("{quick}{slow}"), &clients).await;
    for number in 0..40 {
        start_bulk_as(&gateway, "a", "examtesting-main", &format!("endless{number}"), 300).await;
    }
    let elsewhere = start_bulk_as(&gateway, "a", "startexam-main", "elsewhere", 1).await;
    wait_until_completed_as(&gateway, "a", &elsewhere).await;
    let others = start_bulk_as(&gateway, "b", "startexam-main", "others", 1).await;
    wait_until_completed_as(&gateway, "b", &others).await;
    let here = start_bulk_as(&gateway, "b", "examtesting-main", "here", 1).await;
    wait_until_completed_as(&gateway, "b", &here).await;
    for name in ["a", "b"] {
        let enrolment = json!({ "connection": "startexam-main", "scope": "all", "register": [format!("{name}-0")] });
        let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
        let person = json!({ "connection": "startexam-main", "externalId": format!("{name}-0") });
        assert_eq!(gateway.request_as(&key(name), Method::POST, "/candidates").json(&person).send().await.status, 201);
        let response = gateway.request_as(&key(name), Method::POST, &path).json(&enrolment).send().await;
        assert_eq!(response.status, 200, "{response:?}");
    }
}

#[tokio::test]
async fn tenants_take_turns_at_one_connection_call_by_call() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let delay = json!({ "name": "delay_before_effect", "delayMs": 50 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let connection = startexam(&format!("http://{port}"), "max_in_flight = 1\nbatch_size = 1");
    let clients = ["a", "b"].map(|name| client(name, "", "[\"*\"]")).concat();
    let gateway = Gateway::start_with(&connection, &clients).await;
    for number in 0..12 {
        start_bulk_as(&gateway, "a", "startexam-main", &format!("many{number}"), 30).await;
    }
    while changes(port, "employees", "created").await.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let one = start_bulk_as(&gateway, "b", "startexam-main", "one", 1).await;
    // Calls made before the gateway has accepted the row say nothing about turns: on a slow machine they are many.
    let before = changes(port, "employees", "created").await.len();
    wait_until_completed_as(&gateway, "b", &one).await;
    // The calls in flight or with a stored intent go first, then it is the other tenant's turn, before the hundreds of
    // waiting calls.
    let made = changes(port, "employees", "created").await;
    let position = made.iter().position(|id| id == "one-0").expect("it was sent");
    let between = position.saturating_sub(before);
    assert!(between < 20, "{between} calls between the acceptance of the row and its own call: {before}, {position}");
}
