//! The record of `/audit`: who may read it, how it is exported, and how its chain reveals missing and altered entries.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::audit::{NDJSON, export, parse_lines, person, read_record, start, verify_chain};
use crate::support::connections::{client, client_with, sandbox_connections};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, key, sandbox};
use crate::support::postgres::Server;

#[tokio::test]
async fn the_audit_record_is_per_tenant_and_needs_its_scope() {
    let sandbox = sandbox().await;
    let clients = [
        client("lms", "", "[\"*\"]"),
        client("other", "", "[\"*\"]"),
        client_with("blind", "lms", "[\"*\"]", "[\"candidates:write\"]"),
    ]
    .concat();
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    assert_eq!(export(&gateway, "other", "/audit").await, "");
    let theirs = gateway.request_as(&key("other"), Method::POST, "/candidates").json(&person("e2")).send().await;
    assert_eq!(theirs.status, 201);
    // Each tenant has its own chain, which can be verified without the other's entries.
    for name in ["lms", "other"] {
        let entries = parse_lines(&export(&gateway, name, "/audit").await);
        assert_eq!((entries.len(), &entries[0]["client"]), (1, &json!(name)));
        verify_chain(&entries).expect("an unbroken chain");
    }
    let blind = gateway.request_as(&key("blind"), Method::GET, "/audit").send().await;
    assert_eq!(blind.problem().1, "insufficient_scope");
}

