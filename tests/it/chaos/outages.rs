//! The outage storm: the link to PostgreSQL is cut, falls silent and loses the replies to commits; the disk below
//! SQLite fills; the clocks step by days. Two tenants at the same connections send bulks and single writes meanwhile,
//! and the vendors lose responses, too.
//!
//! Afterwards nothing is retried: every write and every operation has to end by itself. Then every outcome is compared
//! with what happened at the vendors, and a write reported as not applied must never have been done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use examgate::sandbox::{Sandbox, accounts};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cluster::Random;
use super::failing_cluster::{FailingCluster, TENANTS, connections};
use super::ledger::{Outcome, VendorEffects, ports, wait_for_open_calls};
use super::setting;
use crate::support::gateway::{ApiResponse, sandbox, set_faults};
use crate::support::people::person_at;
use crate::support::postgres::Server;

const PROGRAM: &str = accounts::startexam::PROGRAM_ID;
const CONNECTIONS: [&str; 3] = ["startexam-main", "thinkexam-main", "examtesting-main"];
/// Callers of each tenant.
const CALLERS: usize = 8;
/// Rows of a bulk.
const ROWS: usize = 500;
/// The offsets of a clock in hours: a day ahead, a day behind, weeks ahead, and correct in between.
const STEPS: [i64; 6] = [25, 0, -25, 0, 40 * 24, 0];

/// The size of a storm.
#[derive(Debug, Clone, Copy)]
struct StormSize {
    rows: usize,
    writes: usize,
    seed: u64,
    /// The longest outage of the store, in milliseconds, and the number of outages.
    outage: u64,
    outages: usize,
}

