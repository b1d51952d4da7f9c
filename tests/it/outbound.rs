//! What a vendor sees on the wire: calls in flight, rate, order and retries.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::connections::{client, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, http};
use crate::support::vendor::{Stub, build_response, json_response};
use crate::support::watch::{wait_for_state, wait_until, wait_until_true};

/// A StartExam that accepts everybody, responds when its gate is open, and logs the calls.
#[derive(Clone)]
struct Vendor {
    address: std::net::SocketAddr,
    log: Arc<Mutex<Log>>,
    /// How many calls may be answered so far.
    gate: Arc<watch::Sender<usize>>,
    /// How long a call takes once it may be answered.
    work: Duration,
    status: Arc<AtomicU16>,
}

#[derive(Default)]
struct Log {
    /// The first employee of each call, in the order of arrival.
    first_ids: Vec<String>,
    arrivals: Vec<Instant>,
    responses: Vec<Instant>,
    open: usize,
    most_open: usize,
}

const OPEN: usize = usize::MAX;

impl Vendor {
    async fn start(allowed: usize, work: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let gate = Arc::new(watch::channel(allowed).0);
        let vendor = Self { address, log: Arc::default(), gate, work, status: Arc::new(AtomicU16::new(200)) };
        let router = Router::new().fallback(serve).with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        vendor
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn allow(&self, calls: usize) {
        self.gate.send_replace(calls);
    }

    fn first_ids(&self) -> Vec<String> {
        self.log().first_ids.clone()
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no test panicked here")
    }

    /// Waits until this many calls have arrived.
    async fn wait_for_calls(&self, count: usize) {
        wait_until_true("the calls arrive", || self.log().first_ids.len() >= count).await;
    }
}

async fn serve(State(vendor): State<Vendor>, request: Request) -> Response {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = {
        let mut log = vendor.log();
        log.arrivals.push(Instant::now());
        log.first_ids.push(body["employees"][0]["id"].as_str().unwrap_or_default().to_owned());
        log.open += 1;
        log.most_open = log.most_open.max(log.open);
        log.first_ids.len()
    };
    let mut gate = vendor.gate.subscribe();
    let _ = gate.wait_for(|allowed| *allowed >= number).await;
    tokio::time::sleep(vendor.work).await;
    let mut log = vendor.log();
    log.open -= 1;
    log.responses.push(Instant::now());
    json_response(vendor.status.load(Ordering::Relaxed), &json!({})).into_response()
}

fn person(id: &str) -> Value {
    json!({ "connection": "startexam-main", "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } })
}

/// Starts a gateway with an admin listener, whose metrics a test reads.
async fn start_with_metrics(connections: &str) -> (Gateway, std::net::SocketAddr) {
    let environment = [("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let mut gateway = Gateway::start_with_env(connections, &client("lms", "", "[\"*\"]"), &environment).await;
    let admin = gateway.admin_address().await;
    (gateway, admin)
}

/// Returns the sum of a metric over all series with these labels.
pub async fn metric_sum(admin: std::net::SocketAddr, name: &str, labels: &[&str]) -> f64 {
    let text = http().get(format!("http://{admin}/metrics")).send().await.expect("metrics").text().await;
    let text = text.expect("text");
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    lines
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn send_posts(gateway: &Arc<Gateway>, ids: impl IntoIterator<Item = String>) -> JoinSet<ApiResponse> {
    let mut posts = JoinSet::new();
    for id in ids {
        let gateway = Arc::clone(gateway);
        posts.spawn(async move { gateway.post("/candidates", &person(&id)).await });
    }
    posts
}

async fn start_bulk(gateway: &Gateway, name: &str, count: usize) -> String {
    let items: Vec<Value> = (0..count).map(|number| person(&format!("{name}{number}"))).collect();
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    format!("/operations/{}", accepted.text("/id"))
}

async fn wait_until_completed(gateway: &Gateway, operation: &str) -> ApiResponse {
    wait_for_state(gateway, operation, "completed").await
}

/// Returns a connection with one row per call, so that a bulk is many calls.
fn connection(vendor: &Vendor, more: &str) -> String {
    startexam(&vendor.url(), &format!("batch_size = 1\n{more}"))
}

#[tokio::test]
async fn the_vendor_never_sees_more_calls_in_flight_than_configured() {
    let vendor = Vendor::start(0, Duration::from_millis(1)).await;
    let gateway = Arc::new(Gateway::start(&connection(&vendor, "max_in_flight = 3")).await);
    let operation = start_bulk(&gateway, "row", 30).await;
    let singles = send_posts(&gateway, (0..40).map(|number| format!("single{number}")));
    vendor.wait_for_calls(3).await;
    vendor.allow(OPEN);
    for response in singles.join_all().await {
        assert_eq!(response.status, 201, "{response:?}");
    }
    assert_eq!(wait_until_completed(&gateway, &operation).await.body["progress"]["applied"], 30);
    let log = vendor.log();
    assert_eq!((log.most_open, log.first_ids.len()), (3, 70));
}

#[tokio::test]
async fn the_vendor_never_sees_more_calls_per_second_than_configured() {
    const RATE: usize = 20;
    const AT_ONCE: usize = 2;
    let vendor = Vendor::start(OPEN, Duration::from_millis(1)).await;
    let connections =
        connection(&vendor, "max_in_flight = 2").replace("requests_per_second = 0", "requests_per_second = 20");
    let gateway = Arc::new(Gateway::start(&connections).await);
    let began = Instant::now();
    let operation = start_bulk(&gateway, "row", 30).await;
    let singles = send_posts(&gateway, (0..30).map(|number| format!("single{number}")));
    for response in singles.join_all().await {
        assert_eq!(response.status, 201, "{response:?}");
    }
    wait_until_completed(&gateway, &operation).await;
    let log = vendor.log();
    assert_eq!(log.arrivals.len(), 60);
    // A call may arrive long after it was sent, never before. When the m-th response was sent, at most m calls and
    // those at the vendor had been sent; in the second after it at most RATE more are. The first calls were all sent
    // after the beginning.
    for (count, sent) in log.responses.iter().enumerate() {
        let Some(beyond) = log.arrivals.get(count + 1 + AT_ONCE + RATE) else { break };
        assert!(*beyond - *sent >= Duration::from_secs(1), "after response {count}: {:?}", *beyond - *sent);
    }
    for seconds in 1..=2_u32 {
        let beyond = log.arrivals[RATE * seconds as usize];
        assert!(beyond - began >= Duration::from_secs(1) * seconds, "{seconds}: {:?}", beyond - began);
    }
}

/// The intent of a row is stored before it has a permit, possibly long before it is sent.
#[tokio::test]
async fn the_grace_period_of_a_row_starts_when_it_is_sent_not_when_it_is_stored() {
    const GRACE: Duration = Duration::from_secs(3);
    let vendor = Vendor::start(0, Duration::ZERO).await;
    let connections =
        connection(&vendor, "max_in_flight = 1").replace("settle_grace = \"0s\"", "settle_grace = \"3s\"");
    let gateway = Gateway::start(&connections).await;
    let operation = start_bulk(&gateway, "row", 2).await;
    // The second waits, its intent stored, for most of a grace period that would count from then.
    vendor.wait_for_calls(1).await;
    tokio::time::sleep(GRACE * 2 / 3).await;
    vendor.allow(1);
    vendor.wait_for_calls(2).await;
    // The second is sent as soon as the first has its response; that response may be stored only later.
    wait_until(&gateway, &operation, |response| response.body["progress"]["applied"] == 1).await;
    let folder = gateway.kill().await;
    vendor.allow(OPEN);
    let gateway = Gateway::start_in(folder).await;
    assert_eq!(wait_until_completed(&gateway, &operation).await.body["progress"]["applied"], 2);
    let log = vendor.log();
    assert_eq!(log.first_ids, ["row0", "row1", "row1"]);
    let settled_after = log.arrivals[2] - log.arrivals[1];
    assert!(settled_after >= GRACE * 2 / 3, "{settled_after:?}");
}

#[tokio::test]
async fn a_single_request_is_sent_before_waiting_rows() {
    let vendor = Vendor::start(0, Duration::ZERO).await;
    let (gateway, admin) = start_with_metrics(&connection(&vendor, "max_in_flight = 1")).await;
    let gateway = Arc::new(gateway);
    let operation = start_bulk(&gateway, "row", 5).await;
    vendor.wait_for_calls(1).await;
    let singles = send_posts(&gateway, ["single0".to_owned(), "single1".to_owned()]);
    let began = Instant::now();
    while metric_sum(admin, "examgate_vendor_waiting", &["lane=\"single\""]).await < 2.0 {
        assert!(began.elapsed() < TIMEOUT, "the single requests never wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    vendor.allow(OPEN);
    for response in singles.join_all().await {
        assert_eq!(response.status, 201, "{response:?}");
    }
    wait_until_completed(&gateway, &operation).await;
    let first_ids = vendor.first_ids();
    // The two were posted at the same moment; either may have come first.
    assert!(first_ids[0] == "row0" && first_ids[1..3].iter().all(|name| name.starts_with("single")), "{first_ids:?}");
}

#[tokio::test]
async fn a_stream_of_single_requests_does_not_starve_a_bulk() {
    let vendor = Vendor::start(OPEN, Duration::from_millis(2)).await;
    let gateway = Arc::new(Gateway::start(&connection(&vendor, "max_in_flight = 1")).await);
    let (stop, watching) = watch::channel(false);
    let mut stream = JoinSet::new();
    for caller in 0..6 {
        let (gateway, watching) = (Arc::clone(&gateway), watching.clone());
        stream.spawn(async move {
            let mut sent = 0;
            while !*watching.borrow() {
                let response = gateway.post("/candidates", &person(&format!("s{caller}-{sent}"))).await;
                assert_eq!(response.status, 201, "{response:?}");
                sent += 1;
            }
        });
    }
    vendor.wait_for_calls(10).await;
    // The stream ends only after it.
    let operation = start_bulk(&gateway, "row", 10).await;
    let state = wait_until_completed(&gateway, &operation).await;
    stop.send_replace(true);
    stream.join_all().await;
    assert_eq!(state.body["progress"]["applied"], 10, "{state:?}");
}

#[tokio::test]
async fn a_vendors_retry_after_is_honoured_by_every_call_of_the_connection() {
    for status in [429, 503] {
        let refused: Arc<Mutex<Option<Instant>>> = Arc::default();
        let next: Arc<Mutex<Option<Instant>>> = Arc::default();
        let (refused_at, seen) = (Arc::clone(&refused), Arc::clone(&next));
        let stub = Stub::start(move |_| {
            let mut refused_at = refused_at.lock().expect("no test panicked here");
            if refused_at.is_some() {
                seen.lock().expect("no test panicked here").get_or_insert_with(Instant::now);
                return json_response(200, &json!({}));
            }
            *refused_at = Some(Instant::now());
            let mut response = build_response(status, "text/plain", "");
            response.headers_mut().insert("retry-after", "1".parse().expect("a number"));
            response
        })
        .await;
        let gateway = Arc::new(Gateway::start(&startexam(&stub.url(), "")).await);
        let response = gateway.post("/candidates", &person("e0")).await;
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
        let operation = start_bulk(&gateway, "row", 3).await;
        for response in send_posts(&gateway, (1..8).map(|number| format!("e{number}"))).join_all().await {
            assert_eq!(response.status, 201, "{response:?}");
        }
        wait_until_completed(&gateway, &operation).await;
        let (refused, next) = (refused.lock().expect("set").expect("set"), next.lock().expect("set").expect("set"));
        assert!(next - refused >= Duration::from_secs(1), "{status}: {:?}", next - refused);
    }
}

#[tokio::test]
async fn retries_of_unsent_calls_are_limited_to_a_fifth_of_all_calls() {
    const CALLS: u32 = 150;
    let more = "breaker = { failures = 0 }\nmax_in_flight = 8";
    let (gateway, admin) = start_with_metrics(&startexam("http://127.0.0.1:1", more)).await;
    let gateway = Arc::new(gateway);
    let began = Instant::now();
    for response in send_posts(&gateway, (0..CALLS).map(|number| format!("e{number}"))).join_all().await {
        assert!(["vendor_unreachable", "connection_saturated"].contains(&response.text("/code")), "{response:?}");
        assert_eq!(response.text("/outcome"), "not_applied", "{response:?}");
    }
    let repeated = metric_sum(admin, "examgate_vendor_retries_total", &["result=\"repeated\""]).await;
    let stopped = metric_sum(admin, "examgate_vendor_retries_total", &["result=\"budget_spent\""]).await;
    let attempts = metric_sum(admin, "examgate_vendor_attempt_seconds_count", &[]).await;
    let calls = metric_sum(admin, "examgate_vendor_call_seconds_count", &[]).await;
    assert!(calls <= f64::from(CALLS) && attempts <= calls + repeated, "{calls} calls, {attempts} attempts");
    // A fifth of the calls, and the minimum of one per second, of which ten seconds' worth may be used in a burst.
    let allowed = f64::from(CALLS) * 0.2 + 10.0 + began.elapsed().as_secs_f64();
    assert!(repeated > 0.0 && repeated <= allowed, "{repeated} retries, {allowed} allowed");
    assert!(stopped > 0.0, "no retry was denied: {repeated} retries of {calls} calls");
}

#[tokio::test]
async fn one_call_probes_a_failed_vendor_and_no_other_is_sent() {
    let vendor = Vendor::start(OPEN, Duration::ZERO).await;
    let more = "breaker = { failures = 2, cooldown = \"200ms\" }\nmax_in_flight = 8\nsettle_grace = \"1h\"";
    let connections = startexam(&vendor.url(), more).replace("settle_grace = \"0s\"\n", "");
    let gateway = Arc::new(Gateway::start(&connections).await);
    vendor.status.store(500, Ordering::Relaxed);
    for number in 0..2 {
        let response = gateway.post("/candidates", &person(&format!("f{number}"))).await;
        assert_eq!(response.text("/code"), "vendor_internal_error", "{response:?}");
    }
    vendor.status.store(200, Ordering::Relaxed);
    vendor.allow(2);
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for number in 0.. {
        if vendor.first_ids().len() > 2 {
            break;
        }
        assert!(began.elapsed() < TIMEOUT, "no call probes the vendor");
        let gateway = Arc::clone(&gateway);
        callers.spawn(async move { gateway.post("/candidates", &person(&format!("p{number}"))).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // During the probe all other calls are rejected immediately.
    for response in send_posts(&gateway, (0..30).map(|number| format!("w{number}"))).join_all().await {
        assert_eq!(response.problem(), (503, "vendor_circuit_open", "not_applied"), "{response:?}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    assert_eq!(vendor.first_ids().len(), 3, "{:?}", vendor.first_ids());
    vendor.allow(OPEN);
    let responses = callers.join_all().await;
    assert_eq!(responses.iter().filter(|response| response.status == 201).count(), 1, "{responses:?}");
    for response in send_posts(&gateway, (0..30).map(|number| format!("z{number}"))).join_all().await {
        assert_eq!(response.status, 201, "{response:?}");
    }
}

#[tokio::test]
async fn caller_errors_and_a_busy_vendor_never_open_the_circuit() {
    for (status, body) in [(400, "{}"), (404, "{}"), (422, "{}"), (429, "")] {
        let stub = Stub::start(move |_| build_response(status, "application/json", body)).await;
        let more = "breaker = { failures = 2, cooldown = \"1h\" }\nsettle_grace = \"1h\"";
        let connections = startexam(&stub.url(), more).replace("settle_grace = \"0s\"\n", "");
        let gateway = Gateway::start(&connections).await;
        for number in 0..10 {
            let response = gateway.post("/candidates", &person(&format!("e{number}"))).await;
            assert!(response.status >= 400, "{response:?}");
            assert_ne!(response.text("/code"), "vendor_circuit_open", "{status}: {response:?}");
        }
        assert_eq!(stub.seen().len(), 10, "{status}");
        stub.respond_with(|_| json_response(200, &json!({})));
        assert_eq!(gateway.post("/candidates", &person("last")).await.status, 201, "{status}");
    }
}
