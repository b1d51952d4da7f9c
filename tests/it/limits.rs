//! Resource limits: memory with a large bulk, and disk space.

use std::fmt::Write as _;
use std::time::Duration;

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, sandbox_connections, startexam, thinkexam};
use crate::support::gateway::{Gateway, sandbox};
use crate::support::watch::{changes, wait_until};

/// The largest bulk of the contract.
const ROWS: usize = 100_000;
/// The memory that accepting it may take.
const GROWTH_KIB: u64 = 64 * 1024;

#[tokio::test]
async fn a_hundred_thousand_rows_are_accepted_in_bounded_memory() {
    let sandbox = sandbox().await;
    // One call per second: almost nothing is sent while the rows arrive.
    let slow = startexam(&format!("http://{}", sandbox.startexam()), "")
        .replace("requests_per_second = 0", "requests_per_second = 1");
    let gateway = Gateway::start(&slow).await;
    assert_eq!(gateway.get("/operations").await.status, 200);
    let idle = gateway.memory_kib("VmRSS");
    let mut csv = "externalId,name.givenName,name.familyName,email,custom.Department\n".to_owned();
    for number in 0..ROWS {
        let _ = writeln!(csv, "e{number},Ada,\"King, the {number}th\",e{number}@example.com,Mathematics");
    }
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    // A busy machine takes its time over the table.
    let accepted = request.body("text/csv", csv).timeout(Duration::from_mins(20)).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.body["progress"]["total"], ROWS);
    let peak = gateway.memory_kib("VmHWM");
    let growth = peak.saturating_sub(idle);
    println!("idle {idle} KiB, at most {peak} KiB, growth {growth} KiB");
    assert!(growth < GROWTH_KIB, "idle {idle} KiB, at most {peak} KiB");
    let operation = format!("/operations/{}", accepted.text("/id"));
    let cancel = gateway.request(Method::POST, &format!("{operation}/cancel")).timeout(Duration::from_mins(20));
    assert_eq!(cancel.send().await.status, 202);
    let ended = wait_until(&gateway, &operation, |response| response.text("/state") == "cancelled").await;
    let count = |name: &str| ended.body["progress"][name].as_u64().unwrap();
    assert_eq!(count("applied") + count("skipped"), ROWS as u64, "{ended:?}");
}

