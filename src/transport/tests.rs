//! Tests of the whole stack against a vendor that speaks raw bytes: what the vendor receives, and which outcome the
//! gateway reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use url::Url;

use super::*;
use crate::domain::error::{Code, ConnectionRef, Error};
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::outcome::Outcome;
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::units::{ByteSize, ConfigDuration};
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::secret::{Redactor, Secret};

/// The vendor's reaction to the next request, on any connection.
#[derive(Clone)]
enum Reply {
    /// Sends this and keeps the connection.
    Keep(String),
    /// Sends this and closes the connection.
    Close(String),
    /// Sends a reset.
    Reset,
    /// Sends nothing and keeps the connection.
    Silence,
}

struct Vendor {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    arrivals: mpsc::UnboundedReceiver<()>,
}

impl Vendor {
    /// Starts a vendor that follows this script and repeats its last entry.
    async fn playing(script: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (script, seen, count) = (script.to_vec(), Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                tokio::spawn(play(stream, script.clone(), Arc::clone(&seen), arrived.clone()));
            }
        });
        Self { address, requests, connections, arrivals }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn play(
    mut stream: TcpStream,
    script: Vec<Reply>,
    seen: Arc<Mutex<Vec<String>>>,
    arrived: mpsc::UnboundedSender<()>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let turn = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        arrived.send(()).ok();
        match script[turn.min(script.len() - 1)].clone() {
            Reply::Keep(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Reply::Close(text) => {
                stream.write_all(text.as_bytes()).await.unwrap();
                return;
            }
            Reply::Reset => return stream.set_zero_linger().unwrap(),
            Reply::Silence => {}
        }
    }
}

/// Reads one whole request as text; `None` at the end of the connection or for anything that is not HTTP.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&buffer[..read]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if text.len() >= end + 4 + length.unwrap_or(0) {
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

struct Held(Mutex<Timestamp>);

impl Held {
    fn forward(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = Timestamp::from_second(now.as_second() + seconds).unwrap();
    }
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// No randomness: back-off delays are zero.
struct Zeros;

impl SecureRandom for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn held() -> Arc<Held> {
    Arc::new(Held(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap())))
}

fn settings() -> ConnectionSettings {
    ConnectionSettings { requests_per_second: 0, ..ConnectionSettings::default() }
}

/// Settings for a vendor that never answers.
fn hasty() -> ConnectionSettings {
    ConnectionSettings { timeout: ConfigDuration(Duration::from_millis(500)), ..settings() }
}

const SECRET: &str = "s3cret-of-the-account";

fn client_at(base: &Url, settings: &ConnectionSettings, clock: Arc<Held>) -> Client {
    let name = ConnectionRef { connection: "main".to_owned(), vendor: "startexam".to_owned() };
    let environment = System { clock, entropy: Arc::new(Zeros) };
    Client::new(name, base, settings, Redactor::new([&Secret::new(SECRET)]), environment).unwrap()
}

fn client(vendor: &Vendor, settings: &ConnectionSettings) -> Client {
    client_at(&vendor.url(""), settings, held())
}

fn call() -> CallContext {
    let id = ExchangeId::parse("exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").unwrap();
    let exchange = Exchange::new(id, "r-1".to_owned(), Some("00-abc-def-01".to_owned()), Timestamp::UNIX_EPOCH);
    CallContext { purpose: CallPurpose::Initial, priority: Priority::Interactive, exchange }
}

fn post(body: &'static str) -> Request {
    Request {
        operation: "assignments.create",
        method: Method::POST,
        target: Target::Path("/v1/things".to_owned()),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        shown: RedactionPolicy::NOTHING,
    }
}

