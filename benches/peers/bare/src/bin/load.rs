//! Load at a fixed rate, with a new body and key for each request and latency counted from when the request was due, so
//! that a stall counts for every request it delays; and StartExam's bookings as a script would make them.
//!
//! load fixed --to HOST:PORT --rate N --seconds S --connections C --prefix P [--warm-up S] [--keyed yes] [--ids FILE]
//! load bookings --to HOST:PORT --calls N --rows N --in-flight N
//!
//! Uses blocking sockets with a thread each: timers of an async runtime tick in milliseconds, and half a millisecond
//! matters here.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use examgate_bench::{KEY, authorization, date};
use hdrhistogram::Histogram;

struct Options(BTreeMap<String, String>);

impl Options {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str, default: f64) -> f64 {
        self.text(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("--{name} is no number")))
    }
}

/// One keep-alive connection.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends one request, reads the whole response and returns its status.
    fn exchange(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).expect("sends");
        self.buffer.clear();
        let mut chunk = [0; 16384];
        loop {
            let read = self.stream.read(&mut chunk).expect("a response within 30 s");
            assert!(read > 0, "the connection was closed in the middle of an answer");
            self.buffer.extend_from_slice(&chunk[..read]);
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).expect("a head").to_ascii_lowercase();
            let status = head.get(9..12).and_then(|text| text.parse().ok()).expect("a status");
            let body = &self.buffer[end + 4..];
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let whole = match length {
                Some(length) => body.len() >= length.trim().parse::<usize>().expect("a length"),
                None if head.contains("transfer-encoding: chunked") => body.ends_with(b"0\r\n\r\n"),
                None => panic!("an answer without a length"),
            };
            if whole {
                return status;
            }
        }
    }
}

struct Plan {
    to: String,
    prefix: String,
    keyed: bool,
    ids: Vec<String>,
}

impl Plan {
    fn request(&self, number: u64) -> Vec<u8> {
        let Self { to, prefix, keyed, ids } = self;
        if !ids.is_empty() {
            let id = &ids[usize::try_from(number).expect("fits") % ids.len()];
            return format!("GET /candidates/{id} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {KEY}\r\n\r\n").into_bytes();
        }
        let id = format!("{prefix}-{number}");
        let body = format!(
            r#"{{"connection":"startexam-main","externalId":"{id}","name":{{"givenName":"Ines","familyName":"Costa"}},"email":"{id}@example.com"}}"#
        );
        let key = if *keyed { format!("Idempotency-Key: {id}\r\n") } else { String::new() };
        format!(
            "POST /candidates HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds")
}

fn fixed(options: &Options) {
    let rate = options.number("rate", 300.0);
    let warm_up = options.number("warm-up", 1.0);
    let total = (rate * (warm_up + options.number("seconds", 5.0))) as u64;
    let first_counted = (rate * warm_up) as u64;
    let ids = options.text("ids").map_or_else(Vec::new, |file| {
        std::fs::read_to_string(file).expect("the ids").lines().map(str::to_owned).collect()
    });
    let plan = Arc::new(Plan {
        to: options.text("to").expect("--to").to_owned(),
        prefix: options.text("prefix").expect("--prefix").to_owned(),
        keyed: options.text("keyed") == Some("yes"),
        ids,
    });
    // Inherited by threads: sleeping ends within microseconds instead of 50.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1000");
    let next = Arc::new(AtomicU64::new(0));
    let lines: Vec<Line> = (0..options.number("connections", 16.0) as usize).map(|_| Line::to(&plan.to)).collect();
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = lines
        .into_iter()
        .map(|mut line| {
            let (plan, next) = (plan.clone(), next.clone());
            std::thread::spawn(move || {
                let (mut latency, mut late, mut statuses) = (histogram(), histogram(), BTreeMap::new());
                let mut last = start;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return (latency, late, statuses, last);
                    }
                    let request = plan.request(number);
                    let due = start + Duration::from_secs_f64(number as f64 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let sent = Instant::now();
                    let status = line.exchange(&request);
                    last = Instant::now();
                    *statuses.entry(status).or_insert(0_u64) += 1;
                    if number >= first_counted {
                        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
                        latency.saturating_record(micros(last.duration_since(due)));
                        late.saturating_record(micros(sent.duration_since(due)));
                    }
                }
            })
        })
        .collect();
    let (mut latency, mut late, mut statuses, mut last) = (histogram(), histogram(), BTreeMap::new(), start);
    for thread in threads {
        let (its_latency, its_late, its_statuses, its_last) = thread.join().expect("a thread of the load");
        latency.add(its_latency).expect("same bounds");
        late.add(its_late).expect("same bounds");
        its_statuses.into_iter().for_each(|(status, count)| *statuses.entry(status).or_insert(0) += count);
        last = last.max(its_last);
    }
    let at = |quantile| latency.value_at_quantile(quantile);
    println!(
        "{}",
        serde_json::json!({
            "rate": rate, "achieved": total as f64 / last.duration_since(start).as_secs_f64(), "requests": total,
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": latency.max(),
            "lateP50": late.value_at_quantile(0.5), "lateP99": late.value_at_quantile(0.99), "statuses": statuses,
        })
    );
    if statuses.keys().any(|status| !(200..300).contains(status)) {
        eprintln!("load: responses other than 2xx: {statuses:?}");
        std::process::exit(1);
    }
}

fn bookings(options: &Options) {
    let to = options.text("to").expect("--to").to_owned();
    let (calls, rows) = (options.number("calls", 20.0) as u64, options.number("rows", 500.0) as u64);
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let threads: Vec<_> = (0..options.number("in-flight", 1.0) as u64)
        .map(|_| {
            let (to, next) = (to.clone(), next.clone());
            std::thread::spawn(move || {
                let mut line = Line::to(&to);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= calls {
                        return;
                    }
                    let people = number * rows..(number + 1) * rows;
                    let employees: Vec<_> = people.map(|n| serde_json::json!({ "id": format!("row-{n}") })).collect();
                    let body = serde_json::json!({
                        "center": "mycenter", "validFrom": "2026-11-22T13:42:23Z", "validTill": "2026-12-22T13:42:23Z",
                        "doNotCreateIfExist": true, "tests": ["fa19e351-36d0-49c0-be92-66d640b17878"], "employees": employees,
                    })
                    .to_string();
                    let (path, date) = ("/v2/employees-participants", date());
                    let authorization = authorization("POST", path, &date, body.len());
                    let request = format!(
                        "POST {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: {authorization}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    assert_eq!(line.exchange(request.as_bytes()), 200);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread of the load"));
    println!("{}", serde_json::json!({ "calls": calls, "seconds": start.elapsed().as_secs_f64() }));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().expect("usage: load fixed|bookings --NAME VALUE…");
    let mut options = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let value = arguments.next().expect("a value for each option");
        options.insert(name.trim_start_matches("--").to_owned(), value);
    }
    match kind.as_str() {
        "fixed" => fixed(&Options(options)),
        "bookings" => bookings(&Options(options)),
        other => panic!("{other}: fixed or bookings"),
    }
}
