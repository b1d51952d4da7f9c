//! Callers that occupy connections: idle, slow or too many. Other callers are served meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use examgate::http::ListenerOptions;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::{api_parts, serve_api, serve_with};
use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, TIMEOUT, key, sandbox};

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";

/// The HTTP/2 preface with empty settings, and the beginning of a request: a HEADERS frame that announces a hundred
/// bytes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const HEADERS: &[u8] = b"\x00\x00\x64\x01\x04\x00\x00\x00\x01";

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Sends a request and reads the response on a connection that stays open.
async fn send_and_read(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.expect("the request goes out");
    let mut response = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).await.expect("a response");
        response.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&response);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let stated = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            stated.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
        });
        if whole || length == 0 {
            return text.into_owned();
        }
    }
}

/// Reads until the gateway closes.
async fn read_until_closed(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    // A reset is as good as a close.
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut response)).await;
    assert!(ended.is_ok(), "the gateway never closed: {}", String::from_utf8_lossy(&response));
    String::from_utf8_lossy(&response).into_owned()
}

/// Sends a byte again and again until the gateway closes. Without a limit it never would.
async fn drip_until_closed(mut stream: TcpStream, byte: u8) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < TIMEOUT, "the gateway never closed a slow connection");
        let mut response = [0; 64];
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut response));
        match read.await {
            Ok(Ok(0) | Err(_)) => return,
            // HTTP/2 frames: settings and pings.
            Ok(Ok(_)) => {}
            Err(_) => {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn headers_that_trickle_in_close_the_connection() {
    let server = serve_api(&api_parts().await).await;
    let first = async {
        let mut stream = connect(server.address).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
        drip_until_closed(stream, b'x').await;
    };
    let second = async {
        let mut stream = connect(server.address).await;
        assert!(send_and_read(&mut stream, LIVEZ).await.starts_with("HTTP/1.1 200"));
        stream.write_all(b"G").await.unwrap();
        drip_until_closed(stream, b'E').await;
    };
    let newer = async {
        let mut stream = connect(server.address).await;
        stream.write_all(&[PREFACE, HEADERS].concat()).await.unwrap();
        drip_until_closed(stream, b'\0').await;
    };
    let silent = async {
        assert!(read_until_closed(&mut connect(server.address).await).await.is_empty());
    };
    tokio::join!(first, second, newer, silent);
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_timeout_and_not_before() {
    let keep_alive = Duration::from_secs(2);
    let server = serve_with(
        examgate::http::router(&api_parts().await),
        ListenerOptions { connections: 10, keep_alive, busy: None, tls: None },
    )
    .await;
    let mut stream = connect(server.address).await;
    for _ in 0..3 {
        assert!(send_and_read(&mut stream, LIVEZ).await.starts_with("HTTP/1.1 200"), "it stays open between requests");
    }
    assert_eq!(read_until_closed(&mut stream).await, "");

    let (mut sender, connection) = http_2(server.address, 65_535).await;
    let driving = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/livez", server.address)).body(Empty::<bytes::Bytes>::new());
    let response = sender.send_request(request.unwrap()).await.expect("a response");
    response.into_body().collect().await.expect("a body");
    let ended = tokio::time::timeout(TIMEOUT, driving).await.expect("it is closed").unwrap();
    assert!(ended.is_ok(), "as the protocol wants: {ended:?}");
}

type Http2 = (
    hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>>,
    hyper::client::conn::http2::Connection<TokioIo<TcpStream>, Empty<bytes::Bytes>, TokioExecutor>,
);

/// Opens an HTTP/2 connection with this flow-control window.
async fn http_2(address: SocketAddr, window: u32) -> Http2 {
    let stream = TokioIo::new(connect(address).await);
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window).handshake(stream).await.expect("HTTP/2")
}

#[tokio::test]
async fn an_http_2_caller_that_reads_nothing_is_dropped_even_if_it_answers_pings() {
    let server = serve_api(&api_parts().await).await;
    let (mut sender, connection) = http_2(server.address, 100).await;
    let driving = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/openapi.json", server.address));
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.expect("headers");
    assert_eq!(response.status(), 200);
    // The body is held, and never read.
    let ended = tokio::time::timeout(TIMEOUT, driving).await.expect("the gateway gives up").unwrap();
    drop(response);
    drop(ended);
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_flood_of_reset_requests_closes_the_connection() {
    let server = serve_api(&api_parts().await).await;
    let mut stream = connect(server.address).await;
    let mut flood = PREFACE.to_vec();
    for number in 0..5_000_u32 {
        let id = (2 * number + 1).to_be_bytes();
        // `:method GET`, `:scheme http`, `:path /` from the static table, and an authority: HEADERS, then RST_STREAM.
        flood.extend([0, 0, 6, 1, 5].iter().chain(&id).chain(b"\x82\x86\x84\x41\x01a"));
        flood.extend([0, 0, 4, 3, 0].iter().chain(&id).chain(&[0, 0, 0, 8]));
    }
    let (mut from, mut to) = stream.split();
    let mut response = Vec::new();
    // The gateway closes before it has read everything; both ends may see a reset.
    let both = async { tokio::join!(to.write_all(&flood), from.read_to_end(&mut response)) };
    assert!(tokio::time::timeout(TIMEOUT, both).await.is_ok(), "the gateway never closed");
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_rejected_until_there_is_room() {
    let server = serve_with(
        examgate::http::router(&api_parts().await),
        ListenerOptions { connections: 4, keep_alive: Duration::from_mins(10), busy: None, tls: None },
    )
    .await;
    // Their requests have begun: none of them can be evicted.
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(server.address).await;
        assert!(send_and_read(&mut stream, LIVEZ).await.starts_with("HTTP/1.1 200"));
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        busy.push(stream);
    }
    // The response is sent without waiting for a request.
    let refusal = read_until_closed(&mut connect(server.address).await).await;
    let (head, body) = refusal.split_once("\r\n\r\n").expect("a complete response");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    for header in ["Content-Type: application/problem+json", "Retry-After: 1", "Connection: close"] {
        assert!(head.contains(header), "{head}");
    }
    let problem: Value = serde_json::from_str(body).expect("a problem");
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("overloaded"), &json!("not_applied")));
    // A caller that sends its request first gets it, too.
    let mut eager = connect(server.address).await;
    assert!(send_and_read(&mut eager, LIVEZ).await.starts_with("HTTP/1.1 503"));

    for stream in &mut busy {
        assert!(
            send_and_read(stream, b"Host: a\r\n\r\n").await.starts_with("HTTP/1.1 200"),
            "those there are are served"
        );
    }
    // Now they are idle, and one of them is evicted.
    let began = Instant::now();
    while !send_and_read(&mut connect(server.address).await, LIVEZ).await.starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < TIMEOUT, "no connection is evicted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn excess_requests_are_rejected_and_counted_before_their_body_is_read() {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "");
    let clients = crate::support::connections::client("lms", "", "[\"*\"]");
    let operators = [("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let mut gateway = Gateway::start_with_env(&connections, &clients, &operators).await;
    let operators = gateway.admin_address().await;
    let head = |length: usize, more: &str| {
        format!(
            "POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\n{more}\
             Content-Length: {length}\r\n\r\n",
            key("lms")
        )
    };
    let mut holding = Vec::new();
    for _ in 0..1024 {
        let mut stream = connect(gateway.address).await;
        stream.write_all(head(100, "").as_bytes()).await.unwrap();
        holding.push(stream);
    }
    let wait_for_line = async |line: &str| {
        let began = Instant::now();
        loop {
            let page = crate::support::gateway::http().get(format!("http://{operators}/metrics")).send().await;
            let page = page.expect("the operators are served").text().await.unwrap();
            if page.lines().any(|other| other == line) {
                return page;
            }
            assert!(began.elapsed() < TIMEOUT, "{line} never came:\n{page}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    wait_for_line("examgate_http_in_flight 1024").await;
    // The body is not requested, let alone read.
    let mut stream = connect(gateway.address).await;
    stream.write_all(head(8 << 20, "Expect: 100-continue\r\n").as_bytes()).await.unwrap();
    let refusal = read_until_closed(&mut stream).await;
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("overloaded"), "{refusal}");
    assert!(refusal.contains("retry-after: 1"), "{refusal}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.anonymous(Method::GET, path).send().await.status, 200, "{path}");
        let response = crate::support::gateway::http().get(format!("http://{operators}{path}")).send().await;
        assert_eq!(response.unwrap().status(), 200, "{path}");
    }
    let page = wait_for_line("examgate_http_shed_total{reason=\"requests\"} 1").await;
    assert!(page.contains("examgate_http_connections 10"), "{page}");
    drop(holding);
    wait_for_line("examgate_http_in_flight 0").await;
    wait_for_line("examgate_http_connections 0").await;
    assert_eq!(gateway.get("/vendors").await.status, 200);
}

/// Response times.
struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, part: usize) -> Duration {
        self.0.sort_unstable();
        self.0[(self.0.len() * part / 1000).min(self.0.len() - 1)]
    }
}

/// Runs eight callers with a connection each that register people and read them back; every response must be a success.
async fn run_callers(gateway: &Gateway, round: &str, each: usize) -> Times {
    let mut tasks = JoinSet::new();
    for caller in 0..8 {
        let (address, round) = (gateway.address, round.to_owned());
        tasks.spawn(async move {
            let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().expect("a client");
            let mut times = Vec::new();
            for number in 0..each {
                let person =
                    json!({ "externalId": format!("{round}-{caller}-{number}"), "name": { "givenName": "Ada" } });
                let began = Instant::now();
                let request = client.post(format!("http://{address}/candidates")).bearer_auth(key("lms"));
                let response = request.json(&person).send().await.expect("a response");
                times.push(began.elapsed());
                assert_eq!(response.status(), 201);
                let candidate: Value = response.json().await.expect("a candidate");
                let path = format!("http://{address}/candidates/{}", candidate["id"].as_str().expect("an id"));
                let began = Instant::now();
                let response = client.get(path).bearer_auth(key("lms")).send().await.expect("a response");
                times.push(began.elapsed());
                assert_eq!(response.status(), 200);
                response.bytes().await.expect("a complete response");
            }
            times
        });
    }
    Times(tasks.join_all().await.concat())
}

/// Runs a caller that is slow with its headers, its body or with reading, again and again.
async fn run_slow_caller(address: SocketAddr, number: usize, stop: Arc<AtomicBool>) {
    let head = format!("POST /candidates HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n", key("lms"));
    let opening = match number % 3 {
        0 => head,
        1 => format!("{head}Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n{{"),
        _ => "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20),
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let mut open = stream.write_all(opening.as_bytes()).await.is_ok();
        while open && !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            open = number % 3 == 2 || stream.write_all(b"x").await.is_ok();
        }
    }
}

/// The number of connections the contract promises, and their cost.
const IDLE: usize = 10_000;
const SLOW: usize = 500;
const GROWTH_KIB: u64 = 300 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_and_five_hundred_slow_connections_block_no_caller() {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "max_in_flight = 16");
    // However long a busy machine takes to open them all, none is closed for being idle.
    let clients = client("lms", "", "[\"*\"]");
    let gateway = Gateway::start_with_env(&connections, &clients, &[("EXAMGATE__SERVER__KEEP_ALIVE", "1h")]).await;
    // Both this process and the gateway need a file for each connection.
    let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| usize::try_from(files).unwrap());
    let (wanted, have) = (IDLE + SLOW, files.saturating_sub(2_000).max(files / 2));
    let (many, few) = (IDLE * wanted.min(have) / wanted, SLOW * wanted.min(have) / wanted);
    if many < IDLE {
        println!("{files} open files permitted: {many} idle and {few} slow connections");
    }
    let mut calm = run_callers(&gateway, "calm", 50).await;
    let (memory, files) = (gateway.memory_kib("VmRSS"), gateway.open_files());
    let mut idle = Vec::new();
    for _ in 0..many {
        let mut stream = connect(gateway.address).await;
        assert!(send_and_read(&mut stream, LIVEZ).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    let with_idle = gateway.memory_kib("VmRSS");
    let stop = Arc::new(AtomicBool::new(false));
    let mut slowly = JoinSet::new();
    for number in 0..few {
        slowly.spawn(run_slow_caller(gateway.address, number, Arc::clone(&stop)));
    }
    let mut crowded = run_callers(&gateway, "crowded", 50).await;
    let (with_all, open) = (gateway.memory_kib("VmRSS"), gateway.open_files());
    println!(
        "memory {memory} KiB, with {many} idle {with_idle} KiB, with {few} slow as well {with_all} KiB; {open} files; \
         callers p50 {:?} p99 {:?}, in the crowd {:?} {:?}",
        calm.at(500),
        calm.at(990),
        crowded.at(500),
        crowded.at(990)
    );
    assert!(open >= many, "all connections are open");
    assert!(with_all.saturating_sub(memory) < GROWTH_KIB, "{memory} KiB grew to {with_all} KiB");
    stop.store(true, Ordering::Relaxed);
    slowly.join_all().await;
    drop(idle);
    let began = Instant::now();
    // The callers' own connections to the vendor come and go.
    while gateway.open_files() > files + 8 {
        assert!(began.elapsed() < TIMEOUT, "{} files are still open, {files} before", gateway.open_files());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
