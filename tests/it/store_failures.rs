//! The store fails in the middle of a write: the reported outcome stays true, and every write and operation ends by
//! itself once the store is back.

use std::sync::Arc;
use std::time::Duration;

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::connections::{client, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, sandbox, set_faults};
use crate::support::machine::{Disk, Machine};
use crate::support::people::{order_if_exists, person};
use crate::support::postgres::Server;
use crate::support::relay::{Moment, Relay};
use crate::support::watch::{bodies, changes, is_known, wait_for_effect, wait_until};

const TEST: &str = accounts::startexam::TESTS[0].0;
const PROGRAM: &str = accounts::startexam::PROGRAM_ID;

/// Matches the transaction that stores a write's intent.
fn writes_an_intent(transaction: &str) -> bool {
    transaction.contains("INSERT INTO intents")
}

fn bulk_body(items: &[Value]) -> Value {
    json!({ "connection": "startexam-main", "items": items })
}

/// A vendor and a gateway on PostgreSQL behind a link that can be cut.
struct Setup {
    sandbox: Sandbox,
    relay: Relay,
    gateway: Arc<Gateway>,
}

impl Setup {
    async fn new() -> Self {
        let sandbox = sandbox().await;
        let relay = Relay::to(&Server::shared().schema().await).await;
        let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
        let gateway = Arc::new(Gateway::replica(relay.url(), &connection).await);
        Self { sandbox, relay, gateway }
    }

    /// Sends a request without waiting for its response.
    fn send(&self, method: Method, path: &str, key: Option<&str>, body: Value) -> tokio::task::JoinHandle<ApiResponse> {
        let (gateway, path, key) = (Arc::clone(&self.gateway), path.to_owned(), key.map(str::to_owned));
        tokio::spawn(async move {
            let mut request = gateway.request(method, &path);
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            request.json(&body).send().await
        })
    }
}