/// Rows with the largest photo allowed. An unoptimised build takes a minute for 200 of them.
const PHOTOS: usize = if cfg!(debug_assertions) { 40 } else { 200 };
/// The memory that sending them and reading their results may take. It does not depend on the number of rows.
const MAX_KIB: u64 = if cfg!(debug_assertions) { 192 * 1024 } else { 256 * 1024 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_rows_are_sent_and_read_back_in_bounded_memory() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start_with_env(
        &thinkexam(&format!("http://{}", sandbox.thinkexam()), ""),
        &client("lms", "", "[\"*\"]"),
        &[("RUST_LOG", "warn")],
    )
    .await;
    let photo = "QUJD".repeat((1 << 20) / 4);
    let mut lines = String::with_capacity(PHOTOS * (photo.len() + 200));
    for number in 0..PHOTOS {
        let _ = writeln!(
            lines,
            r#"{{"itemId":"row {number}","externalId":"e{number}","email":"e{number}@example.com","group":"CE104","name":{{"formatted":"Ada King"}},"photo":"{photo}"}}"#
        );
    }
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.body("application/x-ndjson", lines).timeout(Duration::from_mins(20)).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let received = gateway.memory_kib("VmHWM");
    let operation = format!("/operations/{}", accepted.text("/id"));
    let deadline = tokio::time::Instant::now() + Duration::from_mins(20);
    let ended = loop {
        let response = gateway.get(&operation).await;
        if response.text("/state") == "completed" {
            break response;
        }
        assert!(tokio::time::Instant::now() < deadline, "{response:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ended.body["progress"]["applied"], PHOTOS, "{ended:?}");
    let sent = gateway.memory_kib("VmHWM");
    let path = format!("{operation}/items?limit=200");
    let read = || gateway.request(Method::GET, &path).timeout(Duration::from_mins(20)).send();
    for page in futures_util::future::join_all((0..8).map(|_| read())).await {
        let items = page.body["items"].as_array().expect("items");
        assert_eq!((items.len(), &page.body["nextCursor"]), (PHOTOS, &Value::Null));
        let last = &items[PHOTOS - 1];
        assert_eq!(last["itemId"], format!("row {}", PHOTOS - 1));
        assert_eq!((&last["outcome"], last["resource"].get("photo")), (&json!("applied"), None), "{last}");
    }
    let read = gateway.memory_kib("VmHWM");
    println!("at most {received} KiB until received, {sent} KiB until sent, {read} KiB until read");
    // A single read still returns the photo.
    let one = gateway.get("/candidates?externalId=e7").await;
    let one = gateway.get(&format!("/candidates/{}", one.text("/items/0/id"))).await;
    assert_eq!(one.body["photo"].as_str().map(str::len), Some(photo.len()));
    assert!(read < MAX_KIB, "{received} KiB until received, {sent} KiB until sent, {read} KiB until read");
}

#[tokio::test]
async fn every_reported_outcome_stays_true_with_a_full_disk() {
    let sandbox = sandbox().await;
    let connections = sandbox_connections(&sandbox, "");
    let folder = Gateway::start(&connections).await.kill().await;
    // A file that must not grow is a full disk to the writer. 3 MiB are enough to start with.
    let gateway = Gateway::start_with_file_limit(folder, 3 * 1024).await;
    let (mut applied, mut refused, mut unready) = (Vec::new(), 0, 0);
    for number in 0..4_000 {
        let response = gateway.post("/candidates", &person(number)).await;
        match (response.status, response.text("/outcome")) {
            (201, _) => applied.push(format!("e{number}")),
            (503, "not_applied" | "unknown") => {
                assert_eq!(response.text("/code"), "store_unavailable", "{response:?}");
                refused += 1;
                // Now and then there is space for a moment.
                let ready = gateway.get("/readyz").await;
                if ready.status != 200 {
                    assert_eq!(ready.problem(), (503, "store_unavailable", "not_applied"));
                    unready += 1;
                }
            }
            _ => panic!("{response:?}"),
        }
        if refused > 20 {
            break;
        }
    }
    assert!(refused > 20 && !applied.is_empty(), "{} applied, {refused} refused", applied.len());
    assert!(unready > 0, "it was ready all the time");
    let bulk =
        gateway.post("/candidates/bulk", &json!({ "connection": "startexam-main", "items": [person(9_999)] })).await;
    // A moment's space is enough to accept it; then it is stored, and ends when there is space again.
    let accepted = match bulk.status {
        202 => Some(bulk.text("/id")),
        207 => Some(bulk.text("/operation")),
        _ => None,
    };
    if accepted.is_none() {
        assert_eq!(bulk.problem().1, "store_unavailable", "{bulk:?}");
    }
    // With space again the same requests succeed, and no person was registered twice.
    let gateway = Gateway::start_in(gateway.kill().await).await;
    if let Some(operation) = accepted {
        wait_until(&gateway, &format!("/operations/{operation}"), |response| response.text("/state") == "completed")
            .await;
    }
    let late = gateway.post("/candidates", &person(9_999)).await;
    assert!([200, 201].contains(&late.status), "{late:?}");
    for number in 0..applied.len() + 25 {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(20);
        loop {
            let response = gateway.post("/candidates", &person(number)).await;
            if [200, 201].contains(&response.status) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{response:?}");
        }
    }
    let mut created = changes(sandbox.startexam(), "employees", "created").await;
    let all = created.len();
    created.sort();
    created.dedup();
    assert_eq!((all, created.len()), (applied.len() + 26, applied.len() + 26));
}

fn person(number: usize) -> Value {
    json!({
        "connection": "startexam-main", "externalId": format!("e{number}"),
        "name": { "givenName": "Ada", "familyName": "King".repeat(40) },
    })
}

#[tokio::test]
async fn no_new_launch_link_is_lost_if_the_vendor_omits_existing_bookings() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    crate::support::gateway::set_faults(port, json!({ "switches": { "existing_registration": "left_out" } })).await;
    for existing in ["unknown", "left_out"] {
        let more = format!("existing_registration = \"{existing}\"\nmax_in_flight = 16");
        let gateway = Gateway::start(&startexam(&format!("http://{port}"), &more)).await;
        let test = accounts::startexam::TESTS[usize::from(existing == "unknown")].0;
        let people: Vec<Value> = (0..500).map(person).collect();
        let bulk = json!({ "connection": "startexam-main", "items": people });
        let whole = |path: &str| gateway.request(Method::POST, path).header("Prefer", "wait=60");
        let registered = whole("/candidates/bulk").json(&bulk).send().await;
        assert_eq!(registered.body["summary"]["applied"], 500, "{registered:?}");
        // A hundred people are booked at the vendor without this gateway's knowledge.
        let other = Gateway::start(&startexam(&format!("http://{port}"), &more)).await;
        let order = |number: usize| json!({ "candidate": { "externalId": format!("e{number}") }, "assessment": test });
        let early: Vec<Value> = (0..100).map(|number| order(number * 5)).collect();
        let request = other.request(Method::POST, "/assignments/bulk").header("Prefer", "wait=60");
        let booked = request.json(&json!({ "items": early })).send().await;
        assert_eq!(booked.body["summary"]["applied"], 100, "{booked:?}");

        let all: Vec<Value> = (0..500).map(order).collect();
        let booked = whole("/assignments/bulk").json(&json!({ "items": all })).send().await;
        assert_eq!(booked.body["summary"]["applied"], 500, "{existing}");
        for (number, row) in booked.body["results"].as_array().unwrap().iter().enumerate() {
            let there_before = number % 5 == 0;
            assert_eq!(row["resource"]["launch"]["url"].is_string(), !there_before, "{existing}: {row}");
            assert_eq!(row["resource"]["warnings"].to_string().contains("launch_unknown"), there_before, "{row}");
        }
    }
}