async fn send(client: &Client) -> Result<Response, Error> {
    client.send(post("{\"a\":1}"), &NoSignature, &call()).await
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn ok() -> Reply {
    Reply::Keep(answer("200 OK", "", "done"))
}

fn told(fault: &Error) -> (Code, Outcome, Option<u16>) {
    assert_eq!(fault.connection.as_ref().unwrap().connection, "main");
    let said = fault.vendor.as_ref().unwrap();
    assert_eq!(said.operation, "assignments.create");
    assert!(!fault.detail.contains("127.0.0.1") && !fault.detail.contains("/v1/"), "{}", fault.detail);
    (fault.code, fault.outcome, said.http_status)
}

#[tokio::test]
async fn the_request_is_sent_unchanged() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client_at(&vendor.url("/Base/"), &settings(), held());
    let mut request = post("{\"a\":\"ü\"}");
    request.target = Target::Path("/v1/Employees/%7eX%2Fy?Name=a%c3%BC+b&Z".to_owned());
    request.headers.insert("x-signature", HeaderValue::from_static("AbC+/="));
    let answer = client.send(request, &NoSignature, &call()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"done"[..]));

    let seen = vendor.requests().remove(0);
    assert!(seen.starts_with("POST /Base/v1/Employees/%7eX%2Fy?Name=a%c3%BC+b&Z HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-signature: AbC+/=\r\n") && seen.contains("content-length: 10\r\n"), "{seen}");
    assert!(seen.contains(concat!("user-agent: examgate/", env!("CARGO_PKG_VERSION"), "\r\n")), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{\"a\":\"ü\"}"), "{seen}");
    assert!(seen.contains("traceparent: 00-abc-def-01\r\n"), "the caller's trace is passed on: {seen}");
    for added in ["tracestate", "accept-encoding", "transfer-encoding"] {
        assert!(!seen.contains(added), "{seen}");
    }
}

#[tokio::test]
async fn only_methods_with_a_body_send_a_zero_content_length() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    client.send(post(""), &NoSignature, &call()).await.unwrap();
    client.send(Request { method: Method::GET, ..post("") }, &NoSignature, &call()).await.unwrap();
    let seen = vendor.requests();
    assert!(seen[0].contains("content-length: 0\r\n"), "{}", seen[0]);
    assert!(!seen[1].contains("content-length"), "{}", seen[1]);
    assert_eq!(vendor.connections(), 1);
}

#[tokio::test]
async fn a_path_that_a_url_parser_would_rewrite_is_not_sent() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    for path in ["/a/../b", "/a b", "/a#b", "/ü", "/a\\b"] {
        let request = Request { target: Target::Path(path.to_owned()), ..post("x") };
        let fault = client.send(request, &NoSignature, &call()).await.unwrap_err();
        assert_eq!(told(&fault), (Code::Internal, Outcome::NotApplied, None), "{path}");
    }
    assert_eq!(vendor.requests().len(), 0);
}

#[tokio::test]
async fn a_query_or_an_empty_path_is_appended_unchanged() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client_at(&vendor.url("/api.php"), &settings(), held());
    for path in ["?action=add", ""] {
        client
            .send(Request { target: Target::Path(path.to_owned()), ..post("x") }, &NoSignature, &call())
            .await
            .unwrap();
    }
    let seen = vendor.requests();
    assert!(seen[0].starts_with("POST /api.php?action=add HTTP") && seen[1].starts_with("POST /api.php HTTP"));
}

