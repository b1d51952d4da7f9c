//! Results from end to end: what a vendor says of an exam is read from its feed or received from its webhooks, matched
//! and shown. The vendor is the sandbox, which also knows what should come of it.

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway, http, sandbox, set_faults};
use crate::support::people::{order, person_at, with};
use crate::support::watch::wait_until;

mod deliveries;
mod events;
mod evidence;
mod expiry;
mod feed;
mod feed_faults;
mod kills;
mod parked;
mod privacy;
mod programs;
mod receiver_limits;
mod replicas;
mod reread;
mod tenants;
mod throughput;
mod timings;
mod views;
mod webhooks;

/// The test at StartExam that most of these tests book, and its entry in the catalogue.
const TEST: &str = accounts::startexam::TESTS[0].0;
const RUST: &str = "rust-101";
/// The same at ThinkExam.
const THINK_TEST: &str = accounts::thinkexam::TESTS[0].0;
pub const APTITUDE: &str = "aptitude";

pub const START: &str = "startexam-main";
pub const THINK: &str = "thinkexam-main";

/// Faults of the feed are made on purpose, one after the other, and few of these tests are about the circuit breaker.
const NO_BREAKER: &str = "breaker = { failures = 0, cooldown = \"1s\" }";

/// The secret part of the receiver's address.
pub const TOKEN: &str = "hook-token-of-the-tests";

/// Returns connections that read the feed and receive webhooks, with a catalogue; more settings of each may be given.
pub fn connections(sandbox: &Sandbox, feed: &str, receiver: &str) -> String {
    let fields = "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\" }";
    let feed = format!("{fields}\n{NO_BREAKER}\n[connections.{START}.results]\nmode = \"feed\"\n{feed}");
    let key = accounts::thinkexam::WEBHOOK_KEY;
    let receiver = format!(
        "[connections.{THINK}.results]\nmode = \"webhook\"\nkeys = [\"plain:{key}\"]\npath_token = \"plain:{TOKEN}\"\n\
         {receiver}"
    );
    startexam(&format!("http://{}", sandbox.startexam()), &feed)
        + &thinkexam(&format!("http://{}", sandbox.thinkexam()), &receiver)
        + &catalogue("")
}

/// Returns the catalogue; `more` is added to the entry of each assessment.
fn catalogue(more: &str) -> String {
    let entry = |id: &str, connection: &str, reference: &str| {
        format!("[assessments.{id}]\nname = \"{id}\"\nconnection = \"{connection}\"\nref = \"{reference}\"\n{more}\n")
    };
    entry(RUST, START, TEST) + &entry(APTITUDE, THINK, THINK_TEST)
}

pub async fn start() -> (Sandbox, Gateway) {
    start_with("", "").await
}

pub(crate) async fn start_with(feed: &str, receiver: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&connections(&sandbox, feed, receiver)).await;
    (sandbox, gateway)
}

