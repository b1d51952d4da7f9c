//! Operations: a bulk continues without its caller, reports its progress, and can be cancelled and retried.

use std::time::Duration;

use examgate::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, examtesting, startexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::watch::{call_count, changes, wait_for_state, wait_until};

fn people(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "itemId": format!("row-{number}"), "externalId": format!("e{number}") })).collect()
}

/// Starts a gateway whose StartExam connection sends one row per call and one call at a time, with this delay each.
async fn start_slow(milliseconds: u64, clients: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let fault = json!({ "name": "delay_before_effect", "delayMs": milliseconds });
    set_faults(sandbox.startexam(), json!({ "faults": [fault] })).await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "max_in_flight = 1\nbatch_size = 1");
    let gateway = Gateway::start_with(&connections, clients).await;
    (sandbox, gateway)
}

async fn start_bulk(gateway: &Gateway, items: &[Value]) -> ApiResponse {
    let request = gateway.request(Method::POST, "/candidates/bulk").header("prefer", "respond-async");
    let response = request.json(&json!({ "items": items })).send().await;
    assert_eq!(response.status, 202, "{response:?}");
    response
}

fn progress(response: &ApiResponse, field: &str) -> u64 {
    let object = if response.body.get("progress").is_some() { "progress" } else { "summary" };
    response.body[object][field].as_u64().unwrap_or_else(|| panic!("no {field}: {response:?}"))
}

fn indices(response: &ApiResponse) -> Vec<u64> {
    response.body["items"].as_array().expect("items").iter().map(|row| row["index"].as_u64().expect("index")).collect()
}