#[tokio::test]
async fn redirects_are_never_followed() {
    for (status, outcome) in [
        ("301 Moved", Outcome::Unknown),
        ("302 Found", Outcome::Unknown),
        ("303 See Other", Outcome::Unknown),
        ("307 Temporary Redirect", Outcome::NotApplied),
        ("308 Permanent Redirect", Outcome::NotApplied),
    ] {
        let vendor = Vendor::playing(&[Reply::Keep(answer(status, "Location: /elsewhere\r\n", ""))]).await;
        let client = client(&vendor, &settings());
        let answer = send(&client).await.unwrap();
        let fault = general_error(&client, "assignments.create", &answer, None, None).unwrap();
        assert_eq!(told(&fault), (Code::VendorBadResponse, outcome, Some(answer.status.as_u16())));
        assert_eq!(vendor.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_lost_after_sending_is_unknown_and_not_retried() {
    let half_head = "HTTP/1.1 200 OK\r\nContent-Le";
    let half_body = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let bad_chunk = "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for (reply, code, status) in [
        (Reply::Close(String::new()), Code::VendorTimeout, None),
        (Reply::Reset, Code::VendorTimeout, None),
        (Reply::Close(half_head.to_owned()), Code::VendorTimeout, None),
        (Reply::Close(half_body.to_owned()), Code::VendorTimeout, Some(200)),
        (Reply::Close(bad_chunk.to_owned()), Code::VendorTimeout, Some(400)),
        (Reply::Close("220 mail.example.com ESMTP\r\n\r\n".to_owned()), Code::VendorBadResponse, None),
    ] {
        let vendor = Vendor::playing(&[reply]).await;
        let client = client(&vendor, &settings());
        for body in ["{}", ""] {
            let fault = client.send(post(body), &NoSignature, &call()).await.unwrap_err();
            assert_eq!(told(&fault), (code, Outcome::Unknown, status), "{}", fault.detail);
        }
        assert_eq!(vendor.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_reused_connection_lost_after_sending_is_unknown() {
    let vendor = Vendor::playing(&[ok(), Reply::Close(String::new()), ok()]).await;
    let client = client(&vendor, &settings());
    send(&client).await.unwrap();
    let fault = send(&client).await.unwrap_err();
    assert_eq!(told(&fault), (Code::VendorTimeout, Outcome::Unknown, None));
    assert_eq!((vendor.requests().len(), vendor.connections()), (2, 1));
}

#[tokio::test]
async fn a_request_that_arrived_is_never_reported_as_unsent() {
    let vendor = Vendor::playing(&[Reply::Close(answer("200 OK", "", "done"))]).await;
    let client = client(
        &vendor,
        &ConnectionSettings { breaker: BreakerSettings { failures: 0, ..BreakerSettings::default() }, ..settings() },
    );
    for _ in 0..100 {
        let before = vendor.requests().len();
        let result = send(&client).await;
        let arrived = vendor.requests().len() - before;
        match result {
            Ok(_) => assert_eq!(arrived, 1),
            Err(fault) if fault.outcome == Outcome::NotApplied => assert_eq!(arrived, 0),
            Err(fault) => assert_eq!((fault.outcome, arrived.min(1)), (Outcome::Unknown, arrived)),
        }
    }
}

#[tokio::test]
async fn an_early_response_to_a_long_request_never_counts_as_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 64];
        stream.read_exact(&mut some).await.unwrap();
        stream.write_all(answer("413 Too Long", "Connection: close\r\n", "").as_bytes()).await.unwrap();
    });
    let client = client_at(&base, &settings(), held());
    let request = Request { body: Bytes::from(vec![b'x'; 8 << 20]), ..post("") };
    match client.send(request, &NoSignature, &call()).await {
        Ok(answer) => assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE),
        Err(fault) => assert_eq!((fault.code, fault.outcome), (Code::VendorTimeout, Outcome::Unknown)),
    }
}

