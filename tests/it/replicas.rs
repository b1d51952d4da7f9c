//! Several gateways on one PostgreSQL database: together they do nothing twice, and take over from each other.

use std::time::Duration;

use examgate::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::connections::{sandbox_connections, startexam};
use crate::support::gateway::{ApiResponse, Gateway, sandbox, set_faults};
use crate::support::people::person_at;
use crate::support::postgres::Server;
use crate::support::watch::{bodies, changes, wait_for_state, wait_until};

fn bulk_of_people(count: usize) -> Value {
    json!({ "connection": "startexam-main", "items": (0..count).map(|n| person_at("startexam-main", &format!("e{n}"))).collect::<Vec<_>>() })
}

async fn start_two(sandbox: &Sandbox, url: &str) -> [Gateway; 2] {
    let connections = sandbox_connections(sandbox, "");
    [Gateway::replica(url, &connections).await, Gateway::replica(url, &connections).await]
}

/// Repeats the request under the key until its response is final.
async fn post_until_final(gateway: &Gateway, key: &str, body: &Value) -> ApiResponse {
    loop {
        let request = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", key);
        let response = request.json(body).send().await;
        if response.text("/code") != "idempotency_in_progress" {
            return response;
        }
        assert!(response.header("retry-after").is_some());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_one_key_have_one_effect_and_one_response() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox, &Server::shared().schema().await).await;
    let delay = json!({ "name": "delay_after_effect", "probability": 0.5, "delayMs": 20 });
    let lost = json!({ "name": "reset_after_effect", "probability": 0.1 });
    set_faults(sandbox.startexam(), json!({ "faults": [delay, lost] })).await;
    for number in 0..40 {
        // Nothing but the key keeps the write single.
        let (key, id) = (format!("key-{number}"), format!("e{number}"));
        let body = person_at("startexam-main", &id);
        let (first, second) = tokio::join!(post_until_final(&one, &key, &body), post_until_final(&other, &key, &body));
        let responses = [first, second].map(|response| (response.status, response.body));
        // The reconciliation may meet a fault, too.
        while post_until_final(&one, &key, &body).await.text("/outcome") == "unknown" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let settled = [post_until_final(&one, &key, &body).await, post_until_final(&other, &key, &body).await];
        for response in &settled {
            assert_eq!((response.status, response.text("/externalId")), (201, id.as_str()), "{response:?}");
            assert_eq!(response.header("idempotent-replayed"), Some("true"));
            assert_eq!(response.body, settled[0].body);
        }
        for (status, body) in responses {
            assert!(status == 504 || body == settled[0].body, "{status} {body}");
        }
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_posts_for_one_person_without_a_key_are_one_registration() {
    let sandbox = sandbox().await;
    let [one, other] = start_two(&sandbox, &Server::shared().schema().await).await;
    let delay = json!({ "name": "delay_after_effect", "delayMs": 30 });
    set_faults(sandbox.startexam(), json!({ "faults": [delay] })).await;
    for number in 0..20 {
        let body = person_at("startexam-main", &format!("e{number}"));
        let (first, second) = tokio::join!(one.post("/candidates", &body), other.post("/candidates", &body));
        assert_eq!(first.text("/id"), second.text("/id"), "{first:?} {second:?}");
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201]);
    }
    assert_eq!(bodies(sandbox.startexam(), "employees").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bulk_of_a_dead_replica_is_finished_by_the_other() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let url = Server::shared().schema().await;
    let connections = startexam(&format!("http://{port}"), "batch_size = 10\nmax_in_flight = 4");
    let one = Gateway::replica(&url, &connections).await;
    // From the third call on the vendor delays its responses for long.
    let delay = json!({ "name": "delay_after_effect", "after": 2, "times": 3, "delayMs": 60_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let request = one.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&bulk_of_people(100)).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = format!("/operations/{}", accepted.text("/id"));
    wait_until(&one, &operation, |response| response.body["progress"]["applied"].as_u64() >= Some(20)).await;
    let other = Gateway::replica(&url, &connections).await;
    drop(one.kill().await);
    let ended = wait_for_state(&other, &operation, "completed").await;
    let settled = wait_until(&other, &operation, |response| response.body["progress"]["applied"] == 100).await;
    assert_eq!(settled.body["progress"]["unknown"], 0, "{ended:?}");
    assert_eq!(changes(port, "employees", "created").await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_replica_is_taken_over_and_exits() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let [mut one, other] = start_two(&sandbox, &Server::shared().schema().await).await;
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 10_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let request = one.request(Method::POST, "/candidates").header("Prefer", "respond-async");
    let accepted = request.json(&person_at("startexam-main", "e1")).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let candidate = format!("/candidates/{}", accepted.text("/id"));
    one.signal("STOP").await;
    let settled = wait_for_state(&other, &candidate, "registered").await;
    assert_eq!(settled.text("/outcome"), "applied");
    one.signal("CONT").await;
    assert_eq!(one.wait_for_exit().await, Some(1), "{}", one.take_log());
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
    assert_eq!(other.get(&candidate).await.text("/state"), "registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_crash_during_a_bulk_loses_nothing() {
    let server = Server::start();
    let url = server.schema().await;
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let connections = startexam(&format!("http://{port}"), "batch_size = 1\nmax_in_flight = 8");
    let gateway = Gateway::replica(&url, &connections).await;
    let delay = json!({ "name": "delay_after_effect", "delayMs": 10 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&bulk_of_people(600)).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = format!("/operations/{}", accepted.text("/id"));
    for crash in 1..4 {
        let reached = |response: &ApiResponse| response.body["progress"]["applied"].as_u64() >= Some(crash * 100);
        wait_until(&gateway, &operation, reached).await;
        server.crash_and_restart();
    }
    wait_for_state(&gateway, &operation, "completed").await;
    let ended = wait_until(&gateway, &operation, |response| response.body["progress"]["unknown"] == 0).await;
    assert_eq!(ended.body["progress"]["applied"], 600, "{ended:?}");
    let mut created = changes(port, "employees", "created").await;
    created.sort();
    created.dedup();
    assert_eq!(created.len(), 600);
    assert_eq!(changes(port, "employees", "created").await.len(), 600, "no one twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cannot_be_sent_without_the_store_wait_until_it_is_back() {
    let url = Server::shared().schema().await;
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let gateway = Gateway::replica(&url, &startexam(&format!("http://{port}"), "batch_size = 1")).await;
    // The claimed rows wait for the vendor's pause; when that is over, the instance may not send any more.
    let pause = json!({ "name": "rate_limited", "times": 1, "retryAfter": 15 });
    set_faults(port, json!({ "faults": [pause] })).await;
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&bulk_of_people(12)).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let calls = format!("/exchanges?operation={}", accepted.text("/id"));
    let one = |wanted: fn(&Value) -> bool| {
        move |response: &ApiResponse| {
            let items = response.body["items"].as_array().into_iter().flatten();
            items.filter_map(|item| item["calls"].as_array()).flatten().any(wanted)
        }
    };
    wait_until(&gateway, &calls, one(|call| call["status"] == 429)).await;
    // This lock blocks every heartbeat.
    let mut connection = PgConnection::connect(&url).await.expect("the server responds");
    sqlx::raw_sql("BEGIN; LOCK TABLE instances IN ACCESS EXCLUSIVE MODE")
        .execute(&mut connection)
        .await
        .expect("a lock");
    wait_until(&gateway, &calls, one(|call| call["ended"] == "store_unavailable")).await;
    sqlx::raw_sql("COMMIT").execute(&mut connection).await.expect("the lock is given back");
    let operation = format!("/operations/{}", accepted.text("/id"));
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    assert_eq!(ended.body["progress"]["applied"], 12, "{ended:?}");
    assert_eq!(changes(port, "employees", "created").await.len(), 12, "no one twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_operations_at_one_vendor_do_not_delay_another_vendors_on_any_replica() {
    let sandbox = sandbox().await;
    let url = Server::shared().schema().await;
    // One row per second: hours of work.
    let connections =
        sandbox_connections(&sandbox, "").replacen("requests_per_second = 0", "requests_per_second = 1", 3);
    let connections = connections.replacen("requests_per_second = 1", "requests_per_second = 0", 1);
    let replicas = [Gateway::replica(&url, &connections).await, Gateway::replica(&url, &connections).await];
    let bulk = |connection: &str, name: String, count: usize| {
        let items: Vec<Value> = (0..count)
            .map(|row| json!({ "externalId": format!("{name}-{row}"), "email": format!("{name}-{row}@example.com") }))
            .collect();
        json!({ "connection": connection, "items": items })
    };
    let sent = async |replica: &Gateway, body: &Value| {
        let request = replica.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
        let accepted = request.json(body).send().await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        format!("/operations/{}", accepted.text("/id"))
    };
    for number in 0..70 {
        sent(&replicas[number % 2], &bulk("examtesting-main", format!("endless{number}"), 100)).await;
    }
    for (number, replica) in replicas.iter().enumerate() {
        let quick = sent(replica, &bulk("startexam-main", format!("quick{number}"), 1)).await;
        wait_for_state(replica, &quick, "completed").await;
    }
}
