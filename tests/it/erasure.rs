//! Erasure: no record, list or response names an erased person any more, and a new person gets nothing of theirs.

use examgate::sandbox::{Sandbox, accounts};
use serde_json::{Value, json};

use crate::support::connections::sandbox_connections;
use crate::support::gateway::{ApiResponse, Gateway, sandbox, set_faults};
use crate::support::watch::bodies;

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let switches = json!({ "existing_registration": "repeated", "hidden_employee": "accepted" });
    set_faults(sandbox.startexam(), json!({ "switches": switches })).await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

fn person(connection: &str, id: &str) -> Value {
    json!({
        "connection": connection, "externalId": id, "email": format!("{id}.erased@example.com"),
        "name": { "givenName": "Ada", "familyName": "King" },
    })
}

async fn register(gateway: &Gateway, connection: &str, id: &str) -> String {
    let response = gateway.post("/candidates", &person(connection, id)).await;
    assert_eq!(response.status, 201, "{response:?}");
    format!("/candidates/{}", response.text("/id"))
}

fn assert_anonymous(response: &ApiResponse, what: &str) {
    let text = response.body.to_string();
    assert!(!text.contains("erased@") && !text.contains("emp-1"), "{what}: {text}");
}

#[tokio::test]
async fn an_erased_person_is_in_no_assignment_and_no_response() {
    let (sandbox, gateway) = start().await;
    let candidate = gateway.post_with_key("/candidates", "person", &person("thinkexam-main", "emp-1")).await;
    assert_eq!(candidate.status, 201, "{candidate:?}");
    let order = json!({
        "connection": "thinkexam-main", "candidate": { "email": "emp-1.erased@example.com" }, "assessment": "2415",
    });
    let booked = gateway.post_with_key("/assignments", "order", &order).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let mut item = order.clone();
    item.as_object_mut().unwrap().remove("connection");
    item["assessment"] = json!("2416");
    let bulk = json!({ "connection": "thinkexam-main", "items": [item] });
    let bulk = gateway.post("/assignments/bulk", &bulk).await;
    assert_eq!(bulk.body["summary"]["applied"], 1, "{bulk:?}");

    let path = format!("/candidates/{}", candidate.text("/id"));
    assert_eq!(gateway.delete(&path).await.status, 204);
    let assignment = format!("/assignments/{}", booked.text("/id"));
    let items = format!("/operations/{}/items", bulk.text("/operation"));
    for read in [assignment.as_str(), "/assignments", "/assignments?state=assigned", &items] {
        let response = gateway.get(read).await;
        assert_eq!(response.status, 200, "{read}: {response:?}");
        assert_anonymous(&response, read);
    }
    let read = gateway.get(&assignment).await;
    assert_eq!((read.text("/state"), read.text("/candidate/id")), ("assigned", candidate.text("/id")), "{read:?}");
    for (route, key, body) in
        [("/candidates", "person", person("thinkexam-main", "emp-1")), ("/assignments", "order", order.clone())]
    {
        let replayed = gateway.post_with_key(route, key, &body).await;
        assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (201, Some("true")), "{replayed:?}");
        assert_anonymous(&replayed, route);
    }

    // The vendor knows them only by what was erased.
    let withdrawn = gateway.delete(&assignment).await;
    assert_eq!(withdrawn.problem(), (422, "capability_unsupported", "not_applied"), "{withdrawn:?}");
    // A new registration gets its own booking.
    let again = register(&gateway, "thinkexam-main", "emp-1").await;
    let anew = gateway.post("/assignments", &order).await;
    assert_eq!(anew.status, 201, "{anew:?}");
    assert_ne!(anew.text("/id"), booked.text("/id"));
    let theirs = gateway.get(&format!("/assignments?candidate={}", again.trim_start_matches("/candidates/"))).await;
    assert_eq!(theirs.body["items"].as_array().map(Vec::len), Some(1), "{theirs:?}");
    assert_eq!(bodies(sandbox.thinkexam(), "assignTest").await.len(), 3);
}

#[tokio::test]
async fn a_booking_made_before_its_person_was_registered_is_erased_with_them() {
    let (_sandbox, gateway) = start().await;
    // Known to the vendor, not to the gateway.
    let first = register(&gateway, "startexam-main", "emp-1").await;
    assert_eq!(gateway.delete(&first).await.status, 204);
    let order = json!({ "connection": "startexam-main", "candidate": { "externalId": "emp-1" }, "assessment": TEST });
    let booked = gateway.post("/assignments", &order).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let candidate = register(&gateway, "startexam-main", "emp-1").await;
    let list = format!("/assignments?candidate={}", candidate.trim_start_matches("/candidates/"));
    let theirs = gateway.get(&list).await;
    assert_eq!(theirs.text("/items/0/id"), booked.text("/id"), "{theirs:?}");
    let other = register(&gateway, "startexam-main", "emp-2").await;
    let others = gateway.get(&format!("/assignments?candidate={}", other.trim_start_matches("/candidates/"))).await;
    assert_eq!(others.body["items"], json!([]));

    assert_eq!(gateway.delete(&candidate).await.status, 204);
    let read = gateway.get(&format!("/assignments/{}", booked.text("/id"))).await;
    assert_eq!(read.status, 200, "{read:?}");
    assert_anonymous(&read, "the assignment");
    assert!(read.body.get("launch").is_none(), "{read:?}");
    assert_eq!(gateway.get(&list).await.body["items"], json!([]));
}

#[tokio::test]
async fn an_unknown_write_of_an_erased_person_is_reconciled_and_then_anonymous() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.thinkexam();
    let candidate = register(&gateway, "thinkexam-main", "emp-1").await;
    set_faults(port, json!({ "faults": [{ "name": "reset_after_effect", "operation": "assignTest", "times": 1 }] }))
        .await;
    let order = json!({
        "connection": "thinkexam-main", "candidate": { "email": "emp-1.erased@example.com" }, "assessment": "2415",
    });
    let unknown = gateway.post_with_key("/assignments", "order", &order).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    assert_eq!(gateway.delete(&candidate).await.status, 204);
    assert_anonymous(&gateway.get(unknown.text("/resource")).await, "while it is open");
    let settled = gateway.post_with_key("/assignments", "order", &order).await;
    assert_eq!((settled.status, settled.text("/state")), (201, "assigned"), "{settled:?}");
    assert_anonymous(&settled, "the response under its key");
    assert_anonymous(&gateway.get(unknown.text("/resource")).await, "afterwards");
}
