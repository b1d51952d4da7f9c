//! Telemetry: traces to a configured collector, and one log line per request.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::collector::{Collector, Span};
use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, http, key};
use crate::support::vendor::{SeenRequest, Stub, json_response};
use crate::support::watch::wait_for_state;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn person(id: &str) -> Value {
    json!({ "connection": "startexam-main", "externalId": id, "email": "ada@example.org",
            "name": { "givenName": "Ada", "familyName": "Lovelace" } })
}

async fn start(connections: &str, environment: &[(&str, String)]) -> Gateway {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::start_with_env(connections, &client("lms", "", "[\"*\"]"), &environment).await
}

/// Posts a person as part of a trace with these flags.
async fn post_person(gateway: &Gateway, flags: &str) -> u16 {
    let traceparent = format!("00-{TRACE}-{CALLER}-{flags}");
    let request = gateway.request(Method::POST, "/candidates").header("traceparent", &traceparent);
    request.header("tracestate", "rojo=00f067aa0ba902b7").json(&person("emp-1")).send().await.status
}

fn header<'a>(seen: &'a SeenRequest, name: &str) -> &'a str {
    seen.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Returns the names from a span up to the first whose parent the collector has not received.
fn ancestry(span: &Span, spans: &[Span]) -> Vec<String> {
    let mut chain = vec![span];
    while let Some(parent) = spans.iter().find(|other| other.id == chain[chain.len() - 1].parent) {
        chain.push(parent);
    }
    chain.into_iter().map(|span| span.name.clone()).collect()
}

/// Returns the lines of the access log.
fn access_lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "examgate::access").collect()
}

#[tokio::test]
async fn a_request_is_one_trace_from_its_caller_to_the_vendor() {
    let (vendor, collector) = (Stub::accepting().await, Collector::start().await);
    let gateway = start(&startexam(&vendor.url(), ""), &collector.variables()).await;
    assert_eq!(post_person(&gateway, "01").await, 201);
    collector.wait_for("POST /candidates").await;
    let (_, log) = gateway.finish().await;

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
    let server = collector.span("POST /candidates");
    assert_eq!((server.kind, server.parent.as_str(), server.status), (2, CALLER, 0));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/candidates"),
        ("url.path", "/candidates"),
        ("http.response.status_code", "201"),
        ("examgate.client", "lms"),
        ("error.type", ""),
    ] {
        assert_eq!(server.attribute(name), value, "{name}: {server:?}");
    }
    assert!(server.attribute("examgate.exchange.id").starts_with("exc_"), "{server:?}");

    let attempt = collector.span("POST candidates.create");
    assert_eq!(
        ancestry(&attempt, &spans),
        ["POST candidates.create", "call candidates.create", "write candidates.create", "POST /candidates"]
    );
    assert_eq!((attempt.kind, attempt.status), (3, 0));
    let port = vendor.address.port().to_string();
    for (name, value) in [
        ("server.address", "127.0.0.1"),
        ("server.port", port.as_str()),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("examgate.connection", "startexam-main"),
        ("examgate.vendor", "startexam"),
        ("examgate.operation", "candidates.create"),
    ] {
        assert_eq!(attempt.attribute(name), value, "{name}: {attempt:?}");
    }
    assert!(spans.iter().any(|span| span.name.starts_with("store ")), "{spans:?}");

    let call = &vendor.seen()[0];
    assert_eq!(
        header(call, "traceparent"),
        format!("00-{TRACE}-{}-01", attempt.id),
        "the vendor receives the attempt's span"
    );
    assert_eq!(header(call, "tracestate"), "rojo=00f067aa0ba902b7");
    assert_eq!(access_lines(&log)[0]["trace_id"], TRACE);
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "examgate");
    assert!(resource.contains_key("service.version"), "{resource:?}");
    let attributes = format!("{spans:?}{resource:?}");
    assert!(!["ada@", "Lovelace", "emp-1"].iter().any(|word| attributes.contains(word)), "{attributes}");
}

#[tokio::test]
async fn the_standard_otel_variables_for_resource_headers_and_sampling_apply() {
    let (vendor, collector) = (Stub::accepting().await, Collector::start().await);
    let environment = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/here", collector.0.url())),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-of=all".to_owned()),
        ("OTEL_SERVICE_NAME", "exams".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=7".to_owned()),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let gateway = start(&startexam(&vendor.url(), ""), &environment).await;
    assert_eq!(post_person(&gateway, "01").await, 201);
    assert_eq!(gateway.get("/vendors").await.status, 200);
    collector.wait_for("POST /candidates").await;
    gateway.finish().await;
    assert_eq!(collector.0.seen()[0].uri.path(), "/here");
    assert_eq!(header(&collector.0.seen()[0], "x-of"), "all");
    let resource = collector.resource();
    assert_eq!(
        ["service.name", "deployment.environment.name", "service.version"].map(|name| resource[name].as_str()),
        ["exams", "test", "7"]
    );
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE) && !spans.is_empty(), "what its caller records: {spans:?}");
}

