//! The fault storm: 64 callers use the whole API while every vendor fails in every way the sandbox knows. Afterwards
//! every reported outcome is compared with what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::callers::Caller;
use super::fault_schedule::FaultSchedule;
use super::ledger::{Ports, VendorEffects, ports, wait_for_open_calls};
use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{Gateway, sandbox};
use crate::support::people::person_at;

const CALLERS: usize = 64;
/// Steps of each caller in a short storm.
const STEPS: usize = 14;
/// How much the process may grow.
const GROWTH_KIB: u64 = 128 * 1024;
/// The timeout is shorter than the sandbox's longest delay, and the grace period longer than both together.
const SETTINGS: &str = "max_in_flight = 16\nsettle_grace = \"7s\"\ntimeout = \"2500ms\"\n\
                        breaker = { failures = 5, cooldown = \"1s\" }\n";

/// How long the callers run.
#[derive(Clone, Copy)]
enum StormLength {
    Steps(usize),
    Until(Instant),
}

impl StormLength {
    fn continues_after(self, steps: usize) -> bool {
        match self {
            Self::Steps(all) => steps < all,
            Self::Until(end) => Instant::now() < end,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reported_outcome_is_true_under_all_vendor_faults() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("EXAMGATE_STORM_SECONDS");
    let seed = number("EXAMGATE_STORM_SEED").unwrap_or(1);
    let length =
        || seconds.map_or(StormLength::Steps(STEPS), |s| StormLength::Until(Instant::now() + Duration::from_secs(s)));
    run_storm(length, seed).await;
}

#[expect(clippy::print_stdout, reason = "the figures of a long storm are for the person who ran it")]
async fn run_storm(length: impl FnOnce() -> StormLength, seed: u64) {
    let sandbox = sandbox().await;
    let ports = ports(&sandbox);
    let mut gateway = start_gateway(&sandbox_connections(&sandbox, "")).await;
    assert_eq!(gateway.get("/connections").await.status, 200);
    let idle = gateway.memory_kib("VmRSS");
    let schedule = Arc::new(FaultSchedule::new(&sandbox, seed).await);
    let shared = Arc::new(gateway);

    let began = Instant::now();
    let length = length();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut caller = Caller::new(number, Arc::clone(&shared), Arc::clone(&schedule), seed);
        callers.spawn(async move {
            let mut steps = 0;
            while length.continues_after(steps) {
                caller.step().await;
                steps += 1;
            }
            caller
        });
    }
    let callers = callers.join_all().await;
    let duration = began.elapsed();

    let mut report = String::new();
    let recoveries = recover(&shared, &schedule).await;
    let peak = shared.memory_kib("VmHWM");
    let _ = writeln!(report, "{}", response_report(&callers, duration));
    // What is settled by hand is read from the effects, so none may come later.
    wait_for_open_calls(ports).await;
    let (callers, by_hand) = resolve_everything(callers, ports).await;
    wait_for_open_calls(ports).await;
    let wrong = violations(callers, ports).await;

    let fault_counts = schedule.counts().await;
    let _ = writeln!(
        report,
        "{} kinds of faults affected {} calls",
        fault_counts.len(),
        fault_counts.values().sum::<u64>()
    );
    let _ = writeln!(report, "memory: idle {idle} KiB, at most {peak} KiB");
    let _ = writeln!(report, "recovered: {recoveries:?} after the faults ended");
    let _ = writeln!(
        report,
        "{by_hand} withdrawals settled by hand; everything known {:.1?} after the start",
        began.elapsed()
    );
    let _ = writeln!(report, "untruths: {}", wrong.len());
    println!("{report}");

    gateway = Arc::into_inner(shared).expect("every caller is done");
    let log = gateway.take_log();
    assert!(!log.contains("panicked"), "{}", log.lines().find(|line| line.contains("panicked")).unwrap_or(""));
    assert!(peak.saturating_sub(idle) < GROWTH_KIB, "{report}");
    assert!(fault_counts.len() > 30, "too few kinds of faults for a storm: {fault_counts:?}");
    assert!(wrong.is_empty(), "{report}\n{}", wrong[..wrong.len().min(20)].join("\n"));
}

async fn start_gateway(connections: &str) -> Gateway {
    let connections = connections
        .replace("settle_grace = \"0s\"\n", SETTINGS)
        // The simulators are configured alike, so that bookings share calls and updates are accepted.
        .replace(
            "vendor = \"startexam\"\n",
            "vendor = \"startexam\"\nexisting_registration = \"repeated\"\nbookings_only_here = true\n",
        )
        .replace("vendor = \"examtesting\"\n", "vendor = \"examtesting\"\nupdate_enabled = true\n");
    Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), &[("RUST_LOG", "info")]).await
}

/// Ends a total outage and waits until each connection serves again; returns how long that took. Nothing that is sent
/// then may fail; before, the gateway may only report that it does not send yet.
async fn recover(gateway: &Arc<Gateway>, schedule: &FaultSchedule) -> BTreeMap<&'static str, Duration> {
    schedule.outage().await;
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let began = Instant::now();
        for number in 0.. {
            let response = gateway.post("/candidates", &person_at(connection, &format!("out{number}"))).await;
            if response.text("/code") == "vendor_circuit_open" {
                break;
            }
            assert!(response.status >= 400, "{response:?}");
            assert!(began.elapsed() < super::TIMEOUT, "the circuit never opens: {response:?}");
        }
    }
    schedule.clear().await;
    let cleared_at = Instant::now();
    let mut tasks = JoinSet::new();
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let gateway = Arc::clone(gateway);
        tasks.spawn(async move {
            loop {
                let response = gateway.post("/candidates", &person_at(connection, "after")).await;
                if response.status == 201 {
                    return (connection, cleared_at.elapsed());
                }
                let code = response.text("/code");
                assert!(
                    ["vendor_circuit_open", "vendor_rate_limited", "connection_saturated"].contains(&code),
                    "{response:?}"
                );
                assert!(cleared_at.elapsed() < super::TIMEOUT, "{connection} never recovers");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Lets every caller retry what is unresolved; returns how many withdrawals were settled manually.
async fn resolve_everything(callers: Vec<Caller>, ports: Ports) -> (Vec<Caller>, usize) {
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        tasks.spawn(async move {
            let by_hand = caller.resolve_everything(ports).await;
            (caller, by_hand)
        });
    }
    let (callers, by_hand): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    (callers, by_hand.into_iter().sum())
}

async fn violations(callers: Vec<Caller>, ports: Ports) -> Vec<String> {
    let effects = Arc::new(VendorEffects::read(ports).await);
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let effects = Arc::clone(&effects);
        tasks.spawn(async move { caller.violations(&effects).await });
    }
    tasks.join_all().await.concat()
}

/// Summarises the responses.
fn response_report(callers: &[Caller], took: Duration) -> String {
    let mut response_counts: BTreeMap<&(u16, String), usize> = BTreeMap::new();
    for (response, count) in callers.iter().flat_map(|caller| &caller.response_counts) {
        *response_counts.entry(response).or_default() += count;
    }
    let all: usize = response_counts.values().sum();
    let people: usize = callers.iter().map(|caller| caller.people.len()).sum();
    let bookings: usize = callers.iter().map(|caller| caller.bookings.len()).sum();
    let replays: usize = callers.iter().map(|caller| caller.replays).sum();
    let mut text = format!(
        "{all} responses in {:.1} s: {people} people, {bookings} bookings, {replays} responses replayed\n",
        took.as_secs_f64()
    );
    for ((status, code), count) in response_counts {
        let _ = writeln!(text, "  {status} {code}: {count}");
    }
    text
}
