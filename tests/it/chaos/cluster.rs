//! The gateways a storm kills: one on SQLite, or two that share a PostgreSQL database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use examgate::sandbox::Sandbox;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::RwLock;

use super::TIMEOUT;
use super::rows::Bulk;
use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{ApiResponse, Gateway};

/// The settings of every connection in a storm: many calls in flight, and a grace period, since a call interrupted by a
/// kill may take effect a moment later.
const SETTINGS: &str = "max_in_flight = 16\nsettle_grace = \"3s\"\ntimeout = \"10s\"\n";

/// A pseudo-random number generator (xorshift64*).
pub struct Random(pub u64);

impl Random {
    /// Returns a number below `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most.max(1)
    }
}

/// The gateways and how often they were killed.
pub struct Cluster {
    slots: Vec<GatewaySlot>,
    pub kills: usize,
}

type GatewaySlot = Arc<RwLock<Option<Gateway>>>;

impl Cluster {
    /// Starts one gateway on SQLite.
    pub async fn on_sqlite(sandbox: &Sandbox) -> Self {
        let connections = connections(sandbox);
        let gateway = Gateway::start_with(&connections, &client("lms", "", "[\"*\"]")).await;
        Self { slots: vec![Arc::new(RwLock::new(Some(gateway)))], kills: 0 }
    }

    /// Starts two gateways that share a PostgreSQL database.
    pub async fn on_postgres(sandbox: &Sandbox, url: &str) -> Self {
        let connections = connections(sandbox);
        let mut slots = Vec::new();
        for _ in 0..2 {
            slots.push(Arc::new(RwLock::new(Some(Gateway::replica(url, &connections).await))));
        }
        Self { slots, kills: 0 }
    }

    /// Sends the bulks and kills the gateways in turn until all bulks have ended or this many kills were made. Returns
    /// the number of kills and the operations' ids.
    pub async fn run_with_kills(&mut self, bulks: &[Bulk], kills: usize, random: &mut Random) -> (usize, Vec<String>) {
        let sending: Vec<_> = bulks
            .iter()
            .map(|bulk| {
                let (slots, bulk) = (self.slots.clone(), bulk.clone());
                tokio::spawn(async move {
                    let operation = submit_until_accepted(&slots, &bulk).await;
                    wait_until_completed(&slots, &operation).await;
                    operation
                })
            })
            .collect();
        let mut killed = 0;
        while killed < kills && !sending.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(60 + random.below(500))).await;
            let slot = &self.slots[killed % self.slots.len()];
            kill_and_restart(slot).await;
            killed += 1;
        }
        let mut operations = Vec::new();
        for task in sending {
            operations.push(task.await.expect("the bulk ends"));
        }
        self.kills += killed;
        (killed, operations)
    }

    /// Waits until no row is unknown any more and returns the results in the order of the request.
    pub async fn settled_report(&self, operation: &str, rows: usize) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let state = get_until_success(&self.slots, Method::GET, &format!("/operations/{operation}")).await;
            if state.body["progress"]["unknown"] == 0 && state.body["progress"]["pending"] == 0 {
                break;
            }
            assert!(began.elapsed() < TIMEOUT, "never settled: {state:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (mut results, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/operations/{operation}/items?limit=200{cursor}");
            let page = get_until_success(&self.slots, Method::GET, &path).await;
            results.extend(page.body["items"].as_array().expect("items").iter().cloned());
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(results.len(), rows, "every row has its result");
        results
    }
}

fn connections(sandbox: &Sandbox) -> String {
    let graceful = sandbox_connections(sandbox, "").replace("settle_grace = \"0s\"\n", SETTINGS);
    // The simulator is configured alike, so that bookings share calls.
    graceful.replace(
        "vendor = \"startexam\"\n",
        "vendor = \"startexam\"\nexisting_registration = \"repeated\"\nbookings_only_here = true\n",
    )
}

/// Sends the bulk until a gateway accepts it, always under the same key, so that it is one operation.
async fn submit_until_accepted(slots: &[GatewaySlot], bulk: &Bulk) -> String {
    let began = Instant::now();
    loop {
        let response = try_request(slots, |gateway| {
            gateway
                .request(Method::POST, &bulk.path())
                .header("Idempotency-Key", &bulk.key)
                .header("Prefer", "respond-async")
                .body("application/x-ndjson", bulk.ndjson())
        })
        .await;
        match response {
            Some(response) if response.status == 202 => return response.text("/id").to_owned(),
            Some(response) if response.status == 207 => return response.text("/operation").to_owned(),
            Some(response) => assert!(response.status >= 500 || response.status == 409, "{response:?}"),
            None => {}
        }
        assert!(began.elapsed() < TIMEOUT, "never accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_until_completed(slots: &[GatewaySlot], operation: &str) {
    let began = Instant::now();
    loop {
        let state = get_until_success(slots, Method::GET, &format!("/operations/{operation}")).await;
        if state.body["state"] == "completed" {
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "never ended: {state:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Repeats the request until a gateway responds with success.
async fn get_until_success(slots: &[GatewaySlot], method: Method, path: &str) -> ApiResponse {
    let began = Instant::now();
    loop {
        let response = try_request(slots, |gateway| gateway.request(method.clone(), path)).await;
        if let Some(response) = response {
            if response.status < 300 {
                return response;
            }
            assert!(response.status >= 500, "{path}: {response:?}");
        }
        assert!(began.elapsed() < TIMEOUT, "{path}: no response");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends the request to the first gateway that is up; `None` if it went away meanwhile.
async fn try_request(
    slots: &[GatewaySlot],
    request: impl Fn(&Gateway) -> crate::support::gateway::Request,
) -> Option<ApiResponse> {
    for slot in slots {
        let request = match slot.try_read() {
            Ok(gateway) => gateway.as_ref().map(&request),
            Err(_) => None,
        };
        if let Some(request) = request
            && let Some(response) = request.try_send().await
        {
            return Some(response);
        }
    }
    None
}

async fn kill_and_restart(slot: &GatewaySlot) {
    // The slot is empty during the restart; requests sent meanwhile get no response, as in production.
    let gateway = slot.write().await.take().expect("it is up");
    let folder: TempDir = gateway.kill().await;
    let gateway = Gateway::start_in(folder).await;
    *slot.write().await = Some(gateway);
}