#[tokio::test]
async fn an_asynchronous_bulk_is_an_operation_that_can_be_read() {
    let (sandbox, gateway) = start_slow(20, &client("lms", "", "[\"*\"]")).await;
    let accepted = start_bulk(&gateway, &people(5)).await;
    assert_eq!(accepted.header("preference-applied"), Some("respond-async"));
    let path = format!("/operations/{}", accepted.text("/id"));
    assert_eq!(accepted.header("location"), Some(path.as_str()));
    assert!(["queued", "running"].contains(&accepted.text("/state")), "{accepted:?}");
    assert_eq!((accepted.text("/kind"), accepted.text("/connection")), ("candidates", "startexam-main"));
    assert_eq!(progress(&accepted, "total"), 5);
    for absent in ["finishedAt", "expiresAt", "cancelling"] {
        assert!(accepted.body.get(absent).is_none(), "{absent}: {accepted:?}");
    }

    let ended = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!((progress(&ended, "applied"), progress(&ended, "pending")), (5, 0));
    for present in ["createdAt", "startedAt", "finishedAt", "expiresAt"] {
        assert!(ended.text(&format!("/{present}")).ends_with('Z'), "{present}: {ended:?}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 5);

    let first = gateway.get(&format!("{path}/items?limit=2")).await;
    assert_eq!((first.status, indices(&first)), (200, vec![0, 1]), "{first:?}");
    let row = &first.body["items"][1];
    assert_eq!((&row["itemId"], &row["status"], &row["outcome"]), (&json!("row-1"), &json!(201), &json!("applied")));
    assert_eq!((&row["resource"]["externalId"], &row["resource"]["state"]), (&json!("e1"), &json!("registered")));
    let next = |response: &ApiResponse| format!("{path}/items?limit=2&cursor={}", response.text("/nextCursor"));
    let second = gateway.get(&next(&first)).await;
    let third = gateway.get(&next(&second)).await;
    assert_eq!((indices(&second), indices(&third)), (vec![2, 3], vec![4]));
    assert_eq!(third.body["nextCursor"], Value::Null);

    let again = start_bulk(&gateway, &people(1)).await;
    let list = gateway.get("/operations?limit=1").await;
    assert_eq!(list.text("/items/0/id"), again.text("/id"), "newest first");
    let rest = gateway.get(&format!("/operations?cursor={}", list.text("/nextCursor"))).await;
    assert_eq!((rest.text("/items/0/id"), &rest.body["nextCursor"]), (ended.text("/id"), &Value::Null));
}

#[tokio::test]
async fn a_caller_waits_as_long_as_its_preference_says() {
    let (_sandbox, gateway) = start_slow(100, &client("lms", "", "[\"*\"]")).await;
    let post = |preference: &'static str, rows: usize| {
        let items: Vec<Value> = (0..rows).map(|row| json!({ "externalId": format!("{preference}{row}") })).collect();
        let request = gateway.request(Method::POST, "/candidates/bulk").header("prefer", preference);
        request.json(&json!({ "items": items })).send()
    };
    let short_wait = post("wait=1", 600).await;
    assert_eq!((short_wait.status, short_wait.header("preference-applied")), (202, Some("wait=1")), "{short_wait:?}");
    assert!(progress(&short_wait, "applied") < 600, "it did not wait for the end: {short_wait:?}");
    gateway.post(&format!("/operations/{}/cancel", short_wait.text("/id")), &json!({})).await;
    let patient = post("wait=50", 3).await;
    assert_eq!((patient.status, patient.header("preference-applied")), (207, Some("wait=50")), "{patient:?}");
    assert_eq!(progress(&patient, "applied"), 3);
    assert_eq!(patient.header("content-type"), Some("application/json"));
    assert_eq!(post("handling=lenient", 1).await.header("preference-applied"), Some("handling=lenient"));
}

#[tokio::test]
async fn rows_are_filtered_by_outcome() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&examtesting(&format!("http://{}", sandbox.examtesting()), "max_in_flight = 1")).await;
    let refused = json!({ "name": "vendor_error", "code": "1005", "after": 1, "times": 1 });
    set_faults(sandbox.examtesting(), json!({ "faults": [refused] })).await;
    let person =
        |number: usize| json!({ "externalId": format!("e{number}"), "email": format!("e{number}@example.com") });
    let items: Vec<Value> = (0..4).map(person).chain([json!({ "odd": 1 })]).collect();
    let response = gateway.post("/candidates/bulk", &json!({ "failOnErrors": 2, "items": items })).await;
    assert_eq!(response.status, 207, "{response:?}");
    assert_eq!(["applied", "notApplied", "skipped"].map(|field| progress(&response, field)), [1, 2, 2], "{response:?}");
    let path = format!("/operations/{}/items", response.text("/operation"));
    let found = async |outcome: &str| indices(&gateway.get(&format!("{path}?outcome={outcome}")).await);
    assert_eq!(found("applied").await, [0]);
    assert_eq!(found("not_applied").await, [1, 2, 3, 4]);
    assert_eq!(found("skipped").await, [2, 3]);
    assert_eq!(found("unknown").await, [0; 0]);
    let skipped = gateway.get(&format!("{path}?outcome=skipped&limit=1")).await;
    let row = &skipped.body["items"][0];
    assert_eq!((&row["status"], &row["outcome"]), (&json!(424), &json!("not_applied")));
    assert_eq!(row["problem"]["code"], "skipped");
    let rest = gateway.get(&format!("{path}?outcome=skipped&cursor={}", skipped.text("/nextCursor"))).await;
    assert_eq!((indices(&rest), &rest.body["nextCursor"]), (vec![3], &Value::Null));

    for (query, pointer) in
        [("outcome=failed", "?outcome"), ("cursor=odd", "?cursor"), ("limit=0", "?limit"), ("state=x", "?state")]
    {
        let wrong = gateway.get(&format!("{path}?{query}")).await;
        assert_eq!(wrong.problem(), (422, "validation_failed", "not_applied"));
        assert_eq!(wrong.text("/errors/0/pointer"), pointer);
    }
}

/// Returns the operations in an event stream, in order, and the id of the last event.
fn events(text: &str) -> (Vec<Value>, Option<&str>) {
    let blocks: Vec<&str> = text.split("\n\n").filter(|block| block.contains("event: progress")).collect();
    let data = |block: &&str| block.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str);
    let operations = blocks.iter().map(|block| data(block).expect("data").expect("JSON")).collect();
    (operations, blocks.last().and_then(|block| block.lines().find_map(|line| line.strip_prefix("id: "))))
}

