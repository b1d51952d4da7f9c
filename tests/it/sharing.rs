//! A connection is shared fairly: a great bulk keeps neither single requests nor a small bulk waiting for its end.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, examtesting, sandbox};
use crate::support::watch::{changes, until, until_state};

fn person(id: &str) -> Value {
    json!({ "externalId": id, "email": format!("{id}@example.com"), "name": { "givenName": "Ada" } })
}

async fn begun(gateway: &Gateway, name: &str, count: usize) -> String {
    let items: Vec<Value> = (0..count).map(|number| person(&format!("{name}{number}"))).collect();
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    format!("/operations/{}", accepted.text("/id"))
}

#[tokio::test]
async fn a_great_bulk_starves_neither_single_requests_nor_a_small_bulk() {
    for in_flight in [1, 4] {
        let sandbox = sandbox().await;
        let port = sandbox.examtesting();
        let slow = examtesting(&format!("http://{port}"), &format!("max_in_flight = {in_flight}"))
            .replace("requests_per_second = 0", "requests_per_second = 50");
        let gateway = Gateway::start(&slow).await;
        let great = begun(&gateway, "great", 400).await;
        until(&gateway, &great, |told| told.body["progress"]["applied"].as_u64() >= Some(5)).await;
        let small = begun(&gateway, "small", 10).await;
        assert_eq!(gateway.post("/candidates", &person("single")).await.status, 201);
        until_state(&gateway, &small, "completed").await;
        let told: Answer = gateway.get(&great).await;
        assert_eq!(told.text("/state"), "running", "{in_flight}: {told:?}");
        let ended = gateway.request(Method::POST, &format!("{great}/cancel")).send().await;
        assert_eq!(ended.status, 202);
        let ended = until_state(&gateway, &great, "cancelled").await;
        let applied = ended.body["progress"]["applied"].as_u64().unwrap();
        assert_eq!(changes(port, "add", "created").await.len() as u64, applied + 10 + 1);
    }
}
