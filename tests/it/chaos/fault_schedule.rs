//! Which faults are in force where: drawn at random from all the sandbox knows, and changed after so many answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use examgate::sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::cluster::Random;
use crate::support::gateway::{set_faults, http};

/// Faults that are not about one answer (an endless feed that no write reads, a vendor that forgets its own rules), and
/// StartExam's 404: while a write is being settled it proves that the first attempt did nothing, so a 404 for something
/// that is there is a lie nobody could tell.
const EXCLUDED_FAULTS: &[&str] = &["endless_feed", "double_creation", "not_found"];

/// Refusals by the vendors' own word or by HTTP's. Whoever does the thing and then says one of these lies, too.
const REJECTIONS: &[&str] =
    &["rate_limited", "date_refused", "forbidden", "unauthorized", "bad_request", "control_characters", "firewall"];

/// Answers after which the weather changes.
const RESPONSES_PER_CHANGE: usize = 25;
/// Faults in force at one vendor at the same time.
const SIMULTANEOUS: usize = 4;
/// How late an effect may be: later than the connections' time-out, well before their grace is over.
const LATE_MILLIS: u64 = 2_000;

/// The weather at all three vendors.
pub struct FaultSchedule {
    vendors: Vec<VendorFaults>,
    responses: AtomicUsize,
    random: Mutex<Random>,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// One vendor's faults: the deck of those there are, and how far it is dealt.
struct VendorFaults {
    port: SocketAddr,
    pool: Vec<Value>,
    next: AtomicUsize,
}

impl FaultSchedule {
    /// Clear skies over these vendors.
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

    /// One more answer was given.
    pub async fn advance(&self) {
        if !self.responses.fetch_add(1, Ordering::Relaxed).is_multiple_of(RESPONSES_PER_CHANGE) {
            return;
        }
        let mut random = self.random.lock().await;
        let vendor = &self.vendors[below(&mut random, self.vendors.len())];
        // Now and then nothing works at all, until the next spell there: the circuit opens.
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

    /// Nothing works anywhere.
    pub async fn outage(&self) {
        for vendor in &self.vendors {
            self.apply(vendor, json!([outage()])).await;
        }
    }

    /// No faults any more.
    pub async fn clear(&self) {
        for vendor in &self.vendors {
            self.apply(vendor, json!([])).await;
        }
    }

    /// How often each fault struck.
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
    let response = http().get(format!("http://{port}/_faults")).send().await.expect("the sandbox answers");
    response.json().await.expect("JSON")
}

/// Every fault there is at a vendor, as orders: with and without effect where that may be chosen.
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
                // StartExam's `v1/employees` is answered by the status alone; who says 200 there and did nothing lies.
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
            // As it is without being told: refusals do nothing, an empty body comes after the effect.
            Some(false) | None => pool.push(order),
        }
    }
    // Answers that come after the time-out, and effects that do.
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
