//! Tests of the whole stack against a vendor that speaks raw bytes: what the vendor receives, and which outcome the
//! gateway reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use url::Url;

use super::*;
use crate::domain::error::{Code, ConnectionRef};
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::outcome::Outcome;
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::units::{ByteSize, ConfigDuration};
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::domain::vendor_error::VendorError;
use crate::secret::{Redactor, Secret};

mod errors;
mod limits;
mod outcomes;
mod sending;

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
        let index = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        arrived.send(()).ok();
        match script[index.min(script.len() - 1)].clone() {
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
    ConnectionSettings { timeout: ConfigDuration(Duration::from_secs(2)), ..settings() }
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
        min_response_limit: 0,
    }
}

async fn send(client: &Client) -> Result<Response, VendorError> {
    client.send(post("{\"a\":1}"), &NoSignature, &call()).await
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn ok() -> Reply {
    Reply::Keep(answer("200 OK", "", "done"))
}

fn summary(error: &VendorError) -> (Code, Outcome, Option<u16>) {
    assert_eq!(error.connection.as_ref().unwrap().connection, "main");
    let response = error.vendor.as_ref().unwrap();
    assert_eq!(response.operation, "assignments.create");
    assert!(!error.detail.contains("127.0.0.1") && !error.detail.contains("/v1/"), "{}", error.detail);
    (error.code, error.outcome, response.http_status)
}