#[tokio::test]
async fn an_event_stream_reports_progress_until_the_operation_ends() {
    let (_sandbox, gateway) = start_slow(150, &client("lms", "", "[\"*\"]")).await;
    let accepted = start_bulk(&gateway, &people(30)).await;
    let path = format!("/operations/{}/events", accepted.text("/id"));
    let follow = || gateway.request(Method::GET, &path).header("accept", "text/event-stream");
    let stream = follow().send().await;
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")), "{stream:?}");
    let (states, last) = events(stream.body.as_str().expect("text"));
    assert!(states.len() >= 3, "{states:?}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "no state is reported twice: {states:?}");
    let applied: Vec<u64> = states.iter().map(|event| event["progress"]["applied"].as_u64().unwrap()).collect();
    assert!(applied.is_sorted() && applied.last() == Some(&30), "{applied:?}");
    assert!(states[..states.len() - 1].iter().all(|event| event["state"] != "completed"));
    assert_eq!((&states[states.len() - 1]["state"], last), (&json!("completed"), Some("end")));
    let document = gateway.get(&format!("/operations/{}", accepted.text("/id"))).await;
    assert_eq!(states[states.len() - 1], document.body, "an event is the operation as it is read");

    // After the end it is reported once, and a browser that reconnects is told to stop.
    let late = follow().send().await;
    assert_eq!(events(late.body.as_str().unwrap()).0, [document.body]);
    assert_eq!(follow().header("last-event-id", "end").send().await.status, 204);
    for accept in ["application/json", "*/*", "text/*"] {
        assert_eq!(gateway.request(Method::GET, &path).header("accept", accept).send().await.status, 200, "{accept}");
    }
    let wrong = gateway.request(Method::GET, &path).header("accept", "text/html").send().await;
    assert_eq!(wrong.problem(), (406, "not_acceptable", "not_applied"));
    let elsewhere = gateway.request(Method::GET, "/vendors").header("accept", "text/event-stream").send().await;
    assert_eq!(elsewhere.problem(), (406, "not_acceptable", "not_applied"));
}

#[tokio::test]
async fn a_cancelled_operation_skips_its_remaining_rows_and_a_retry_sends_only_those() {
    let (sandbox, gateway) = start_slow(100, &client("lms", "", "[\"*\"]")).await;
    let accepted = start_bulk(&gateway, &people(100)).await;
    let path = format!("/operations/{}", accepted.text("/id"));
    wait_until(&gateway, &path, |response| progress(response, "applied") >= 2).await;
    let cancelled = gateway.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status, cancelled.header("location")), (202, Some(path.as_str())), "{cancelled:?}");
    let ended = wait_for_state(&gateway, &path, "cancelled").await;
    let (applied, skipped) = (progress(&ended, "applied"), progress(&ended, "skipped"));
    assert!(applied >= 2 && skipped >= 1 && applied + skipped == 100, "{ended:?}");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len() as u64, applied);
    let again = gateway.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!((again.status, again.text("/state")), (202, "cancelled"));

    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    let retried = gateway.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((retried.status, retried.text("/id")), (202, accepted.text("/id")), "{retried:?}");
    let completed = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!((progress(&completed, "applied"), progress(&completed, "skipped")), (100, 0));
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 100);
    assert_eq!(call_count(sandbox.startexam()).await, 100, "no one was sent twice");
    let nothing = gateway.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((nothing.status, nothing.text("/state")), (202, "completed"));
    assert_eq!(call_count(sandbox.startexam()).await, 100);
}

#[tokio::test]
async fn operations_are_visible_only_to_their_tenant_and_with_the_scope() {
    let scopes = "[\"candidates:write\", \"operations:read\"]";
    let clients =
        client("lms", "", "[\"*\"]") + &client("rival", "", "[\"*\"]") + &client_with("few", "lms", "[\"*\"]", scopes);
    let (_sandbox, gateway) = start_slow(0, &clients).await;
    let operation = start_bulk(&gateway, &people(2)).await;
    let path = format!("/operations/{}", operation.text("/id"));
    wait_for_state(&gateway, &path, "completed").await;
    for (method, end) in [
        (Method::GET, ""),
        (Method::GET, "/items"),
        (Method::GET, "/events"),
        (Method::POST, "/cancel"),
        (Method::POST, "/retry"),
    ] {
        let path = format!("{path}{end}");
        let foreign = gateway.request_as(&key("rival"), method.clone(), &path).send().await;
        assert_eq!(foreign.problem(), (404, "not_found", "not_applied"), "{end}");
        let shared = gateway.request_as(&key("few"), method.clone(), &path).send().await;
        let expected = if method == Method::POST { 403 } else { 200 };
        assert_eq!(shared.status, expected, "{end}: {shared:?}");
    }
    let foreign = gateway.request_as(&key("rival"), Method::GET, "/operations").send().await;
    assert_eq!(foreign.body, json!({ "items": [], "nextCursor": null }));
    for malformed in ["/operations/op_1", "/operations/cand_00000000000000000000000000000000", "/operations/%00"] {
        assert_eq!(gateway.get(malformed).await.problem().0, 404, "{malformed}");
    }
}