#[tokio::test]
async fn a_silent_vendor_leaves_the_outcome_unknown() {
    let half = Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned());
    for (reply, status) in [(Reply::Silence, None), (half, Some(200))] {
        let vendor = Vendor::playing(&[reply]).await;
        let fault = send(&client(&vendor, &hasty())).await.unwrap_err();
        assert_eq!(told(&fault), (Code::VendorTimeout, Outcome::Unknown, status));
        assert_eq!(vendor.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_failed_connection_leaves_the_write_not_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let fault = send(&client_at(&base, &settings(), held())).await.unwrap_err();
    assert_eq!(told(&fault), (Code::VendorUnreachable, Outcome::NotApplied, None));
}

struct Counting(Mutex<Vec<String>>);

#[async_trait]
impl Signer for Counting {
    async fn sign(&self, draft: SigningRequest<'_>, now: Timestamp) -> Result<(), Error> {
        let length = draft.headers.get("content-length").unwrap().to_str().unwrap().to_owned();
        let text = format!("{} {} {length} {}", draft.method, draft.url.path(), String::from_utf8_lossy(draft.body));
        self.0.lock().unwrap().push(text);
        draft.headers.insert("x-date", HeaderValue::from(now.as_second()));
        Ok(())
    }
}

#[tokio::test]
async fn failed_tls_is_retried_with_a_fresh_signature() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *count.lock().unwrap() += 1;
            stream.write_all(b"HTTP/1.1 400 This is not TLS\r\n\r\n").await.unwrap();
        }
    });
    let signer = Counting(Mutex::default());
    let client = client_at(&base, &settings(), held());
    let fault = client.send(post("{}"), &signer, &call()).await.unwrap_err();
    assert_eq!(told(&fault), (Code::VendorUnreachable, Outcome::NotApplied, None));
    assert_eq!(*signer.0.lock().unwrap(), ["POST /v1/things 2 {}"; 3]);
    assert_eq!(*connections.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_handshake_timeout_leaves_the_write_not_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    for body in ["{}", ""] {
        let client = client_at(&base, &hasty(), held());
        let fault = client.send(post(body), &NoSignature, &call()).await.unwrap_err();
        assert_eq!(told(&fault), (Code::VendorUnreachable, Outcome::NotApplied, None), "{}", fault.detail);
    }
}

struct Refusing;

#[async_trait]
impl Signer for Refusing {
    async fn sign(&self, _: SigningRequest<'_>, _: Timestamp) -> Result<(), Error> {
        Err(Error::unknown(Code::VendorTimeout, "The signature service did not answer."))
    }
}

#[tokio::test]
async fn an_unsigned_request_is_not_sent_and_does_not_count_as_a_failure() {
    let vendor = Vendor::playing(&[ok()]).await;
    let breaker = BreakerSettings { failures: 1, ..BreakerSettings::default() };
    let client = client(&vendor, &ConnectionSettings { breaker, ..settings() });
    let fault = client.send(post("{}"), &Refusing, &call()).await.unwrap_err();
    assert_eq!(told(&fault), (Code::VendorTimeout, Outcome::NotApplied, None));
    assert_eq!((vendor.connections(), client.stats().circuit, client.stats().in_flight), (0, CircuitState::Closed, 0));
}

struct Asking(Client);

#[async_trait]
impl Signer for Asking {
    async fn sign(&self, _: SigningRequest<'_>, _: Timestamp) -> Result<(), Error> {
        send(&self.0).await.map(drop)
    }
}

#[tokio::test]
async fn a_signer_uses_separate_limits_while_its_call_holds_the_only_permit() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &ConnectionSettings { max_in_flight: 1, ..settings() });
    client.send(post("{}"), &Asking(client.with_separate_limits()), &call()).await.unwrap();
    assert_eq!(vendor.requests().len(), 2);
}

#[tokio::test]
async fn a_response_that_is_too_long_is_rejected() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n";
    for (text, fits) in [
        (answer("200 OK", "", "123456789"), false),
        (chunked.to_owned(), false),
        (answer("200 OK", "", "12345678"), true),
    ] {
        let vendor = Vendor::playing(&[Reply::Keep(text)]).await;
        let client = client(&vendor, &ConnectionSettings { max_response_bytes: ByteSize(8), ..settings() });
        match send(&client).await {
            Ok(answer) => assert!(fits && answer.body.len() == 8),
            Err(fault) => {
                assert!(!fits);
                assert_eq!(told(&fault), (Code::VendorBadResponse, Outcome::Unknown, Some(200)));
            }
        }
        assert_eq!(client.stats().circuit, CircuitState::Closed);
    }
}

