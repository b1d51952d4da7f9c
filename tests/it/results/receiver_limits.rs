//! What a receiver cannot take: while the store is away, and while too many webhooks of its connection are being received.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::*;
use crate::support::connections::client;
use crate::support::machine::{Disk, Machine};
use crate::support::watch::changes;

const KEY: &str = accounts::thinkexam::WEBHOOK_KEY;
/// Another account at the same vendor.
const OTHER: &str = "thinkexam-other";
/// How many webhooks of a connection are received at once (`src/service/results/receiver_limit.rs`).
const ROOM: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_cannot_be_stored_is_refused_and_taken_when_the_vendor_sends_it_again() {
    let (sandbox, machine) = (sandbox().await, Machine::new());
    let clients = client("lms", "", "[\"*\"]");
    let gateway = Gateway::start_with_env(&connections(&sandbox, "", ""), &clients, &machine.environment()).await;
    let assignment = book(&gateway, THINK, "t1").await;
    machine.set_disk(Disk::Full);
    let result = with(with(marks("t1", 31.0), "attempts", json!(20)), "retryDelayMs", json!(2_000));
    let order = json!({ "url": receiver(&gateway, &format!("/{APTITUDE}")), "results": [result] });
    let vendor = format!("http://{}/_webhooks", sandbox.thinkexam());
    let sending = tokio::spawn(async move { control(&vendor, &order).await });
    let started = Instant::now();
    while changes(sandbox.thinkexam(), "webhook", "refused").await.is_empty() {
        assert!(started.elapsed().as_secs() < 300, "the webhook was not refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = post(&gateway, THINK).await;
    assert_eq!(refused.problem().0, 503, "{refused:?}");
    assert_eq!(refused.text("/code"), "store_unavailable", "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    machine.set_disk(Disk::Working);
    let sent = sending.await.expect("the vendor sends it");
    let statuses: Vec<_> = sent["deliveries"].as_array().expect("a list").iter().map(|it| &it["status"]).collect();
    assert_eq!((statuses.first(), statuses.last()), (Some(&&json!(503)), Some(&&json!(200))), "{sent}");
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!(result["score"]["given"], 31.0, "{result}");
    assert_eq!(all(&gateway, "/reports?limit=10&state=applied").await.len(), 1);
}

#[tokio::test]
async fn a_receiver_without_room_refuses_for_a_while_and_no_other_connection_notices() {
    let sandbox = sandbox().await;
    let settings = format!("mode = \"webhook\"\nkeys = [\"plain:{KEY}\"]\npath_token = \"plain:{TOKEN}\"");
    let other =
        thinkexam(&format!("http://{}", sandbox.thinkexam()), &format!("[connections.{THINK}.results]\n{settings}"));
    let gateway = Gateway::start(&(connections(&sandbox, "", "") + &other.replace(THINK, OTHER))).await;
    // On a slow machine the gateway may give up some of the uploads before others have begun.
    let (mut held, started) = (Vec::new(), Instant::now());
    let refused = loop {
        assert!(started.elapsed().as_secs() < 300, "never without room");
        held.clear();
        held.extend(take_room(&gateway).await);
        if let Some(refused) = post_for(&gateway, 503, Duration::from_secs(5)).await {
            break refused;
        }
    };
    assert_eq!(refused.problem().1, "overloaded", "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(post(&gateway, OTHER).await.status, 200);
    assert_eq!(gateway.get("/results?limit=1").await.status, 200);
    drop(held);
    post_until(&gateway, 200).await;
}

/// Posts a webhook to a connection's receiver, about nobody.
async fn post(gateway: &Gateway, connection: &str) -> ApiResponse {
    let request = gateway.anonymous(Method::POST, &format!("/receivers/{connection}/{TOKEN}"));
    request.header("x-webhook_key", KEY).json(&json!({ "result": {} })).send().await
}

/// Begins uploads to a receiver, more than there is room for, since a probe may take the place of one.
async fn take_room(gateway: &Gateway) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..ROOM + 8 {
        let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
        let request = format!(
            "POST /receivers/{THINK}/{TOKEN} HTTP/1.1\r\nhost: examgate\r\nx-webhook_key: {KEY}\r\n\
             content-length: 100\r\n\r\n{{"
        );
        stream.write_all(request.as_bytes()).await.expect("the gateway listens");
        held.push(stream);
    }
    held
}

/// Posts webhooks, one after the other, until one is answered with this status.
async fn post_until(gateway: &Gateway, status: u16) -> ApiResponse {
    let answered = post_for(gateway, status, Duration::from_mins(5)).await;
    answered.unwrap_or_else(|| panic!("never {status}"))
}

/// As [`post_until`], but for this long; `None` if no answer has had the status.
async fn post_for(gateway: &Gateway, status: u16, patience: Duration) -> Option<ApiResponse> {
    let started = Instant::now();
    while started.elapsed() < patience {
        let response = post(gateway, THINK).await;
        if response.status == status {
            return Some(response);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}
