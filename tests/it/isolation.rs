//! A dead, silent or slow vendor affects only its own connection: callers of another one notice nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::connections::{examtesting, startexam};
use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::people::person_at;
use crate::support::vendor::{Stub, json_response};
use crate::support::watch::wait_until_true;

/// A vendor that accepts every request and never finishes a response.
pub struct EndlessVendor {
    pub address: SocketAddr,
    call_count: Arc<AtomicUsize>,
}

impl EndlessVendor {
    /// Starts a vendor that sends nothing at all, or a byte now and then after the head of a response.
    pub async fn start(drips: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let call_count = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&call_count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    let head =
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000000\r\n\r\n".as_slice();
                    let mut next = if drips { head } else { b"".as_slice() };
                    while stream.write_all(next).await.is_ok() {
                        next = if drips { b"." } else { b"" };
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
            }
        });
        Self { address, call_count }
    }
}

fn send_posts(gateway: &Arc<Gateway>, connection: &'static str, count: usize) -> JoinSet<ApiResponse> {
    let mut posts = JoinSet::new();
    for number in 0..count {
        let gateway = Arc::clone(gateway);
        posts.spawn(async move { gateway.post("/candidates", &person_at(connection, &format!("e{number}"))).await });
    }
    posts
}

#[tokio::test]
async fn a_vendor_that_never_responds_does_not_delay_another_vendors_callers() {
    for drips in [false, true] {
        let endless = EndlessVendor::start(drips).await;
        let healthy = Stub::start(|_| json_response(200, &json!({}))).await;
        let connections = examtesting(&format!("http://{}", endless.address), "timeout = \"10m\"\nmax_in_flight = 4")
            + &startexam(&healthy.url(), "max_in_flight = 16");
        let gateway = Arc::new(Gateway::start(&connections).await);
        // 4 in flight, 64 in the queue, and the rest rejected.
        let mut stuck = send_posts(&gateway, "examtesting-main", 100);
        for _ in 0..32 {
            let response = stuck.join_next().await.expect("some are turned away").expect("no panic");
            assert_eq!(response.problem(), (503, "connection_saturated", "not_applied"), "{response:?}");
            assert!(response.header("retry-after").is_some(), "{response:?}");
        }
        wait_until_true("the vendor is called", || endless.call_count.load(Ordering::Relaxed) == 4).await;

        for response in send_posts(&gateway, "startexam-main", 100).join_all().await {
            assert_eq!(response.status, 201, "{response:?}");
        }
        let items: Vec<Value> = (0..50).map(|number| person_at("startexam-main", &format!("b{number}"))).collect();
        let bulk = gateway.post("/candidates/bulk", &json!({ "connection": "startexam-main", "items": items })).await;
        assert_eq!(bulk.body["summary"]["applied"], 50, "{bulk:?}");
        assert!(stuck.try_join_next().is_none(), "all of the other vendor's callers still wait");
        assert_eq!((stuck.len(), endless.call_count.load(Ordering::Relaxed)), (68, 4));
    }
}

#[tokio::test]
async fn callers_of_a_dead_vendor_fail_fast_without_a_call() {
    // Nothing listens there; a free port could be taken by another test.
    let dead = "127.0.0.1:1";
    let healthy = Stub::start(|_| json_response(200, &json!({}))).await;
    let connections =
        examtesting(&format!("http://{dead}"), "breaker = { failures = 3, cooldown = \"1h\" }\nmax_in_flight = 4")
            + &startexam(&healthy.url(), "max_in_flight = 16");
    let gateway = Arc::new(Gateway::start(&connections).await);
    for number in 0..3 {
        let response = gateway.post("/candidates", &person_at("examtesting-main", &format!("f{number}"))).await;
        assert_eq!(response.problem(), (503, "vendor_unreachable", "not_applied"), "{response:?}");
    }
    let (dead, alive) = (send_posts(&gateway, "examtesting-main", 200), send_posts(&gateway, "startexam-main", 100));
    for response in alive.join_all().await {
        assert_eq!(response.status, 201, "{response:?}");
    }
    for response in dead.join_all().await {
        assert_eq!(response.problem(), (503, "vendor_circuit_open", "not_applied"), "{response:?}");
        let wait: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds to wait");
        assert!((3_500..=3_600).contains(&wait), "{response:?}");
        assert_eq!(response.body["instance"].as_str().map(str::is_empty), Some(false), "{response:?}");
    }
}