#[tokio::test]
async fn a_long_record_is_read_in_pages_and_exported_whole() {
    const COUNT: usize = 1_100;
    let (_sandbox, gateway) = start().await;
    let strange = json!({ "strange": 1 });
    for _ in 0..COUNT / 100 {
        join_all((0..100).map(|_| gateway.post("/candidates", &strange))).await;
    }
    let entries = read_record(&gateway).await;
    assert_eq!(entries.len(), COUNT);
    let (mut read, mut path) = (Vec::new(), "/audit?limit=200".to_owned());
    loop {
        let part: ApiResponse = gateway.get(&path).await;
        read.extend(part.body["items"].as_array().expect("items").clone());
        match part.body["nextCursor"].as_str() {
            Some(cursor) => path = format!("/audit?limit=200&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(read, entries, "the same lines, in the same order");
    verify_chain(&read).expect("no field is left out");
    assert_eq!(parse_lines(&export(&gateway, "lms", "/audit?after=1098").await), entries[1098..]);
    assert_eq!(export(&gateway, "lms", "/audit?after=1100").await, "");
    let past = "/audit?after=9223372036854775808";
    for (path, pointer) in
        [("/audit?after=x", "?after"), (past, "?after"), ("/audit?limit=0", "?limit"), ("/audit?cursor=x", "?cursor")]
    {
        let refused = gateway.get(path).await;
        assert_eq!((refused.problem().1, refused.text("/errors/0/pointer")), ("validation_failed", pointer));
    }
    let both = gateway.request(Method::GET, "/audit?limit=5").header("accept", NDJSON).send().await;
    assert_eq!(both.problem().1, "validation_failed");
    let table = gateway.request(Method::GET, "/audit").header("accept", "text/csv").send().await;
    assert_eq!(table.problem().1, "not_acceptable");
}

#[tokio::test]
async fn a_missing_or_altered_entry_is_detected_in_the_export() {
    let (_sandbox, gateway) = start().await;
    for _ in 0..4 {
        gateway.post("/candidates", &json!({})).await;
    }
    let entries = read_record(&gateway).await;
    let altered = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut entries = entries.clone();
        change(&mut entries);
        verify_chain(&entries)
    };
    for at in 0..entries.len() - 1 {
        assert!(altered(&|entries| drop(entries.remove(at))).is_err());
        assert!(altered(&|entries| entries.swap(at, at + 1)).is_err());
    }
    for name in entries[1].as_object().expect("an object").keys() {
        assert!(altered(&|entries| entries[1][name] = json!("x")).is_err(), "{name}");
    }
    // A truncated end is visible only with the last hash from before.
    let last = verify_chain(&entries).expect("whole");
    assert_ne!(altered(&|entries| drop(entries.pop())).expect("nothing before it is touched"), last);
}

/// Runs these statements on the store's file while no gateway uses it.
async fn tamper(gateway: Gateway, statements: &str) -> Gateway {
    let folder = gateway.kill().await;
    let file = Connection::open(folder.path().join("store.db")).expect("the store's file");
    file.execute_batch(statements).expect("it can be done");
    drop(file);
    Gateway::start_in(folder).await
}

#[tokio::test]
async fn the_store_refuses_to_alter_entries_and_reveals_tampering() {
    let (_sandbox, gateway) = start().await;
    for _ in 0..4 {
        gateway.post("/candidates", &json!({})).await;
    }
    let folder = gateway.kill().await;
    let file = Connection::open(folder.path().join("store.db")).expect("the store's file");
    for refused in [
        "DELETE FROM audit WHERE seq = 2",
        "UPDATE audit SET sealed = x'00' WHERE seq = 2",
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET seq = 2",
    ] {
        let error = file.execute_batch(refused).expect_err("the record is append-only").to_string();
        assert!(error.contains("append-only"), "{refused}: {error}");
    }
    drop(file);
    let gateway = Gateway::start_in(folder).await;

    // An attacker with write access to the file can drop the triggers, but cannot forge entries.
    let gateway = tamper(gateway, "DROP TRIGGER audit_lines_stay; DELETE FROM audit WHERE seq = 2").await;
    let entries = parse_lines(&export(&gateway, "lms", "/audit").await);
    assert_eq!((entries.len(), verify_chain(&entries)), (3, Err("line 3 does not follow line 1".to_owned())));
    // A truncated end is visible as soon as another entry follows.
    let gateway = tamper(gateway, "DELETE FROM audit WHERE seq = 4").await;
    gateway.post("/candidates", &json!({})).await;
    let after = parse_lines(&export(&gateway, "lms", "/audit?after=2").await);
    assert_eq!(after.iter().map(|entry| entry["seq"].as_u64()).collect::<Vec<_>>(), [Some(3), Some(5)]);
    assert_ne!(after[1]["previous"], after[0]["hash"]);
    let swapped = "DROP TRIGGER audit_lines_stand;
        UPDATE audit SET sealed = (SELECT sealed FROM audit WHERE seq = 1) WHERE seq = 3";
    let gateway = tamper(gateway, swapped).await;
    assert_eq!(gateway.get("/audit").await.problem().1, "store_unavailable");
    let rest = parse_lines(&export(&gateway, "lms", "/audit?after=3").await);
    assert_eq!(rest[0]["seq"], 5, "later entries can still be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_write_one_shared_chain() {
    let sandbox = sandbox().await;
    let url = Server::shared().schema().await;
    let connections = sandbox_connections(&sandbox, "");
    let [one, other] = [Gateway::replica(&url, &connections).await, Gateway::replica(&url, &connections).await];
    let writes = (0..60).map(|number| {
        let gateway = if number % 2 == 0 { &one } else { &other };
        let body = if number % 3 == 0 { json!({}) } else { person(&format!("e{number}")) };
        async move { gateway.post("/candidates", &body).await.status }
    });
    let statuses = tokio::time::timeout(TIMEOUT, join_all(writes)).await.expect("all requests end");
    let entries = read_record(&one).await;
    assert_eq!(entries, read_record(&other).await);
    assert_eq!(entries.len(), 60);
    for status in [201, 422] {
        let recorded = entries.iter().filter(|entry| entry["status"] == status).count();
        assert_eq!(recorded, statuses.iter().filter(|response| **response == status).count(), "{status}");
    }
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["requestId"].as_str()).collect();
    assert_eq!(ids.len(), 60, "each once");
}
