//! Measurements rather than assertions about time, each against its counterpart in the same run, in alternating rounds.
//!
//! `cargo test --release --test it -- results::timings --ignored --nocapture`; `EXAMGATE_SESSIONS` is the number of sessions in the
//! feed.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::throughput::book_thousands;
use super::*;
use crate::support::watch::calls_of;

/// Rounds of each kind; the middle one counts.
const ROUNDS: usize = 7;

fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("stderr");
}

/// Returns the value below which this share of the sample lies, in milliseconds.
fn quantile(mut sample: Vec<f64>, share: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sample"
    )]
    let place = ((sample.len() - 1) as f64 * share).round() as usize;
    sample[place]
}

fn median(sample: &[f64]) -> f64 {
    quantile(sample.to_vec(), 0.5)
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}

/// Registers people, one after the other; returns how long each took.
async fn register(gateway: &Gateway, round: &str, count: usize) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let person = person_at(START, &format!("{round}-{number}"));
        let began = Instant::now();
        let registered = gateway.post("/candidates", &person).await;
        times.push(milliseconds(began));
        assert_eq!(registered.status, 201, "{registered:?}");
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn single_writes_beside_a_feed_that_is_read_at_full_speed() {
    const WRITES: usize = 200;
    let sessions: usize = std::env::var("EXAMGATE_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    // Each run reads all sessions again; those of a round are new in its first run.
    let feed = "session_report = \"never\"\nregression = \"ignore\"\noverlap = \"24h\"";
    let (sandbox, gateway) = start_with(feed, "").await;
    let gateway = Arc::new(gateway);
    book_thousands(&gateway, sessions).await;
    let (mut calm, mut busy, mut reads) = (Vec::new(), Vec::new(), 0);
    register(&gateway, "warm", WRITES).await;
    for round in 0..ROUNDS {
        calm.push(quantile(register(&gateway, &format!("calm{round}"), WRITES).await, 0.99));
        let many = json!({ "count": sessions / ROUNDS, "participants": "registered", "finished": true,
                           "sections": [{ "title": "Section #1", "score": 2, "maxScore": 3 }] });
        sit(&sandbox, &many).await;
        let stop = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn({
            let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
            async move {
                // A request while a run goes on has another one begin at its end.
                while !stop.load(Ordering::Relaxed) {
                    read_feed(&gateway).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        let before = calls_of(sandbox.startexam(), "sessions").await;
        busy.push(quantile(register(&gateway, &format!("busy{round}"), WRITES).await, 0.99));
        reads += calls_of(sandbox.startexam(), "sessions").await - before;
        stop.store(true, Ordering::Relaxed);
        reader.await.expect("the reader ends");
        let idle = tokio::time::Instant::now();
        let mut calls = 0;
        // The last run ends.
        loop {
            let now = calls_of(sandbox.startexam(), "sessions").await;
            if now == calls || idle.elapsed() > Duration::from_mins(2) {
                break;
            }
            calls = now;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let (calm, busy) = (median(&calm), median(&busy));
    say(&format!(
        "POST /candidates, p99 of {WRITES}, median of {ROUNDS} rounds: {calm:.1} ms in calm, {busy:.1} ms beside a feed of {sessions} \
         sessions ({reads} pages read meanwhile): {:.2} times",
        busy / calm
    ));
}

#[tokio::test]
#[ignore = "a measurement"]
async fn refusals_of_a_receiver() {
    const REQUESTS: usize = 300;
    let (_sandbox, gateway) = start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let body =
        json!({ "result": { "email": "t1@example.com", "test_id": THINK_TEST, "marks_scored": 17 } }).to_string();
    let wrong = "x".repeat(TOKEN.len());
    let kinds = [
        ("an unknown connection", format!("/receivers/no-such-connection/{wrong}"), 404),
        ("a wrong token", format!("/receivers/{THINK}/{wrong}"), 404),
        ("a wrong key", format!("/receivers/{THINK}/{TOKEN}"), 401),
    ];
    let mut medians: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let mut times: [Vec<f64>; 3] = Default::default();
        for number in 0..REQUESTS {
            // Each is as often the first after the pause as the others: that one takes longer.
            for kind in (0..kinds.len()).map(|kind| (kind + number) % kinds.len()) {
                let (what, path, status) = &kinds[kind];
                let request = client.post(format!("http://{}{path}", gateway.address));
                let request = request.header("x-webhook_key", "wrong").header("content-type", "application/json");
                let began = Instant::now();
                let response = request.body(body.clone()).send().await.expect("a response");
                assert_eq!(response.status().as_u16(), *status, "{what}");
                response.bytes().await.expect("a body");
                times[kind].push(milliseconds(began));
            }
            // A receiver takes 200 a second in the long run.
            tokio::time::sleep(Duration::from_millis(6)).await;
        }
        // The first round warms up.
        if round > 0 {
            for (medians, times) in medians.iter_mut().zip(&times) {
                medians.push(median(times));
            }
        }
    }
    let [unknown, token, key] = medians.map(|medians| median(&medians));
    say(&format!(
        "a receiver's refusals, median of {REQUESTS}, median of {ROUNDS} rounds: {unknown:.3} ms for an unknown connection, {token:.3} \
         ms for a wrong token ({:.2} times), {key:.3} ms for a wrong key ({:.2} times the wrong token)",
        token / unknown,
        key / token
    ));
}
