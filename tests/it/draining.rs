//! How a gateway ends when it is asked to: it says so first, finishes what it has begun, and hands over.

use std::time::{Duration, Instant};

use examgate::sandbox::accounts;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::{Gateway, TIMEOUT, client, faults, key, sandbox, startexam};
use crate::support::postgres::Server;
use crate::support::watch::{changes, until};

/// Long enough to look around in.
const DELAY: (&str, &str) = ("EXAMGATE__SERVER__SHUTDOWN_DELAY", "5s");

fn person(id: &str) -> Value {
    json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } })
}

async fn started(port: std::net::SocketAddr, environment: &[(&str, &str)]) -> Gateway {
    let connections = startexam(&format!("http://{port}"), "batch_size = 10\nmax_in_flight = 4");
    Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), environment).await
}

/// Waits until the gateway says that it is about to end.
async fn told(gateway: &Gateway) {
    let ready = until(gateway, "/readyz", |answer| answer.status == 503).await;
    assert_eq!(ready.problem(), (503, "draining", "not_applied"));
    assert!(ready.header("retry-after").is_some());
}

/// Waits until the gateway takes no connection any more.
async fn shut(gateway: &Gateway) {
    let began = Instant::now();
    while TcpStream::connect(gateway.address).await.is_ok() {
        assert!(began.elapsed() < TIMEOUT, "it still listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the vendor has been asked.
async fn at_vendor(port: std::net::SocketAddr) {
    let began = Instant::now();
    while crate::support::watch::calls(port).await == 0 {
        assert!(began.elapsed() < TIMEOUT, "the vendor was never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Who was sent to the vendor more than once.
async fn sent_twice(port: std::net::SocketAddr) -> Vec<String> {
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
    let mut gateway = started(sandbox.startexam(), &[DELAY, operators]).await;
    let operators = gateway.admin_address().await;
    let before = gateway.post("/candidates", &person("e1")).await;
    assert_eq!((before.status, before.header("connection")), (201, None));
    // A connection of HTTP/2 with a request under way when it is told to leave.
    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 500 });
    faults(sandbox.startexam(), json!({ "faults": [delay] })).await;
    let request = http::Request::post(format!("http://{}/candidates", gateway.address))
        .header("x-api-key", key("lms"))
        .header("content-type", "application/json")
        .body(person("e2").to_string());
    let under_way = tokio::spawn(sender.send_request(request.unwrap()));
    gateway.terminate().await;
    told(&gateway).await;
    let asked = crate::support::gateway::http().get(format!("http://{operators}/readyz")).send().await;
    assert_eq!(asked.unwrap().status(), 503, "operators are told too");
    let meanwhile = gateway.post("/candidates", &person("e3")).await;
    assert_eq!((meanwhile.status, meanwhile.header("connection")), (201, Some("close")));
    let answer = under_way.await.unwrap().expect("an answer");
    assert_eq!(answer.status(), 201);
    answer.into_body().collect().await.expect("a whole answer");
    let ended = tokio::time::timeout(TIMEOUT, driving).await.expect("HTTP/2 says goodbye").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(gateway.post("/candidates", &person("e4")).await.status, 201, "and others are served still");
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    let mut created = changes(sandbox.startexam(), "employees", "created").await;
    created.sort();
    assert_eq!(created, ["e1", "e2", "e3", "e4"]);
}

#[tokio::test]
async fn requests_in_flight_complete_and_later_ones_are_rejected() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = started(port, &[]).await;
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 3_000 });
    faults(port, json!({ "faults": [delay] })).await;
    // The beginning of a request, whose end comes when the listener is closed.
    let mut late = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n", key("lms"));
    late.write_all(head.as_bytes()).await.unwrap();
    let early = gateway.request(Method::POST, "/candidates").json(&person("e1"));
    let early = tokio::spawn(early.send());
    at_vendor(port).await;
    gateway.terminate().await;
    shut(&gateway).await;
    let body = person("e2").to_string();
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    late.write_all(rest.as_bytes()).await.unwrap();
    let mut refusal = String::new();
    late.read_to_string(&mut refusal).await.unwrap();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\"draining\""), "{refusal}");
    assert!(refusal.contains("connection: close"), "{refusal}");
    let answer = early.await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")), "{answer:?}");
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn a_write_whose_body_is_already_arriving_is_accepted() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = started(port, &[]).await;
    let body = person("e1").to_string();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        key("lms"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n", "the gateway reads it");
    gateway.terminate().await;
    shut(&gateway).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn waiting_callers_are_released_and_the_operation_pauses() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = started(port, &[]).await;
    faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 300 }] })).await;
    let people: Vec<Value> = (0..1_000).map(|number| person(&format!("e{number}"))).collect();
    let items = json!({ "items": people });
    let bulk = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "wait=60").json(&items);
    let bulk = tokio::spawn(bulk.send());
    let listed = until(&gateway, "/operations", |answer| answer.body["items"][0]["state"] == "running").await;
    let operation = format!("/operations/{}", listed.text("/items/0/id"));
    let events = gateway.request(Method::GET, &format!("{operation}/events")).header("Accept", "text/event-stream");
    let events = tokio::spawn(events.send());
    until(&gateway, &operation, |answer| answer.body["progress"]["applied"].as_u64() > Some(0)).await;
    gateway.terminate().await;
    let bulk = bulk.await.unwrap();
    assert_eq!(bulk.status, 202, "{bulk:?}");
    assert_eq!(bulk.header("location"), Some(operation.as_str()));
    let events = events.await.unwrap();
    assert!(events.status == 200 && events.body.as_str().unwrap().ends_with("\n\n"), "a whole last event: {events:?}");
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    faults(port, json!({ "faults": [] })).await;
    let gateway = Gateway::start_in(gateway.exited().await).await;
    until(&gateway, &operation, |answer| answer.body["progress"]["applied"] == 1_000).await;
    assert_eq!(changes(port, "employees", "created").await.len(), 1_000);
    assert_eq!(sent_twice(port).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_write_that_outlasts_the_shutdown_grace_returns_202() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = started(port, &[("EXAMGATE__SERVER__SHUTDOWN_GRACE", "2s")]).await;
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 4_000 });
    faults(port, json!({ "faults": [delay] })).await;
    let slow = gateway.request(Method::POST, "/candidates").json(&person("e1"));
    let slow = tokio::spawn(slow.send());
    at_vendor(port).await;
    gateway.terminate().await;
    let answer = slow.await.unwrap();
    assert_eq!((answer.status, answer.text("/state")), (202, "pending"), "{answer:?}");
    let candidate = answer.header("location").expect("where to look").to_owned();
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    let gateway = Gateway::start_in(gateway.exited().await).await;
    until(&gateway, &candidate, |answer| answer.text("/outcome") == "applied").await;
    assert_eq!(changes(port, "employees", "created").await, ["e1"]);
}

