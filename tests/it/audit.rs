//! `/audit`: who requested what for whom, with which outcome, in a chain that reveals missing entries.
//!
//! The chain is verified only by what the documentation says about it.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use examgate::sandbox::{Sandbox, accounts};
use futures_util::future::join_all;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::support::connections::{client, client_with, sandbox_connections, startexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::vendor::{Stub, build_response};
use crate::support::watch::{wait_for_state, wait_until};

/// Contained in every piece of personal data sent here.
const PERSONAL: &str = "pdmark";
pub const NDJSON: &str = "application/x-ndjson";

pub fn person(id: &str) -> Value {
    json!({
        "connection": "startexam-main", "externalId": id, "name": { "givenName": format!("Given{PERSONAL}"), "familyName": "King" },
        "email": format!("{PERSONAL}.{id}@example.com"),
    })
}

/// Exports the record.
pub async fn export(gateway: &Gateway, client: &str, path: &str) -> String {
    let response = gateway.request_as(&key(client), Method::GET, path).header("accept", NDJSON).send().await;
    assert_eq!((response.status, response.header("content-type")), (200, Some(NDJSON)), "{response:?}");
    match response.body {
        Value::String(text) => text,
        // A single entry is a JSON document, too.
        document => format!("{document}\n"),
    }
}

pub fn parse_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Verifies what `docs/OPERATIONS.md` says: each entry's hash is the SHA-256 of the entry without it, as compact JSON
/// with sorted fields; each names its predecessor's hash, and they are numbered without gaps. Returns the last hash.
pub fn verify_chain(entries: &[Value]) -> Result<String, String> {
    let mut previous = "0".repeat(64);
    for (at, entry) in entries.iter().enumerate() {
        let mut fields: BTreeMap<String, Value> = serde_json::from_value(entry.clone()).map_err(|e| e.to_string())?;
        let hash = fields.remove("hash").ok_or("no hash")?;
        if fields["previous"] != *previous || fields["seq"] != at + 1 {
            return Err(format!("line {} does not follow line {at}", fields["seq"]));
        }
        let canonical = serde_json::to_string(&fields).map_err(|error| error.to_string())?;
        previous = HEXLOWER.encode(&Sha256::digest(canonical.as_bytes()));
        if hash != *previous {
            return Err(format!("line {} was altered", fields["seq"]));
        }
    }
    Ok(previous)
}

/// Reads the tenant's whole record and verifies its chain.
pub async fn read_record(gateway: &Gateway) -> Vec<Value> {
    let entries = parse_lines(&export(gateway, "lms", "/audit").await);
    verify_chain(&entries).expect("an unbroken chain");
    entries
}

/// Waits for such an entry and returns the record.
async fn wait_for_entry(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    wait_until(gateway, "/audit?limit=200", |response| response.body["items"].as_array().unwrap().iter().any(&wanted))
        .await;
    read_record(gateway).await
}

/// Returns event, action, status, outcome and code of an entry, for short comparisons.
fn summary(entry: &Value) -> String {
    let field = |name: &str| match &entry[name] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    ["event", "action", "status", "outcome", "code"].map(field).join(" ")
}

fn summaries(entries: &[Value]) -> Vec<String> {
    entries.iter().map(summary).collect()
}

pub async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

#[tokio::test]
async fn every_write_has_an_entry_with_client_action_and_outcome() {
    let sandbox = sandbox().await;
    let clients = [client("lms", "acme", "[\"*\"]"), client("hr", "acme", "[\"*\"]")].concat();
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    let made = gateway.request(Method::POST, "/candidates").header("x-request-id", "r-1").json(&person("e1"));
    let made = made.send().await;
    let candidate = format!("/candidates/{}", made.text("/id"));
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 200);
    let change = json!({ "name": { "givenName": "Grace" } });
    assert_eq!(gateway.patch(&candidate, &change).await.status, 200);
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": accounts::startexam::TESTS[0].0,
        "connection": "startexam-main" });
    let booked = gateway.request_as(&key("hr"), Method::POST, "/assignments").json(&order).send().await;
    let assignment = format!("/assignments/{}", booked.text("/id"));
    assert_eq!(gateway.delete(&assignment).await.problem().1, "capability_unsupported");
    assert_eq!(gateway.post("/connections/startexam-main/check", &json!({})).await.status, 200);
    assert_eq!(gateway.delete(&candidate).await.status, 204);
    // Reads have no entry.
    assert_eq!(gateway.post("/candidates/search", &json!({ "externalId": "e1" })).await.status, 200);

    let entries = read_record(&gateway).await;
    assert_eq!(
        summaries(&entries),
        [
            "answered candidates.create 201 applied -",
            "answered candidates.create 200 applied -",
            "answered candidates.update 200 applied -",
            "answered assignments.create 201 applied -",
            "answered assignments.cancel 422 not_applied capability_unsupported",
            "answered connections.check 200 - -",
            "answered candidates.delete 204 applied -",
        ]
    );
    let objects: Vec<&str> = entries.iter().map(|entry| entry["object"].as_str().expect("an object")).collect();
    let check = "/connections/startexam-main";
    assert_eq!(objects, [&candidate, &candidate, &candidate, &assignment, &assignment, check, &candidate]);
    assert!(entries.iter().all(|entry| entry["tenant"] == "acme" && entry["exchange"].as_str().is_some()));
    let clients: Vec<&Value> = entries.iter().map(|entry| &entry["client"]).collect();
    assert_eq!(clients, ["lms", "lms", "lms", "hr", "lms", "lms", "lms"]);
    assert!(entries.iter().all(|entry| entry["connection"] == "startexam-main"), "{entries:#?}");
    assert_eq!((&entries[0]["requestId"], &entries[0]["replayed"]), (&json!("r-1"), &json!(false)));
}

