//! Writes that a killed process left open: the next process reconciles them, and no two serve at a time.

use serde_json::{Value, json};

use crate::settling::TEST;
use crate::support::connections::{sandbox_connections, start_startexam};
use crate::support::gateway::{ApiResponse, Gateway, sandbox, set_faults};
use crate::support::people::{order, person, with};
use crate::support::watch::{bodies, call_count, changes, wait_for_effect, wait_for_state, wait_until};

#[tokio::test]
async fn writes_in_flight_at_a_kill_are_unknown_and_reconciled_by_the_next_process() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let vendors = [
        ("startexam-main", sandbox.startexam(), "employees"),
        ("thinkexam-main", sandbox.thinkexam(), "bulkCandidateRegister"),
        ("examtesting-main", sandbox.examtesting(), "add"),
    ];
    assert_eq!(
        gateway.post("/candidates", &with(person("b1"), "connection", json!("startexam-main"))).await.status,
        201
    );
    let mut paths = Vec::new();
    for (connection, port, _) in &vendors {
        set_faults(*port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 60000, "times": 2 }] })).await;
        let body = with(person("p1"), "connection", json!(connection));
        paths.push(post_async(&gateway, "/candidates", &body).await);
    }
    let booking = with(order("b1", TEST), "connection", json!("startexam-main"));
    paths.push(post_async(&gateway, "/assignments", &booking).await);
    // The vendors have applied the writes; only the responses are missing.
    for (_, port, operation) in &vendors {
        wait_for_effect(*port, operation, "p1").await;
    }
    wait_for_effect(sandbox.startexam(), "employees_participants", "b1").await;
    let folder = gateway.kill().await;
    for (_, port, _) in &vendors {
        set_faults(*port, json!({ "faults": [] })).await;
    }
    let gateway = Gateway::start_in(folder).await;
    for path in &paths {
        let state = gateway.get(path).await.text("/state").to_owned();
        assert_ne!(state, "pending", "{path}");
        let done = if path.starts_with("/candidates") { "registered" } else { "assigned" };
        wait_for_state(&gateway, path, done).await;
    }
    for (_, port, operation) in &vendors {
        let created = changes(*port, operation, "created").await;
        let of_p1 = created.iter().filter(|subject| subject.contains("p1")).count();
        assert_eq!((of_p1, call_count(*port).await >= 2), (1, true), "{operation}: {created:?}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 1);
}

#[tokio::test]
async fn bulk_rows_in_flight_at_a_kill_are_reconciled_by_the_next_process() {
    let (sandbox, gateway) = start_startexam("existing_registration = \"repeated\"").await;
    let port = sandbox.startexam();
    set_faults(port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 60000, "times": 1 }] })).await;
    let items: Vec<Value> = (0..5).map(|number| person(&format!("p{number}"))).collect();
    let request = gateway.request(http::Method::POST, "/candidates/bulk").json(&json!({ "items": items }));
    let caller = tokio::spawn(request.send());
    wait_for_effect(port, "employees", "p4").await;
    caller.abort();
    let gateway = Gateway::start_in(gateway.kill().await).await;
    for number in 0..5 {
        let found = gateway.get(&format!("/candidates?externalId=p{number}")).await;
        let path = format!("/candidates/{}", found.text("/items/0/id"));
        assert_ne!(found.text("/items/0/state"), "pending", "{found:?}");
        wait_for_state(&gateway, &path, "registered").await;
    }
    assert_eq!(changes(port, "employees", "created").await.len(), 5);
}

#[tokio::test]
async fn a_change_or_withdrawal_interrupted_by_a_kill_is_finished_by_the_next_process() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let (start, think) = (sandbox.startexam(), sandbox.thinkexam());
    let create = |id: &str, connection: &str| with(person(id), "connection", json!(connection));
    let changed = gateway.post("/candidates", &create("u1", "startexam-main")).await;
    let hidden = gateway.post("/candidates", &create("h1", "startexam-main")).await;
    assert_eq!(gateway.post("/candidates", &create("t1", "thinkexam-main")).await.status, 201);
    let booked = gateway.post("/assignments", &with(order("t1", "2415"), "connection", json!("thinkexam-main"))).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let path = |response: &ApiResponse, kind: &str| format!("/{kind}/{}", response.text("/id"));
    let (changed, hidden, booked) =
        (path(&changed, "candidates"), path(&hidden, "candidates"), path(&booked, "assignments"));
    for port in [start, think] {
        set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 60000, "times": 2 }] })).await;
    }
    let before = (call_count(start).await, call_count(think).await);
    let request = |method, path: &str| gateway.request(method, path).header("prefer", "respond-async");
    let change = request(http::Method::PATCH, &changed).json(&json!({ "email": "new@example.com" })).send().await;
    assert_eq!((change.status, change.text("/state")), (202, "pending"), "{change:?}");
    assert_eq!(request(http::Method::DELETE, &hidden).send().await.status, 202);
    assert_eq!(request(http::Method::DELETE, &booked).send().await.status, 202);
    while (call_count(start).await, call_count(think).await) < (before.0 + 2, before.1 + 1) {
        tokio::task::yield_now().await;
    }
    let folder = gateway.kill().await;
    for port in [start, think] {
        set_faults(port, json!({ "faults": [] })).await;
    }
    let gateway = Gateway::start_in(folder).await;
    let ended = wait_for_state(&gateway, &changed, "registered").await;
    assert_eq!(ended.text("/email"), "new@example.com");
    wait_for_state(&gateway, &booked, "cancelled").await;
    wait_until(&gateway, &hidden, |response| response.status == 404).await;
    let sent = bodies(start, "employees").await;
    let hides = sent.iter().filter(|body| body.to_string().contains("hidden") && body.to_string().contains("h1"));
    assert_eq!(hides.count(), 2, "once cut off, once by the next process");
}

/// Sends a write without waiting for its end; returns the record's path.
async fn post_async(gateway: &Gateway, path: &str, body: &Value) -> String {
    let response = gateway.request(http::Method::POST, path).header("prefer", "respond-async").json(body).send().await;
    assert_eq!((response.status, response.text("/state")), (202, "pending"), "{response:?}");
    format!("{path}/{}", response.text("/id"))
}

#[tokio::test]
async fn a_second_process_does_not_serve_from_the_same_database() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(["serve", "--config"])
        .arg(gateway.folder.path().join("examgate.toml"))
        .output()
        .await
        .expect("the program runs");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("another process is serving from this database"), "{stderr}");
    // However sudden the end of the first process, it releases the database.
    let folder = gateway.kill().await;
    assert_eq!(Gateway::start_in(folder).await.get("/readyz").await.status, 200);
}