#[tokio::test]
async fn a_stopping_gateway_releases_waiting_callers_and_the_next_one_continues() {
    // So slow that neither operation ends before the gateway stops.
    let (sandbox, gateway) = start_slow(3_000, &client("lms", "", "[\"*\"]")).await;
    let accepted = start_bulk(&gateway, &people(30)).await;
    let path = format!("/operations/{}", accepted.text("/id"));
    let events = format!("{path}/events");
    let follow = gateway.request(Method::GET, &events).send();
    let waiting = gateway.request(Method::POST, "/candidates/bulk").header("prefer", "wait=50");
    let waiting = waiting.json(&json!({ "items": [{ "externalId": "last" }] })).send();
    let stop = async {
        // Both are in flight. The pause only saves CPU.
        while gateway.get("/operations").await.body["items"].as_array().map_or(0, Vec::len) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gateway.terminate().await;
    };
    let (stream, waited, ()) = tokio::join!(follow, waiting, stop);
    assert_eq!((stream.status, waited.status), (200, 202), "{stream:?} {waited:?}");
    let folder = gateway.folder_after_exit().await;
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    let gateway = Gateway::start_in(folder).await;
    let completed = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!(progress(&completed, "applied"), 30);
    wait_for_state(&gateway, &format!("/operations/{}", waited.text("/id")), "completed").await;
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 31);
}

#[tokio::test]
async fn rows_waiting_for_a_vendor_pause_are_handed_over_when_the_process_stops() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    // Longer than the shutdown grace: waiting for it would end the rows or leave them in doubt.
    let pause = json!({ "name": "rate_limited", "times": 1, "retryAfter": 50 });
    set_faults(sandbox.startexam(), json!({ "faults": [pause] })).await;
    let accepted = start_bulk(&gateway, &people(3)).await;
    let id = accepted.text("/id").to_owned();
    let refused = |response: &ApiResponse| response.body.pointer("/items/0/calls/0/status") == Some(&json!(429));
    wait_until(&gateway, &format!("/exchanges?operation={id}"), refused).await;
    gateway.terminate().await;
    let gateway = Gateway::start_in(gateway.folder_after_exit().await).await;
    let ended = wait_for_state(&gateway, &format!("/operations/{id}"), "completed").await;
    assert_eq!(progress(&ended, "applied"), 3, "{}", ended.body);
}

