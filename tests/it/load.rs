//! Measurements rather than assertions about time: what a failing vendor costs another one's callers, and what happens
//! under more load than a vendor's limits admit. `scripts/pressure` runs the long form and prints the figures; the
//! suite runs a short one that checks only counts and responses.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::connections::{client, examtesting, startexam};
use crate::support::gateway::{Gateway, key, sandbox};
use crate::support::people::person_at;
use crate::support::vendor::{Stub, json_response};

/// A response: how long it took, and what it was.
struct Sample {
    took: Duration,
    status: u16,
    code: String,
    retry_after: bool,
}

/// Sends candidates at a steady rate, whether or not they are answered.
#[derive(Clone)]
struct Load {
    http: reqwest::Client,
    address: SocketAddr,
    connection: &'static str,
}

/// No person is sent twice.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Load {
    fn on(gateway: &Gateway, connection: &'static str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { http, address: gateway.address, connection }
    }

    async fn send_one(&self) -> Sample {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let person = person_at(self.connection, &format!("e{number}"));
        let request = self.http.post(format!("http://{}/candidates", self.address)).bearer_auth(key("lms"));
        let began = Instant::now();
        let response = request.json(&person).send().await.expect("the gateway responds");
        let (status, retry_after) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.expect("JSON");
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        Sample { took: began.elapsed(), status, code, retry_after }
    }

    /// Sends at this rate for this long.
    async fn send_at_rate(&self, rate: u32, lasting: Duration) -> Vec<Sample> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        let mut sent = JoinSet::new();
        for _ in 0..lasting.as_millis() * u128::from(rate) / 1000 {
            ticks.tick().await;
            let load = self.clone();
            sent.spawn(async move { load.send_one().await });
        }
        sent.join_all().await
    }

    /// Starts callers that send again shortly after each response, until stopped.
    fn press(&self, callers: usize, stop: &Arc<AtomicBool>) -> JoinSet<usize> {
        let mut pressing = JoinSet::new();
        for _ in 0..callers {
            let (load, stop) = (self.clone(), Arc::clone(stop));
            pressing.spawn(async move {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    load.send_one().await;
                    sent += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                sent
            });
        }
        pressing
    }
}

