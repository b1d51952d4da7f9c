//! Storms: bulks to all three vendors while the vendors fail and the gateway is killed repeatedly; afterwards every
//! row's outcome is compared with what really happened at the vendors.
//!
//! There are three other kinds of storms. `faults`: single callers use the whole API under every fault; `outages`: the
//! database, the disk and the clock fail; `results`: reports come while the feed and the store fail and gateways are
//! killed.
//!
//! The test suite runs short ones. `scripts/storm` runs long ones: `EXAMGATE_STORM_ROWS` and `EXAMGATE_STORM_KILLS` set
//! the size, `EXAMGATE_STORM_SEED` the random numbers. `scripts/fault-storm` takes `EXAMGATE_STORM_SECONDS`, and for
//! `outages` the rows, `EXAMGATE_STORM_WRITES` and the longest outage, `EXAMGATE_STORM_OUTAGE_MS`. `scripts/results-storm`
//! takes `EXAMGATE_STORM_SESSIONS`, the kills and the longest outage.

mod callers;
mod cluster;
mod failing_cluster;
mod fault_schedule;
mod faults;
mod ledger;
mod oracle;
mod outages;
mod results;
mod results_oracle;
mod rows;
mod verification;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use examgate::sandbox::Sandbox;
use serde_json::json;

use self::cluster::{Cluster, Random};
use self::rows::{Bulk, Kind};
use crate::support::gateway::{sandbox, set_faults};
use crate::support::postgres::Server;

/// The size of a storm.
#[derive(Debug, Clone, Copy)]
struct StormSize {
    rows: usize,
    kills: usize,
    seed: u64,
}

impl StormSize {
    /// Reads the size from the environment; the default is a short storm.
    fn from_env_or(rows: usize, kills: usize) -> Self {
        Self {
            rows: setting("EXAMGATE_STORM_ROWS", rows),
            kills: setting("EXAMGATE_STORM_KILLS", kills),
            seed: setting("EXAMGATE_STORM_SEED", 1),
        }
    }
}

/// Returns a number from the environment, or the default.
fn setting<N: std::str::FromStr>(name: &str, default: N) -> N {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_at_any_moment_loses_nothing_and_does_nothing_twice() {
    let sandbox = sandbox().await;
    let cluster = Cluster::on_sqlite(&sandbox).await;
    run_storm(sandbox, cluster, StormSize::from_env_or(450, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_killed_in_turn_lose_nothing_and_do_nothing_twice() {
    let sandbox = sandbox().await;
    let schema = Server::shared().schema().await;
    let cluster = Cluster::on_postgres(&sandbox, &schema).await;
    run_storm(sandbox, cluster, StormSize::from_env_or(450, 6)).await;
}

/// Registers people at all three vendors and then books those of two of them, killing the gateways meanwhile.
#[expect(clippy::print_stdout, reason = "the result of a long storm is for the person who ran it")]
async fn run_storm(sandbox: Sandbox, mut cluster: Cluster, size: StormSize) {
    let began = Instant::now();
    let mut random = Random(size.seed);
    inject_faults(&sandbox).await;
    // Three fifths of the rows are people, two fifths bookings at the two vendors that have bookings.
    let people = size.rows * 3 / 5 / 3;
    let bookings = size.rows * 2 / 5 / 2;
    let mut report = String::new();
    let phases = [
        [Kind::People("startexam-main"), Kind::People("thinkexam-main"), Kind::People("examtesting-main")].as_slice(),
        [Kind::Bookings("startexam-main"), Kind::Bookings("thinkexam-main")].as_slice(),
    ];
    let mut finished = Vec::new();
    for (phase, kinds) in phases.into_iter().enumerate() {
        let count = if phase == 0 { people } else { bookings };
        let bulks: Vec<Bulk> = kinds.iter().map(|kind| Bulk::new(*kind, count)).collect();
        let (kills, done) = cluster.run_with_kills(&bulks, size.kills / 2, &mut random).await;
        let _ = writeln!(report, "phase {phase}: {} bulks of {count} rows, {kills} kills", bulks.len());
        finished.extend(bulks.into_iter().zip(done));
    }
    clear_faults(&sandbox).await;
    for (bulk, operation) in &finished {
        let results = cluster.settled_report(operation, bulk.rows.len()).await;
        let effects = oracle::read_effects(&sandbox, bulk.kind).await;
        let counts = oracle::compare(bulk, &results, &effects);
        let _ = writeln!(report, "{:?}: {counts:?}", bulk.kind);
    }
    let _ = writeln!(report, "{} kills in all, {:.1} s", cluster.kills, began.elapsed().as_secs_f64());
    println!("{report}");
    assert!(cluster.kills > 0, "the bulks ended before anything was killed:\n{report}");
}

/// Injects at random every fault that leaves the outcome open, and a busy vendor. Rejections come from the rows
/// themselves.
async fn inject_faults(sandbox: &Sandbox) {
    let general = json!([
        { "name": "reset_after_effect", "probability": 0.005 },
        { "name": "reset_before_effect", "probability": 0.005 },
        { "name": "close_after_effect", "probability": 0.005 },
        { "name": "unavailable", "probability": 0.005, "effect": true },
        { "name": "server_error", "probability": 0.005, "effect": true },
        { "name": "rate_limited", "probability": 0.005, "retryAfter": 0 },
        { "name": "truncated_body", "probability": 0.005 },
        { "name": "empty_body", "probability": 0.002 },
        { "name": "delay_after_effect", "probability": 0.01, "delayMs": 30 },
        { "name": "delay_before_effect", "probability": 0.01, "delayMs": 30 },
    ]);
    for port in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()] {
        set_faults(port, json!({ "faults": general })).await;
    }
    set_faults(sandbox.startexam(), json!({ "switches": { "existing_registration": "repeated" } })).await;
}

async fn clear_faults(sandbox: &Sandbox) {
    for port in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()] {
        set_faults(port, json!({ "faults": [] })).await;
    }
}

/// Long enough for any storm; only a hang takes longer.
const TIMEOUT: Duration = Duration::from_mins(20);
