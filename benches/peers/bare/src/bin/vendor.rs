//! The fake vendor: StartExam's and ExamTesting's writes, as fast as one core allows, with latency from a timer.
//!
//! vendor [--port 0] [--latency-ms 0]; the first line on stdout is its address. `GET /stats` reports what it received,
//! `POST /reset` clears that. `/candidates` accepts anything unsigned, `/v1/traces` is a collector that accepts
//! everything.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use examgate_bench::{authorization, document};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Default)]
struct Seen {
    refused: u64,
    malformed: u64,
    rows: u64,
    in_flight: u64,
    most_in_flight: u64,
    participants: u64,
    students: u64,
    /// Arrival times in microseconds since the start, in order.
    arrivals: Vec<u64>,
}

#[derive(Deserialize)]
struct Employees {
    employees: Vec<Employee>,
}

#[derive(Deserialize)]
struct Employee {
    #[allow(dead_code, reason = "required in the document, but unused here")]
    id: IgnoredAny,
}

struct Vendor {
    seen: RefCell<Seen>,
    start: Instant,
    latency: Duration,
    constant: Bytes,
}

type Answer = (u16, &'static str, Bytes);
const JSON: &str = "application/json; charset=utf-8";

impl Vendor {
    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
            return Ok(respond((400, JSON, Bytes::new())));
        };
        match head.uri.path() {
            "/stats" => return Ok(respond((200, JSON, self.stats()))),
            "/reset" => {
                let in_flight = self.seen.borrow().in_flight;
                *self.seen.borrow_mut() = Seen { in_flight, ..Seen::default() };
                return Ok(respond((200, JSON, Bytes::from_static(b"{}"))));
            }
            "/v1/traces" => return Ok(respond((200, "application/x-protobuf", Bytes::new()))),
            _ => {}
        }
        {
            let mut seen = self.seen.borrow_mut();
            let now = self.start.elapsed().as_micros() as u64;
            seen.arrivals.push(now);
            seen.in_flight += 1;
            seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
        }
        let answer = self.handle(&head, &body);
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        self.seen.borrow_mut().in_flight -= 1;
        Ok(respond(answer))
    }

    fn handle(&self, head: &hyper::http::request::Parts, body: &Bytes) -> Answer {
        let path = head.uri.path();
        if path.starts_with("/candidates") {
            let read = head.method == hyper::Method::GET;
            return (if read { 200 } else { 201 }, JSON, self.constant.clone());
        }
        let mut seen = self.seen.borrow_mut();
        if path.eq_ignore_ascii_case("/ManageCandidate.aspx") {
            let text = String::from_utf8_lossy(body).to_ascii_lowercase();
            if !(text.contains("apikey=bench-key") && text.contains("apipass=bench-pass")) {
                seen.refused += 1;
                return (200, "text/html; charset=utf-8", Bytes::from_static(b"ERROR|1003|Invalid key"));
            }
            seen.rows += 1;
            seen.students += 1;
            return (200, "text/html; charset=utf-8", format!("SUCCESS|{}", 12_344 + seen.students).into());
        }
        let text = |name| head.headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
        let expected = authorization(head.method.as_str(), path, text(DATE).unwrap_or(""), body.len());
        if text(AUTHORIZATION) != Some(&expected) {
            seen.refused += 1;
            return (403, JSON, Bytes::from_static(br#"{"message":"Signature"}"#));
        }
        let Ok(Employees { employees }) = serde_json::from_slice::<Employees>(body) else {
            seen.malformed += 1;
            return (400, JSON, Bytes::from_static(br#"{"message":"Malformed"}"#));
        };
        seen.rows += employees.len() as u64;
        if path == "/v1/employees" {
            return (200, JSON, Bytes::from_static(b"{}"));
        }
        let first = seen.participants + 1;
        seen.participants += employees.len() as u64;
        let ids: Vec<String> = (first..=seen.participants).map(|n| format!("1f0e8b3a-5a0c-4c39-9b1e-{n:012x}")).collect();
        (200, JSON, serde_json::json!({ "participantIds": ids }).to_string().into())
    }

    fn stats(&self) -> Bytes {
        let seen = self.seen.borrow();
        let (mut most, mut from) = (0, 0);
        // Arrivals less than a second apart share a sliding second.
        for (at, arrival) in seen.arrivals.iter().enumerate() {
            while arrival - seen.arrivals[from] >= 1_000_000 {
                from += 1;
            }
            most = most.max(at - from + 1);
        }
        serde_json::json!({
            "calls": seen.arrivals.len(), "refused": seen.refused, "malformed": seen.malformed, "rows": seen.rows,
            "mostInFlight": seen.most_in_flight, "firstMicros": seen.arrivals.first(), "lastMicros": seen.arrivals.last(),
            "mostInASecond": most,
        })
        .to_string()
        .into()
    }
}

fn respond((status, kind, body): Answer) -> Response<Full<Bytes>> {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(body)).expect("a valid head")
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = option("--port").unwrap_or(0);
    let latency = Duration::from_millis(option("--latency-ms").unwrap_or(0));
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound"));
    let constant = document("cand_01a2037e5d2d7c8d9e0f1a2b3c4d5e71", "bench-0000-1").into();
    let vendor = Rc::new(Vendor { seen: RefCell::default(), start: Instant::now(), latency, constant });
    tokio::task::LocalSet::new()
        .run_until(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let vendor = vendor.clone();
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request| vendor.clone().answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        })
        .await;
}