impl StormSize {
    /// Reads the size from the environment; the default is a short storm.
    fn from_env() -> Self {
        Self {
            rows: setting("EXAMGATE_STORM_ROWS", 300),
            writes: setting("EXAMGATE_STORM_WRITES", 128),
            seed: setting("EXAMGATE_STORM_SEED", 1),
            outage: setting("EXAMGATE_STORM_OUTAGE_MS", 1_500),
            outages: setting("EXAMGATE_STORM_OUTAGES", 8),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reported_outcome_is_true_while_the_database_keeps_failing() {
    let sandbox = sandbox().await;
    let cluster = FailingCluster::on_postgres(&connections(&sandbox), &Server::shared().schema().await).await;
    run_storm(sandbox, cluster, StormSize::from_env()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reported_outcome_is_true_while_the_disk_keeps_failing() {
    let sandbox = sandbox().await;
    let cluster = FailingCluster::on_sqlite(&connections(&sandbox)).await;
    run_storm(sandbox, cluster, StormSize::from_env()).await;
}

#[expect(clippy::print_stdout, reason = "the figures of a long storm are for the person who ran it")]
async fn run_storm(sandbox: Sandbox, cluster: FailingCluster, size: StormSize) {
    let (began, ports) = (Instant::now(), ports(&sandbox));
    for (_, port) in ports {
        let light = json!([
            { "name": "reset_after_effect", "probability": 0.01 },
            { "name": "reset_before_effect", "probability": 0.01 },
            { "name": "unavailable", "probability": 0.01, "effect": true },
            { "name": "rate_limited", "probability": 0.01, "retryAfter": 0 },
            { "name": "delay_after_effect", "probability": 0.1, "delayMs": 100 },
        ]);
        set_faults(port, json!({ "faults": light })).await;
    }
    set_faults(sandbox.startexam(), json!({ "switches": { "existing_registration": "repeated" } })).await;

    let cluster = Arc::new(cluster);
    let (bulks, singles) = send_everything(&cluster, size).await;
    let duration = began.elapsed();
    for (_, port) in ports {
        set_faults(port, json!({ "faults": [] })).await;
    }

    // From here on the callers only read what became of their writes.
    let mut report = format!("{cluster}\n");
    let mut wrong = Vec::new();
    let mut ended = Vec::new();
    for bulk in bulks {
        ended.push((cluster.settled_results(bulk.tenant, &bulk.operation, bulk.rows.len()).await, bulk));
    }
    let mut ended_writes = Vec::new();
    for mut write in singles {
        write.end = cluster.outcome(&mut write).await;
        ended_writes.push(write);
    }
    wait_for_open_calls(ports).await;
    let effects = VendorEffects::read(ports).await;
    let mut outcome_counts: BTreeMap<String, usize> = BTreeMap::new();
    for (results, bulk) in &ended {
        for (id, result) in bulk.rows.iter().zip(results) {
            let outcome = Outcome::parse(result["outcome"].as_str().expect("an outcome"));
            let done = effects.count(bulk.connection, "created", id);
            *outcome_counts.entry(format!("bulk rows {outcome:?}")).or_default() += 1;
            if let Some(code) = result["problem"]["code"].as_str() {
                *outcome_counts.entry(format!("bulk rows with {code}")).or_default() += 1;
            }
            if done != usize::from(outcome == Outcome::Applied) {
                wrong.push(format!("{} {id}: {outcome:?} and done {done} times: {result}", bulk.connection));
            }
        }
    }
    for write in &ended_writes {
        *outcome_counts.entry(format!("single writes {:?}", write.end)).or_default() += 1;
        wrong.extend(write.violations(&effects));
    }
    let _ = writeln!(report, "{outcome_counts:?}");
    let _ = writeln!(report, "stormed {duration:.1?}, all known after {:.1?}", began.elapsed());
    let _ = writeln!(report, "untruths: {}", wrong.len());
    println!("{report}");
    assert!(wrong.is_empty(), "{report}\n{}", wrong[..wrong.len().min(20)].join("\n"));
    let applied = outcome_counts.get("bulk rows Applied").copied().unwrap_or(0);
    assert!(applied * 2 > size.rows, "too little was done for a storm: {report}");
    cluster.assert_no_panic().await;
}

/// A bulk that was accepted.
struct AcceptedBulk {
    tenant: &'static str,
    connection: &'static str,
    operation: String,
    rows: Vec<String>,
}

/// Sends everything during the outages; returns the accepted bulks and the single writes.
async fn send_everything(cluster: &Arc<FailingCluster>, size: StormSize) -> (Vec<AcceptedBulk>, Vec<SingleWrite>) {
    let stop = Arc::new(AtomicBool::new(false));
    let outages = tokio::spawn(cause_outages(Arc::clone(cluster), size, Arc::clone(&stop)));
    let mut bulks = JoinSet::new();
    let parts = size.rows.div_ceil(ROWS.min(size.rows.div_ceil(6)));
    for part in 0..parts {
        let (cluster, tenant, connection) = (Arc::clone(cluster), TENANTS[part % 2], CONNECTIONS[part % 3]);
        let count = size.rows / parts;
        bulks.spawn(async move {
            let rows: Vec<String> = (0..count).map(|row| format!("{tenant}b{part}r{row}")).collect();
            let items: Vec<Value> = rows.iter().map(|id| person_at(connection, id)).collect();
            let body = json!({ "connection": connection, "items": items });
            let operation =
                cluster.submit_until_accepted(tenant, "/candidates/bulk", &format!("bulk-{part}"), &body).await;
            AcceptedBulk { tenant, connection, operation, rows }
        });
    }
    let mut callers = JoinSet::new();
    for number in 0..CALLERS * TENANTS.len() {
        let (cluster, writes) = (Arc::clone(cluster), size.writes / (CALLERS * TENANTS.len()));
        let random = Random((size.seed << 20) + number as u64 + 1);
        callers.spawn(Caller { cluster, number, random, writes: Vec::new() }.call(writes));
    }
    let singles = callers.join_all().await.concat();
    let bulks = bulks.join_all().await;
    stop.store(true, Ordering::Relaxed);
    outages.await.expect("the weather ends");
    (bulks, singles)
}

/// Causes one outage after another until everything was sent or there were enough; then restores everything.
async fn cause_outages(cluster: Arc<FailingCluster>, size: StormSize, stop: Arc<AtomicBool>) {
    let mut random = Random(size.seed + 7);
    for step in 0..size.outages {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let outage = Duration::from_millis(size.outage / 10 + random.below(size.outage));
        cluster.step_clocks(SignedDuration::from_hours(STEPS[step % STEPS.len()]));
        cluster.fail_store(&mut random, outage).await;
        cluster.restart_ended().await;
        // Time to make progress between two outages.
        tokio::time::sleep(Duration::from_millis(1_000 + random.below(2_000))).await;
    }
    cluster.step_clocks(SignedDuration::ZERO);
    if let Some(relay) = &cluster.relay {
        relay.restore();
    }
    // A gateway may notice only now that it lost its work, and the callers still need it.
    while !stop.load(Ordering::Relaxed) {
        cluster.restart_ended().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.restart_ended().await;
}

/// A write, retried under its key for as long as its caller wanted.
#[derive(Debug, Clone)]
pub(super) struct SingleWrite {
    pub(super) tenant: &'static str,
    connection: &'static str,
    /// How the vendor's log names it.
    subject: String,
    pub(super) path: String,
    pub(super) body: Value,
    pub(super) key: String,
    outcomes: Vec<Outcome>,
    /// Requests sent so far.
    pub(super) requests: u32,
    /// The path of its resource, once reported.
    pub(super) resource: Option<String>,
    /// The final outcome.
    end: Outcome,
}

impl SingleWrite {
    /// Records what a response reports about the write.
    pub(super) fn record_response(&mut self, response: &ApiResponse) -> Outcome {
        let outcome = Outcome::of(response);
        if outcome == Outcome::Unknown {
            let location =
                if response.status == 202 { response.header("location") } else { response.body["resource"].as_str() };
            self.resource = location.map(str::to_owned).or_else(|| self.resource.take());
        }
        // A retry that is rejected before its key was looked up reports on itself, not on the write an earlier request
        // began.
        let retried =
            self.requests > 1 && response.text("/code") == "store_unavailable" && outcome == Outcome::NotApplied;
        if !retried && !["idempotency_in_progress", "subject_unsettled"].contains(&response.text("/code")) {
            self.outcomes.push(outcome);
        }
        outcome
    }

    /// Returns the last reported outcome.
    pub(super) fn last_outcome(&self) -> Option<Outcome> {
        self.outcomes.last().copied()
    }

    fn violations(&self, effects: &VendorEffects) -> Vec<String> {
        let done = effects.count(self.connection, "created", &self.subject);
        let mut wrong = Vec::new();
        if done != usize::from(self.end == Outcome::Applied) {
            wrong.push(format!("known as {:?} and done {done} times", self.end));
        }
        if self.outcomes.contains(&Outcome::Applied) && done == 0 {
            wrong.push("reported applied and never done".to_owned());
        }
        if self.last_outcome() == Some(Outcome::NotApplied) && done > 0 {
            wrong.push("finally reported not_applied, and done".to_owned());
        }
        wrong.into_iter().map(|why| format!("{} {}: {why}: {self:?}", self.connection, self.subject)).collect()
    }
}

/// A caller of single writes.
struct Caller {
    cluster: Arc<FailingCluster>,
    number: usize,
    random: Random,
    writes: Vec<SingleWrite>,
}

impl Caller {
    async fn call(mut self, writes: usize) -> Vec<SingleWrite> {
        for number in 0..writes {
            let mut write = self.next_write(number);
            loop {
                write.requests += 1;
                let response = self.cluster.post(&write).await;
                let outcome = response.as_ref().map_or(Outcome::Unknown, |response| write.record_response(response));
                let done = match outcome {
                    Outcome::Applied => true,
                    // Some accept it, and nothing may come of the write any more; the others retry.
                    Outcome::NotApplied => {
                        let stop = response.is_some_and(|response| response.body["retryable"] != true);
                        // Few give up: otherwise most would during one outage, and little would be written between two.
                        stop || (write.last_outcome() == Some(Outcome::NotApplied) && self.random.below(20) == 0)
                    }
                    // Some do not retry, and the write has to end by itself.
                    Outcome::Unknown => write.resource.is_some() && self.random.below(2) == 0,
                };
                if done {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50 + self.random.below(300))).await;
            }
            self.writes.push(write);
        }
        self.writes
    }

    fn next_write(&mut self, number: usize) -> SingleWrite {
        let tenant = TENANTS[self.number % 2];
        let connection = CONNECTIONS[usize::try_from(self.random.below(3)).expect("it is small")];
        let id = format!("{tenant}c{}n{number}", self.number);
        let last_registered = |connection: &str, about: &[SingleWrite]| -> Option<String> {
            let fit = |write: &&SingleWrite| write.path == "/candidates" && write.connection == connection;
            about
                .iter()
                .filter(fit)
                .rfind(|write| write.last_outcome() == Some(Outcome::Applied))
                .map(|write| write.subject.clone())
        };
        let known = last_registered(connection, &self.writes);
        let (path, subject, body) = match (self.random.below(4), connection, known) {
            (0 | 1, "startexam-main", Some(known)) if self.unused(&known) => {
                let (test, _) = accounts::startexam::TESTS[0];
                let body =
                    json!({ "connection": connection, "candidate": { "externalId": known }, "assessment": test });
                ("/assignments".to_owned(), format!("{known}/{test}"), body)
            }
            (2, "startexam-main", Some(known)) if self.unused(&known) => {
                let body = json!({ "connection": connection, "scope": "all", "register": [known] });
                (format!("/programs/{PROGRAM}/employees"), format!("{PROGRAM}/{known}"), body)
            }
            (0 | 1, "thinkexam-main", Some(known)) if self.unused(&known) => {
                let (test, ..) = accounts::thinkexam::TESTS[0];
                let email = format!("{known}@example.com");
                let body = json!({ "connection": connection, "candidate": { "email": email }, "assessment": test });
                ("/assignments".to_owned(), format!("{known}/{test}"), body)
            }
            _ => ("/candidates".to_owned(), id.clone(), person_at(connection, &id)),
        };
        let (outcomes, resource, end) = (Vec::new(), None, Outcome::Unknown);
        SingleWrite {
            tenant,
            connection,
            subject,
            path,
            body,
            key: format!("key-{id}"),
            outcomes,
            requests: 0,
            resource,
            end,
        }
    }

    /// Returns whether this person has neither a booking nor an enrolment yet.
    fn unused(&self, person: &str) -> bool {
        !self.writes.iter().any(|write| write.path != "/candidates" && write.subject.contains(person))
    }
}
