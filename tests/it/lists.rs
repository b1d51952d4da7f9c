//! Lists of candidates, operations and a person's assignments; a booking that cannot be changed; what an operation says
//! of its rows.

use std::collections::BTreeSet;
use std::time::Duration;

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, sandbox_connections, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, key, sandbox, set_faults};
use crate::support::people::{order, person, person_at, with};
use crate::support::watch::call_count;

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

/// Returns a field of each entry.
fn fields(response: &ApiResponse, pointer: &str) -> Vec<String> {
    assert_eq!(response.status, 200, "{response:?}");
    let items = response.body["items"].as_array().expect("items").iter();
    items.map(|item| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()).collect()
}

async fn external_ids(gateway: &Gateway, path: &str) -> Vec<String> {
    fields(&gateway.get(path).await, "/externalId")
}

async fn get_as(gateway: &Gateway, who: &str, path: &str) -> ApiResponse {
    gateway.request_as(&key(who), Method::GET, path).send().await
}

async fn post_as(gateway: &Gateway, who: &str, path: &str, body: &Value) -> ApiResponse {
    gateway.request_as(&key(who), Method::POST, path).json(body).send().await
}

#[tokio::test]
async fn candidates_are_listed_newest_first_with_filters_that_combine() {
    let (sandbox, gateway) = start().await;
    let member = |connection: &str, id: &str, group: &str| with(person_at(connection, id), "group", json!(group));
    let course = accounts::thinkexam::COURSES[0];
    let mut pictured = member("thinkexam-main", "e1", course);
    pictured["photo"] = json!("iVBORw0KGgo=");
    pictured["password"] = json!("s3cretWord1");
    let people = [
        member("startexam-main", "e0", "Group A"),
        pictured,
        member("startexam-main", "e2", "Group B"),
        person_at("startexam-main", "e3"),
    ];
    for body in &people {
        let created = gateway.post("/candidates", body).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "bad_request", "times": 1 }] })).await;
    let refused = gateway.post("/candidates", &member("startexam-main", "e4", "Group A")).await;
    assert_eq!(refused.text("/outcome"), "not_applied", "{refused:?}");
    let of_course = url::form_urlencoded::Serializer::new("?".to_owned()).append_pair("group", course).finish();
    for (query, expected) in [
        ("", &["e4", "e3", "e2", "e1", "e0"][..]),
        ("?connection=startexam-main", &["e4", "e3", "e2", "e0"]),
        ("?connection=examtesting-main", &[]),
        ("?state=registered", &["e3", "e2", "e1", "e0"]),
        ("?state=failed", &["e4"]),
        ("?state=unknown", &[]),
        ("?group=Group%20A", &["e4", "e0"]),
        ("?group=group%20a", &[]),
        ("?group=Group%20A&state=registered", &["e0"]),
        (&*format!("{of_course}&connection=startexam-main"), &[]),
        (&*format!("{of_course}&connection=thinkexam-main&state=registered"), &["e1"]),
        ("?limit=2", &["e4", "e3"]),
        // With an external id, a rejected candidate is not found: it has given up its identities.
        ("?externalId=e4", &[]),
        ("?externalId=e0", &["e0"]),
        ("?externalId=e0&state=failed", &[]),
        ("?externalId=e0&group=Group%20A&connection=startexam-main", &["e0"]),
        ("?externalId=e0&group=Group%20B", &[]),
    ] {
        assert_eq!(external_ids(&gateway, &format!("/candidates{query}")).await, expected, "{query}");
    }
    let text = gateway.get("/candidates").await.body.to_string();
    assert!(!text.contains("iVBORw0KGgo") && !text.contains("s3cretWord1") && !text.contains("assword"), "{text}");
    let all = gateway.get("/candidates").await;
    let gone = all.text("/items/2/id");
    assert_eq!(gateway.delete(&format!("/candidates/{gone}")).await.status, 204);
    assert_eq!(external_ids(&gateway, "/candidates").await, ["e4", "e3", "e1", "e0"], "an erased person is gone");
    assert_eq!(external_ids(&gateway, "/candidates?group=Group%20B").await, [""; 0]);
}