/// Returns the time that so many per mille of the samples did not exceed.
fn quantile(samples: &[&Sample], per_mille: usize) -> Duration {
    let mut took: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    took.sort();
    let index = (took.len() * per_mille).div_ceil(1000).max(1) - 1;
    took.get(index).copied().unwrap_or_default()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn per_second(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

/// Returns the seconds of one measurement if a long one is requested.
fn measured_seconds() -> Option<u64> {
    std::env::var("EXAMGATE_PRESSURE_SECONDS").ok()?.parse().ok()
}

/// Returns the number of callers of the other vendor; each sends again 100 ms after its response.
fn other_caller_count() -> usize {
    std::env::var("EXAMGATE_PRESSURE_CALLERS").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

/// How the other vendor fails.
#[derive(Clone, Copy, Debug)]
enum VendorFailure {
    Refuses,
    Silent,
    Drips,
}

impl VendorFailure {
    async fn start(self) -> SocketAddr {
        match self {
            Self::Refuses => {
                // A free port could be taken by another test.
                SocketAddr::from(([127, 0, 0, 1], 1))
            }
            Self::Silent => crate::isolation::EndlessVendor::start(false).await.address,
            Self::Drips => crate::isolation::EndlessVendor::start(true).await.address,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_vendor_serves_all_callers_while_another_one_fails() {
    let (rounds, lasting, rate) = measured_seconds()
        .map_or((1, Duration::from_millis(500), 40), |seconds| (5, Duration::from_secs(seconds), 100));
    for failure in [VendorFailure::Refuses, VendorFailure::Silent, VendorFailure::Drips] {
        let healthy = Stub::start(|_| json_response(200, &json!({}))).await;
        let sandbox = sandbox().await;
        let well = start_pair(&healthy, sandbox.examtesting()).await;
        let broken = start_pair(&healthy, failure.start().await).await;
        let mut p99 = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            // No other callers; callers of another healthy vendor; as many of a failing one. The second shows what the
            // callers cost, the third what the failures add.
            for (arm, gateway, callers) in
                [(0, &broken, 0), (1, &well, other_caller_count()), (2, &broken, other_caller_count())]
            {
                let (healthy_side, other_side) =
                    (Load::on(gateway, "startexam-main"), Load::on(gateway, "examtesting-main"));
                let stop = Arc::new(AtomicBool::new(false));
                let pressing = other_side.press(callers, &stop);
                let samples = healthy_side.send_at_rate(rate, lasting).await;
                stop.store(true, Ordering::Relaxed);
                assert!(samples.iter().all(|sample| sample.status == 201), "{failure:?}");
                p99[arm].push(quantile(&samples.iter().collect::<Vec<_>>(), 990));
                let sent: usize = pressing.join_all().await.into_iter().sum();
                assert!(callers == 0 || sent > 0, "no other load");
            }
        }
        println!("{failure:?}: p99 alone, beside a vendor that is well, beside a broken one: {p99:?}");
        let [alone, well, broken] = p99.map(median);
        println!(
            "{failure:?}: medians: alone {alone:?}, well {well:?}, broken {broken:?}; broken / well {:.2}",
            broken.as_secs_f64() / well.as_secs_f64()
        );
    }
}

/// Starts a gateway with this healthy vendor and one at this address. The timeout is short enough to occur during a
/// round, so that the circuit breaker takes part.
async fn start_pair(healthy: &Stub, other: SocketAddr) -> Gateway {
    let connections = startexam(&healthy.url(), "max_in_flight = 16")
        + &examtesting(
            &format!("http://{other}"),
            "max_in_flight = 16\ntimeout = \"1s\"\nbreaker = { failures = 5, cooldown = \"1s\" }",
        );
    let gateway = Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), &[("RUST_LOG", "warn")]).await;
    Load::on(&gateway, "startexam-main").send_at_rate(40, Duration::from_millis(300)).await;
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_beyond_a_vendors_limits_is_rejected_and_the_rest_is_served() {
    // A short run: enough to fill the queue of 128 and more, even if a slow machine takes ten seconds to send it.
    let (capacity, lasting, rate) = measured_seconds()
        .map_or((20, Duration::from_secs(1), 400), |seconds| (50, Duration::from_secs(seconds * 4), 150));
    let stub = Stub::start(|_| json_response(200, &json!({}))).await;
    let connections = startexam(&stub.url(), "max_in_flight = 8\ntimeout = \"20s\"")
        .replace("requests_per_second = 0", &format!("requests_per_second = {capacity}"));
    let gateway = Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), &[("RUST_LOG", "warn")]).await;
    let load = Load::on(&gateway, "startexam-main");
    let calm = load.send_at_rate(capacity / 2, lasting / 2).await;
    assert!(calm.iter().all(|sample| sample.status == 201));
    let before = stub.seen().len();

    let began = Instant::now();
    let samples = load.send_at_rate(rate, lasting).await;
    let took = began.elapsed();
    let (accepted, refused): (Vec<&Sample>, Vec<&Sample>) = samples.iter().partition(|sample| sample.status == 201);
    for sample in &refused {
        assert_eq!((sample.status, sample.code.as_str()), (503, "connection_saturated"));
        assert!(sample.retry_after, "there is a Retry-After");
    }
    assert!(!refused.is_empty() && accepted.len() > 100, "{} accepted, {} refused", accepted.len(), refused.len());
    assert_eq!(stub.seen().len() - before, accepted.len(), "what was refused was not sent");
    let after = Instant::now();
    assert_eq!(load.send_one().await.status, 201);

    let mut report = String::new();
    let calm: Vec<&Sample> = calm.iter().collect();
    let _ = writeln!(
        report,
        "offered {rate}/s for {lasting:?} to a vendor of {capacity}/s: {} accepted in {took:.1?} ({:.0}/s), {} refused",
        accepted.len(),
        per_second(accepted.len(), took),
        refused.len()
    );
    let _ = writeln!(report, "calm: p50 {:?}, p99 {:?}", quantile(&calm, 500), quantile(&calm, 990));
    let _ = writeln!(report, "accepted: p50 {:?}, p99 {:?}", quantile(&accepted, 500), quantile(&accepted, 990));
    let _ = writeln!(report, "refused: p50 {:?}, p99 {:?}", quantile(&refused, 500), quantile(&refused, 990));
    let _ = writeln!(report, "the next one took {:?}", after.elapsed());
    println!("{report}");
}