#[tokio::test]
async fn a_trace_its_caller_does_not_sample_is_not_sampled_here() {
    let (vendor, collector) = (Stub::accepting().await, Collector::start().await);
    let gateway = start(&startexam(&vendor.url(), ""), &collector.variables()).await;
    assert_eq!(post_person(&gateway, "00").await, 201);
    gateway.finish().await;
    assert!(collector.0.seen().is_empty(), "{:?}", collector.spans());
    let traceparent = header(&vendor.seen()[0], "traceparent").to_owned();
    assert!(traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-00"), "{traceparent}");
}

#[tokio::test]
async fn work_that_outlives_its_request_stays_in_its_trace() {
    let (vendor, collector) = (Stub::accepting().await, Collector::start().await);
    let gateway = start(&startexam(&vendor.url(), ""), &collector.variables()).await;
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let bulk = gateway.request(Method::POST, "/candidates/bulk").header("traceparent", &traceparent);
    let bulk = bulk.header("prefer", "respond-async");
    let bulk = bulk.json(&json!({ "connection": "startexam-main", "items": [person("a"), person("b")] })).send().await;
    assert_eq!(bulk.status, 202, "{bulk:?}");
    wait_for_state(&gateway, &format!("/operations/{}", bulk.text("/id")), "completed").await;
    collector.wait_for("operation candidates").await;
    gateway.finish().await;
    let operation = collector.span("operation candidates");
    assert_eq!(operation.attribute("examgate.operation.id"), bulk.text("/id"));
    let attempt = collector.span("POST candidates.create");
    assert_eq!(
        ancestry(&attempt, &collector.spans())[1..],
        ["call candidates.create", "operation candidates", "POST /candidates/bulk"]
    );
    assert_eq!(attempt.trace, TRACE);
}

#[tokio::test]
async fn the_reconciliation_of_a_write_is_a_trace_of_its_own() {
    let collector = Collector::start().await;
    let call_count = Mutex::new(0);
    let vendor = Stub::start(move |_| {
        let mut call_count = call_count.lock().expect("no test panicked here");
        *call_count += 1;
        json_response(if *call_count == 1 { 500 } else { 200 }, &json!({}))
    })
    .await;
    let gateway = start(&startexam(&vendor.url(), ""), &collector.variables()).await;
    let unknown = gateway.post("/candidates", &person("emp-1")).await;
    assert_eq!(unknown.problem(), (502, "vendor_internal_error", "unknown"));
    let resource = unknown.text("/resource").to_owned();
    wait_for_state(&gateway, &resource, "registered").await;
    collector.wait_for("settle").await;
    gateway.finish().await;
    let spans = collector.spans();
    let server = collector.span("POST /candidates");
    assert_eq!((server.attribute("error.type"), server.status), ("vendor_internal_error", 2), "{server:?}");
    let (reconciliation, original): (Vec<&Span>, Vec<&Span>) =
        spans.iter().filter(|span| span.name == "POST candidates.create").partition(|span| span.trace != server.trace);
    assert_eq!((reconciliation.len(), original.len()), (1, 1), "{spans:?}");
    assert_eq!((original[0].attribute("error.type"), original[0].status), ("500", 2));
    assert_eq!(ancestry(reconciliation[0], &spans).last().map(String::as_str), Some("settle"));
    let root = collector.span("settle");
    assert_eq!((root.parent.as_str(), &root.trace), ("", &reconciliation[0].trace));
    assert_eq!(resource, format!("/candidates/{}", root.attribute("examgate.record")));
}

#[tokio::test]
async fn each_attempt_is_a_span() {
    let collector = Collector::start().await;
    let gateway = start(&startexam("http://127.0.0.1:1", ""), &collector.variables()).await;
    assert_eq!(post_person(&gateway, "01").await, 503);
    collector.wait_for("POST /candidates").await;
    gateway.finish().await;
    let mut attempts: Vec<Span> =
        collector.spans().into_iter().filter(|span| span.name == "POST candidates.create").collect();
    attempts.sort_by_key(|span| span.attribute("http.request.resend_count").to_owned());
    let reported: Vec<[&str; 3]> = attempts
        .iter()
        .map(|span| ["http.request.resend_count", "error.type", "examgate.outcome"].map(|name| span.attribute(name)))
        .collect();
    assert_eq!(reported, [["", "vendor_unreachable", "not_applied"], ["1", "vendor_unreachable", "not_applied"]]);
    assert_eq!(attempts[0].parent, attempts[1].parent);
}

#[tokio::test]
async fn an_unreachable_collector_changes_nothing_and_is_logged_once() {
    let vendor = Stub::accepting().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let silent = listener.local_addr().expect("an address").to_string();
    for (address, message) in
        [("127.0.0.1:1".to_owned(), "the collector rejects traces"), (silent, "trace exporter flush timed out")]
    {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://user:SeMark@{address}")),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4".to_owned()),
        ];
        let gateway = start(&startexam(&vendor.url(), ""), &environment).await;
        assert_eq!(post_person(&gateway, "01").await, 201);
        for _ in 0..50 {
            assert_eq!(gateway.get("/vendors").await.status, 200);
        }
        // A collector that never responds would take a minute; the gateway does not wait for it.
        let (_, log) = gateway.finish().await;
        assert_eq!(log.matches(message).count(), 1, "{log}");
        assert!(!log.contains("SeMark"), "{log}");
    }
}

