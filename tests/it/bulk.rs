//! Bulks: every row has its own outcome.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{examtesting, sandbox_connections, start_startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway, sandbox, set_faults};
use crate::support::people::{order, people, person, with};
use crate::support::vendor::{Stub, json_response};
use crate::support::watch::{bodies, call_count, changes};

pub const TEST: &str = accounts::startexam::TESTS[0].0;

/// Sends a bulk and waits for its end for longer than the gateway does by default, since a slow machine takes longer.
async fn send_bulk(gateway: &Gateway, path: &str, items: &[Value]) -> ApiResponse {
    let request = gateway.request(Method::POST, path).header("Prefer", "respond-async, wait=50");
    let response = request.json(&json!({ "items": items })).send().await;
    assert_eq!(response.status, 207, "{response:?}");
    response
}

pub async fn register_bulk(gateway: &Gateway, items: &[Value]) -> ApiResponse {
    send_bulk(gateway, "/candidates/bulk", items).await
}

pub async fn book_bulk(gateway: &Gateway, items: &[Value]) -> ApiResponse {
    send_bulk(gateway, "/assignments/bulk", items).await
}

/// Returns status, outcome and problem code of every row, and checks the summary.
pub fn rows(response: &ApiResponse) -> Vec<(u64, String, String)> {
    let results = response.body["results"].as_array().expect("results");
    let summary =
        |name: &str| response.body["summary"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {response:?}"));
    let parts = ["applied", "notApplied", "unknown", "skipped"].map(summary);
    assert_eq!(summary("total"), results.len() as u64);
    assert_eq!(parts.iter().sum::<u64>(), summary("total"), "{:?}", response.body["summary"]);
    let text = |row: &Value, pointer: &str| row.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut counts = [0, 0, 0, 0];
    let mut all = Vec::new();
    for (index, row) in results.iter().enumerate() {
        assert_eq!(row["index"], index, "input order");
        assert_ne!(row["resource"].is_object(), row["problem"].is_object(), "{row}");
        let (status, outcome, code) =
            (row["status"].as_u64().unwrap(), text(row, "/outcome"), text(row, "/problem/code"));
        if !code.is_empty() {
            assert_eq!(
                (&row["problem"]["status"], text(row, "/problem/outcome")),
                (&row["status"], outcome.clone()),
                "{row}"
            );
        }
        let position = match (code.as_str(), outcome.as_str()) {
            ("skipped", "not_applied") => 3,
            (_, "applied") => 0,
            (_, "not_applied") => 1,
            (_, "unknown") => 2,
            other => panic!("{other:?}"),
        };
        counts[position] += 1;
        all.push((status, outcome, code));
    }
    assert_eq!(counts, parts);
    all
}

pub fn row(status: u64, outcome: &str, code: &str) -> (u64, String, String) {
    (status, outcome.to_owned(), code.to_owned())
}

pub fn created() -> (u64, String, String) {
    row(201, "applied", "")
}

#[tokio::test]
async fn every_row_has_its_own_result_in_input_order() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port) in [
        ("startexam-main", sandbox.startexam()),
        ("thinkexam-main", sandbox.thinkexam()),
        ("examtesting-main", sandbox.examtesting()),
    ] {
        let known = with(person("known"), "connection", json!(connection));
        assert_eq!(gateway.post("/candidates", &known).await.status, 201, "{connection}");
        let before = call_count(port).await;
        let items = json!([
            with(person("a"), "itemId", json!("first")),
            with(person("b"), "odd", json!(1)),
            person("known"),
            with(person("c"), "email", json!("no address")),
            with(person("a"), "itemId", json!("again")),
            7,
            person("d"),
        ]);
        let body = json!({ "connection": connection, "items": items });
        let response = gateway.post("/candidates/bulk", &body).await;
        assert_eq!(response.status, 207, "{response:?}");
        let invalid = row(422, "not_applied", "validation_failed");
        let duplicate = row(422, "not_applied", "duplicate_item");
        assert_eq!(
            rows(&response),
            [created(), invalid.clone(), row(200, "applied", ""), invalid.clone(), duplicate, invalid, created()],
            "{connection}"
        );
        assert!(response.text("/operation").starts_with("op_"), "{connection}");
        assert_eq!(
            (response.text("/results/0/itemId"), response.text("/results/4/itemId")),
            ("first", "again"),
            "{connection}"
        );
        assert_eq!(response.body["results"][1].get("itemId"), None, "{connection}");
        assert_eq!(response.text("/results/1/problem/errors/0/pointer"), "/odd", "{connection}");
        let id = response.text("/results/6/resource/id");
        let read = gateway.get(&format!("/candidates/{id}")).await;
        assert_eq!((read.status, read.text("/externalId")), (200, "d"), "{connection}");
        let expected = if connection == "examtesting-main" { 2 } else { 1 };
        assert_eq!(call_count(port).await - before, expected, "{connection}");
    }
}

