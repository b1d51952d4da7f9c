//! A storm of faults: 64 callers do everything the API offers while every vendor misbehaves in every way the sandbox knows.
//! Afterwards each word each of them was told is held against what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::callers::Caller;
use super::fault_schedule::Weather;
use super::ledger::{Happened, Ports, ports, quiet};
use crate::support::gateway::{Gateway, client, sandbox, sandbox_connections};

const CALLERS: usize = 64;
/// What a short storm's callers do each.
const STEPS: usize = 14;
/// By how much the process may grow.
const GROWTH_KIB: u64 = 128 * 1024;
/// The time-out is shorter than the sandbox's longest delay, and the grace longer than both together.
const SETTINGS: &str = "max_in_flight = 16\nsettle_grace = \"5s\"\ntimeout = \"1500ms\"\n\
                        breaker = { failures = 5, cooldown = \"1s\" }\n";

/// How long the callers go on.
#[derive(Clone, Copy)]
enum Measure {
    Steps(usize),
    Until(Instant),
}

impl Measure {
    fn lasts(self, steps: usize) -> bool {
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
    let measure = || seconds.map_or(Measure::Steps(STEPS), |s| Measure::Until(Instant::now() + Duration::from_secs(s)));
    rage(measure, seed).await;
}

#[expect(clippy::print_stdout, reason = "the figures of a long storm are read by whoever ran it")]
async fn rage(measure: impl FnOnce() -> Measure, seed: u64) {
    let sandbox = sandbox().await;
    let ports = ports(&sandbox);
    let mut gateway = gateway(&sandbox_connections(&sandbox, "")).await;
    assert_eq!(gateway.get("/connections").await.status, 200);
    let idle = gateway.memory_kib("VmRSS");
    let weather = Arc::new(Weather::over(&sandbox, seed).await);
    let shared = Arc::new(gateway);

    let began = Instant::now();
    let measure = measure();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut caller = Caller::new(number, Arc::clone(&shared), Arc::clone(&weather), seed);
        callers.spawn(async move {
            let mut steps = 0;
            while measure.lasts(steps) {
                caller.step().await;
                steps += 1;
            }
            caller
        });
    }
    let callers = callers.join_all().await;
    let stormed = began.elapsed();

    let mut report = String::new();
    let recoveries = recover(&shared, &weather).await;
    let peak = shared.memory_kib("VmHWM");
    let _ = writeln!(report, "{}", answers(&callers, stormed));
    let (callers, by_hand) = cleared_up(callers, ports).await;
    quiet(ports).await;
    let wrong = untruths(callers, ports).await;

    let struck = weather.struck().await;
    let _ = writeln!(report, "{} kinds of faults struck {} calls", struck.len(), struck.values().sum::<u64>());
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
    let written = gateway.take_log();
    assert!(!written.contains("panicked"), "{}", written.lines().find(|line| line.contains("panicked")).unwrap_or(""));
    assert!(peak.saturating_sub(idle) < GROWTH_KIB, "{report}");
    assert!(struck.len() > 30, "too few faults struck for a storm: {struck:?}");
    assert!(wrong.is_empty(), "{report}\n{}", wrong[..wrong.len().min(20)].join("\n"));
}

async fn gateway(connections: &str) -> Gateway {
    let connections = connections
        .replace("settle_grace = \"0s\"\n", SETTINGS)
        // What the simulators do, so that bookings share calls and changes are taken.
        .replace(
            "vendor = \"startexam\"\n",
            "vendor = \"startexam\"\nexisting_registration = \"repeated\"\nbookings_only_here = true\n",
        )
        .replace("vendor = \"examtesting\"\n", "vendor = \"examtesting\"\nupdate_enabled = true\n");
    Gateway::start_with_env(&connections, &client("lms", "", "[\"*\"]"), &[("RUST_LOG", "info")]).await
}

/// Ends a total outage, and asks until each connection serves again: how long that took. Nothing that is sent then may fail;
/// all that may be heard before is that the gateway does not send yet.
async fn recover(gateway: &Arc<Gateway>, weather: &Weather) -> BTreeMap<&'static str, Duration> {
    weather.outage().await;
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let began = Instant::now();
        for number in 0.. {
            let answer = gateway.post("/candidates", &person(connection, &format!("out{number}"))).await;
            if answer.text("/code") == "vendor_circuit_open" {
                break;
            }
            assert!(answer.status >= 400, "{answer:?}");
            assert!(began.elapsed() < super::TIMEOUT, "the circuit never opens: {answer:?}");
        }
    }
    weather.calm().await;
    let calm = Instant::now();
    let mut waiting = JoinSet::new();
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let gateway = Arc::clone(gateway);
        waiting.spawn(async move {
            loop {
                let answer = gateway.post("/candidates", &person(connection, "after")).await;
                if answer.status == 201 {
                    return (connection, calm.elapsed());
                }
                let code = answer.text("/code");
                assert!(
                    ["vendor_circuit_open", "vendor_rate_limited", "connection_saturated"].contains(&code),
                    "{answer:?}"
                );
                assert!(calm.elapsed() < super::TIMEOUT, "{connection} never recovers");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    waiting.join_all().await.into_iter().collect()
}

fn person(connection: &str, id: &str) -> serde_json::Value {
    json!({
        "connection": connection, "externalId": id, "email": format!("{id}@example.com"),
        "name": { "givenName": "Ada", "familyName": "King" },
    })
}

/// Lets every caller ask again for what is open; how many withdrawals took a person's word.
async fn cleared_up(callers: Vec<Caller>, ports: Ports) -> (Vec<Caller>, usize) {
    let mut clearing = JoinSet::new();
    for mut caller in callers {
        clearing.spawn(async move {
            let by_hand = caller.clear_up(ports).await;
            (caller, by_hand)
        });
    }
    let (callers, by_hand): (Vec<_>, Vec<_>) = clearing.join_all().await.into_iter().unzip();
    (callers, by_hand.into_iter().sum())
}

async fn untruths(callers: Vec<Caller>, ports: Ports) -> Vec<String> {
    let happened = Arc::new(Happened::at(ports).await);
    let mut looking = JoinSet::new();
    for mut caller in callers {
        let happened = Arc::clone(&happened);
        looking.spawn(async move { caller.untruths(&happened).await });
    }
    looking.join_all().await.concat()
}

/// How many answers of which kind there were.
fn answers(callers: &[Caller], took: Duration) -> String {
    let mut tally: BTreeMap<&(u16, String), usize> = BTreeMap::new();
    for (answer, count) in callers.iter().flat_map(|caller| &caller.tally) {
        *tally.entry(answer).or_default() += count;
    }
    let all: usize = tally.values().sum();
    let people: usize = callers.iter().map(|caller| caller.people.len()).sum();
    let bookings: usize = callers.iter().map(|caller| caller.bookings.len()).sum();
    let replays: usize = callers.iter().map(|caller| caller.replays).sum();
    let mut text = format!(
        "{all} answers in {:.1} s: {people} people, {bookings} bookings, {replays} answers replayed\n",
        took.as_secs_f64()
    );
    for ((status, code), count) in tally {
        let _ = writeln!(text, "  {status} {code}: {count}");
    }
    text
}