#[tokio::test]
async fn filters_of_lists_are_checked() {
    let (_sandbox, gateway) = start().await;
    let cursor = format!("cand_{}", "0".repeat(32));
    for (path, pointer, word) in [
        ("/candidates?state=registred", "?state", "registered"),
        ("/candidates?group=", "?group", "characters"),
        ("/candidates?limit=201", "?limit", "200"),
        ("/candidates?cursor=op_1", "?cursor", "cursor"),
        (&*format!("/candidates?externalId={}", "x".repeat(251)), "?externalId", "250"),
        ("/candidates?grup=A", "?grup", "unknown"),
        ("/operations?state=receiving", "?state", "queued"),
        ("/operations?kind=people", "?kind", "candidates"),
        (&*format!("/operations?cursor={cursor}"), "?cursor", "cursor"),
        ("/assignments?state=booked", "?state", "assigned"),
        (&*format!("/assignments?externalId={}", "x".repeat(251)), "?externalId", "250"),
    ] {
        let refused = gateway.get(path).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{path}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{path}: {refused:?}");
        assert!(refused.text("/errors/0/detail").contains(word), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_candidates_registered_meanwhile() {
    let (_sandbox, gateway) = start().await;
    for number in 0..5 {
        assert_eq!(gateway.post("/candidates", &person_at("startexam-main", &format!("e{number}"))).await.status, 201);
    }
    let (mut seen, mut cursor, mut later) = (Vec::new(), String::new(), 0);
    loop {
        let page = gateway.get(&format!("/candidates?limit=2{cursor}")).await;
        let ids = fields(&page, "/externalId");
        assert!(ids.len() <= 2, "{page:?}");
        seen.extend(ids);
        let Some(next) = page.body["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        assert_eq!(
            gateway.post("/candidates", &person_at("startexam-main", &format!("late{later}"))).await.status,
            201
        );
        later += 1;
    }
    assert_eq!(seen, ["e4", "e3", "e2", "e1", "e0"]);
    assert_eq!(later, 2, "the last page says that it is the last");
}

#[tokio::test]
async fn a_list_has_only_what_its_client_may_see() {
    let sandbox = sandbox().await;
    let clients = client("a", "", "[\"*\"]")
        + &client("b", "", "[\"*\"]")
        + &client("narrow", "a", "[\"thinkexam-main\"]")
        + &client("two", "a", "[\"thinkexam-main\", \"examtesting-main\"]");
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    assert_eq!(post_as(&gateway, "a", "/candidates", &person_at("thinkexam-main", "old")).await.status, 201);
    for number in 0..4 {
        let body = person_at("startexam-main", &format!("e{number}"));
        assert_eq!(post_as(&gateway, "a", "/candidates", &body).await.status, 201);
    }
    let rows = json!({ "connection": "startexam-main", "items": [person("e9")] });
    assert_eq!(post_as(&gateway, "a", "/candidates/bulk", &rows).await.status, 207);
    for path in ["/candidates", "/candidates?group=x", "/candidates?state=registered", "/operations"] {
        let listed = get_as(&gateway, "b", path).await;
        assert_eq!((listed.status, &listed.body["items"]), (200, &json!([])), "{path}");
    }
    // Entries of other connections do not use up the page.
    for who in ["narrow", "two"] {
        let listed = get_as(&gateway, who, "/candidates?limit=1").await;
        assert_eq!(fields(&listed, "/externalId"), ["old"], "{who}");
        let refused = get_as(&gateway, who, "/operations?connection=startexam-main").await;
        assert_eq!(refused.problem(), (403, "connection_forbidden", "not_applied"), "{who}");
        assert_eq!(fields(&get_as(&gateway, who, "/operations").await, "/id"), [""; 0], "{who}");
    }
    assert_eq!(fields(&get_as(&gateway, "a", "/candidates").await, "/id").len(), 6);
}

#[tokio::test]
async fn operations_are_listed_by_state_kind_and_connection() {
    let (_sandbox, gateway) = start().await;
    let bulk = async |path: &str, body: Value| {
        let response = gateway.post(path, &body).await;
        assert_eq!(response.status, 207, "{response:?}");
        response.text("/operation").to_owned()
    };
    let people = |connection: &str| json!({ "connection": connection, "items": [person("e1")] });
    let first = bulk("/candidates/bulk", people("startexam-main")).await;
    let second = bulk("/candidates/bulk", people("thinkexam-main")).await;
    let orders = json!({ "connection": "startexam-main", "items": [order("e1", TEST)] });
    let third = bulk("/assignments/bulk", orders).await;
    for (query, expected) in [
        ("", vec![&third, &second, &first]),
        ("?state=completed", vec![&third, &second, &first]),
        ("?state=running", vec![]),
        ("?kind=candidates", vec![&second, &first]),
        ("?kind=assignments&connection=startexam-main", vec![&third]),
        ("?connection=startexam-main&state=completed", vec![&third, &first]),
        ("?connection=thinkexam-main&kind=assignments", vec![]),
    ] {
        let listed = fields(&gateway.get(&format!("/operations{query}")).await, "/id");
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let page = gateway.get("/operations?kind=candidates&limit=1").await;
    let rest = gateway.get(&format!("/operations?kind=candidates&cursor={}", page.text("/nextCursor"))).await;
    assert_eq!((fields(&rest, "/id"), &rest.body["nextCursor"]), (vec![first], &Value::Null));
    let unheard = gateway.get("/operations?connection=startexam-mian").await;
    assert_eq!(unheard.problem(), (404, "connection_not_found", "not_applied"));
}

#[tokio::test]
async fn a_persons_assignments_are_listed_by_their_external_id() {
    let (_sandbox, gateway) = start().await;
    for connection in ["startexam-main", "thinkexam-main"] {
        for id in ["e1", "e2"] {
            assert_eq!(gateway.post("/candidates", &person_at(connection, id)).await.status, 201);
        }
    }
    let book = async |connection: &str, candidate: Value, assessment: &str| {
        let body = json!({ "connection": connection, "candidate": candidate, "assessment": assessment });
        let booked = gateway.post("/assignments", &body).await;
        assert_eq!(booked.status, 201, "{booked:?}");
        booked.text("/id").to_owned()
    };
    let other_test = accounts::startexam::TESTS[1].0;
    let first = book("startexam-main", json!({ "externalId": "e1" }), TEST).await;
    let second = book("thinkexam-main", json!({ "email": "e1@example.com" }), "2415").await;
    let third = book("startexam-main", json!({ "externalId": "e1" }), other_test).await;
    book("startexam-main", json!({ "externalId": "e2" }), TEST).await;
    let candidate = gateway.get("/candidates?externalId=e1&connection=startexam-main").await;
    let candidate = candidate.text("/items/0/id");
    let stranger = gateway.get("/candidates?externalId=e2&connection=startexam-main").await;
    let stranger = stranger.text("/items/0/id");
    for (query, expected) in [
        ("externalId=e1".to_owned(), vec![&third, &second, &first]),
        ("externalId=e1&connection=startexam-main".to_owned(), vec![&third, &first]),
        (format!("externalId=e1&assessment={TEST}"), vec![&first]),
        ("externalId=e1&state=cancelled".to_owned(), vec![]),
        (format!("externalId=e1&candidate={candidate}"), vec![&third, &first]),
        (format!("externalId=e1&candidate={stranger}"), vec![]),
        ("externalId=E1".to_owned(), vec![]),
        ("externalId=e1&limit=1".to_owned(), vec![&third]),
    ] {
        let listed = fields(&gateway.get(&format!("/assignments?{query}")).await, "/id");
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let page = gateway.get("/assignments?externalId=e1&limit=2").await;
    let rest = gateway.get(&format!("/assignments?externalId=e1&cursor={}", page.text("/nextCursor"))).await;
    assert_eq!(fields(&rest, "/id"), [first]);
}

#[tokio::test]
async fn a_booking_cannot_be_changed_and_the_refusal_names_the_fields() {
    let sandbox = sandbox().await;
    let clients = client("lms", "", "[\"*\"]") + &client("stranger", "", "[\"*\"]");
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), &clients).await;
    for connection in ["startexam-main", "thinkexam-main"] {
        assert_eq!(gateway.post("/candidates", &person_at(connection, "e1")).await.status, 201);
    }
    for (connection, assessment, port) in
        [("startexam-main", TEST, sandbox.startexam()), ("thinkexam-main", "2415", sandbox.thinkexam())]
    {
        let body = with(order("e1", assessment), "connection", json!(connection));
        let booked = gateway.post("/assignments", &body).await;
        assert_eq!(booked.status, 201, "{booked:?}");
        let path = format!("/assignments/{}", booked.text("/id"));
        let before = call_count(port).await;
        let change = json!({ "validUntil": "2040-01-01T00:00:00Z", "proctoring": { "enabled": true } });
        let refused = gateway.patch(&path, &change).await;
        assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"), "{refused:?}");
        assert_eq!(refused.text("/vendor/operation"), "assignments.update");
        assert_eq!(refused.text("/errors/0/pointer"), "/proctoring");
        assert_eq!(refused.text("/errors/1/pointer"), "/validUntil");
        for (change, pointer) in [
            (json!({ "validTill": "2040-01-01T00:00:00Z" }), "/validTill"),
            (json!({ "candidate": { "externalId": "e2" } }), "/candidate"),
            (json!({ "validFrom": "tomorrow" }), "/validFrom"),
        ] {
            let refused = gateway.patch(&path, &change).await;
            assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{change}");
            assert_eq!(refused.text("/errors/0/pointer"), pointer, "{change}");
        }
        let other = gateway.request_as(&key("stranger"), Method::PATCH, &path).json(&change).send().await;
        assert_eq!(other.problem(), (404, "not_found", "not_applied"), "{other:?}");
        assert_eq!(call_count(port).await, before, "nothing was sent");
        assert_eq!(gateway.get(&path).await.body, booked.body, "nothing changed");
    }
    for vendor in gateway.get("/vendors").await.body["items"].as_array().expect("vendors") {
        let operations = vendor["operations"].as_array().expect("operations").iter();
        let declared = operations.filter(|operation| operation["operation"] == "assignments.update");
        let declared: Vec<&Value> = declared.collect();
        assert_eq!((declared.len(), &declared[0]["supported"]), (1, &json!(false)), "{vendor}");
        assert!(declared[0]["note"].as_str().is_some_and(|note| !note.is_empty()), "{vendor}");
    }
}

/// Waits until this statement counts as many rows. The pause only saves CPU; nothing depends on it.
async fn wait_for_count(store: &rusqlite::Connection, sql: &str, wanted: i64) {
    let started = tokio::time::Instant::now();
    loop {
        let count: i64 = store.query_row(sql, [], |row| row.get(0)).expect("a count");
        if count == wanted {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "{sql}: {count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_repeated_row_says_which_row_it_repeats() {
    let (_sandbox, gateway) = start().await;
    let rows =
        json!({ "connection": "startexam-main", "items": [person("e1"), person("e2"), person("e3"), person("e2")] });
    let response = gateway.post("/candidates/bulk", &rows).await;
    assert_eq!(response.text("/results/3/problem/code"), "duplicate_item", "{response:?}");
    assert_eq!(response.body["results"][3]["problem"]["duplicateOf"], 1, "{response:?}");
    let orders =
        json!({ "connection": "startexam-main", "items": [order("e1", TEST), order("e2", TEST), order("e1", TEST)] });
    let response = gateway.post("/assignments/bulk", &orders).await;
    assert_eq!(response.body["results"][2]["problem"]["duplicateOf"], 0, "{response:?}");
    let operation = response.text("/operation");
    let kept = gateway.get(&format!("/operations/{operation}/items?outcome=not_applied")).await;
    assert_eq!(kept.body["items"][0]["problem"]["duplicateOf"], 0, "{kept:?}");
    let other = gateway.post("/candidates", &json!({})).await;
    assert!(other.body.get("duplicateOf").is_none(), "{other:?}");
}

#[tokio::test]
async fn rows_of_a_killed_process_are_counted_as_settling() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let connections = startexam(&format!("http://{port}"), "max_in_flight = 2")
        .replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connections).await;
    let delay = json!({ "name": "delay_before_effect", "delayMs": 600_000, "operation": "employees_participants" });
    set_faults(port, json!({ "faults": [delay] })).await;
    let items: Vec<Value> = (0..6).map(|number| order(&format!("e{number}"), TEST)).collect();
    let request = gateway.request(Method::POST, "/assignments/bulk").header("prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!((accepted.status, &accepted.body["progress"]["settling"]), (202, &json!(0)), "{accepted:?}");
    let path = format!("/operations/{}", accepted.text("/id"));
    let store = rusqlite::Connection::open(gateway.folder.path().join("store.db")).expect("the store");
    wait_for_count(&store, "SELECT count(*) > 0 FROM operation_items WHERE state = 'claimed'", 1).await;
    drop(store);
    let sent = gateway.get(&path).await;
    assert_eq!((&sent.body["progress"]["settling"], &sent.body["progress"]["pending"]), (&json!(0), &json!(6)));

    let gateway = Gateway::start_in(gateway.kill().await).await;
    let status = gateway.get(&path).await;
    let settling = status.body["progress"]["settling"].as_u64().expect("a count");
    // Two in flight and one begun ahead.
    assert!((1..=3).contains(&settling), "{status:?}");
    assert_eq!(status.body["progress"]["pending"], 6, "they are a part of the pending rows: {status:?}");
    let listed = gateway.get("/operations?state=running").await;
    assert_eq!(listed.body["items"][0]["progress"]["settling"], settling, "{listed:?}");
}

#[tokio::test]
async fn candidates_of_an_earlier_version_are_listed_by_their_group() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    for (id, group) in [("e1", "A"), ("e2", "B"), ("e3", "A")] {
        assert_eq!(gateway.post("/candidates", &with(person(id), "group", json!(group))).await.status, 201);
    }
    let folder = gateway.kill().await;
    let store = rusqlite::Connection::open(folder.path().join("store.db")).expect("the store");
    assert_eq!(store.execute("UPDATE candidates SET group_index = NULL", []).expect("an update"), 3);
    drop(store);
    let gateway = Gateway::start_in(folder).await;
    assert_eq!(external_ids(&gateway, "/candidates?group=A").await, ["e3", "e1"]);
    // The background indexes them; nothing changes for the caller.
    let store = rusqlite::Connection::open(gateway.folder.path().join("store.db")).expect("the store");
    wait_for_count(&store, "SELECT count(*) FROM candidates WHERE group_index IS NULL", 0).await;
    assert_eq!(external_ids(&gateway, "/candidates?group=A").await, ["e3", "e1"]);
    let ids: BTreeSet<String> = external_ids(&gateway, "/candidates").await.into_iter().collect();
    assert_eq!(ids.len(), 3);
}
