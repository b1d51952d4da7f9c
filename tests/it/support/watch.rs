//! Reads a simulator's calls and effects, and waits for what happens in the background.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::gateway::{ApiResponse, Gateway, read_effects};

/// Only a hang takes longer.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Returns the bodies of the calls of one operation so far, as JSON; a form becomes an object of its fields.
pub async fn bodies(port: SocketAddr, operation: &str) -> Vec<Value> {
    let log = read_effects(port).await;
    let calls = log["calls"].as_array().expect("a list of calls").iter();
    calls.filter(|call| call["operation"] == operation).map(|call| body_of(&call["body"])).collect()
}

/// Returns the number of calls so far; requests for a signature do not count.
pub async fn call_count(port: SocketAddr) -> usize {
    let log = read_effects(port).await;
    let calls = log["calls"].as_array().expect("a list of calls").iter();
    calls.filter(|call| call["operation"] != "signature").count()
}

/// Returns the number of calls of one operation so far.
pub async fn calls_of(port: SocketAddr, operation: &str) -> usize {
    bodies(port, operation).await.len()
}

/// Waits until an operation was called more often than this.
pub async fn wait_for_calls(port: SocketAddr, operation: &str, more_than: usize) {
    let started = tokio::time::Instant::now();
    while calls_of(port, operation).await <= more_than {
        assert!(started.elapsed() < TIMEOUT, "{operation} was never called again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the subjects of the effects of one kind so far, in order.
pub async fn changes(port: SocketAddr, operation: &str, change: &str) -> Vec<String> {
    let log = read_effects(port).await;
    let effects = log["effects"].as_array().expect("a list of effects").iter();
    effects
        .filter(|effect| effect["operation"] == operation && effect["change"] == change)
        .map(|effect| effect["subject"].as_str().expect("a subject").to_owned())
        .collect()
}

/// Waits until something about this subject was created, as the operation's effects name it.
pub async fn wait_for_effect(port: SocketAddr, operation: &str, about: &str) {
    let started = tokio::time::Instant::now();
    while !changes(port, operation, "created").await.iter().any(|subject| subject.contains(about)) {
        assert!(started.elapsed() < TIMEOUT, "{operation} never created {about}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads the resource until it is in this state.
pub async fn wait_for_state(gateway: &Gateway, path: &str, state: &str) -> ApiResponse {
    wait_until(gateway, path, |response| response.text("/state") == state).await
}

/// Reads the resource until the condition holds. The pause only saves CPU; nothing depends on it.
pub async fn wait_until(gateway: &Gateway, path: &str, wanted: impl Fn(&ApiResponse) -> bool) -> ApiResponse {
    let started = tokio::time::Instant::now();
    loop {
        let response = gateway.get(path).await;
        if wanted(&response) {
            return response;
        }
        assert!(started.elapsed() < TIMEOUT, "{path} never met the condition: {response:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns whether the outcome of a resource, or of every row of an operation, is known. A completed operation may still
/// have rows that the gateway is reconciling.
pub fn is_known(resource: &ApiResponse) -> bool {
    let state = resource.text("/state");
    let progress = &resource.body["progress"];
    // A booking has a progress, too, which is not one of rows.
    if progress["total"].is_null() {
        return resource.status == 200 && !["pending", "unknown"].contains(&state);
    }
    state == "completed" && progress["unknown"] == 0 && progress["pending"] == 0
}

/// Waits until the condition holds.
pub async fn wait_until_true(what: &str, condition: impl Fn() -> bool) {
    let started = tokio::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < TIMEOUT, "{what}: never");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the warnings' codes, each with its pointer.
pub fn warnings(response: &ApiResponse) -> Vec<(String, String)> {
    let text = |warning: &Value, name: &str| warning[name].as_str().unwrap_or_default().to_owned();
    let warnings = response.body["warnings"].as_array().into_iter().flatten();
    warnings.map(|warning| (text(warning, "code"), text(warning, "pointer"))).collect()
}

fn body_of(body: &Value) -> Value {
    let Some(text) = body.as_str() else { return body.clone() };
    serde_json::from_str(text).unwrap_or_else(|_| {
        let fields: BTreeMap<String, String> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        serde_json::to_value(fields).expect("text")
    })
}