#[tokio::test]
async fn an_invalid_envelope_sends_nothing() {
    let (sandbox, gateway) = start_startexam("").await;
    for body in [
        json!({ "items": [] }),
        json!({}),
        json!({ "items": people(10_001) }),
        json!({ "items": people(1), "odd": 1 }),
        json!({ "items": people(1), "failOnErrors": 0 }),
        json!({ "items": people(1), "failOnErrors": -1 }),
    ] {
        for path in ["/candidates/bulk", "/assignments/bulk"] {
            let refused = gateway.post(path, &body).await;
            assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{path} {body}");
        }
    }
    let elsewhere = gateway.post("/candidates/bulk", &json!({ "connection": "nowhere", "items": people(1) })).await;
    assert_eq!(elsewhere.problem(), (404, "connection_not_found", "not_applied"));
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn duplicates_are_rejected_by_every_identity_and_the_first_row_counts() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let named = |email: &str| json!({ "name": { "formatted": "Ada" }, "email": email });
    let items = json!([named("a@example.com"), named("A@Example.com"), named("b@example.com")]);
    let response = gateway.post("/candidates/bulk", &json!({ "connection": "thinkexam-main", "items": items })).await;
    let duplicate = row(422, "not_applied", "duplicate_item");
    assert_eq!(rows(&response), [created(), duplicate.clone(), created()]);
    let user = |name: &str, id: &str| json!({ "externalId": id, "userName": name, "email": "x@example.com" });
    // A row that fails for another reason does not count as an earlier duplicate.
    let items = json!([with(user("u", "1"), "group", json!("<")), user("u", "2"), user("U", "3"), user("v", "2")]);
    let response = gateway.post("/candidates/bulk", &json!({ "connection": "examtesting-main", "items": items })).await;
    assert_eq!(
        rows(&response),
        [row(422, "not_applied", "validation_failed"), created(), duplicate.clone(), duplicate]
    );
}

#[tokio::test]
async fn a_bulk_stops_after_the_given_number_of_failures() {
    let sandbox = sandbox().await;
    let more = "max_in_flight = 1";
    let gateway = Gateway::start(&examtesting(&format!("http://{}", sandbox.examtesting()), more)).await;
    set_faults(
        sandbox.examtesting(),
        json!({ "faults": [{ "name": "vendor_error", "code": "1005", "after": 1, "times": 2 }] }),
    )
    .await;
    let body = json!({ "failOnErrors": 2, "items": people(6) });
    let response = gateway.post("/candidates/bulk", &body).await;
    let refused = row(422, "not_applied", "group_not_found");
    let results = rows(&response);
    assert_eq!(results[..3], [created(), refused.clone(), refused]);
    assert!(results[3..].iter().all(|(_, outcome, code)| outcome == "not_applied" && code == "skipped"), "{results:?}");
    assert_eq!(call_count(sandbox.examtesting()).await, 3);
    // Skipped rows left nothing behind and can be sent again.
    assert_eq!(gateway.get("/candidates?externalId=e5").await.body["items"], json!([]));
    let again = register_bulk(&gateway, &people(6)).await;
    assert_eq!(rows(&again)[0], row(200, "applied", ""));
    assert_eq!(rows(&again)[1..], vec![created(); 5]);
}