#[tokio::test]
async fn without_a_collector_nothing_is_sent_and_the_trace_context_is_passed_on() {
    let (vendor, collector) = (Stub::accepting().await, Collector::start().await);
    let disabled = [collector.variables(), vec![("OTEL_SDK_DISABLED", "true".to_owned())]].concat();
    let none = [collector.variables(), vec![("OTEL_TRACES_EXPORTER", "none".to_owned())]].concat();
    for environment in [Vec::new(), disabled, none] {
        let gateway = start(&startexam(&vendor.url(), ""), &environment).await;
        assert_eq!(post_person(&gateway, "01").await, 201);
        let (_, log) = gateway.finish().await;
        assert!(!log.contains("sending traces"), "{log}");
        assert_eq!(access_lines(&log)[0]["trace_id"], TRACE, "the caller's own");
    }
    assert!(collector.0.seen().is_empty());
    let passed: Vec<String> = vendor.seen().iter().map(|seen| header(seen, "traceparent").to_owned()).collect();
    assert_eq!(passed[0], format!("00-{TRACE}-{CALLER}-01"));
    assert!(passed.len() == 3 && passed.iter().all(|other| *other == passed[0]), "{passed:?}");
}

/// Runs `serve` with an empty configuration until it exits; returns its exit code and standard error.
async fn serve_output(environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
        .arg("serve")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn unsupported_telemetry_settings_are_usage_errors() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "some"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere"),
        ("EXAMGATE_LOG_FORMAT", "xml"),
        ("RUST_LOG", "a=b=c"),
    ] {
        let (code, stderr) = serve_output(&[endpoint, (variable, value)], &[]).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("environment variable {variable}: ")), "{stderr}");
    }
    assert_eq!(serve_output(&[], &["--log-format", "xml"]).await.0, Some(2));
}

#[tokio::test]
async fn log_lines_have_the_configured_format() {
    let vendor = Stub::accepting().await;
    for (format, is_json) in [("json", true), ("auto", true), ("pretty", false)] {
        let environment = [("EXAMGATE_LOG_FORMAT", format.to_owned())];
        let (_, log) = start(&startexam(&vendor.url(), ""), &environment).await.finish().await;
        let line = log.lines().find(|line| line.contains("API listener ready")).expect("a line");
        assert_eq!(serde_json::from_str::<Value>(line).is_ok(), is_json, "{line}");
    }
}

