//! The vendor calls of a bulk: as few as are safe, and split where the vendor refuses a whole one.

use serde_json::{Value, json};

use crate::bulk::{TEST, book_bulk, created, register_bulk, row, rows};
use crate::support::connections::{examtesting, start_startexam, start_thinkexam, startexam, thinkexam};
use crate::support::gateway::{Gateway, sandbox, set_faults};
use crate::support::people::{order, people, person, with};
use crate::support::vendor::{SeenRequest, Stub, json_response};
use crate::support::watch::{bodies, call_count, changes};

fn employee_ids(seen: &SeenRequest) -> Vec<String> {
    let body = seen.json();
    let rows = body["employees"].as_array().expect("employees").iter();
    rows.map(|employee| employee["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn five_hundred_registrations_share_one_call() {
    let (sandbox, gateway) = start_startexam("").await;
    let response = register_bulk(&gateway, &people(500)).await;
    assert_eq!(rows(&response), vec![created(); 500]);
    assert_eq!(bodies(sandbox.startexam(), "employees").await.len(), 1);
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 500);
    // All of them are known now.
    let again = register_bulk(&gateway, &people(500)).await;
    assert_eq!(rows(&again), vec![row(200, "applied", ""); 500]);
    assert_eq!(call_count(sandbox.startexam()).await, 1);
}

#[tokio::test]
async fn a_rejected_call_is_split_until_only_the_bad_row_fails() {
    let stub = Stub::start(|seen| {
        if employee_ids(seen).contains(&"e5".to_owned()) {
            return json_response(400, &json!({ "message": "employee e5 is no good" }));
        }
        json_response(200, &json!({}))
    })
    .await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let response = register_bulk(&gateway, &people(16)).await;
    let mut expected = vec![created(); 16];
    expected[5] = row(422, "not_applied", "vendor_rejected_request");
    assert_eq!(rows(&response), expected);
    let calls: Vec<Vec<String>> = stub.seen().iter().map(employee_ids).collect();
    // 16 rows, then halves: two calls per level.
    assert_eq!(calls.len(), 9, "{calls:?}");
    let accepted: Vec<&String> = calls.iter().filter(|call| !call.contains(&"e5".to_owned())).flatten().collect();
    assert_eq!(accepted.len(), 15, "no one is registered twice");
    // The rejected person can be registered once the vendor accepts them.
    stub.respond_with(|_| json_response(200, &json!({})));
    assert_eq!(gateway.post("/candidates", &person("e5")).await.status, 201);
}

#[tokio::test]
async fn a_call_that_failed_for_another_reason_is_not_split() {
    for (status, code, outcome, http) in [
        (401, "connection_credentials_invalid", "not_applied", 424),
        (429, "vendor_rate_limited", "not_applied", 503),
        (500, "vendor_internal_error", "unknown", 502),
    ] {
        let stub = Stub::start(move |_| json_response(status, &json!({ "message": "no" }))).await;
        // Nothing is reconciled meanwhile.
        let connection = startexam(&stub.url(), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
        let gateway = Gateway::start(&connection).await;
        let response = register_bulk(&gateway, &people(8)).await;
        assert_eq!(rows(&response), vec![row(http, outcome, code); 8], "{status}");
        // A temporary failure is retried as a whole, as often as the operator allows.
        assert_eq!(stub.seen().len(), if status == 429 { 2 } else { 1 }, "{status}");
        if outcome == "unknown" {
            let resource = response.text("/results/3/problem/resource");
            assert_eq!(gateway.get(resource).await.text("/state"), "unknown", "{status}");
            let other = response.text("/results/4/problem/resource");
            assert_ne!(resource, other, "every row points to its own record");
        }
    }
}

#[tokio::test]
async fn a_thinkexam_batch_survives_a_bad_row_however_the_vendor_rejects_it() {
    for manner in ["top_level", "item", "top_level_after_earlier_rows"] {
        let sandbox = sandbox().await;
        let gateway = Gateway::start(&thinkexam(&format!("http://{}", sandbox.thinkexam()), "")).await;
        set_faults(sandbox.thinkexam(), json!({ "switches": { "bulk_errors": manner } })).await;
        let mut items = people(7);
        items[3]["group"] = json!("No such course");
        let mut without_id = person("none");
        without_id.as_object_mut().unwrap().remove("externalId");
        items.push(without_id);
        let response = register_bulk(&gateway, &items).await;
        let mut expected = vec![created(); 8];
        expected[3] = row(422, "not_applied", "invalid_reference");
        assert_eq!(rows(&response), expected, "{manner}");
        assert_eq!(changes(sandbox.thinkexam(), "bulkCandidateRegister", "created").await.len(), 7, "{manner}");
        let sent = bodies(sandbox.thinkexam(), "bulkCandidateRegister").await;
        let alone = sent.iter().filter(|rows| rows.to_string().contains("none@example.com"));
        assert!(alone.clone().count() == 1 && alone.clone().all(|rows| rows.as_array().unwrap().len() == 1));
    }
}

#[tokio::test]
async fn bookings_share_calls_only_if_the_response_can_be_matched_to_rows() {
    for (setting, expected) in [("unknown", 12), ("left_out", 12), ("repeated", 1), ("null", 1)] {
        let (sandbox, gateway) = start_startexam(&format!("existing_registration = \"{setting}\"")).await;
        register_bulk(&gateway, &people(12)).await;
        let orders: Vec<Value> = (0..12).map(|number| order(&format!("e{number}"), TEST)).collect();
        let response = book_bulk(&gateway, &orders).await;
        assert_eq!(rows(&response), vec![created(); 12], "{setting}");
        let sent = bodies(sandbox.startexam(), "employees_participants").await;
        assert_eq!(sent.len(), expected, "{setting}");
        // Every person has their own link.
        let state = crate::support::gateway::read_effects(sandbox.startexam()).await;
        let made = state["effects"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|effect| effect["operation"] == "employees_participants");
        for effect in made {
            let number: usize = effect["employee"].as_str().unwrap()[1..].parse().unwrap();
            let row = &response.body["results"][number]["resource"];
            assert_eq!(row["vendorRef"]["id"], effect["participantId"], "{setting}");
        }
        let again = book_bulk(&gateway, &orders).await;
        assert_eq!(rows(&again), vec![row(200, "applied", ""); 12], "{setting}");
        assert_eq!(bodies(sandbox.startexam(), "employees_participants").await.len(), expected, "{setting}");
    }
}

#[tokio::test]
async fn previously_booked_people_never_cost_new_ones_their_links() {
    for vendor in ["repeated", "left_out", "null"] {
        for setting in ["unknown", vendor] {
            let (sandbox, gateway) = start_startexam(&format!("existing_registration = \"{setting}\"")).await;
            let port = sandbox.startexam();
            set_faults(port, json!({ "switches": { "existing_registration": vendor } })).await;
            register_bulk(&gateway, &people(6)).await;
            let outside = Gateway::start(&startexam(&format!("http://{port}"), "")).await;
            for id in ["e1", "e4"] {
                assert_eq!(outside.post("/assignments", &order(id, TEST)).await.status, 201);
            }
            let orders: Vec<Value> = (0..6).map(|number| order(&format!("e{number}"), TEST)).collect();
            let response = book_bulk(&gateway, &orders).await;
            let what = format!("vendor {vendor}, setting {setting}");
            for (number, (_, outcome, _)) in rows(&response).iter().enumerate() {
                let row = &response.body["results"][number]["resource"];
                assert_eq!((outcome.as_str(), &row["state"]), ("applied", &json!("assigned")), "{what}");
                let old = [1, 4].contains(&number);
                assert_eq!(row["launch"].is_object(), !old || vendor == "repeated", "{what}: {row}");
                let has_warning =
                    row["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == "launch_unknown");
                assert_eq!(has_warning, old && vendor != "repeated", "{what}: {row}");
            }
            assert_eq!(changes(port, "employees_participants", "created").await.len(), 6, "{what}");
        }
    }
}

#[tokio::test]
async fn one_bad_booking_never_fails_the_others() {
    let (sandbox, gateway) = start_startexam("existing_registration = \"null\"").await;
    register_bulk(&gateway, &people(6)).await;
    let mut orders: Vec<Value> = (0..6).map(|number| order(&format!("e{number}"), TEST)).collect();
    orders[2] = order("nobody", TEST);
    orders[4]["notify"] = json!("vendor_email");
    orders.push(order("e0", TEST));
    let response = book_bulk(&gateway, &orders).await;
    let mut expected = vec![created(); 7];
    expected[2] = row(422, "not_applied", "invalid_reference");
    expected[4] = row(422, "not_applied", "capability_unsupported");
    expected[6] = row(422, "not_applied", "duplicate_item");
    assert_eq!(rows(&response), expected);
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 4);
    // The rejected call made no booking.
    assert_eq!(gateway.get("/assignments?state=assigned").await.body["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn thinkexam_bookings_are_sent_one_by_one() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&thinkexam(&format!("http://{}", sandbox.thinkexam()), "")).await;
    register_bulk(&gateway, &people(10)).await;
    let order = |n: usize| json!({ "candidate": { "email": format!("E{n}@example.com") }, "assessment": "2415" });
    let mut orders: Vec<Value> = (0..10).map(order).collect();
    orders.push(with(order(3), "candidate", json!({ "externalId": "e3" })));
    let response = book_bulk(&gateway, &orders).await;
    let mut expected = vec![created(); 11];
    expected[10] = row(422, "not_applied", "duplicate_item");
    assert_eq!(rows(&response), expected);
    assert_eq!(changes(sandbox.thinkexam(), "assignTest", "created").await.len(), 10);
}

fn person_with_photo(id: &str, size: usize) -> Value {
    with(person(id), "photo", json!("A".repeat(size)))
}

/// Returns the number of rows and bytes of every call of an operation.
async fn call_sizes(port: std::net::SocketAddr, operation: &str) -> Vec<(usize, usize)> {
    let sent = bodies(port, operation).await;
    sent.iter().map(|body| (body.as_array().map_or(0, Vec::len), body.to_string().len())).collect()
}

#[tokio::test]
async fn calls_are_limited_in_bytes_and_a_larger_row_is_sent_alone() {
    let (sandbox, gateway) = start_thinkexam("max_request_bytes = \"32KiB\"").await;
    let mut items: Vec<Value> = (0..6).map(|number| person_with_photo(&format!("e{number}"), 10_000)).collect();
    items.insert(2, person_with_photo("large", 40_000));
    let response = register_bulk(&gateway, &items).await;
    assert!(rows(&response).iter().all(|row| *row == created()), "{response:?}");
    let mut sizes = call_sizes(sandbox.thinkexam(), "bulkCandidateRegister").await;
    sizes.sort_unstable();
    assert_eq!(sizes.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [1, 3, 3], "{sizes:?}");
    assert!(sizes.iter().all(|(rows, bytes)| *rows == 1 || *bytes <= 32 << 10), "{sizes:?}");
}

#[tokio::test]
async fn a_call_that_is_too_large_for_the_vendor_is_split() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let port = sandbox.thinkexam();
    set_faults(port, json!({ "switches": { "body_limit_bytes": 25_000 } })).await;
    let mut items: Vec<Value> = (0..6).map(|number| person_with_photo(&format!("e{number}"), 10_000)).collect();
    items.insert(2, person_with_photo("large", 30_000));
    let response = register_bulk(&gateway, &items).await;
    let mut expected = vec![created(); 7];
    expected[2] = row(422, "not_applied", "vendor_rejected_request");
    assert_eq!(rows(&response), expected, "{response:?}");
    assert_eq!(response.body["results"][2]["problem"]["vendor"]["httpStatus"], 413, "{response:?}");
    assert_eq!(changes(port, "bulkCandidateRegister", "created").await.len(), 6);

    let (sandbox, gateway) = start_startexam("").await;
    set_faults(sandbox.startexam(), json!({ "switches": { "body_limit_bytes": 800 } })).await;
    let response = register_bulk(&gateway, &people(9)).await;
    assert!(rows(&response).iter().all(|row| *row == created()), "{response:?}");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 9);
    set_faults(sandbox.startexam(), json!({ "switches": { "body_limit_bytes": 300 } })).await;
    let orders: Vec<Value> =
        (0..9).map(|number| with(order(&format!("e{number}"), TEST), "ifExists", json!("create_new"))).collect();
    let response = book_bulk(&gateway, &orders).await;
    assert!(rows(&response).iter().all(|row| *row == created()), "{response:?}");
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 9);
}

#[tokio::test]
async fn a_vendor_without_seats_is_not_called_for_every_row() {
    let sandbox = sandbox().await;
    let port = sandbox.examtesting();
    let gateway = Gateway::start(&examtesting(&format!("http://{port}"), "max_in_flight = 1")).await;
    let full = json!({ "name": "vendor_error", "code": "1008" });
    set_faults(port, json!({ "faults": [full] })).await;
    let response = register_bulk(&gateway, &people(60)).await;
    assert_eq!((response.status, &response.body["summary"]["notApplied"]), (207, &json!(60)), "{response:?}");
    for row in response.body["results"].as_array().expect("results") {
        assert_eq!(row["problem"]["code"], "vendor_seat_limit_reached", "{row}");
    }
    let made = call_count(port).await;
    assert!(made < 5, "{made} calls");
    let single = gateway.post("/candidates", &person("single")).await;
    assert_eq!(single.problem(), (409, "vendor_seat_limit_reached", "not_applied"));
    assert!(single.header("retry-after").is_some(), "{single:?}");
    assert_eq!(call_count(port).await, made, "nothing was sent");
    let seen = gateway.get("/connections/examtesting-main").await;
    assert_eq!(seen.text("/status"), "degraded", "{seen:?}");
    assert!(seen.text("/detail").contains("pause"), "{seen:?}");

    set_faults(port, json!({ "faults": [] })).await;
    let checked = gateway.post("/connections/examtesting-main/check", &json!({})).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    assert_eq!(gateway.post("/candidates", &person("single")).await.status, 201);
}