#[tokio::test]
async fn retry_after_pauses_the_connection() {
    for status in ["429 Too Many", "503 Unavailable"] {
        let vendor = Vendor::playing(&[Reply::Keep(answer(status, "Retry-After: 900\r\n", ""))]).await;
        let client = client(&vendor, &settings());
        let answer = send(&client).await.unwrap();
        let fault = general_error(&client, "assignments.create", &answer, None, None).unwrap();
        assert_eq!(fault.retry_after, Some(Duration::from_mins(15)));
        let fault = send(&client).await.unwrap_err();
        assert_eq!(told(&fault), (Code::VendorRateLimited, Outcome::NotApplied, None));
        assert!(fault.retry_after.unwrap() <= Duration::from_mins(1));
        assert_eq!((vendor.requests().len(), client.stats().in_flight), (1, 0));
    }
}

#[tokio::test]
async fn the_circuit_stays_open_until_a_probe_succeeds() {
    let failing = Reply::Keep(answer("500 Oops", "", ""));
    let vendor = Vendor::playing(&[failing.clone(), failing.clone(), failing, ok()]).await;
    let breaker = BreakerSettings { failures: 2, cooldown: ConfigDuration(Duration::from_secs(15)) };
    let clock = held();
    let client = client_at(&vendor.url(""), &ConnectionSettings { breaker, ..settings() }, Arc::clone(&clock));
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
    send(&client).await.unwrap();
    clock.forward(5);
    let fault = send(&client).await.unwrap_err();
    assert_eq!(told(&fault), (Code::VendorCircuitOpen, Outcome::NotApplied, None));
    assert_eq!(fault.retry_after, Some(Duration::from_secs(10)));
    clock.forward(10);
    send(&client).await.unwrap();
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorCircuitOpen);
    assert_eq!(vendor.requests().len(), 3);
    clock.forward(15);
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
}

#[tokio::test]
async fn a_dropped_call_releases_its_permit_and_probe() {
    let failing = Reply::Keep(answer("500 Oops", "", ""));
    let mut vendor = Vendor::playing(&[failing, Reply::Silence, ok()]).await;
    let breaker = BreakerSettings { failures: 1, cooldown: ConfigDuration(Duration::from_secs(15)) };
    let clock = held();
    let one = ConnectionSettings { max_in_flight: 1, breaker, ..settings() };
    let client = client_at(&vendor.url(""), &one, Arc::clone(&clock));
    send(&client).await.unwrap();
    clock.forward(15);
    vendor.arrivals.recv().await.unwrap();

    let probe = tokio::spawn({
        let client = client.clone();
        async move { send(&client).await }
    });
    vendor.arrivals.recv().await.unwrap();
    assert_eq!((client.stats().circuit, client.stats().in_flight), (CircuitState::HalfOpen, 1));
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorCircuitOpen);
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    assert_eq!(client.stats().in_flight, 0);
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
}

#[tokio::test]
async fn a_call_that_waits_too_long_for_a_permit_is_rejected() {
    let vendor = Vendor::playing(&[Reply::Silence]).await;
    let client = client(&vendor, &ConnectionSettings { max_in_flight: 1, ..hasty() });
    let results = futures_util::future::join_all((0..80).map(|_| send(&client))).await;
    let saturated = results.iter().filter(|result| {
        let fault = result.as_ref().unwrap_err();
        fault.code == Code::ConnectionSaturated && told(fault).1 == Outcome::NotApplied && fault.retry_after.is_some()
    });
    // One is sent and 64 may queue; how many of those get a permit before they time out depends on timing.
    assert!(saturated.count() >= 15);
    assert!(!vendor.requests().is_empty());
}

#[tokio::test]
async fn texts_are_masked_before_they_are_truncated() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let password = Secret::new("pass-w0rd");
    let text = format!("{} {SECRET}", "x".repeat(296));
    assert_eq!(client.clean(&text, []), format!("{} ***", "x".repeat(296)));
    assert_eq!(client.clean(&"y".repeat(500), []).len(), 300);
    assert_eq!(client.clean("a\u{0}pass-w0rd", [&password]), "a ***");
}

