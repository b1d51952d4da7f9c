//! Every fault the sandbox can inject, against every write kind: the reported outcome is what happened, and in the end
//! everything is known and was done at most once.

use std::net::SocketAddr;

use examgate::sandbox::{Sandbox, accounts};
use serde_json::{Value, json};

use crate::support::connections::sandbox_connections;
use crate::support::gateway::{ApiResponse, Gateway, http, sandbox, set_faults};
use crate::support::people::person_at;
use crate::support::watch::{changes, wait_until};

/// Faults that do not concern a single response: endless feeds that no write reads, and a vendor that breaks its own
/// rules.
const EXCLUDED_FAULTS: &[&str] = &["endless_feed", "double_creation"];

/// Rejections by the vendor's codes or by HTTP status. A vendor that applies the write and then responds with one of
/// these states what is not true, which cannot be detected.
const REJECTIONS: &[&str] = &[
    "rate_limited",
    "date_refused",
    "forbidden",
    "unauthorized",
    "not_found",
    "bad_request",
    "control_characters",
    "firewall",
];

struct Vendor {
    connection: &'static str,
    port: SocketAddr,
    register_operation: &'static str,
    booking_operation: Option<(&'static str, String)>,
}

fn vendors(sandbox: &Sandbox) -> [Vendor; 3] {
    [
        Vendor {
            connection: "startexam-main",
            port: sandbox.startexam(),
            register_operation: "employees",
            booking_operation: Some(("employees_participants", accounts::startexam::TESTS[0].0.to_owned())),
        },
        Vendor {
            connection: "thinkexam-main",
            port: sandbox.thinkexam(),
            register_operation: "bulkCandidateRegister",
            booking_operation: Some(("assignTest", accounts::thinkexam::TESTS[0].0.to_owned())),
        },
        Vendor {
            connection: "examtesting-main",
            port: sandbox.examtesting(),
            register_operation: "add",
            booking_operation: None,
        },
    ]
}

/// Returns every fault a vendor knows, for the operation's next call only and with short delays.
async fn all_faults(port: SocketAddr, operation: &str) -> Vec<Value> {
    let known: Value =
        http().get(format!("http://{port}/_faults")).send().await.expect("a response").json().await.expect("JSON");
    let mut faults = Vec::new();
    for fault in known["known"].as_array().expect("a list of faults") {
        let name = fault["name"].as_str().expect("a name");
        let only: Vec<&str> = fault["only"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if EXCLUDED_FAULTS.contains(&name) || !(only.is_empty() || only.contains(&operation)) {
            continue;
        }
        let mut order = json!({ "name": name, "operation": operation, "times": 1 });
        for parameter in fault["parameters"].as_array().into_iter().flatten() {
            match parameter["name"].as_str() {
                Some(name @ ("delayMs" | "effectDelayMs")) => order[name] = json!(20),
                Some("intervalMs") => order["intervalMs"] = json!(1),
                Some("retryAfter") => order["retryAfter"] = json!(0),
                Some("effect") if REJECTIONS.contains(&name) => {}
                Some("effect") => {
                    order["effect"] = json!(true);
                    // An empty body is a success here; one without the effect states what is not true.
                    if name != "empty_body" || operation != "employees" {
                        faults.push(order.clone());
                        order["effect"] = json!(false);
                    }
                }
                _ => {}
            }
        }
        faults.push(order);
    }
    assert!(faults.len() > 30, "{faults:?}");
    faults
}

/// Compares the reported outcome with the number of effects.
fn assert_outcome_is_true(what: &str, response: &ApiResponse, done: usize) {
    let outcome = if response.status < 300 { "applied" } else { response.text("/outcome") };
    match outcome {
        "applied" => assert_eq!(done, 1, "{what}: {response:?}"),
        "not_applied" => assert_eq!(done, 0, "{what}: {response:?}"),
        "unknown" => assert!(done <= 1, "{what}: {response:?}"),
        _ => panic!("{what}: {response:?}"),
    }
}

async fn effect_count(port: SocketAddr, operation: &str, subject: &str) -> usize {
    changes(port, operation, "created").await.iter().filter(|known| known.contains(subject)).count()
}

async fn start(sandbox: &Sandbox) -> Gateway {
    let more = "timeout = \"5s\"\nbreaker = { failures = 0, cooldown = \"1s\" }";
    Gateway::start(&sandbox_connections(sandbox, more)).await
}

#[tokio::test]
async fn no_fault_makes_the_reported_outcome_of_a_registration_untrue() {
    let sandbox = sandbox().await;
    let gateway = start(&sandbox).await;
    for Vendor { connection, port, register_operation, .. } in vendors(&sandbox) {
        for (number, fault) in all_faults(port, register_operation).await.into_iter().enumerate() {
            let id = format!("r{number}x");
            let person = person_at(connection, &id);
            set_faults(port, json!({ "faults": [fault] })).await;
            let response = gateway.post("/candidates", &person).await;
            let what = format!("{connection} {fault}");
            // ExamTesting's effects name the user, which the gateway made from the id.
            assert_outcome_is_true(&what, &response, effect_count(port, register_operation, &id).await);
            set_faults(port, json!({ "faults": [] })).await;
            // The same request again: now it is done, whatever happened before, and only once.
            let again = post_until_accepted(&gateway, "/candidates", &person).await;
            assert!(again.status < 300, "{what}: {again:?}");
            assert_eq!(effect_count(port, register_operation, &id).await, 1, "{what}: {again:?}");
        }
    }
}

#[tokio::test]
async fn no_fault_makes_the_reported_outcome_of_a_booking_untrue() {
    let sandbox = sandbox().await;
    let gateway = start(&sandbox).await;
    for Vendor { connection, port, booking_operation, .. } in vendors(&sandbox) {
        let Some((booking_operation, test)) = booking_operation else { continue };
        for (number, fault) in all_faults(port, booking_operation).await.into_iter().enumerate() {
            let id = format!("b{number}x");
            let person = person_at(connection, &id);
            assert_eq!(gateway.post("/candidates", &person).await.status, 201);
            let order = json!({ "connection": connection, "candidate": { "externalId": id }, "assessment": test });
            set_faults(port, json!({ "faults": [fault] })).await;
            let response = gateway.post("/assignments", &order).await;
            let what = format!("{connection} {fault}");
            assert_outcome_is_true(&what, &response, effect_count(port, booking_operation, &id).await);
            set_faults(port, json!({ "faults": [] })).await;
            let again = post_until_accepted(&gateway, "/assignments", &order).await;
            assert!(again.status < 300, "{what}: {again:?}");
            assert_eq!(effect_count(port, booking_operation, &id).await, 1, "{what}: {again:?}");
            let read =
                wait_until(&gateway, &format!("/assignments/{}", again.text("/id")), |read| read.status == 200).await;
            assert_eq!(read.text("/state"), "assigned", "{what}");
        }
    }
}

/// Repeats the request until no earlier write blocks it.
async fn post_until_accepted(gateway: &Gateway, path: &str, body: &Value) -> ApiResponse {
    for _ in 0..600 {
        let response = gateway.post(path, body).await;
        if response.status != 409 && response.status != 503 {
            return response;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{path} {body} is never accepted");
}