#[tokio::test]
async fn failed_attempts_are_recorded_without_the_data_that_was_sent() {
    let sandbox = sandbox().await;
    let clients = client("lms", "", "[\"*\"]")
        + &client_with("reader", "lms", "[\"*\"]", "[\"candidates:read\", \"audit:read\"]");
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    let strange = json!({ "externalId": "e1", PERSONAL: PERSONAL });
    assert_eq!(gateway.post("/candidates", &strange).await.problem().1, "validation_failed");
    let forbidden = gateway.request_as(&key("reader"), Method::POST, "/candidates").json(&person("e2")).send().await;
    assert_eq!(forbidden.problem().1, "insufficient_scope");
    // A caller may send anything in place of an id.
    for path in [format!("/candidates/{PERSONAL}@example.com"), format!("/candidates/cand_{}", "0".repeat(32))] {
        assert_eq!(gateway.delete(&path).await.problem().1, "not_found");
    }
    let enrol = json!({ "register": [PERSONAL], "scope": "all", "connection": "startexam-main" });
    let program = format!("/programs/{PERSONAL}/employees");
    assert_eq!(gateway.post(&program, &enrol).await.problem().1, "program_not_found");
    let nowhere = format!("/connections/{PERSONAL}/check");
    assert_eq!(gateway.post(&nowhere, &json!({})).await.problem().1, "connection_not_found");
    let nobody = gateway.anonymous(Method::POST, "/candidates").json(&person("e3")).send().await;
    assert_eq!(nobody.problem().1, "unauthenticated");
    let text = gateway.request(Method::POST, "/candidates").body("text/plain", PERSONAL).send().await;
    assert_eq!(text.problem().1, "unsupported_media_type");

    let entries = read_record(&gateway).await;
    assert_eq!(
        summaries(&entries),
        [
            "answered candidates.create 422 not_applied validation_failed",
            "answered candidates.create 403 not_applied insufficient_scope",
            "answered candidates.delete 404 not_applied not_found",
            "answered candidates.delete 404 not_applied not_found",
            "answered programs.employees 404 not_applied program_not_found",
            "answered connections.check 404 not_applied connection_not_found",
            "answered candidates.create 415 not_applied unsupported_media_type",
        ]
    );
    assert_eq!(entries[1]["client"], "reader");
    assert_eq!(entries[3]["object"], format!("/candidates/cand_{}", "0".repeat(32)));
    assert!(!json!(entries).to_string().contains(PERSONAL), "{entries:#?}");
}

