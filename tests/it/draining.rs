//! Graceful shutdown: the gateway announces it, finishes what it has begun, and hands over the rest.

use std::time::{Duration, Instant};

use examgate::sandbox::accounts;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, TIMEOUT, http, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::postgres::Server;
use crate::support::watch::{changes, wait_until};

/// Long enough to observe the draining gateway.
const DELAY: (&str, &str) = ("EXAMGATE__SERVER__SHUTDOWN_DELAY", "12s");

async fn start(port: std::net::SocketAddr, environment: &[(&str, &str)]) -> Gateway {
    let connections = startexam(&format!("http://{port}"), "batch_size = 10\nmax_in_flight = 4");
    Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), environment).await
}

/// Waits until the gateway reports that it is draining.
async fn wait_until_draining(gateway: &Gateway) {
    let ready = wait_until(gateway, "/readyz", |response| response.status == 503).await;
    assert_eq!(ready.problem(), (503, "draining", "not_applied"));
    assert!(ready.header("retry-after").is_some());
}

/// Waits until the gateway accepts no connections any more.
async fn wait_until_closed(gateway: &Gateway) {
    let began = Instant::now();
    while TcpStream::connect(gateway.address).await.is_ok() {
        assert!(began.elapsed() < TIMEOUT, "it still listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for the first vendor call.
async fn wait_for_vendor_call(port: std::net::SocketAddr) {
    let began = Instant::now();
    while crate::support::watch::call_count(port).await == 0 {
        assert!(began.elapsed() < TIMEOUT, "the vendor was never called");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the people that were sent to the vendor more than once.
async fn find_duplicates(port: std::net::SocketAddr) -> Vec<String> {
    let (mut seen, mut twice) = (std::collections::HashSet::new(), Vec::new());
    for call in crate::support::watch::bodies(port, "employees").await {
        for employee in call["employees"].as_array().expect("employees") {
            let id = employee["id"].as_str().expect("an id").to_owned();
            if !seen.insert(id.clone()) {
                twice.push(id);
            }
        }
    }
    twice
}

#[tokio::test]
async fn a_draining_gateway_is_not_ready_but_still_serves() {
    let sandbox = sandbox().await;
    let operators = ("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
    let mut gateway = start(sandbox.startexam(), &[DELAY, operators]).await;
    let operators = gateway.admin_address().await;
    let before = gateway.post("/candidates", &person("e1")).await;
    assert_eq!((before.status, before.header("connection")), (201, None));
    // An HTTP/2 connection with a request in flight when the shutdown begins.
    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 500 });
    set_faults(sandbox.startexam(), json!({ "faults": [delay] })).await;
    let request = http::Request::post(format!("http://{}/candidates", gateway.address))
        .header("x-api-key", key("lms"))
        .header("content-type", "application/json")
        .body(person("e2").to_string());
    let in_flight = tokio::spawn(sender.send_request(request.unwrap()));
    gateway.terminate().await;
    wait_until_draining(&gateway).await;
    let readiness = crate::support::gateway::http().get(format!("http://{operators}/readyz")).send().await;
    assert_eq!(readiness.unwrap().status(), 503, "operators are told, too");
    let meanwhile = gateway.post("/candidates", &person("e3")).await;
    assert_eq!((meanwhile.status, meanwhile.header("connection")), (201, Some("close")));
    let response = in_flight.await.unwrap().expect("a response");
    assert_eq!(response.status(), 201);
    response.into_body().collect().await.expect("a complete response");
    let ended = tokio::time::timeout(TIMEOUT, driving).await.expect("HTTP/2 says goodbye").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(gateway.post("/candidates", &person("e4")).await.status, 201, "and others are served still");
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    let mut created = changes(sandbox.startexam(), "employees", "created").await;
    created.sort();
    assert_eq!(created, ["e1", "e2", "e3", "e4"]);
}

#[tokio::test]
async fn requests_in_flight_complete_and_later_ones_are_rejected() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = start(port, &[]).await;
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 8_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    // The beginning of a request whose rest arrives after the listener was closed.
    let mut late = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n", key("lms"));
    late.write_all(head.as_bytes()).await.unwrap();
    let early = gateway.request(Method::POST, "/candidates").json(&person("e1"));
    let early = tokio::spawn(early.send());
    wait_for_vendor_call(port).await;
    gateway.terminate().await;
    wait_until_closed(&gateway).await;
    let body = person("e2").to_string();
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    late.write_all(rest.as_bytes()).await.unwrap();
    let mut refusal = String::new();
    late.read_to_string(&mut refusal).await.unwrap();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\"draining\""), "{refusal}");
    assert!(refusal.contains("connection: close"), "{refusal}");
    let response = early.await.unwrap();
    assert_eq!((response.status, response.header("connection")), (201, Some("close")), "{response:?}");
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn a_write_whose_body_is_already_arriving_is_accepted() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = start(port, &[]).await;
    let body = person("e1").to_string();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        key("lms"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "the gateway reads it");
    gateway.terminate().await;
    wait_until_closed(&gateway).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn waiting_callers_are_released_and_the_operation_pauses() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = start(port, &[]).await;
    set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 300 }] })).await;
    let people: Vec<Value> = (0..1_000).map(|number| person(&format!("e{number}"))).collect();
    let items = json!({ "items": people });
    let bulk = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "wait=60").json(&items);
    let bulk = tokio::spawn(bulk.send());
    let listed = wait_until(&gateway, "/operations", |response| response.body["items"][0]["state"] == "running").await;
    let operation = format!("/operations/{}", listed.text("/items/0/id"));
    let events = http().get(format!("http://{}{operation}/events", gateway.address)).bearer_auth(key("lms"));
    // It follows the operation from here on.
    let events = events.header("Accept", "text/event-stream").send().await.expect("a response");
    wait_until(&gateway, &operation, |response| response.body["progress"]["applied"].as_u64() > Some(0)).await;
    gateway.terminate().await;
    let bulk = bulk.await.unwrap();
    assert_eq!(bulk.status, 202, "{bulk:?}");
    assert_eq!(bulk.header("location"), Some(operation.as_str()));
    assert_eq!(events.status(), 200);
    let events = events.text().await.expect("a complete response");
    assert!(events.ends_with("\n\n"), "a whole last event: {events}");
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    set_faults(port, json!({ "faults": [] })).await;
    let gateway = Gateway::start_in(gateway.folder_after_exit().await).await;
    wait_until(&gateway, &operation, |response| response.body["progress"]["applied"] == 1_000).await;
    assert_eq!(changes(port, "employees", "created").await.len(), 1_000);
    assert_eq!(find_duplicates(port).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_write_that_outlasts_the_shutdown_grace_returns_202() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = start(port, &[("EXAMGATE__SERVER__SHUTDOWN_GRACE", "2s")]).await;
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 15_000 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let slow = gateway.request(Method::POST, "/candidates").json(&person("e1"));
    let slow = tokio::spawn(slow.send());
    wait_for_vendor_call(port).await;
    gateway.terminate().await;
    let response = slow.await.unwrap();
    assert_eq!((response.status, response.text("/state")), (202, "pending"), "{response:?}");
    let candidate = response.header("location").expect("where to look").to_owned();
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    let gateway = Gateway::start_in(gateway.folder_after_exit().await).await;
    wait_until(&gateway, &candidate, |response| response.text("/outcome") == "applied").await;
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn ctrl_c_skips_the_delay_and_a_second_signal_exits_immediately() {
    let sandbox = sandbox().await;
    let hour = ("EXAMGATE__SERVER__SHUTDOWN_DELAY", "1h");
    let mut gateway = start(sandbox.startexam(), &[hour]).await;
    gateway.signal("INT").await;
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
    let mut gateway = start(sandbox.startexam(), &[hour]).await;
    gateway.terminate().await;
    wait_until_draining(&gateway).await;
    gateway.terminate().await;
    assert_eq!(gateway.wait_for_exit().await, Some(1), "{}", gateway.take_log());
    gateway.wait_for_log("second signal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_replica_hands_over_its_operation_without_a_takeover_delay() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let url = Server::shared().schema().await;
    let connections = startexam(&format!("http://{port}"), "batch_size = 10\nmax_in_flight = 2");
    let mut one = Gateway::replica(&url, &connections).await;
    set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 500 }] })).await;
    let people: Vec<Value> = (0..1_000).map(|number| person(&format!("e{number}"))).collect();
    let bulk = one.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = bulk.json(&json!({ "items": people })).send().await;
    let operation = format!("/operations/{}", accepted.text("/id"));
    let applied =
        |response: &crate::support::gateway::ApiResponse| response.body["progress"]["applied"].as_u64().unwrap_or(0);
    wait_until(&one, &operation, |response| applied(response) > 0).await;
    let mut other = Gateway::replica(&url, &connections).await;
    let began = Instant::now();
    one.terminate().await;
    assert_eq!(one.wait_for_exit().await, Some(0), "{}", one.take_log());
    let ended = began.elapsed();
    let left = applied(&other.get(&operation).await);
    assert!(left < 1_000, "it was not over yet");
    wait_until(&other, &operation, |response| applied(response) > left).await;
    set_faults(port, json!({ "faults": [] })).await;
    println!("the replica ended after {ended:?}, the other went on {:?} after the signal", began.elapsed());
    wait_until(&other, &operation, |response| response.text("/state") == "completed").await;
    assert!(!other.take_log().contains("an instance is dead"), "it was not waited for");
    assert_eq!(changes(port, "employees", "created").await.len(), 1_000);
    assert_eq!(find_duplicates(port).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_booking_in_flight_is_finished() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = start(port, &[]).await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 500 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": accounts::startexam::TESTS[0].0 });
    let booking = gateway.request(Method::POST, "/assignments").json(&order);
    let booking = tokio::spawn(booking.send());
    let began = Instant::now();
    while crate::support::watch::call_count(port).await < 2 {
        assert!(began.elapsed() < TIMEOUT, "the vendor was never called");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.terminate().await;
    assert_eq!(booking.await.unwrap().status, 201);
    assert_eq!(gateway.wait_for_exit().await, Some(0), "{}", gateway.take_log());
}