#[tokio::test]
async fn an_unreadable_row_keeps_its_problem_through_every_retry() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let gateway = Gateway::start(&startexam(&format!("http://{port}"), "")).await;
    let refused = json!({ "name": "status", "operation": "employees", "status": 400, "effect": false, "times": 1 });
    set_faults(port, json!({ "faults": [refused] })).await;
    let rows = "{\"externalId\":\"e1\"}\n{\"externalId\":\"e2\",\"nick\":1}\n{broken\n";
    let request = gateway.request(Method::POST, "/candidates/bulk").body("application/x-ndjson", rows);
    let response = request.send().await;
    assert_eq!((response.status, progress(&response, "notApplied")), (207, 3), "{response:?}");
    let path = format!("/operations/{}", response.text("/operation"));
    let refused = |response: &ApiResponse| -> Vec<(u64, String)> {
        let rows = response.body["items"].as_array().expect("items").iter();
        rows.map(|row| (row["index"].as_u64().unwrap(), row["problem"]["code"].to_string())).collect()
    };
    let before = gateway.get(&format!("{path}/items")).await;
    for _ in 0..2 {
        let retried = gateway.post(&format!("{path}/retry"), &json!({})).await;
        assert_eq!(retried.status, 202, "{retried:?}");
        let ended = wait_for_state(&gateway, &path, "completed").await;
        assert_eq!((progress(&ended, "applied"), progress(&ended, "notApplied")), (1, 2), "{ended:?}");
        let after = gateway.get(&format!("{path}/items?outcome=not_applied")).await;
        assert_eq!(refused(&after), refused(&before)[1..], "{after:?}");
    }
    // If nothing can be sent again, the operation has ended by the time of the response.
    let retried = gateway.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((retried.status, retried.text("/state"), progress(&retried, "pending")), (202, "completed", 0));
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn cancelled_rows_are_not_sent_after_a_restart() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let gateway = Gateway::start(&startexam(&format!("http://{port}"), "")).await;
    let pause = json!({ "name": "rate_limited", "times": 1, "retryAfter": 50 });
    set_faults(port, json!({ "faults": [pause] })).await;
    let accepted = start_bulk(&gateway, &people(3)).await;
    let id = accepted.text("/id").to_owned();
    let refused = |response: &ApiResponse| response.body.pointer("/items/0/calls/0/status") == Some(&json!(429));
    wait_until(&gateway, &format!("/exchanges?operation={id}"), refused).await;
    let cancelled = gateway.post(&format!("/operations/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    gateway.terminate().await;
    let gateway = Gateway::start_in(gateway.folder_after_exit().await).await;
    let ended = wait_for_state(&gateway, &format!("/operations/{id}"), "cancelled").await;
    assert_eq!((progress(&ended, "skipped"), progress(&ended, "applied")), (3, 0), "{ended:?}");
    let rows = gateway.get(&format!("/operations/{id}/items")).await;
    assert_eq!(rows.text("/items/0/problem/code"), "skipped", "{rows:?}");
    assert!(changes(port, "employees", "created").await.is_empty());
}

#[tokio::test]
async fn an_unknown_row_whose_connection_is_removed_does_not_block_its_operation() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let retained = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let gone = startexam(&format!("http://{port}"), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&format!("{retained}{gone}")).await;
    let delay = json!({ "name": "delay_after_effect", "delayMs": 60_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let request = gateway.request(Method::POST, "/candidates/bulk").header("prefer", "respond-async");
    let accepted = request.json(&json!({ "connection": "startexam-main", "items": people(2) })).send().await;
    let path = format!("/operations/{}", accepted.text("/id"));
    while changes(port, "employees", "created").await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let folder = gateway.kill().await;
    set_faults(port, json!({ "faults": [] })).await;
    let mut gateway = Gateway::start_in(folder).await;
    // Their grace period is an hour.
    gateway.wait_for_log("waiting for rows whose responses were lost with an earlier process").await;
    assert_eq!(progress(&gateway.get(&path).await, "pending"), 2);
    let file = gateway.folder.path().join("examgate.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace(&gone, "")).expect("it can be written");
    gateway.signal("HUP").await;
    let ended = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!((progress(&ended, "unknown"), progress(&ended, "pending")), (2, 0), "{ended:?}");
    let rows = gateway.get(&format!("{path}/items")).await;
    assert!(rows.text("/items/0/problem/resource").starts_with("/candidates/"), "{rows:?}");
}

#[tokio::test]
async fn rows_in_flight_at_a_kill_are_reconciled_in_vendor_batches() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let gateway = Gateway::start(&startexam(&format!("http://{port}"), "max_in_flight = 4")).await;
    let delay = json!({ "name": "delay_after_effect", "delayMs": 60_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let accepted = start_bulk(&gateway, &people(3_000)).await;
    let path = format!("/operations/{}", accepted.text("/id"));
    while changes(port, "employees", "created").await.len() < 1_500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let folder = gateway.kill().await;
    // One of the calls after the restart is rejected because of one row, and is reconciled in parts.
    let refused = json!({ "name": "status", "operation": "employees", "status": 400, "effect": false, "times": 1 });
    set_faults(port, json!({ "faults": [refused] })).await;
    let gateway = Gateway::start_in(folder).await;
    let ended = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!((progress(&ended, "applied"), progress(&ended, "total")), (3_000, 3_000), "{ended:?}");
    assert_eq!(changes(port, "employees", "created").await.len(), 3_000);
    // Three were in flight, another intent may have been stored; one call per row would make some two thousand.
    let made = call_count(port).await;
    assert!(made <= 20, "{made} calls");
}
