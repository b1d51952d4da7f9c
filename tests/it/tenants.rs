//! Tenants that share a connection: a person one tenant has registered is out of the others' reach, however the person
//! is named; writes about unregistered people are serialised across tenants.

use std::net::SocketAddr;

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{ApiResponse, Gateway, key, read_effects, sandbox, set_faults};
use crate::support::people::person_at;
use crate::support::watch::{bodies, call_count, changes};

const TEST: &str = accounts::startexam::TESTS[0].0;
const PROGRAM: &str = accounts::startexam::PROGRAM_ID;

/// Starts a gateway with two tenants, `a` and `b`, at the connections of one sandbox.
async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    set_faults(
        sandbox.startexam(),
        json!({ "switches": { "existing_registration": "repeated", "hidden_employee": "accepted" } }),
    )
    .await;
    let clients = client("a", "", "[\"*\"]") + &client("b", "", "[\"*\"]");
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    (sandbox, gateway)
}

async fn post(gateway: &Gateway, who: &str, path: &str, body: &Value) -> ApiResponse {
    gateway.request_as(&key(who), Method::POST, path).json(body).send().await
}

async fn get(gateway: &Gateway, who: &str, path: &str) -> ApiResponse {
    gateway.request_as(&key(who), Method::GET, path).send().await
}

async fn delete(gateway: &Gateway, who: &str, path: &str) -> ApiResponse {
    gateway.request_as(&key(who), Method::DELETE, path).send().await
}

fn by_id(id: &str) -> Value {
    json!({ "connection": "startexam-main", "candidate": { "externalId": id }, "assessment": TEST })
}

fn by_email(email: &str) -> Value {
    json!({ "connection": "thinkexam-main", "candidate": { "email": email }, "assessment": "2415" })
}

fn enrolment(register: &[&str], unregister: &[&str]) -> Value {
    json!({ "connection": "startexam-main", "scope": "all", "register": register, "unregister": unregister })
}

fn employees_path() -> String {
    format!("/programs/{PROGRAM}/employees")
}

async fn lose_next_call(port: SocketAddr, name: &str, operation: &str) {
    set_faults(port, json!({ "faults": [{ "name": name, "operation": operation, "times": 1 }] })).await;
}

fn assert_conflict(response: &ApiResponse, what: &str) {
    assert_eq!(response.problem(), (409, "candidate_conflict", "not_applied"), "{what}: {response:?}");
    let text = response.body.to_string();
    for word in ["resource", "launch", "participant", "cand_", "asg_"] {
        assert!(!text.contains(word), "{what} reveals {word}: {text}");
    }
}

#[tokio::test]
async fn people_of_another_tenant_are_neither_booked_nor_enrolled() {
    let (sandbox, gateway) = start().await;
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("startexam-main", "emp-1")).await.status, 201);
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("thinkexam-main", "jo")).await.status, 201);
    let booked = post(&gateway, "a", "/assignments", &by_id("emp-1")).await;
    assert_eq!((booked.status, booked.body["launch"].is_object()), (201, true), "{booked:?}");
    assert_eq!(post(&gateway, "a", "/assignments", &by_email("jo@example.com")).await.status, 201);
    assert_eq!(post(&gateway, "a", &employees_path(), &enrolment(&["emp-1"], &[])).await.status, 200);
    let before = (call_count(sandbox.startexam()).await, call_count(sandbox.thinkexam()).await);

    let bookings = [by_id("emp-1"), by_email("jo@example.com"), by_email("JO@Example.COM")];
    for body in &bookings {
        for if_exists in ["reuse", "fail"] {
            let mut body = body.clone();
            body["ifExists"] = json!(if_exists);
            assert_conflict(&post(&gateway, "b", "/assignments", &body).await, &body.to_string());
        }
        let (connection, mut item) = (body["connection"].clone(), body.clone());
        item.as_object_mut().unwrap().remove("connection");
        let bulk = json!({ "connection": connection, "items": [item] });
        let response = post(&gateway, "b", "/assignments/bulk", &bulk).await;
        assert_eq!(response.body["summary"]["notApplied"], 1, "{response:?}");
        assert_eq!(response.text("/results/0/problem/code"), "candidate_conflict", "{response:?}");
        assert!(!response.body.to_string().contains("participant"), "{response:?}");
    }
    // Another tenant's candidate id does not exist.
    let candidate = get(&gateway, "a", "/candidates?connection=startexam-main&externalId=emp-1").await;
    let id = candidate.text("/items/0/id");
    let order = json!({ "connection": "startexam-main", "candidate": { "id": id }, "assessment": TEST });
    let by_candidate = post(&gateway, "b", "/assignments", &order).await;
    assert_eq!(by_candidate.problem(), (422, "invalid_reference", "not_applied"), "{by_candidate:?}");
    let body = json!({ "connection": "startexam-main", "scope": "all", "unregister": [{ "id": id }] });
    let by_candidate = post(&gateway, "b", &employees_path(), &body).await;
    assert_eq!(by_candidate.problem(), (422, "invalid_reference", "not_applied"), "{by_candidate:?}");
    let withdrawn = delete(&gateway, "b", &format!("/assignments/{}", booked.text("/id"))).await;
    assert_eq!(withdrawn.problem(), (404, "not_found", "not_applied"), "{withdrawn:?}");
    for body in [enrolment(&["emp-1"], &[]), enrolment(&[], &["emp-1"]), enrolment(&["emp-2"], &["emp-1"])] {
        assert_conflict(&post(&gateway, "b", &employees_path(), &body).await, &body.to_string());
    }
    let after = (call_count(sandbox.startexam()).await, call_count(sandbox.thinkexam()).await);
    assert_eq!(after, before, "nothing was sent for any of it");
    for list in ["/assignments", "/candidates?connection=startexam-main&externalId=emp-1", "/operations"] {
        let text = get(&gateway, "b", list).await.body.to_string();
        assert!(!text.contains("participant") && !text.contains("cand_"), "{list}: {text}");
    }
    assert_eq!(get(&gateway, "a", &format!("/assignments/{}", booked.text("/id"))).await.body, booked.body);
}