#[tokio::test]
async fn ctrl_c_skips_the_delay_and_a_second_signal_exits_immediately() {
    let sandbox = sandbox().await;
    let hour = ("EXAMGATE__SERVER__SHUTDOWN_DELAY", "1h");
    let mut gateway = started(sandbox.startexam(), &[hour]).await;
    gateway.signal("INT").await;
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
    let mut gateway = started(sandbox.startexam(), &[hour]).await;
    gateway.terminate().await;
    told(&gateway).await;
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(1), "{}", gateway.take_log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_replica_hands_over_its_operation_without_a_takeover_delay() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let url = Server::shared().schema().await;
    let connections = startexam(&format!("http://{port}"), "batch_size = 10\nmax_in_flight = 2");
    let mut one = Gateway::replica(&url, &connections).await;
    faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 50 }] })).await;
    let people: Vec<Value> = (0..1_000).map(|number| person(&format!("e{number}"))).collect();
    let bulk = one.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = bulk.json(&json!({ "items": people })).send().await;
    let operation = format!("/operations/{}", accepted.text("/id"));
    let applied = |answer: &crate::support::gateway::ApiResponse| answer.body["progress"]["applied"].as_u64().unwrap_or(0);
    until(&one, &operation, |answer| applied(answer) > 0).await;
    let mut other = Gateway::replica(&url, &connections).await;
    let began = Instant::now();
    one.terminate().await;
    assert_eq!(one.ended().await, Some(0), "{}", one.take_log());
    let ended = began.elapsed();
    let left = applied(&other.get(&operation).await);
    assert!(left < 1_000, "it was not over yet");
    until(&other, &operation, |answer| applied(answer) > left).await;
    println!("the replica ended after {ended:?}, the other went on {:?} after the signal", began.elapsed());
    until(&other, &operation, |answer| answer.text("/state") == "completed").await;
    assert!(!other.take_log().contains("an instance is dead"), "it was not waited for");
    assert_eq!(changes(port, "employees", "created").await.len(), 1_000);
    assert_eq!(sent_twice(port).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_booking_in_flight_is_finished() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let mut gateway = started(port, &[]).await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let delay = json!({ "name": "delay_before_effect", "times": 1, "delayMs": 500 });
    faults(port, json!({ "faults": [delay] })).await;
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": accounts::startexam::TESTS[0].0 });
    let booking = gateway.request(Method::POST, "/assignments").json(&order);
    let booking = tokio::spawn(booking.send());
    let began = Instant::now();
    while crate::support::watch::calls(port).await < 2 {
        assert!(began.elapsed() < TIMEOUT, "the vendor was never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.terminate().await;
    assert_eq!(booking.await.unwrap().status, 201);
    assert_eq!(gateway.ended().await, Some(0), "{}", gateway.take_log());
}