#[tokio::test]
async fn each_request_is_one_log_line_whatever_its_outcome() {
    let vendor = Stub::accepting().await;
    let environment = [("RUST_LOG", "info".to_owned()), ("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned())];
    let mut gateway = start(&startexam(&vendor.url(), ""), &environment).await;
    let admin = gateway.admin_address().await;
    let odd = Method::from_bytes(b"ADA").expect("a method");
    let nowhere = gateway.anonymous(Method::GET, "/nothing/ada@example.org?email=ada@example.org");
    let malformed = gateway.request(Method::POST, "/candidates").body("application/json", "{");
    let good = gateway.request(Method::POST, "/candidates").json(&person("emp-1"));
    let requests = [
        (nowhere, "GET", "-", 404, "not_found"),
        (gateway.request(Method::PUT, "/candidates"), "PUT", "/candidates", 405, "method_not_allowed"),
        (gateway.request(odd, "/livez"), "other", "/livez", 405, "method_not_allowed"),
        (gateway.anonymous(Method::GET, "/vendors"), "GET", "/vendors", 401, "unauthenticated"),
        (malformed, "POST", "/candidates", 400, "malformed_json"),
        (good, "POST", "/candidates", 201, ""),
        (gateway.anonymous(Method::GET, "/livez"), "GET", "/livez", 200, ""),
    ];
    let mut wanted = Vec::new();
    for (number, (request, method, route, status, code)) in requests.into_iter().enumerate() {
        let id = format!("line-{number}");
        let response = request.header("x-request-id", &id).send().await;
        assert_eq!((response.status, response.text("/code")), (status, code), "{response:?}");
        wanted.push(json!({ "request_id": id, "method": method, "route": route, "status": status, "code": code }));
    }
    let metrics = http().get(format!("http://{admin}/metrics")).send().await.expect("a response");
    let metrics = metrics.text().await.expect("text");
    let (_, log) = gateway.finish().await;

    let lines = access_lines(&log);
    let of_test = |line: &&Value| line["request_id"].as_str().is_some_and(|id| id.starts_with("line-"));
    let logged: Vec<Value> = lines
        .iter()
        .filter(of_test)
        .map(|line| {
            let [id, method, route, status] = ["request_id", "method", "route", "status"].map(|name| &line[name]);
            let code = line["code"].as_str().unwrap_or_default();
            json!({ "request_id": id, "method": method, "route": route, "status": status, "code": code })
        })
        .collect();
    assert_eq!(logged, wanted);
    let of = |id: &str| lines.iter().find(|line| line["request_id"] == id).expect("a line").clone();
    assert!(of("line-5")["exchange"].as_str().is_some_and(|id| id.starts_with("exc_")));
    assert_eq!((&of("line-5")["client"], of("line-3").get("client")), (&json!("lms"), None));
    assert!(of("line-5")["vendor_millis"].as_u64() <= of("line-5")["millis"].as_u64());
    assert!(!log.contains("ada@"), "{log}");
    let others: Vec<&str> = log.lines().filter(|line| !line.contains("examgate::access")).collect();
    assert!(others.iter().all(|line| !line.contains("line-")), "{others:?}");

    for (method, route, status) in
        [("GET", "-", 404), ("PUT", "/candidates", 405), ("other", "/livez", 405), ("GET", "/vendors", 401)]
    {
        let labels =
            format!("examgate_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} 1");
        assert!(metrics.contains(&labels), "{labels}: {metrics}");
    }
}

#[tokio::test]
async fn a_caller_that_disconnects_is_logged_too() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = format!("http://{}", silent.local_addr().expect("an address"));
    let mut gateway = start(&startexam(&address, ""), &[]).await;
    let mut caller = TcpStream::connect(gateway.address).await.expect("a connection");
    let body = person("emp-1").to_string();
    let head = format!(
        "POST /candidates HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nX-Api-Key: {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n",
        key("lms"),
        body.len()
    );
    caller.write_all((head + &body).as_bytes()).await.expect("the bytes are sent");
    // The vendor is called, so the request is being served.
    let _asked = silent.accept().await.expect("the gateway calls");
    drop(caller);
    let log = gateway.wait_for_log("caller_gone").await;
    let line = access_lines(&log).into_iter().find(|line| line["request_id"] == "gone").expect("its line");
    assert_eq!((&line["code"], line.get("status")), (&json!("caller_gone"), None));
}

/// A writer that captures what is written.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panicked here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The server runs on this test's only thread, and so with its subscriber.
#[tokio::test]
async fn a_request_that_panics_is_one_log_line_without_details() {
    let captured = CapturedLog::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let router =
        examgate::http::admin_router(&crate::http::api_parts().await, Some(Arc::new(|| panic!("quotes ada@"))));
    let served = crate::http::serve_router(router).await;
    let response = crate::http::send(served.anonymous(Method::GET, "/metrics")).await;
    assert_eq!(response.problem(), (500, "internal"));
    let log = String::from_utf8(captured.0.lock().expect("no test panicked here").clone()).expect("text");
    let lines = access_lines(&log);
    assert_eq!(lines.len(), 1, "{log}");
    let logged = ["route", "status", "code"].map(|name| lines[0][name].clone());
    assert_eq!(logged, [json!("/metrics"), json!(500), json!("internal")]);
    assert!(!log.contains("ada@"), "{log}");
}