#[tokio::test]
async fn an_unknown_write_gets_a_second_entry_once_it_is_reconciled() {
    let (sandbox, gateway) = start().await;
    let lost = json!({ "name": "reset_after_effect", "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    let resource = unknown.text("/resource").to_owned();
    wait_for_state(&gateway, &resource, "registered").await;
    let entries = read_record(&gateway).await;
    let wanted = ["answered candidates.create 504 unknown vendor_timeout", "settled candidates.create - applied -"];
    assert_eq!(summaries(&entries), wanted);
    assert!(entries.iter().all(|entry| entry["object"] == *resource && entry["connection"] == "startexam-main"));
    assert_eq!((&entries[0]["client"], &entries[1]["client"]), (&json!("lms"), &Value::Null));
}

#[tokio::test]
async fn a_manual_settlement_is_recorded_under_the_client_that_made_it() {
    let stub = Stub::start(|_| build_response(500, "text/plain", "")).await;
    // The grace period keeps the reconciler away.
    let connections = startexam(&stub.url(), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connections).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(unknown.problem(), (502, "vendor_internal_error", "unknown"));
    let path = format!("{}/settle", unknown.text("/resource"));
    assert_eq!(gateway.post(&path, &json!({ "outcome": "not_applied" })).await.status, 200);
    let entries = read_record(&gateway).await;
    let settled = "answered candidates.settle 200 not_applied -";
    assert_eq!(summaries(&entries), ["answered candidates.create 502 unknown vendor_internal_error", settled]);
    assert_eq!(entries[1]["client"], "lms");
}

#[tokio::test]
async fn a_replayed_response_is_marked_as_replayed() {
    let (_sandbox, gateway) = start().await;
    for _ in 0..2 {
        let request = gateway.request(Method::POST, "/candidates").header("idempotency-key", "k1");
        assert_eq!(request.json(&person("e1")).send().await.status, 201);
    }
    let entries = read_record(&gateway).await;
    let replayed: Vec<&Value> = entries.iter().map(|entry| &entry["replayed"]).collect();
    assert_eq!(replayed, [&json!(false), &json!(true)]);
    assert_eq!((&entries[1]["outcome"], &entries[1]["object"]), (&json!("applied"), &entries[0]["object"]));
}

#[tokio::test]
async fn an_accepted_write_gets_a_second_entry_when_it_ends() {
    let (sandbox, gateway) = start().await;
    let delay = json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 500 }] });
    set_faults(sandbox.startexam(), delay).await;
    let request = gateway.request(Method::POST, "/candidates").header("prefer", "respond-async");
    assert_eq!(request.json(&person("e1")).send().await.status, 202);
    let mut entries = wait_for_entry(&gateway, |entry| entry["event"] == "ended").await;
    // On a slow machine the write may end before the entry of its response is written.
    entries.sort_by_key(|entry| entry["event"].to_string());
    assert_eq!(summaries(&entries), ["answered candidates.create 202 - -", "ended candidates.create - applied -"]);
    assert_eq!((&entries[0]["object"], &entries[0]["exchange"]), (&entries[1]["object"], &entries[1]["exchange"]));
    assert_eq!(entries[1]["client"], "lms");
}

/// The entry may be written with the outcome or with the response; either way there is exactly one, and it says what
/// the caller was told.
#[tokio::test]
async fn each_of_many_responses_matches_its_one_entry() {
    let (_sandbox, gateway) = start().await;
    let requests = (0..48).map(|number| {
        let (gateway, id) = (&gateway, format!("r-{number}"));
        async move {
            let request = gateway.request(Method::POST, "/candidates").header("x-request-id", &id);
            let request = match number % 4 {
                0 => request.header("prefer", "wait=0"),
                // Some requests are about one person, so only one of them is new.
                1 => request.header("idempotency-key", &id).json(&person("shared")),
                2 => request.header("idempotency-key", &id),
                _ => request,
            };
            let request = if number % 4 == 1 { request } else { request.json(&person(&id)) };
            (id, request.send().await.status)
        }
    });
    let answered: BTreeMap<String, u16> = join_all(requests).await.into_iter().collect();
    let late = answered.values().filter(|status| **status == 202).count();
    assert!(late > 0 && answered.values().filter(|status| **status == 201).count() > 24, "{answered:?}");
    let ends = |entries: &[Value]| entries.iter().filter(|entry| entry["event"] == "ended").count();
    wait_until(&gateway, "/audit?limit=200", |response| ends(response.body["items"].as_array().unwrap()) == late).await;
    let entries = read_record(&gateway).await;
    let recorded = entries.iter().filter(|entry| entry["event"] == "answered");
    let recorded: Vec<(String, u64)> = recorded
        .map(|entry| (entry["requestId"].as_str().unwrap().to_owned(), entry["status"].as_u64().unwrap()))
        .collect();
    assert_eq!((recorded.len(), entries.len()), (answered.len(), answered.len() + late));
    assert_eq!(
        recorded.into_iter().collect::<BTreeMap<_, _>>(),
        answered.into_iter().map(|(id, s)| (id, s.into())).collect()
    );
}