/// Asserts that the response claims nothing about the outcome; returns the resource it names.
fn unknown_resource(response: &ApiResponse) -> String {
    let resource = if response.status == 202 {
        response.header("location").unwrap_or_default()
    } else {
        assert_eq!(response.text("/outcome"), "unknown", "{response:?}");
        response.text("/resource")
    };
    // `Location` may be absolute.
    let start = ["/operations/", "/candidates/", "/assignments/"].iter().find_map(|root| resource.find(root));
    resource[start.unwrap_or_else(|| panic!("where the outcome will be is missing: {response:?}"))..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_reply_is_briefly_lost_is_reported_correctly() {
    let setup = Setup::new().await;
    setup.relay.cut_at_commit(Moment::ReplyLost, writes_an_intent);
    let sent = setup.send(Method::POST, "/candidates", None, person("emp-a"));
    setup.relay.wait_for_cuts(1).await;
    setup.relay.restore();
    let response = sent.await.expect("a response");
    assert_eq!((response.status, response.text("/outcome")), (201, "applied"), "{response:?}");
    assert_eq!(bodies(setup.sandbox.startexam(), "employees").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_briefly_silent_database_link_changes_no_response() {
    let setup = Setup::new().await;
    setup.relay.delay(Duration::from_millis(20));
    setup.relay.silence();
    let sent = setup.send(Method::POST, "/candidates", Some("k"), person("emp-a"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    setup.relay.restore();
    let response = sent.await.expect("a response");
    assert_eq!((response.status, response.text("/outcome")), (201, "applied"), "{response:?}");
    assert_eq!(setup.relay.cuts(), 0);
    // A cut between two requests goes unnoticed.
    setup.relay.cut();
    setup.relay.restore();
    let again = setup.send(Method::POST, "/candidates", Some("k"), person("emp-a")).await.expect("a response");
    assert_eq!((again.status, &again.body), (201, &response.body), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_during_a_store_outage_does_not_deny_an_unknown_write() {
    let setup = Setup::new().await;
    let port = setup.sandbox.startexam();
    set_faults(port, json!({ "faults": [{ "name": "reset_after_effect" }] })).await;
    let first = setup.send(Method::POST, "/candidates", Some("k"), person("emp-a")).await.expect("a response");
    let resource = unknown_resource(&first);
    setup.relay.cut();
    let retry = setup.send(Method::POST, "/candidates", Some("k"), person("emp-a")).await.expect("a response");
    assert_eq!(retry.problem(), (503, "store_unavailable", "unknown"), "{retry:?}");
    assert_eq!(unknown_resource(&retry), resource);
    // For a key this process does not know, the response is only about this request: it sent nothing.
    let fresh = setup.send(Method::POST, "/candidates", Some("l"), person("emp-b")).await.expect("a response");
    assert_eq!(fresh.problem(), (503, "store_unavailable", "not_applied"), "{fresh:?}");
    setup.relay.restore();
    set_faults(port, json!({ "faults": [] })).await;
    wait_until(&setup.gateway, &resource, |record| record.text("/outcome") == "applied").await;
    assert_eq!(changes(port, "employees", "created").await, ["emp-a"]);
}

#[tokio::test]
async fn a_retry_with_a_full_disk_does_not_deny_an_unknown_write() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let machine = Machine::new();
    let connection = startexam(&format!("http://{port}"), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    set_faults(port, json!({ "faults": [{ "name": "reset_after_effect" }] })).await;
    let send = || {
        let request = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
        request.json(&person("emp-a")).send()
    };
    let resource = unknown_resource(&send().await);
    machine.set_disk(Disk::Full);
    let retry = send().await;
    assert_eq!(retry.problem(), (503, "store_unavailable", "unknown"), "{retry:?}");
    assert_eq!(unknown_resource(&retry), resource);
}

#[tokio::test]
async fn a_full_disk_rejects_writes_before_anything_is_sent() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let machine = Machine::new();
    let connection = startexam(&format!("http://{port}"), "");
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    assert_eq!(gateway.post("/candidates", &person("emp-a")).await.status, 201);
    machine.set_disk(Disk::Full);
    let refused = gateway.post("/candidates", &person("emp-b")).await;
    assert_eq!(refused.problem(), (503, "store_unavailable", "not_applied"), "{refused:?}");
    assert!(refused.text("/detail").starts_with("The store is full"), "{refused:?}");
    let ready = gateway.get("/readyz").await;
    assert_eq!(ready.problem(), (503, "store_unavailable", "not_applied"));
    assert!(ready.text("/detail").starts_with("The store is full"), "{ready:?}");
    // Whether a commit with an I/O error was done is unknown; nothing is sent for it in either case.
    machine.set_disk(Disk::Broken);
    let doubtful = gateway.post("/candidates", &person("emp-c")).await;
    let resource = unknown_resource(&doubtful);
    machine.set_disk(Disk::Working);
    let over = |record: &ApiResponse| record.status == 404 || record.text("/state") == "failed";
    wait_until(&gateway, &resource, over).await;
    assert_eq!(changes(port, "employees", "created").await, ["emp-a"], "what was refused was not sent");
    wait_until(&gateway, "/readyz", |ready| ready.status == 200).await;
    let done = gateway.post("/candidates", &person("emp-b")).await;
    assert_eq!((done.status, done.text("/outcome")), (201, "applied"), "{done:?}");
    assert_eq!(changes(port, "employees", "created").await, ["emp-a", "emp-b"]);
}

#[tokio::test]
async fn a_disk_that_fills_during_the_vendor_call_leaves_an_unknown_write_that_resolves() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let machine = Machine::new();
    let connection = startexam(&format!("http://{port}"), "");
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    set_faults(port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 5_000, "times": 1 }] })).await;
    let registering = {
        let request = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
        tokio::spawn(async move { request.json(&person("emp-a")).send().await })
    };
    wait_for_effect(port, "employees", "emp-a").await;
    machine.set_disk(Disk::Full);
    let response = registering.await.expect("a response");
    let resource = unknown_resource(&response);
    machine.set_disk(Disk::Working);
    let settled = wait_until(&gateway, &resource, |read| read.text("/state") == "registered").await;
    assert_eq!(settled.text("/outcome"), "applied");
    let again = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k");
    let again = again.json(&person("emp-a")).send().await;
    assert!(again.status < 300 && resource.ends_with(again.text("/id")), "{again:?}");
    assert_eq!(changes(port, "employees", "created").await, ["emp-a"]);
}

/// An accepted write is never reported as not applied because it cannot be looked up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_write_is_never_reported_as_not_applied_during_a_store_outage() {
    let setup = Setup::new().await;
    let port = setup.sandbox.startexam();
    for id in ["emp-a", "emp-b"] {
        assert_eq!(setup.gateway.post("/candidates", &person(id)).await.status, 201);
    }
    set_faults(port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 6000, "times": 2 }] })).await;
    let employees = format!("/programs/{PROGRAM}/employees");
    let enrolment = json!({ "connection": "startexam-main", "scope": "all", "register": ["emp-b"] });
    let booked =
        setup.send(Method::POST, "/assignments/bulk", None, bulk_body(&[order_if_exists("emp-a", TEST, "create_new")]));
    let enrolled = setup.send(Method::POST, &employees, Some("enrol-1"), enrolment.clone());
    wait_for_effect(port, "employees_participants", "emp-a").await;
    wait_for_effect(port, "program_employees", "emp-b").await;
    setup.relay.cut();
    let (booked, enrolled) = (booked.await.expect("a response"), enrolled.await.expect("a response"));
    setup.relay.restore();
    for response in [&booked, &enrolled] {
        let operation = unknown_resource(response);
        let ended = wait_until(&setup.gateway, &operation, is_known).await;
        assert_eq!(ended.body["progress"]["applied"], 1, "{ended:?}");
    }
    // The key still belongs to the write it began.
    let again = setup.send(Method::POST, &employees, Some("enrol-1"), enrolment).await.expect("a response");
    assert_eq!((again.status, again.text("/outcome")), (200, "applied"), "{again:?}");
    assert_eq!(bodies(port, "program_employees").await.len(), 1, "sent again");
    assert_eq!(changes(port, "employees_participants", "created").await.len(), 1, "booked twice");
}