#[tokio::test]
async fn rows_that_fail_before_anything_is_sent_count_as_failures() {
    let (sandbox, gateway) = start_startexam("").await;
    let mut items = people(4);
    items[1]["odd"] = json!(1);
    let response = gateway.post("/candidates/bulk", &json!({ "failOnErrors": 1, "items": items })).await;
    let skipped = |index: usize| rows(&response)[index].2 == "skipped";
    assert_eq!(rows(&response)[1], row(422, "not_applied", "validation_failed"));
    assert!(skipped(0) && skipped(2) && skipped(3), "{response:?}");
    assert_eq!(call_count(sandbox.startexam()).await, 0);
    let orders: Vec<Value> =
        (0..3).map(|n| order(&format!("e{n}"), TEST)).chain([json!({ "assessment": TEST })]).collect();
    let response = gateway.post("/assignments/bulk", &json!({ "failOnErrors": 1, "items": orders })).await;
    assert!(rows(&response)[..3].iter().all(|row| row.2 == "skipped"), "{response:?}");
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

/// Asserts that each row is unknown, unless the reconciliation was faster than the response.
fn assert_lost_or_settled(response: &ApiResponse) {
    let unknown = row(504, "unknown", "vendor_timeout");
    assert!(rows(response).iter().all(|row| *row == unknown || row.1 == "applied"), "{response:?}");
}

#[tokio::test]
async fn rows_of_a_lost_call_are_unknown_and_a_second_bulk_reconciles_them() {
    let (sandbox, gateway) = start_startexam("existing_registration = \"repeated\"").await;
    let port = sandbox.startexam();
    set_faults(port, json!({ "faults": [{ "name": "reset_after_effect", "operation": "employees", "times": 1 }] }))
        .await;
    let response = register_bulk(&gateway, &people(5)).await;
    assert_lost_or_settled(&response);
    let again = register_bulk(&gateway, &people(5)).await;
    assert_eq!(rows(&again), vec![row(200, "applied", ""); 5]);
    assert_eq!(changes(port, "employees", "created").await.len(), 5);

    set_faults(
        port,
        json!({ "faults": [{ "name": "reset_after_effect", "operation": "employees_participants", "times": 1 }] }),
    )
    .await;
    let orders: Vec<Value> = (0..5).map(|number| order(&format!("e{number}"), TEST)).collect();
    assert_lost_or_settled(&book_bulk(&gateway, &orders).await);
    let again = book_bulk(&gateway, &orders).await;
    assert!(rows(&again).iter().all(|(status, outcome, _)| *status == 200 && outcome == "applied"), "{again:?}");
    assert_eq!(changes(port, "employees_participants", "created").await.len(), 5);
    assert_eq!(bodies(port, "employees_participants").await.len(), 6, "settled one by one");
}

#[tokio::test]
async fn overlapping_bulks_book_everybody_once() {
    let (sandbox, gateway) = start_startexam("existing_registration = \"repeated\"").await;
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 50 }] })).await;
    let registered = futures_util::future::join_all((0..4).map(|_| {
        let gateway = &gateway;
        async move { register_bulk(gateway, &people(20)).await }
    }))
    .await;
    assert!(registered.iter().all(|response| rows(response).iter().all(|row| row.1 == "applied")), "{registered:?}");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 20);
    assert_eq!(changes(sandbox.startexam(), "employees", "repeated").await.len(), 0);
    let forward: Vec<Value> = (0..20).map(|number| order(&format!("e{number}"), TEST)).collect();
    let backward: Vec<Value> = forward.iter().rev().cloned().collect();
    let (one, two) = tokio::join!(book_bulk(&gateway, &forward), book_bulk(&gateway, &backward));
    assert!(rows(&one).iter().chain(&rows(&two)).all(|row| row.1 == "applied"));
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 20);
}

#[tokio::test]
async fn a_row_without_an_id_leaves_the_others_applied() {
    let item = |id: u32, number: &str| {
        let id = if id == 0 { Value::Null } else { json!(id) };
        json!({ "result": "success", "data": { "studentId": id, "enrollmentNo": number } })
    };
    let body = json!({ "responseArray": [item(1, "e0"), item(0, "e1"), item(3, "e2")], "result": "Success" });
    let stub = Stub::start(move |seen| match seen.uri.path() {
        "/sim/signature" => json_response(200, &json!({ "ak": "the-ak", "sgn": "the-sgn", "ts": "1795348800" })),
        _ => json_response(200, &body),
    })
    .await;
    let gateway = Gateway::start(&thinkexam(&stub.url(), "")).await;
    let response = register_bulk(&gateway, &people(3)).await;
    assert_eq!(rows(&response), [created(), row(502, "unknown", "vendor_bad_response"), created()], "{response:?}");
}

/// Returns the time at this pointer.
fn parse_time(body: &Value, pointer: &str) -> jiff::Timestamp {
    body.pointer(pointer).and_then(Value::as_str).and_then(|text| text.parse().ok()).expect("a moment")
}

#[tokio::test]
async fn a_retried_row_is_booked_from_the_retry_on_and_shares_its_call() {
    let (sandbox, gateway) = start_startexam("existing_registration = \"repeated\"").await;
    let orders: Vec<Value> = (0..3).map(|number| order(&format!("e{number}"), TEST)).collect();
    let first = gateway.post("/assignments/bulk", &json!({ "items": orders })).await;
    assert_eq!((first.status, &first.body["summary"]["notApplied"]), (207, &json!(3)), "{first:?}");
    assert_eq!(register_bulk(&gateway, &people(3)).await.body["summary"]["applied"], 3);
    let path = format!("/operations/{}", first.text("/operation"));
    let accepted = parse_time(&gateway.get(&path).await.body, "/createdAt");
    // Validity has whole seconds.
    let retried = loop {
        let now = jiff::Timestamp::now();
        if now.as_second() > accepted.as_second() {
            break now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let before = bodies(sandbox.startexam(), "employees_participants").await.len();
    assert_eq!(gateway.post(&format!("{path}/retry"), &json!({})).await.status, 202);
    crate::support::watch::wait_for_state(&gateway, &path, "completed").await;
    let rows = gateway.get(&format!("{path}/items")).await;
    let from: Vec<_> = (0..3).map(|row| parse_time(&rows.body, &format!("/items/{row}/resource/validFrom"))).collect();
    assert!(from[0].as_second() >= retried.as_second(), "{rows:?}");
    assert!(from.iter().all(|moment| *moment == from[0]), "{from:?}");
    assert_eq!(bodies(sandbox.startexam(), "employees_participants").await.len() - before, 1, "one call");
}
