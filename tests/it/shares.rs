//! What several clients share: none of them gets so much that nothing is left for others.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::connections::{client, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, key, sandbox};
use crate::support::postgres::Server;
use crate::support::relay::Relay;
use crate::support::watch::wait_until;

/// Bulks that are received concurrently.
const RECEPTIONS: usize = 64;

fn bulk_of_one(id: &str) -> Value {
    json!({ "items": [{ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } }] })
}

async fn post_bulk(gateway: &Gateway, who: &str) -> ApiResponse {
    let request = gateway.request_as(&key(who), Method::POST, "/candidates/bulk");
    request.json(&bulk_of_one(&format!("of-{who}"))).send().await
}

/// Starts an upload that sends only its head.
async fn start_idle_upload(address: SocketAddr, who: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /candidates/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: 200000000\r\n\r\n",
        key(who)
    );
    stream.write_all(head.as_bytes()).await.expect("the bytes are sent");
    stream
}

#[tokio::test]
async fn idle_uploads_of_one_client_do_not_block_another_clients_bulk() {
    let sandbox = sandbox().await;
    let clients = client("a", "", "[\"*\"]") + &client("b", "", "[\"*\"]");
    let gateway = Gateway::start_with(&startexam(&format!("http://{}", sandbox.startexam()), ""), &clients).await;
    let mut idle = Vec::new();
    for _ in 0..RECEPTIONS {
        idle.push(start_idle_upload(gateway.address, "a").await);
    }
    let began = tokio::time::Instant::now();
    let refused = loop {
        let own = post_bulk(&gateway, "a").await;
        if own.status == 503 {
            break own;
        }
        assert!(began.elapsed() < TIMEOUT, "{own:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(refused.problem(), (503, "overloaded", "not_applied"));
    let other = post_bulk(&gateway, "b").await;
    assert_eq!((other.status, &other.body["summary"]["applied"]), (207, &json!(1)), "{other:?}");
    drop(idle);
}

#[tokio::test]
async fn a_store_outage_fails_fast_and_the_store_is_used_again_afterwards() {
    let sandbox = sandbox().await;
    let relay = Relay::to(&Server::shared().schema().await).await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::replica(relay.url(), &connections).await;
    let person = |id: &str| json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } });
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    relay.cut();
    // The outage is known from here on. Before, a request may be the one to detect it, which takes a while.
    let known = |response: &ApiResponse| response.text("/detail").starts_with("The store is temporarily unavailable");
    let first = wait_until(&gateway, "/operations", known).await;
    assert_eq!(first.problem(), (503, "store_unavailable", "not_applied"));
    assert!(first.header("retry-after").is_some());
    assert_eq!(gateway.get("/readyz").await.problem(), (503, "store_unavailable", "not_applied"));
    // If each of them had to wait for the store, these would take minutes.
    let all = async {
        for number in 0..50 {
            let write = gateway.post("/candidates", &person(&format!("late-{number}"))).await;
            for response in [write, gateway.get("/candidates?externalId=e1").await, gateway.get("/assignments").await] {
                assert!(known(&response), "{response:?}");
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(100), all).await.expect("no request waits for a store that is down");
    // Routes that do not need the store are served.
    assert_eq!(gateway.get("/vendors").await.status, 200);
    relay.restore();
    wait_until(&gateway, "/readyz", |response| response.status == 200).await;
    assert_eq!(gateway.post("/candidates", &person("e2")).await.status, 201);
    assert_eq!(gateway.get("/candidates?externalId=e1").await.body["items"].as_array().map(Vec::len), Some(1));
}
