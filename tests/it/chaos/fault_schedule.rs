//! The schedule of injected faults: drawn at random from all the sandbox knows, and changed after a number of
//! responses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use examgate::sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::cluster::Random;
use crate::support::gateway::{http, set_faults};

/// Faults that do not concern a single response (an endless feed that no write reads, a vendor that breaks its own
/// rules), and StartExam's 404: during reconciliation it proves that the first attempt did nothing, so a false 404
/// cannot be detected.
const EXCLUDED_FAULTS: &[&str] = &["endless_feed", "double_creation", "not_found"];

/// Rejections by the vendor's codes or by HTTP status. A vendor that applies the write and then responds with one of
/// these states what is not true.
const REJECTIONS: &[&str] =
    &["rate_limited", "date_refused", "forbidden", "unauthorized", "bad_request", "control_characters", "firewall"];

/// Responses after which the faults change.
const RESPONSES_PER_CHANGE: usize = 25;
/// Faults active at one vendor at the same time.
const SIMULTANEOUS: usize = 4;
/// How late an effect may be: later than the connections' timeout, well before the end of the grace period.
const LATE_MILLIS: u64 = 3_500;

/// The faults of all three vendors.
pub struct FaultSchedule {
    vendors: Vec<VendorFaults>,
    responses: AtomicUsize,
    random: Mutex<Random>,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// One vendor's faults: the shuffled pool and the position of the next one.
struct VendorFaults {
    port: SocketAddr,
    pool: Vec<Value>,
    next: AtomicUsize,
}

impl FaultSchedule {
    /// Creates a schedule without active faults.
    pub async fn new(sandbox: &Sandbox, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut vendors = Vec::new();
        for port in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()] {
            let mut pool = fault_pool(port).await;
            for index in (1..pool.len()).rev() {
                pool.swap(index, below(&mut random, index + 1));
            }
            vendors.push(VendorFaults { port, pool, next: AtomicUsize::new(0) });
        }
        Self { vendors, responses: AtomicUsize::new(0), random: Mutex::new(random), counts: Mutex::default() }
    }

    /// Counts a response, and changes the faults after every so many.
    pub async fn advance(&self) {
        if !self.responses.fetch_add(1, Ordering::Relaxed).is_multiple_of(RESPONSES_PER_CHANGE) {
            return;
        }
        let mut random = self.random.lock().await;
        let vendor = &self.vendors[below(&mut random, self.vendors.len())];
        // Now and then nothing works at this vendor until its next change: the circuit opens.
        if random.below(12) == 0 {
            return self.apply(vendor, json!([outage()])).await;
        }
        let from = vendor.next.fetch_add(SIMULTANEOUS, Ordering::Relaxed);
        let drawn: Vec<Value> = (from..from + SIMULTANEOUS)
            .map(|index| {
                let mut order = vendor.pool[index % vendor.pool.len()].clone();
                order["probability"] = json!(f64::from(u32::try_from(5 + random.below(40)).unwrap_or(5)) / 100.0);
                order
            })
            .collect();
        self.apply(vendor, json!(drawn)).await;
    }

    /// Makes every call to every vendor fail.
    pub async fn outage(&self) {
        for vendor in &self.vendors {
            self.apply(vendor, json!([outage()])).await;
        }
    }

    /// Removes all faults.
    pub async fn clear(&self) {
        for vendor in &self.vendors {
            self.apply(vendor, json!([])).await;
        }
    }

    /// Returns how often each fault was injected.
    pub async fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().await.clone()
    }

    async fn apply(&self, vendor: &VendorFaults, faults: Value) {
        let mut counts = self.counts.lock().await;
        for fault in read_faults(vendor.port).await["faults"].as_array().into_iter().flatten() {
            let name = fault["name"].as_str().expect("a name").to_owned();
            *counts.entry(name).or_default() += fault["struck"].as_u64().expect("a count");
        }
        set_faults(vendor.port, json!({ "faults": faults })).await;
    }
}

fn outage() -> Value {
    json!({ "name": "reset_before_effect" })
}

async fn read_faults(port: SocketAddr) -> Value {
    let response = http().get(format!("http://{port}/_faults")).send().await.expect("the sandbox responds");
    response.json().await.expect("JSON")
}

/// Returns every fault a vendor knows, with and without the effect where that can be chosen.
async fn fault_pool(port: SocketAddr) -> Vec<Value> {
    let mut pool = Vec::new();
    for fault in read_faults(port).await["known"].as_array().expect("a list of faults") {
        let name = fault["name"].as_str().expect("a name");
        if EXCLUDED_FAULTS.contains(&name) {
            continue;
        }
        let mut order = json!({ "name": name });
        let mut with_effect = None;
        for parameter in fault["parameters"].as_array().into_iter().flatten() {
            match parameter["name"].as_str() {
                Some("delayMs") => order["delayMs"] = json!(20),
                Some("intervalMs") => order["intervalMs"] = json!(1),
                Some("retryAfter") => order["retryAfter"] = json!(0),
                Some("bytes") if name == "huge_body" => order["bytes"] = json!(5 << 20),
                // StartExam's `v1/employees` is judged by the status alone; a 200 without the effect states what is not
                // true.
                Some("effect") => with_effect = Some(!REJECTIONS.contains(&name) && name != "empty_body"),
                _ => {}
            }
        }
        match with_effect {
            Some(true) => {
                for effect in [true, false] {
                    order["effect"] = json!(effect);
                    pool.push(order.clone());
                }
            }
            // The default: rejections do nothing, an empty body follows the effect.
            Some(false) | None => pool.push(order),
        }
    }
    // Responses later than the timeout, and effects later than it.
    pool.push(json!({ "name": "delay_after_effect", "delayMs": LATE_MILLIS }));
    pool.push(json!({ "name": "delay_before_effect", "delayMs": LATE_MILLIS }));
    pool.push(json!({ "name": "rate_limited", "retryAfter": 1 }));
    if read_faults(port).await["operations"].to_string().contains("signature") {
        for name in ["unavailable", "reset_before_effect", "html_page"] {
            pool.push(json!({ "name": name, "operation": "signature" }));
        }
    }
    pool
}

fn below(random: &mut Random, most: usize) -> usize {
    usize::try_from(random.below(most as u64)).expect("it is below a usize")
}