#[tokio::test]
async fn a_caller_that_disconnects_is_recorded_with_the_eventual_outcome() {
    let (sandbox, gateway) = start().await;
    let slow = json!({ "name": "delay_after_effect", "delayMs": 3_000, "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [slow] })).await;
    let body = person("e1").to_string();
    let mut caller = tokio::net::TcpStream::connect(gateway.address).await.expect("it listens");
    let head = format!(
        "POST /candidates HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        key("lms"),
        body.len()
    );
    caller.write_all(head.as_bytes()).await.expect("the bytes are sent");
    // The caller disconnects once the write has begun.
    wait_until(&gateway, "/candidates?externalId=e1", |response| response.body["items"][0].is_object()).await;
    drop(caller);
    let entries = wait_for_entry(&gateway, |entry| entry["event"] == "ended").await;
    assert_eq!(summaries(&entries), ["caller_gone candidates.create - - -", "ended candidates.create - applied -"]);
}

#[tokio::test]
async fn a_bulk_has_one_entry_for_its_request_and_one_with_its_final_counts() {
    let (_sandbox, gateway) = start().await;
    let mut items: Vec<Value> = (0..3).map(|number| person(&format!("e{number}"))).collect();
    items[1] = json!({ "externalId": "" });
    let bulk = json!({ "connection": "startexam-main", "items": items });
    let response = gateway.post("/candidates/bulk", &bulk).await;
    assert_eq!(response.status, 207, "{response:?}");
    let entries = read_record(&gateway).await;
    assert_eq!(summaries(&entries), ["ended candidates.bulk - - -", "answered candidates.bulk 207 - -"]);
    let counts = json!({ "applied": 2, "notApplied": 1, "skipped": 0, "total": 3, "unknown": 0 });
    assert_eq!(entries[0]["counts"], counts);
    assert_eq!(entries[0]["object"], entries[1]["object"]);
    let operation = entries[0]["object"].as_str().expect("an operation").to_owned();
    assert_eq!(gateway.post(&format!("{operation}/cancel"), &json!({})).await.status, 202);
    assert_eq!(gateway.post(&format!("{operation}/retry"), &json!({})).await.status, 202);
    let entries = read_record(&gateway).await;
    let later = ["answered operations.cancel 202 - -", "answered operations.retry 202 - -"];
    assert_eq!(summaries(&entries[2..]), later);
    assert!(entries.iter().all(|entry| entry["object"] == *operation));
    assert!(!json!(entries).to_string().contains(PERSONAL));
}

#[tokio::test]
async fn an_enrolment_entry_names_the_program_but_no_employee() {
    let (_sandbox, gateway) = start().await;
    let person = person(&format!("emp-{PERSONAL}"));
    assert_eq!(gateway.post("/candidates", &person).await.status, 201);
    let enrol = json!({ "connection": "startexam-main", "scope": "all", "register": [format!("emp-{PERSONAL}")] });
    let path = format!("/programs/{}", accounts::startexam::PROGRAM_ID);
    let response = gateway.post(&format!("{path}/employees"), &enrol).await;
    assert_eq!(response.status, 200, "{response:?}");
    // The vendor defines what a program's id may be; anything else is not recorded.
    let odd = gateway.post(&format!("/programs/ext:{PERSONAL}@example.com/employees"), &enrol).await;
    assert_eq!(odd.problem().0, 422, "{odd:?}");
    let entries = read_record(&gateway).await;
    let wanted = ["ended programs.employees - - -", "answered programs.employees 200 applied -"];
    assert_eq!(summaries(&entries[1..3]), wanted);
    assert_eq!((entries.len(), &entries[4]["status"]), (5, &json!(422)));
    assert_eq!(entries[2]["object"], *path);
    assert!(!json!(entries).to_string().contains(PERSONAL));
}

#[tokio::test]
async fn during_a_store_outage_responses_are_sent_and_entries_written_later() {
    let (_sandbox, gateway) = start().await;
    let mut file = Connection::open(gateway.folder.path().join("store.db")).expect("the store's file");
    let held = file.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("there is no writer");
    let refused = gateway.post("/candidates", &json!({})).await;
    assert_eq!(refused.problem().1, "connection_required", "{refused:?}");
    assert_eq!(read_record(&gateway).await, Vec::<Value>::new());
    drop(held);
    let entries = wait_for_entry(&gateway, |entry| entry["requestId"] == refused.text("/requestId")).await;
    assert_eq!(summaries(&entries), ["answered candidates.create 422 not_applied connection_required"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_sent_before_a_kill_has_its_entry() {
    let (_sandbox, gateway) = start().await;
    let write = |number: usize| {
        let request = gateway.request(Method::POST, "/candidates").header("x-request-id", &format!("r-{number}"));
        request.json(&person(&format!("e{number}"))).try_send()
    };
    let writes: Vec<_> = (0..60).map(write).collect();
    let mut answered = BTreeSet::new();
    let request_id = |response: Option<ApiResponse>| Some(response?.header("x-request-id")?.to_owned());
    let mut running: Vec<_> = writes.into_iter().map(tokio::spawn).collect();
    // In the middle of the run.
    for write in running.drain(..20) {
        answered.extend(request_id(write.await.expect("no panic")));
    }
    let folder = gateway.kill().await;
    for write in running {
        answered.extend(request_id(write.await.expect("no panic")));
    }
    let gateway = Gateway::start_in(folder).await;
    let entries = read_record(&gateway).await;
    let recorded: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["requestId"].as_str()).collect();
    assert!(answered.len() >= 20);
    for response in answered {
        assert!(recorded.contains(&*response), "{response}");
    }
}