/// A commit in doubt before sending: a write that the gateway may still send is never reported as not applied, and no
/// record is stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_in_doubt_commit_is_unknown_and_then_resolved() {
    let mut running = JoinSet::new();
    running.spawn(check_in_doubt_commit("a registration", Method::POST, "/candidates", person("emp-b")));
    running.spawn(check_in_doubt_commit("a change", Method::PATCH, "", json!({ "name": { "givenName": "Grace" } })));
    running.spawn(check_in_doubt_commit(
        "a booking",
        Method::POST,
        "/assignments",
        order_if_exists("emp-a", TEST, "create_new"),
    ));
    running.spawn(check_in_doubt_commit(
        "a bulk",
        Method::POST,
        "/candidates/bulk",
        bulk_body(&[person("emp-b"), person("emp-c")]),
    ));
    running.join_all().await;
}

async fn check_in_doubt_commit(what: &str, method: Method, path: &str, body: Value) {
    let setup = Setup::new().await;
    let known = setup.gateway.post("/candidates", &person("emp-a")).await;
    assert_eq!(known.status, 201, "{what}: {known:?}");
    let candidate = format!("/candidates/{}", known.text("/id"));
    let path = if path.is_empty() { &candidate } else { path };
    setup.relay.cut_at_commit(Moment::ReplyLost, writes_an_intent);
    let sent = setup.send(method, path, None, body);
    setup.relay.wait_for_cuts(1).await;
    // The store is down until the caller has its response: longer than anything waits for the reply.
    let response = sent.await.expect("a response");
    let resource = unknown_resource(&response);
    setup.relay.restore();
    let port = setup.sandbox.startexam();
    if resource.starts_with("/operations/") {
        let ended = wait_until(&setup.gateway, &resource, is_known).await;
        assert_eq!(ended.body["progress"]["unknown"], 0, "{what}: {ended:?}");
        let made = changes(port, "employees", "created").await.len() - 1;
        assert_eq!(ended.body["progress"]["applied"], made, "{what}: {ended:?}");
        return;
    }
    if what == "a change" {
        // The next change proceeds once this one has ended, and wins.
        let next = json!({ "name": { "givenName": "Joan" } });
        let began = std::time::Instant::now();
        while setup.gateway.patch(&resource, &next).await.status != 200 {
            assert!(began.elapsed() < TIMEOUT, "{what} never ends");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let calls = bodies(port, "employees").await;
        assert!(calls.last().is_some_and(|call| call.to_string().contains("Joan")), "{what}: {calls:?}");
        return;
    }
    let open = |state: &str| ["pending", "unknown", ""].contains(&state);
    let ended = wait_until(&setup.gateway, &resource, |response| !open(response.text("/state"))).await;
    let applied = ended.text("/outcome") == "applied";
    let made = if what == "a registration" {
        changes(port, "employees", "created").await.contains(&"emp-b".to_owned())
    } else {
        changes(port, "employees_participants", "created").await.len() == 1
    };
    assert_eq!(made, applied, "{what}: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_stranded_when_a_read_fails_after_its_claim() {
    let setup = Setup::new().await;
    let people: Vec<Value> = (0..6).map(|number| person(&format!("emp-{number}x"))).collect();
    assert_eq!(setup.gateway.post("/candidates", &people[0]).await.status, 201);
    setup.relay.cut_at_commit(Moment::ReplyDelivered, writes_an_intent);
    let sent = setup.send(Method::POST, "/candidates/bulk", None, bulk_body(&people));
    setup.relay.wait_for_cuts(1).await;
    let response = sent.await.expect("a response");
    setup.relay.restore();
    let operation = unknown_resource(&response);
    let ended = wait_until(&setup.gateway, &operation, is_known).await;
    assert_eq!(ended.body["progress"]["applied"], 6, "{ended:?}");
    assert_eq!(changes(setup.sandbox.startexam(), "employees", "created").await.len(), 6);
}