/// Registers a person and books an assessment for them; returns the assignment as it was answered.
pub async fn book(gateway: &Gateway, connection: &str, id: &str) -> Value {
    let registered = gateway.post("/candidates", &person_at(connection, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    book_registered(gateway, connection, id).await
}

/// Books an assessment for a registered person.
async fn book_registered(gateway: &Gateway, connection: &str, id: &str) -> Value {
    let booked = gateway.post("/assignments", &booking(connection, id)).await;
    assert_eq!((booked.status, booked.text("/state")), (201, "assigned"), "{booked:?}");
    booked.body
}

/// Returns the booking of the assessment at this connection. At StartExam it has a long window: sessions of the sandbox last
/// some minutes, so that they begin before they are posted.
pub(crate) fn booking(connection: &str, id: &str) -> Value {
    if connection != START {
        return with(order(id, APTITUDE), "connection", json!(connection));
    }
    let booking = with(order(id, RUST), "connection", json!(connection));
    with(with(booking, "validFrom", json!("2020-01-01T00:00:00Z")), "validUntil", json!("2099-01-01T00:00:00Z"))
}

/// Registers and books `e0`, `e1` and so on at StartExam; returns the participants' ids.
async fn book_many(gateway: &Gateway, count: usize) -> Vec<String> {
    let ids = (0..count).map(|number| format!("e{number}"));
    let people: Vec<Value> = ids.clone().map(|id| person_at(START, &id)).collect();
    let people = gateway.post("/candidates/bulk", &json!({ "connection": START, "items": people })).await;
    assert_eq!(people.body["summary"]["applied"], count, "{people:?}");
    let orders: Vec<Value> = ids.map(|id| bulk_row(&booking(START, &id))).collect();
    let orders = gateway.post("/assignments/bulk", &json!({ "connection": START, "items": orders })).await;
    assert_eq!(orders.body["summary"]["applied"], count, "{orders:?}");
    let booked = all(gateway, "/assignments?limit=200").await;
    booked.iter().map(|assignment| text(assignment, "/vendorRef/id").to_owned()).collect()
}

/// Returns the booking as a row of a bulk, which names the connection once for all.
fn bulk_row(booking: &Value) -> Value {
    let mut row = booking.clone();
    row.as_object_mut().expect("an object").remove("connection");
    row
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

pub(crate) fn path_of(assignment: &Value) -> String {
    format!("/assignments/{}", text(assignment, "/id"))
}

/// Has a participant begin or finish a test at StartExam; see docs/SANDBOX.md.
pub(crate) async fn sit(sandbox: &Sandbox, session: &Value) -> Value {
    control(&format!("http://{}/_sessions", sandbox.startexam()), session).await
}

/// Returns a finished session with a section, so that the feed says all there is.
pub(crate) fn finished(participant: &str, score: f64) -> Value {
    json!({
        "participantId": participant, "finished": true, "score": score, "maxScore": 8,
        "sections": [{ "title": "Section #1", "score": score, "maxScore": 8, "level": "passed" }],
    })
}

/// Delivers results of ThinkExam to the receiver at this address; returns the deliveries' statuses.
async fn deliver_to(sandbox: &Sandbox, url: &str, results: &[Value]) -> Vec<u64> {
    let results: Vec<Value> = results.iter().map(|result| with(result.clone(), "retryDelayMs", json!(0))).collect();
    let order = json!({ "url": url, "results": results });
    let sent = control(&format!("http://{}/_webhooks", sandbox.thinkexam()), &order).await;
    let deliveries = sent["deliveries"].as_array().expect("a list").iter();
    deliveries.map(|delivery| delivery["status"].as_u64().unwrap_or_default()).collect()
}

/// Delivers results to the receiver that names their test; it takes every one.
pub async fn deliver(sandbox: &Sandbox, gateway: &Gateway, results: &[Value]) {
    deliver_by(sandbox, &receiver(gateway, &format!("/{APTITUDE}")), results).await;
}

/// Delivers results to the receiver that names no test; it takes every one.
pub async fn deliver_unnamed(sandbox: &Sandbox, gateway: &Gateway, results: &[Value]) {
    deliver_by(sandbox, &receiver(gateway, ""), results).await;
}

async fn deliver_by(sandbox: &Sandbox, url: &str, results: &[Value]) {
    let statuses = deliver_to(sandbox, url, results).await;
    assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

/// Returns the address of the gateway's receiver; `more` is appended to its path.
fn receiver(gateway: &Gateway, more: &str) -> String {
    format!("http://{}/receivers/{THINK}/{TOKEN}{more}", gateway.address)
}

/// Returns a result of ThinkExam as `POST /_webhooks` takes it.
pub fn marks(id: &str, marks: f64) -> Value {
    json!({ "email": format!("{id}@example.com"), "testId": THINK_TEST, "marks": marks })
}

async fn control(url: &str, order: &Value) -> Value {
    let response = http().post(url).json(order).send().await.expect("the sandbox responds");
    let (status, body) = (response.status(), response.text().await.expect("text"));
    assert!(status.is_success(), "{status} {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Asks the gateway to read the feed now.
pub(crate) async fn read_feed(gateway: &Gateway) {
    let asked = gateway.request(Method::POST, &format!("/connections/{START}/read")).send().await;
    assert_eq!(asked.status, 202, "{asked:?}");
}

/// Returns everything in a list, page by page.
pub async fn all(gateway: &Gateway, path: &str) -> Vec<Value> {
    let (mut items, mut page) = (Vec::new(), path.to_owned());
    loop {
        let response = gateway.get(&page).await;
        assert_eq!(response.status, 200, "{page}: {response:?}");
        items.extend(response.body["items"].as_array().expect("a list").iter().cloned());
        let Some(cursor) = response.body["nextCursor"].as_str() else { return items };
        page = format!("{path}&cursor={cursor}");
    }
}

/// Waits until this list has so many items, and returns them. More fail the test.
pub async fn wait_for_count(gateway: &Gateway, path: &str, count: usize) -> Vec<Value> {
    let length = |response: &ApiResponse| response.body["items"].as_array().map(Vec::len);
    let page = wait_until(gateway, path, |response| length(response) >= Some(count)).await;
    let items = page.body["items"].as_array().expect("a list").clone();
    assert_eq!(items.len(), count, "{items:?}");
    items
}

/// Waits until the only result of an assignment has this version, and returns it.
pub async fn wait_for_version(gateway: &Gateway, assignment: &Value, version: u64) -> Value {
    let path = format!("/results?assignment={}", text(assignment, "/id"));
    let reached = |response: &ApiResponse| response.body["items"][0]["version"].as_u64() >= Some(version);
    let page = wait_until(gateway, &path, reached).await;
    let items = page.body["items"].as_array().expect("a list");
    assert_eq!((items.len(), items[0]["version"].as_u64()), (1, Some(version)), "{page:?}");
    items[0].clone()
}

/// Waits until the progress of an assignment says this.
async fn wait_for_activity(gateway: &Gateway, assignment: &Value, activity: &str) -> Value {
    let path = path_of(assignment);
    wait_until(gateway, &path, |response| response.text("/progress/activity") == activity).await.body
}

/// Waits until the first run at the start of the gateway has ended: only then does the feed say that nothing happened.
pub(crate) async fn wait_for_first_run(gateway: &Gateway, assignment: &Value) -> Value {
    let path = path_of(assignment);
    wait_until(gateway, &path, |response| !response.text("/progress/asOf").is_empty()).await.body
}

/// Has the feed read until the list meets the condition: for what the vendor shows some time later.
pub(crate) async fn read_until(gateway: &Gateway, path: &str, wanted: impl Fn(&ApiResponse) -> bool) -> ApiResponse {
    let started = std::time::Instant::now();
    loop {
        read_feed(gateway).await;
        // As long as a run takes at most on an idle machine; a longer one only makes another turn.
        for _ in 0..50 {
            let response = gateway.get(path).await;
            if wanted(&response) {
                return response;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(started.elapsed().as_secs() < 300, "{path} never met the condition");
    }
}

/// Returns the codes of a result's warnings.
fn warning_codes(result: &Value) -> Vec<&str> {
    result["warnings"].as_array().into_iter().flatten().map(|warning| text(warning, "/code")).collect()
}

/// Returns the versions of a result, oldest first.
async fn versions(gateway: &Gateway, result: &Value) -> Vec<Value> {
    let response = gateway.get(&format!("/results/{}/versions", text(result, "/id"))).await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body["items"].as_array().expect("a list").clone()
}

/// Returns the members that a version changed.
fn changed(version: &Value) -> Vec<&str> {
    version["changed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Sets a switch of the StartExam simulator.
pub(crate) async fn switch(sandbox: &Sandbox, name: &str, value: Value) {
    set_faults(sandbox.startexam(), json!({ "switches": { name: value } })).await;
}

/// Injects a fault into the feed of the StartExam simulator, or ends all if it is `null`.
async fn fault(sandbox: &Sandbox, fault: Value) {
    let faults = if fault.is_null() { json!([]) } else { json!([with(fault, "operation", json!("sessions"))]) };
    set_faults(sandbox.startexam(), json!({ "faults": faults })).await;
}