#[tokio::test]
async fn debug_output_hides_wire_contents() {
    let mut request = post("body-text");
    request.target = Target::Path("/path-text".to_owned());
    request.headers.insert("x-signature", HeaderValue::from_static("header-text"));
    let answer = Response { status: StatusCode::OK, headers: request.headers.clone(), body: request.body.clone() };
    let vendor = Vendor::playing(&[ok()]).await;
    let text = format!("{request:?} {answer:?} {:?}", client(&vendor, &settings()));
    assert!(!text.contains("-text") && text.contains("assignments.create") && text.contains("main"), "{text}");
}

#[test]
fn invalid_settings_are_rejected() {
    let base = Url::parse("http://127.0.0.1:1").unwrap();
    for settings in [
        ConnectionSettings { timeout: ConfigDuration(Duration::ZERO), ..settings() },
        ConnectionSettings { timeout: ConfigDuration(Duration::from_secs(u64::MAX)), ..settings() },
        ConnectionSettings { max_in_flight: 0, ..settings() },
    ] {
        let name = ConnectionRef { connection: "main".to_owned(), vendor: "startexam".to_owned() };
        let environment = System { clock: held(), entropy: Arc::new(Zeros) };
        assert!(Client::new(name, &base, &settings, Redactor::default(), environment).is_err(), "{settings:?}");
    }
}

#[test]
fn invalid_addresses_are_rejected() {
    for (url, part) in [
        ("http://api.example.com", "plain http"),
        ("https://api.example.com/?a=b", "query"),
        ("https://api.example.com/#b", "query"),
        ("https://me:pw@api.example.com/", "credentials"),
        ("ftp://api.example.com/", "scheme"),
    ] {
        let name = ConnectionRef { connection: "main".to_owned(), vendor: "startexam".to_owned() };
        let environment = System { clock: held(), entropy: Arc::new(Zeros) };
        let url = Url::parse(url).unwrap();
        let error = Client::new(name, &url, &settings(), Redactor::default(), environment).unwrap_err();
        assert!(error.to_string().contains(part) && !error.to_string().contains("pw"), "{error}");
    }
}

#[tokio::test]
async fn unmapped_statuses_have_a_default_error() {
    use Code::*;
    use Outcome::{NotApplied, Unknown};
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let fault = |status: u16, wait: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(wait) = wait {
            headers.insert("retry-after", HeaderValue::from_static(wait));
        }
        let answer = Response { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
        general_error(&client, "assignments.create", &answer, Some("E1"), Some(&format!("no {SECRET}\n!")))
    };
    for (status, code, outcome) in [
        (101, VendorBadResponse, Unknown),
        (304, VendorBadResponse, Unknown),
        (400, VendorErrorUnmapped, Unknown),
        (401, ConnectionCredentialsInvalid, NotApplied),
        (403, VendorErrorUnmapped, Unknown),
        (429, VendorRateLimited, NotApplied),
        (500, VendorInternalError, Unknown),
        (503, VendorUnavailable, Unknown),
        (504, VendorInternalError, Unknown),
        (999, VendorBadResponse, Unknown),
    ] {
        let fault = fault(status, None).unwrap();
        assert_eq!(told(&fault), (code, outcome, Some(status)));
        let said = fault.vendor.unwrap();
        assert_eq!((said.code.as_deref(), said.message.as_deref()), (Some("E1"), Some("no *** !")));
    }
    assert!(fault(204, None).is_none());
    let wait = |status, text| fault(status, text).unwrap().retry_after.map(|wait| wait.as_secs());
    // The test clock is fixed at 2027-01-15T08:00:00Z.
    let date = Some("Fri, 15 Jan 2027 08:02:00 GMT");
    assert_eq!([wait(429, None), wait(429, Some("7")), wait(429, Some("0"))], [Some(1), Some(7), Some(1)]);
    assert_eq!([wait(503, None), wait(503, date), wait(500, Some("7"))], [None, Some(120), None]);
    assert_eq!([wait(503, Some("soon")), wait(503, Some("-1"))], [None, None]);
    assert_eq!(wait(503, Some("Fri, 15 Jan 2027 07:00:00 GMT")), Some(1));
    for century in ["3155760000", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        assert_eq!(wait(429, Some(century)), Some(3600), "{century}");
    }
}
