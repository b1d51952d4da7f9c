//! The gateways of an outage storm: one on SQLite, or two on PostgreSQL behind a link that can be cut. Two tenants
//! share their connections. A gateway that lost its lease exits and is started again, as a service manager would.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use examgate::sandbox::Sandbox;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::RwLock;

use super::TIMEOUT;
use super::cluster::Random;
use super::ledger::Outcome;
use super::outages::SingleWrite;
use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{ApiResponse, Gateway, key};
use crate::support::machine::{Disk, Machine};
use crate::support::relay::{Moment, Relay};
use crate::support::watch::is_known;

pub const TENANTS: [&str; 2] = ["east", "west"];

/// The timeout and the grace period are longer than the sandbox may take over a call, on a slow machine, too.
pub const SETTINGS: &str = "max_in_flight = 8\nsettle_grace = \"5s\"\ntimeout = \"5s\"\n\
                        breaker = { failures = 5, cooldown = \"1s\" }\n";

pub struct FailingCluster {
    pub relay: Option<Relay>,
    nodes: Vec<Node>,
    next: AtomicUsize,
    outages: AtomicUsize,
    restarts: AtomicUsize,
    kills: AtomicUsize,
}

struct Node {
    machine: Machine,
    slot: RwLock<Slot>,
}

/// The place of a gateway.
#[derive(Default)]
struct Slot {
    gateway: Option<Gateway>,
    /// The folder of the gateway that was killed and is not started again yet.
    killed: Option<TempDir>,
}

impl Node {
    fn new(machine: Machine, gateway: Gateway) -> Self {
        Self { machine, slot: RwLock::new(Slot { gateway: Some(gateway), killed: None }) }
    }
}

impl fmt::Display for FailingCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [outages, restarts, kills] =
            [&self.outages, &self.restarts, &self.kills].map(|count| count.load(Ordering::Relaxed));
        let cuts = self.relay.as_ref().map_or(0, Relay::cuts);
        let gateways = self.nodes.len();
        write!(
            f,
            "{gateways} gateways, {kills} kills, {outages} outages, {cuts} of them at a commit, {restarts} restarts"
        )
    }
}

impl FailingCluster {
    /// Starts one gateway on SQLite.
    pub async fn on_sqlite(connections: &str) -> Self {
        let machine = Machine::new();
        let environment = environment(&machine);
        let gateway = Gateway::start_with_env(connections, &clients(), &environment).await;
        Self::of(None, vec![Node::new(machine, gateway)])
    }