#[tokio::test]
async fn a_person_whose_registration_failed_is_available_to_other_tenants() {
    let (sandbox, gateway) = start().await;
    set_faults(
        sandbox.startexam(),
        json!({ "faults": [{ "name": "bad_request", "operation": "employees", "times": 1 }] }),
    )
    .await;
    let refused = post(&gateway, "a", "/candidates", &person_at("startexam-main", "emp-1")).await;
    assert_eq!((refused.status, refused.text("/outcome")), (422, "not_applied"), "{refused:?}");
    assert_eq!(post(&gateway, "b", "/candidates", &person_at("startexam-main", "emp-1")).await.status, 201);
    assert_eq!(post(&gateway, "b", "/assignments", &by_id("emp-1")).await.status, 201);
}

#[tokio::test]
async fn a_booking_is_out_of_reach_once_another_tenant_registers_the_person() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.thinkexam();
    // The vendor knows the person; no tenant does.
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("thinkexam-main", "jo")).await.status, 201);
    let candidate = get(&gateway, "a", "/candidates?connection=thinkexam-main&externalId=jo").await;
    assert_eq!(delete(&gateway, "a", &format!("/candidates/{}", candidate.text("/items/0/id"))).await.status, 204);
    let booked = post(&gateway, "b", "/assignments", &by_email("jo@example.com")).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("thinkexam-main", "jo")).await.status, 201);
    assert_eq!(post(&gateway, "a", "/assignments", &by_email("jo@example.com")).await.status, 201);

    let own = format!("/assignments/{}", booked.text("/id"));
    assert_conflict(&delete(&gateway, "b", &own).await, "withdrawal");
    assert_conflict(&post(&gateway, "b", "/assignments", &by_email("jo@example.com")).await, "reuse");
    assert_eq!(get(&gateway, "b", &own).await.text("/state"), "assigned");
    assert!(changes(port, "deassignTest", "unregistered").await.is_empty());
}

#[tokio::test]
async fn an_unknown_booking_of_another_tenant_is_reconciled_before_a_later_write() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.thinkexam();
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("thinkexam-main", "jo")).await.status, 201);
    let candidate = get(&gateway, "a", "/candidates?connection=thinkexam-main&externalId=jo").await;
    assert_eq!(delete(&gateway, "a", &format!("/candidates/{}", candidate.text("/items/0/id"))).await.status, 204);

    // No tenant has registered the person: both may book them, one after the other.
    let of_b = post(&gateway, "b", "/assignments", &by_email("jo@example.com")).await;
    assert_eq!(of_b.status, 201, "{of_b:?}");
    lose_next_call(port, "reset_before_effect", "assignTest").await;
    let unknown = post(&gateway, "a", "/assignments", &by_email("jo@example.com")).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"), "{unknown:?}");
    let withdrawn = delete(&gateway, "b", &format!("/assignments/{}", of_b.text("/id"))).await;
    assert_eq!(withdrawn.status, 204, "{withdrawn:?}");
    let log = read_effects(port).await;
    let order: Vec<&str> =
        log["calls"].as_array().unwrap().iter().filter_map(|call| call["operation"].as_str()).collect();
    assert_eq!(order.iter().filter(|call| **call == "assignTest").count(), 3, "{order:?}");
    assert_eq!(order.last(), Some(&"deassignTest"), "the unknown one was settled first: {order:?}");
    let settled = get(&gateway, "a", unknown.text("/resource")).await;
    assert_eq!((settled.text("/state"), settled.text("/outcome")), ("assigned", "applied"), "{settled:?}");
    // The exchange of the reconciliation belongs to the write's owner.
    let exchanges = get(&gateway, "b", "/exchanges").await.body.to_string();
    assert!(!exchanges.contains("settle-"), "{exchanges}");
}

#[tokio::test]
async fn an_unknown_write_of_another_tenant_blocks_without_revealing_details() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.startexam();
    // Known to the vendor only.
    assert_eq!(post(&gateway, "a", "/candidates", &person_at("startexam-main", "emp-1")).await.status, 201);
    let found = get(&gateway, "a", "/candidates?connection=startexam-main&externalId=emp-1").await;
    assert_eq!(delete(&gateway, "a", &format!("/candidates/{}", found.text("/items/0/id"))).await.status, 204);
    lose_next_call(port, "reset_before_effect", "employees_participants").await;
    let mut once_more = by_id("emp-1");
    once_more["ifExists"] = json!("create_new");
    let unknown = post(&gateway, "a", "/assignments", &once_more).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    let before = bodies(port, "employees_participants").await.len();
    let refused = post(&gateway, "b", "/assignments", &by_id("emp-1")).await;
    assert_eq!(refused.problem(), (409, "subject_unsettled", "not_applied"), "{refused:?}");
    assert!(!refused.body.to_string().contains("asg_"), "{refused:?}");
    assert_eq!(bodies(port, "employees_participants").await.len(), before);
    let settled =
        post(&gateway, "a", &format!("{}/settle", unknown.text("/resource")), &json!({ "outcome": "not_applied" }))
            .await;
    assert_eq!(settled.status, 200, "{settled:?}");
    assert_eq!(post(&gateway, "b", "/assignments", &by_id("emp-1")).await.status, 201);
}
