//! Which faults are in force where: drawn at random from all the sandbox knows, and changed after so many answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use examgate::sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::cluster::Random;
use crate::support::gateway::{faults, http};

/// Faults that are not about one answer (an endless feed that no write reads, a vendor that forgets its own rules), and
/// StartExam's 404: while a write is being settled it proves that the first attempt did nothing, so a 404 for something
/// that is there is a lie nobody could tell.
const NOT_HERE: &[&str] = &["endless_feed", "double_creation", "not_found"];

/// Refusals by the vendors' own word or by HTTP's. Whoever does the thing and then says one of these lies, too.
const REFUSALS: &[&str] =
    &["rate_limited", "date_refused", "forbidden", "unauthorized", "bad_request", "control_characters", "firewall"];

/// Answers after which the weather changes.
const SPELL: usize = 25;
/// Faults in force at one vendor at the same time.
const AT_ONCE: usize = 4;
/// How late an effect may be: later than the connections' time-out, well before their grace is over.
const LATE_MILLIS: u64 = 2_000;

/// The weather at all three vendors.
pub struct Weather {
    skies: Vec<Sky>,
    answers: AtomicUsize,
    dice: Mutex<Random>,
    struck: Mutex<BTreeMap<String, u64>>,
}

/// One vendor's faults: the deck of those there are, and how far it is dealt.
struct Sky {
    port: SocketAddr,
    deck: Vec<Value>,
    dealt: AtomicUsize,
}

impl Weather {
    /// Clear skies over these vendors.
    pub async fn over(sandbox: &Sandbox, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut skies = Vec::new();
        for port in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()] {
            let mut deck = deck(port).await;
            for index in (1..deck.len()).rev() {
                deck.swap(index, below(&mut random, index + 1));
            }
            skies.push(Sky { port, deck, dealt: AtomicUsize::new(0) });
        }
        Self { skies, answers: AtomicUsize::new(0), dice: Mutex::new(random), struck: Mutex::default() }
    }

    /// One more answer was given.
    pub async fn pass(&self) {
        if !self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(SPELL) {
            return;
        }
        let mut dice = self.dice.lock().await;
        let sky = &self.skies[below(&mut dice, self.skies.len())];
        // Now and then nothing works at all, until the next spell there: the circuit opens.
        if dice.below(12) == 0 {
            return self.set(sky, json!([outage()])).await;
        }
        let from = sky.dealt.fetch_add(AT_ONCE, Ordering::Relaxed);
        let drawn: Vec<Value> = (from..from + AT_ONCE)
            .map(|card| {
                let mut order = sky.deck[card % sky.deck.len()].clone();
                order["probability"] = json!(f64::from(u32::try_from(5 + dice.below(40)).unwrap_or(5)) / 100.0);
                order
            })
            .collect();
        self.set(sky, json!(drawn)).await;
    }

    /// Nothing works anywhere.
    pub async fn outage(&self) {
        for sky in &self.skies {
            self.set(sky, json!([outage()])).await;
        }
    }

    /// No faults any more.
    pub async fn calm(&self) {
        for sky in &self.skies {
            self.set(sky, json!([])).await;
        }
    }

    /// How often each fault struck.
    pub async fn struck(&self) -> BTreeMap<String, u64> {
        self.struck.lock().await.clone()
    }

    async fn set(&self, sky: &Sky, orders: Value) {
        let mut struck = self.struck.lock().await;
        for fault in known(sky.port).await["faults"].as_array().into_iter().flatten() {
            let name = fault["name"].as_str().expect("a name").to_owned();
            *struck.entry(name).or_default() += fault["struck"].as_u64().expect("a count");
        }
        faults(sky.port, json!({ "faults": orders })).await;
    }
}

fn outage() -> Value {
    json!({ "name": "reset_before_effect" })
}

async fn known(port: SocketAddr) -> Value {
    let answer = http().get(format!("http://{port}/_faults")).send().await.expect("the sandbox answers");
    answer.json().await.expect("JSON")
}

/// Every fault there is at a vendor, as orders: with and without effect where that may be chosen.
async fn deck(port: SocketAddr) -> Vec<Value> {
    let mut deck = Vec::new();
    for fault in known(port).await["known"].as_array().expect("a list of faults") {
        let name = fault["name"].as_str().expect("a name");
        if NOT_HERE.contains(&name) {
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
                Some("effect") => with_effect = Some(!REFUSALS.contains(&name) && name != "empty_body"),
                _ => {}
            }
        }
        match with_effect {
            Some(true) => {
                for effect in [true, false] {
                    order["effect"] = json!(effect);
                    deck.push(order.clone());
                }
            }
            // As it is without being told: refusals do nothing, an empty body comes after the effect.
            Some(false) | None => deck.push(order),
        }
    }
    // Answers that come after the time-out, and effects that do.
    deck.push(json!({ "name": "delay_after_effect", "delayMs": LATE_MILLIS }));
    deck.push(json!({ "name": "delay_before_effect", "delayMs": LATE_MILLIS }));
    deck.push(json!({ "name": "rate_limited", "retryAfter": 1 }));
    if known(port).await["operations"].to_string().contains("signature") {
        for name in ["unavailable", "reset_before_effect", "html_page"] {
            deck.push(json!({ "name": name, "operation": "signature" }));
        }
    }
    deck
}

fn below(random: &mut Random, most: usize) -> usize {
    usize::try_from(random.below(most as u64)).expect("it is below a usize")
}
