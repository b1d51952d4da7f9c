//! Events: what no response reported, read as a list, by long polling and as a stream; each is there if and only if its change
//! was committed.

use std::collections::{BTreeMap, BTreeSet};

use examgate::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::startexam;
use crate::support::gateway::{ApiResponse, Gateway, http, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::watch::wait_until;

mod access;
mod connections;
mod follow;
mod kills;
mod reading;
mod replicas;
mod retention;
mod settled;
mod store_failures;
mod stream;

const START: &str = "startexam-main";

/// Starts a gateway with a connection to StartExam; `more` is added to it.
async fn start_with(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), more)).await;
    (sandbox, gateway)
}

async fn start() -> (Sandbox, Gateway) {
    start_with("").await
}

/// Registers people in a bulk, which makes one event.
async fn complete_operation(gateway: &Gateway, id: &str) -> String {
    let bulk = gateway.post("/candidates/bulk", &json!({ "connection": START, "items": [person(id)] })).await;
    assert_eq!(bulk.body["summary"]["applied"], 1, "{bulk:?}");
    bulk.text("/operation").to_owned()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn items(page: &ApiResponse) -> Vec<Value> {
    assert_eq!(page.status, 200, "{page:?}");
    page.body["items"].as_array().expect("a list").clone()
}

/// Returns all events of the client, page by page, and checks their chain.
async fn all_events(gateway: &Gateway) -> Vec<Value> {
    let (mut events, mut path) = (Vec::new(), "/events?limit=200".to_owned());
    loop {
        let page = gateway.get(&path).await;
        let more = items(&page);
        if more.is_empty() {
            break;
        }
        events.extend(more);
        path = format!("/events?limit=200&after={}", page.text("/nextCursor"));
    }
    assert_chain(&events);
    events
}

/// Asserts that these are all events of a tenant from the first on: numbered without a gap, each once.
fn assert_chain(events: &[Value]) {
    for (number, event) in (1_u64..).zip(events) {
        assert_eq!(event["sequence"], number, "{event}");
        assert_eq!(event["previous"].as_u64(), (number > 1).then(|| number - 1), "{event}");
    }
    let ids: BTreeSet<&str> = events.iter().map(|event| text(event, "/id")).collect();
    assert_eq!(ids.len(), events.len(), "each event has an id of its own");
}

/// Returns how many events of this type there are about each resource.
fn by_resource(events: &[Value], event_type: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == event_type) {
        *counts.entry(text(event, "/data/resource").to_owned()).or_default() += 1;
    }
    counts
}

/// Waits until there is an event of this type about the resource; returns it.
async fn wait_for_event(gateway: &Gateway, event_type: &str, resource: &str) -> Value {
    let is_it = |event: &&Value| event["data"]["resource"] == resource;
    let path = format!("/events?limit=200&types={event_type}");
    let page =
        wait_until(gateway, &path, |page| page.body["items"].as_array().into_iter().flatten().any(|it| is_it(&it)));
    let page = page.await;
    page.body["items"].as_array().and_then(|items| items.iter().find(is_it)).expect("the event").clone()
}

/// A stream of events that is read line by line.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    /// Opens a stream after this event.
    async fn open(gateway: &Gateway, query: &str, last: Option<&str>) -> Self {
        let mut request = http().get(format!("http://{}/events?{query}", gateway.address)).bearer_auth(key("lms"));
        request = request.header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("the gateway responds");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// Returns the first `id` without data, with which a stream begins.
    async fn bookmark(&mut self) -> String {
        while !self.text.contains("\n\n") {
            let chunk = self.response.chunk().await.expect("the stream").expect("a beginning");
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
        let (first, rest) = self.text.split_once("\n\n").expect("a beginning");
        let (id, rest) = (first.strip_prefix("id: ").expect("only an id").to_owned(), rest.to_owned());
        self.text = rest;
        id
    }

    /// Returns the next event with its id; `None` at the end. Skips comments and events without data.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    let data: Value = serde_json::from_str(&data).expect("JSON");
                    assert_eq!(field("event: ").as_deref(), data["type"].as_str());
                    assert_eq!(data["sequence"].as_u64(), id.parse().ok());
                    return Some((id, data));
                }
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}
