//! The gateways of a storm of machines: one on SQLite, or two on PostgreSQL behind a wire that can be cut; two tenants share
//! their connections. A gateway that gave its work up ends, and is started again as a service manager would.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use examgate::sandbox::Sandbox;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::RwLock;

use super::TIMEOUT;
use super::ledger::Word;
use super::outages::Single;
use crate::support::gateway::{ApiResponse, Gateway, client, key, sandbox_connections};
use crate::support::machine::{Disk, Machine};
use crate::support::relay::Relay;

pub const TENANTS: [&str; 2] = ["east", "west"];

/// Calls end soon, and the grace is longer than the sandbox may still be at one.
const SETTINGS: &str = "max_in_flight = 8\nsettle_grace = \"3s\"\ntimeout = \"2s\"\n\
                        breaker = { failures = 5, cooldown = \"1s\" }\n";

pub struct Crew {
    pub relay: Option<Relay>,
    members: Vec<Member>,
    next: AtomicUsize,
    outages: AtomicUsize,
    revived: AtomicUsize,
}

struct Member {
    machine: Machine,
    gateway: RwLock<Option<Gateway>>,
}

impl fmt::Display for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outages, revived) = (self.outages.load(Ordering::Relaxed), self.revived.load(Ordering::Relaxed));
        let cuts = self.relay.as_ref().map_or(0, Relay::cuts);
        write!(f, "{} gateways, {outages} outages, {cuts} of them at a commit, {revived} restarts", self.members.len())
    }
}

impl Crew {
    /// One gateway on SQLite.
    pub async fn on_sqlite(sandbox: &Sandbox) -> Self {
        let machine = Machine::new();
        let environment = environment(&machine);
        let gateway = Gateway::start_with_env(&connections(sandbox), &clients(), &environment).await;
        Self::of(None, vec![Member { gateway: RwLock::new(Some(gateway)), machine }])
    }

    /// Two gateways on PostgreSQL, behind one wire.
    pub async fn on_postgres(sandbox: &Sandbox, url: &str) -> Self {
        let relay = Relay::to(url).await;
        let mut members = Vec::new();
        for _ in 0..2 {
            let machine = Machine::new();
            let environment = environment(&machine);
            let gateway = Gateway::replica_with(relay.url(), &connections(sandbox), &clients(), &environment).await;
            members.push(Member { gateway: RwLock::new(Some(gateway)), machine });
        }
        Self::of(Some(relay), members)
    }

    fn of(relay: Option<Relay>, members: Vec<Member>) -> Self {
        Self { relay, members, next: AtomicUsize::new(0), outages: AtomicUsize::new(0), revived: AtomicUsize::new(0) }
    }

    /// Steps the clocks, one after the other.
    pub fn step_clocks(&self, ahead: SignedDuration) {
        let turn = self.outages.fetch_add(1, Ordering::Relaxed);
        if ahead.is_zero() {
            self.members.iter().for_each(|member| member.machine.set_clock_ahead(ahead));
        } else {
            self.members[turn % self.members.len()].machine.set_clock_ahead(ahead);
        }
    }

    /// What becomes of writes to the databases.
    pub fn set_disk(&self, disk: Disk) {
        self.members.iter().for_each(|member| member.machine.set_disk(disk));
    }

    /// Starts those gateways again that have ended.
    pub async fn revive(&self) {
        for member in &self.members {
            let mut place = member.gateway.write().await;
            if let Some(mut gateway) = place.take_if(Gateway::has_ended) {
                let written = gateway.take_log();
                assert!(!written.contains("panicked"), "{written}");
                assert!(written.contains("taken its work over"), "it ended for another reason:\n{written}");
                self.revived.fetch_add(1, Ordering::Relaxed);
                let folder = gateway.exited_with(1).await;
                *place = Some(Gateway::start_in_with_env(folder, &environment(&member.machine)).await);
            }
        }
    }

    /// No gateway panicked.
    pub async fn held_together(&self) {
        for member in &self.members {
            if let Some(gateway) = &mut *member.gateway.write().await {
                let written = gateway.take_log();
                let line = written.lines().find(|line| line.contains("panicked"));
                assert!(line.is_none(), "{line:?}");
            }
        }
    }

    /// Sends a write; `None` where no gateway answered.
    pub async fn post(&self, write: &Single) -> Option<ApiResponse> {
        self.ask(write.tenant, Method::POST, &write.path, Some((&write.key, &write.body)), false).await
    }