    /// Starts two gateways on PostgreSQL behind one link.
    pub async fn on_postgres(connections: &str, url: &str) -> Self {
        let relay = Relay::to(url).await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let machine = Machine::new();
            let environment = environment(&machine);
            let gateway = Gateway::replica_with(relay.url(), connections, &clients(), &environment).await;
            nodes.push(Node::new(machine, gateway));
        }
        Self::of(Some(relay), nodes)
    }

    fn of(relay: Option<Relay>, nodes: Vec<Node>) -> Self {
        let [next, outages, restarts, kills] = [0; 4].map(AtomicUsize::new);
        Self { relay, nodes, next, outages, restarts, kills }
    }

    /// Steps the clocks, one after the other.
    pub fn step_clocks(&self, ahead: SignedDuration) {
        let index = self.outages.load(Ordering::Relaxed);
        if ahead.is_zero() {
            self.nodes.iter().for_each(|node| node.machine.set_clock_ahead(ahead));
        } else {
            self.nodes[index % self.nodes.len()].machine.set_clock_ahead(ahead);
        }
    }

    /// Has the store fail in one of its ways for this long.
    pub async fn fail_store(&self, random: &mut Random, outage: Duration) {
        self.outages.fetch_add(1, Ordering::Relaxed);
        if let Some(relay) = &self.relay {
            match random.below(4) {
                0 => relay.cut(),
                1 => relay.silence(),
                kind => {
                    let moment = if kind == 2 { Moment::ReplyLost } else { Moment::ReplyDelivered };
                    // Any transaction: one that stores an intent, a response or reports, or accepts an operation.
                    let (after, seen) = (random.below(6), AtomicU64::new(0));
                    let cuts = relay.cuts();
                    relay.cut_at_commit(moment, move |statements| {
                        !statements.contains("beats") && seen.fetch_add(1, Ordering::Relaxed) == after
                    });
                    relay.is_cut_within(cuts + 1, Duration::from_secs(2)).await;
                }
            }
            tokio::time::sleep(outage).await;
            relay.restore();
        } else {
            self.set_disk(if random.below(3) == 0 { Disk::Broken } else { Disk::Full });
            tokio::time::sleep(outage).await;
            self.set_disk(Disk::Working);
        }
    }

    /// Sets how writes to the databases fail.
    fn set_disk(&self, disk: Disk) {
        self.nodes.iter().for_each(|node| node.machine.set_disk(disk));
    }

    /// Kills a gateway, if it is up; it is started again with those that have exited.
    pub async fn kill(&self, index: usize) {
        let mut slot = self.nodes[index % self.nodes.len()].slot.write().await;
        if let Some(gateway) = slot.gateway.take() {
            slot.killed = Some(gateway.kill().await);
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Restarts the gateways that have exited or were killed.
    pub async fn restart_ended(&self) {
        for node in &self.nodes {
            let mut slot = node.slot.write().await;
            if let Some(folder) = slot.killed.take() {
                slot.gateway = Some(Gateway::start_in_with_env(folder, &environment(&node.machine)).await);
            }
            if let Some(gateway) = slot.gateway.take_if(Gateway::has_ended) {
                let (folder, log) = gateway.ended_with(1).await;
                assert!(!log.contains("panicked"), "{log}");
                assert!(log.contains("taken its work over"), "it ended for another reason:\n{log}");
                self.restarts.fetch_add(1, Ordering::Relaxed);
                slot.gateway = Some(Gateway::start_in_with_env(folder, &environment(&node.machine)).await);
            }
        }
    }

    /// Restarts gateways whenever they have exited; for as long as the store works.
    pub async fn keep_running(&self) -> std::convert::Infallible {
        loop {
            self.restart_ended().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asserts that no gateway panicked.
    pub async fn assert_no_panic(&self) {
        for node in &self.nodes {
            if let Some(gateway) = &mut node.slot.write().await.gateway {
                let log = gateway.take_log();
                let line = log.lines().find(|line| line.contains("panicked"));
                assert!(line.is_none(), "{line:?}");
            }
        }
    }

    /// Sends a write; `None` if no gateway responded.
    pub async fn post(&self, write: &SingleWrite) -> Option<ApiResponse> {
        self.request(write.tenant, Method::POST, &write.path, Some((&write.key, &write.body)), false).await
    }

    /// Sends a bulk under its key until it is accepted; returns the operation's id.
    pub async fn submit_until_accepted(&self, tenant: &str, path: &str, key: &str, body: &Value) -> String {
        let began = Instant::now();
        loop {
            let response = self.request(tenant, Method::POST, path, Some((key, body)), true).await;
            match response {
                Some(response) if response.status == 202 => return response.text("/id").to_owned(),
                Some(response) if response.status == 207 => return response.text("/operation").to_owned(),
                Some(response) => assert!(response.status >= 500 || response.status == 409, "{response:?}"),
                None => {}
            }
            pause(began, path).await;
        }
    }

    /// Waits until no row is unknown any more and returns every row's result.
    pub async fn settled_results(&self, tenant: &str, operation: &str, rows: usize) -> Vec<Value> {
        let path = format!("/operations/{operation}");
        self.wait_until(tenant, &path, is_known).await;
        let results = self.list(tenant, &format!("{path}/items?limit=200")).await;
        assert_eq!(results.len(), rows, "every row has its result");
        results
    }

    /// Returns the final outcome of a write. The write is sent again only if no response has named its resource.
    pub async fn outcome(&self, write: &mut SingleWrite) -> Outcome {
        let began = Instant::now();
        loop {
            if let (Some(Outcome::Unknown) | None, Some(resource)) = (write.last_outcome(), &write.resource) {
                let state = self.wait_until(write.tenant, resource, is_known).await;
                if state.status == 404 {
                    // The commit in doubt that would have made this resource was not done, so nothing was sent for it.
                    if write.requests == 1 {
                        return Outcome::NotApplied;
                    }
                    // A retry that got no response may have begun the write as another resource: the key knows.
                    write.resource = None;
                    continue;
                }
                return match state.body["progress"]["applied"].as_u64() {
                    Some(1) => Outcome::Applied,
                    Some(_) => Outcome::NotApplied,
                    None => Outcome::parse(state.text("/outcome")),
                };
            }
            if let Some(outcome @ (Outcome::Applied | Outcome::NotApplied)) = write.last_outcome() {
                return outcome;
            }
            // No response has named the resource yet.
            write.requests += 1;
            match self.post(write).await {
                Some(response) => _ = write.record_response(&response),
                None => self.restart_ended().await,
            }
            pause(began, &write.path).await;
        }
    }

    /// Has every gateway that is up read the feed of a connection now.
    pub async fn read_feeds(&self, tenant: &str, connection: &str) {
        for _ in &self.nodes {
            self.request(tenant, Method::POST, &format!("/connections/{connection}/read"), None, false).await;
        }
    }

    /// Reads all pages of a list whose path has a query.
    pub async fn list(&self, tenant: &str, path: &str) -> Vec<Value> {
        let (mut items, mut page) = (Vec::new(), path.to_owned());
        loop {
            let response = self.wait_until(tenant, &page, |response| response.status == 200).await;
            items.extend(response.body["items"].as_array().expect("items").iter().cloned());
            let Some(cursor) = response.body["nextCursor"].as_str() else { return items };
            page = format!("{path}&cursor={cursor}");
        }
    }

    /// Returns the first entry of a list, or null.
    pub async fn first(&self, tenant: &str, path: &str) -> Value {
        let response = self.wait_until(tenant, path, |_| true).await;
        response.body["items"].get(0).cloned().unwrap_or_default()
    }

    /// Reads until the condition holds; waits for a gateway or a store that is down.
    async fn wait_until(&self, tenant: &str, path: &str, wanted: impl Fn(&ApiResponse) -> bool) -> ApiResponse {
        let began = Instant::now();
        loop {
            if let Some(response) = self.request(tenant, Method::GET, path, None, false).await {
                if (response.status == 200 && wanted(&response)) || response.status == 404 {
                    return response;
                }
                assert!([200, 503].contains(&response.status), "{path}: {response:?}");
                assert!(began.elapsed() < TIMEOUT, "{path} never ends: {response:?}");
            } else {
                // A gateway may notice only after the last outage that it lost its work.
                self.restart_ended().await;
            }
            pause(began, path).await;
        }
    }

    /// Sends the request to the gateways in turn; `None` if the chosen one is down or went away.
    async fn request(
        &self,
        tenant: &str,
        method: Method,
        path: &str,
        write: Option<(&str, &Value)>,
        later: bool,
    ) -> Option<ApiResponse> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let node = &self.nodes[index % self.nodes.len()];
        let request = {
            let slot = node.slot.try_read().ok()?;
            let mut request = slot.gateway.as_ref()?.request_as(&key(tenant), method, path);
            if let Some((key, body)) = write {
                request = request.header("Idempotency-Key", key).json(body);
            }
            if later { request.header("Prefer", "respond-async") } else { request }
        };
        let response = request.try_send().await?;
        assert_ne!(response.status, 500, "{response:?}");
        Some(response)
    }
}

fn environment(machine: &Machine) -> Vec<(&str, &str)> {
    [machine.environment(), vec![("RUST_LOG", "info")]].concat()
}

/// Returns two tenants at the same connections.
fn clients() -> String {
    TENANTS.map(|name| client(name, "", "[\"*\"]")).concat()
}

/// Returns one connection to each vendor.
pub fn connections(sandbox: &Sandbox) -> String {
    sandbox_connections(sandbox, "")
        .replace("settle_grace = \"0s\"\n", SETTINGS)
        // The simulator is configured alike, so that bookings share calls.
        .replace("vendor = \"startexam\"\n", "vendor = \"startexam\"\nexisting_registration = \"repeated\"\n")
}

/// Pauses, and fails after the time only a hang takes. The pause saves CPU; nothing depends on it.
async fn pause(began: Instant, what: &str) {
    assert!(began.elapsed() < TIMEOUT, "{what} never ends");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