    /// Sends a bulk under its key until it is accepted; the operation's id.
    pub async fn accepted(&self, tenant: &str, path: &str, key: &str, body: &Value) -> String {
        let began = Instant::now();
        loop {
            let answer = self.ask(tenant, Method::POST, path, Some((key, body)), true).await;
            match answer {
                Some(answer) if answer.status == 202 => return answer.text("/id").to_owned(),
                Some(answer) if answer.status == 207 => return answer.text("/operation").to_owned(),
                Some(answer) => assert!(answer.status >= 500 || answer.status == 409, "{answer:?}"),
                None => {}
            }
            pause(began, path).await;
        }
    }

    /// Every row's result once nothing is unknown any more.
    pub async fn results(&self, tenant: &str, operation: &str, rows: usize) -> Vec<Value> {
        let path = format!("/operations/{operation}");
        self.until(tenant, &path, |told| {
            let ended = told.text("/state") == "completed";
            ended && told.body["progress"]["unknown"] == 0 && told.body["progress"]["pending"] == 0
        })
        .await;
        let (mut results, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.until(tenant, &format!("{path}/items?limit=200{cursor}"), |_| true).await;
            results.extend(page.body["items"].as_array().expect("items").iter().cloned());
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(results.len(), rows, "every row has its result");
        results
    }

    /// What is known of a write in the end, without asking for it again where it was said where to look.
    pub async fn outcome(&self, write: &mut Single) -> Word {
        let began = Instant::now();
        loop {
            if let (Some(Word::Unknown) | None, Some(resource)) = (write.last(), &write.resource) {
                let open = |told: &ApiResponse| ["pending", "unknown", "queued", "running"].contains(&told.text("/state"));
                let told = self.until(write.tenant, resource, |told| !open(told)).await;
                if told.status == 404 {
                    // The commit that was in doubt was not done, so nothing was sent.
                    return Word::NotApplied;
                }
                return match told.body["progress"]["applied"].as_u64() {
                    Some(1) => Word::Applied,
                    Some(_) => Word::NotApplied,
                    None => Word::named(told.text("/outcome")),
                };
            }
            if let Some(word @ (Word::Applied | Word::NotApplied)) = write.last() {
                return word;
            }
            // No answer has said where it would be.
            write.requests += 1;
            if let Some(answer) = self.post(write).await {
                write.note(&answer);
            }
            pause(began, &write.path).await;
        }
    }

    /// Reads until it is as wanted; a gateway or a store that is away is waited for.
    async fn until(&self, tenant: &str, path: &str, wanted: impl Fn(&ApiResponse) -> bool) -> ApiResponse {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.ask(tenant, Method::GET, path, None, false).await {
                if (answer.status == 200 && wanted(&answer)) || answer.status == 404 {
                    return answer;
                }
                assert!([200, 503].contains(&answer.status), "{path}: {answer:?}");
                assert!(began.elapsed() < TIMEOUT, "{path} never ends: {answer:?}");
            }
            pause(began, path).await;
        }
    }

    /// Asks the members in turn; `None` where the one asked went away or is not there.
    async fn ask(
        &self,
        tenant: &str,
        method: Method,
        path: &str,
        written: Option<(&str, &Value)>,
        later: bool,
    ) -> Option<ApiResponse> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let member = &self.members[turn % self.members.len()];
        let request = {
            let gateway = member.gateway.try_read().ok()?;
            let mut request = gateway.as_ref()?.request_as(&key(tenant), method, path);
            if let Some((key, body)) = written {
                request = request.header("Idempotency-Key", key).json(body);
            }
            if later { request.header("Prefer", "respond-async") } else { request }
        };
        let answer = request.try_send().await?;
        assert_ne!(answer.status, 500, "{answer:?}");
        Some(answer)
    }
}

fn environment(machine: &Machine) -> Vec<(&str, &str)> {
    [machine.environment(), vec![("RUST_LOG", "info")]].concat()
}

/// Two tenants at the same connections.
fn clients() -> String {
    TENANTS.map(|name| client(name, "", "[\"*\"]")).concat()
}

fn connections(sandbox: &Sandbox) -> String {
    sandbox_connections(sandbox, "")
        .replace("settle_grace = \"0s\"\n", SETTINGS)
        // What the simulator does too, so that bookings share calls.
        .replace("vendor = \"startexam\"\n", "vendor = \"startexam\"\nexisting_registration = \"repeated\"\n")
}

/// Only a hang comes to its end. The pause spares the machine; nothing depends on it.
async fn pause(began: Instant, what: &str) {
    assert!(began.elapsed() < TIMEOUT, "{what} never comes to its end");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
