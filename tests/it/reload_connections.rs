//! SIGHUP adds, changes, moves and removes connections: limits hold, records stay, and an open write is resent nowhere else.

use examgate::sandbox::{Sandbox, accounts};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::reload::{
    APPLIED, Callers, applied_count, configure, default_client, reload, reload_until, start_bulk, start_gateway,
    wait_for_calls,
};
use crate::support::connections::{examtesting, startexam};
use crate::support::gateway::{Gateway, sandbox, set_faults};
use crate::support::people::person;
use crate::support::watch::{wait_for_state, wait_until};

#[tokio::test]
async fn the_catalogue_and_a_new_connection_are_available_immediately() {
    let sandbox = sandbox().await;
    let exam = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let mut gateway = start_gateway(|_| exam.clone()).await;
    let order = json!({ "candidate": { "externalId": "a" }, "assessment": "rust-101" });
    assert_eq!(gateway.get("/assessments").await.body["items"], json!([]));
    assert_eq!(gateway.get("/connections/startexam-main").await.problem().1, "connection_not_found");

    let entry = format!(
        "[assessments.rust-101]\nconnection = \"startexam-main\"\nref = \"{}\"\n[programs.onboarding]\nconnection = \
         \"startexam-main\"\nref = \"{}\"\n",
        accounts::startexam::TESTS[0].0,
        accounts::startexam::PROGRAM_ID
    );
    let start = startexam(&format!("http://{}", sandbox.startexam()), "");
    configure(&gateway, &(exam.clone() + &start + &entry), &default_client());
    let line = reload(&mut gateway).await;
    assert_eq!((&line["connections_added"], &line["catalogue"]), (&json!("startexam-main"), &json!("changed")));
    assert_eq!(line.get("connections_changed"), None, "{line}");
    assert_eq!(gateway.get("/assessments").await.text("/items/0/id"), "rust-101");
    assert_eq!(gateway.get("/programs").await.text("/items/0/id"), "onboarding");
    let body = json!({ "connection": "startexam-main", "externalId": "a", "name": { "givenName": "Ada" } });
    assert_eq!(gateway.post("/candidates", &body).await.status, 201);
    assert_eq!(gateway.post("/assignments", &order).await.status, 201);

    configure(&gateway, &exam, &default_client());
    assert_eq!(reload(&mut gateway).await["connections_removed"], "startexam-main");
    assert_eq!(gateway.get("/assessments").await.body["items"], json!([]));
    assert_eq!(gateway.get("/programs").await.body["items"], json!([]));
}

/// Returns when the calls arrived at the simulator.
async fn arrival_times(sandbox: &Sandbox) -> Vec<Timestamp> {
    let log = crate::support::gateway::read_effects(sandbox.examtesting()).await;
    let calls = log["calls"].as_array().expect("a list of calls").iter();
    calls.map(|call| call["at"].as_str().and_then(|at| at.parse().ok()).expect("a time")).collect()
}

#[tokio::test]
async fn a_rate_limit_holds_on_the_wire_across_reloads() {
    let sandbox = sandbox().await;
    let at = |rate: u32, more: &str| {
        examtesting(&format!("http://{}", sandbox.examtesting()), more)
            .replace("requests_per_second = 0", &format!("requests_per_second = {rate}"))
    };
    let mut gateway = start_gateway(|_| at(10, "")).await;
    let first = Timestamp::now();
    let callers = Callers::start(&gateway, 4);
    // Each reload makes another connection. If each counted by itself, calls waiting in the old queue and calls in the
    // new one would together be too many.
    for number in 0..10 {
        let before = arrival_times(&sandbox).await.len();
        wait_for_calls(&sandbox, before + 3).await;
        configure(&gateway, &at(10, &format!("batch_size = {}", number + 1)), &default_client());
        assert_eq!(reload(&mut gateway).await["connections_changed"], "examtesting-main");
    }
    let seen = arrival_times(&sandbox).await;
    let statuses = callers.stop().await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    let millis = usize::try_from(seen[seen.len() - 1].duration_since(first).as_millis()).expect("later");
    println!("{} calls in {millis} ms at 10 a second, 10 reloads between", seen.len());
    // A slow machine only stretches the time; two calls more for those it delayed.
    assert!((seen.len() - 3) * 100 <= millis, "{} calls in {millis} ms", seen.len());

    let operation = start_bulk(&gateway, 300).await;
    wait_until(&gateway, &operation, |response| applied_count(response) >= 1).await;
    // At 1 per second the rest would take minutes, and the test would time out.
    configure(&gateway, &at(1, ""), &default_client());
    reload(&mut gateway).await;
    configure(&gateway, &at(0, ""), &default_client());
    reload(&mut gateway).await;
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    assert_eq!(applied_count(&ended), 300, "{ended:?}");
}

#[tokio::test]
async fn an_open_circuit_stays_open_unless_the_destination_changes() {
    let sandbox = sandbox().await;
    let of = |address: &str, more: &str| {
        examtesting(address, &format!("breaker = {{ failures = 1, cooldown = \"1h\" }}\n{more}"))
    };
    let dead = "http://127.0.0.1:1";
    let mut gateway = start_gateway(|_| of(dead, "")).await;
    let status =
        async |gateway: &Gateway| gateway.get("/connections/examtesting-main").await.text("/status").to_owned();
    assert_eq!(gateway.post("/candidates", &person("a")).await.problem().1, "vendor_unreachable");
    assert_eq!(status(&gateway).await, "circuit_open");
    configure(&gateway, &of(dead, "max_in_flight = 2"), &default_client());
    reload(&mut gateway).await;
    assert_eq!(status(&gateway).await, "circuit_open");
    configure(&gateway, &of(&format!("http://{}", sandbox.examtesting()), ""), &default_client());
    reload(&mut gateway).await;
    assert_eq!(gateway.post("/candidates", &person("a")).await.status, 201);
}

#[tokio::test]
async fn a_removed_connection_keeps_its_records_and_resumes_when_it_is_back() {
    let sandbox = sandbox().await;
    let address = format!("http://{}", sandbox.examtesting());
    let start = startexam(&format!("http://{}", sandbox.startexam()), "");
    let both = start.clone() + &examtesting(&address, "");
    // The grace period keeps the reconciler away.
    let patient = both.replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let mut gateway = start_gateway(|_| patient.clone()).await;
    set_faults(
        sandbox.examtesting(),
        json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 60_000, "times": 1 }] }),
    )
    .await;
    let at_exam = |id: &str| {
        let mut body = person(id);
        body["connection"] = json!("examtesting-main");
        body
    };
    // The write is unknown: the vendor has not responded within the timeout.
    configure(
        &gateway,
        &patient.replace("settle_grace = \"1h\"", "settle_grace = \"1h\"\ntimeout = \"3s\""),
        &default_client(),
    );
    reload(&mut gateway).await;
    let lost = gateway.post("/candidates", &at_exam("a")).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    let path = lost.text("/resource").to_owned();

    configure(&gateway, &start, &default_client());
    let log = reload_until(&mut gateway, APPLIED).await;
    let warned = log.lines().find(|line| line.contains("only a person can settle"));
    assert!(warned.is_some_and(|line| line.contains("\"count\":1") && line.contains("examtesting-main")), "{log}");
    assert_eq!(gateway.get(&path).await.text("/state"), "unknown");
    assert_eq!(gateway.post("/candidates", &at_exam("b")).await.problem().1, "connection_not_found");
    let settled = gateway.post(&format!("{path}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!(settled.problem().1, "connection_not_found");

    configure(&gateway, &patient, &default_client());
    reload(&mut gateway).await;
    assert_eq!(gateway.post("/candidates", &at_exam("b")).await.status, 201);
    assert_eq!(gateway.post(&format!("{path}/settle"), &json!({ "outcome": "applied" })).await.status, 200);
}

#[tokio::test]
async fn the_rows_of_a_bulk_fail_when_their_connection_is_removed() {
    let sandbox = sandbox().await;
    let start = startexam(&format!("http://{}", sandbox.startexam()), "");
    let slow = examtesting(&format!("http://{}", sandbox.examtesting()), "")
        .replace("requests_per_second = 0", "requests_per_second = 20");
    let mut gateway = start_gateway(|_| start.clone() + &slow).await;
    let items: Vec<Value> = (0..200).map(|number| person(&format!("row{number}"))).collect();
    let request = gateway.request(Method::POST, "/candidates/bulk");
    let body = json!({ "connection": "examtesting-main", "items": items });
    let accepted = request.header("Prefer", "respond-async").json(&body).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = format!("/operations/{}", accepted.text("/id"));
    wait_until(&gateway, &operation, |response| applied_count(response) >= 3).await;
    configure(&gateway, &start, &default_client());
    reload(&mut gateway).await;
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    let progress = &ended.body["progress"];
    let (applied, refused) = (applied_count(&ended), progress["notApplied"].as_u64().expect("a number"));
    assert_eq!((applied + refused, refused > 0), (200, true), "{ended:?}");
    let items = gateway.get(&format!("{operation}/items?outcome=not_applied&limit=1")).await;
    assert_eq!(items.text("/items/0/problem/code"), "connection_not_found", "{items:?}");
}

/// Retries the registration of `a`, whose first attempt was lost at another account, and checks that only a person can
/// settle it.
async fn assert_needs_manual_settlement(gateway: &Gateway, resource: &str) {
    let again = gateway.post("/candidates", &person("a")).await;
    assert_eq!(again.problem().1, "subject_unsettled", "{again:?}");
    assert_eq!(again.text("/resource"), resource, "{again:?}");
    let read =
        wait_until(gateway, resource, |read| read.body["warnings"].to_string().contains("different account")).await;
    assert_eq!((read.text("/state"), read.text("/outcome")), ("unknown", "unknown"), "{read:?}");
    assert!(read.body["warnings"].to_string().contains("It must be settled manually."), "{read:?}");
}

#[tokio::test]
async fn an_unknown_write_is_not_reconciled_at_another_account() {
    let (first, second) = (sandbox().await, sandbox().await);
    let connection = |sandbox: &Sandbox| startexam(&format!("http://{}", sandbox.startexam()), "");
    let calls = |sandbox: &Sandbox| crate::support::watch::call_count(sandbox.startexam());
    let mut gateway = start_gateway(|_| connection(&first)).await;
    // A complete response below 500, so that no grace period delays the reconciliation.
    let lost = json!({ "faults": [{ "name": "redirect", "operation": "employees" }] });
    set_faults(first.startexam(), lost).await;
    let unknown = gateway.post("/candidates", &person("a")).await;
    assert_eq!(unknown.problem(), (502, "vendor_bad_response", "unknown"), "{unknown:?}");
    let resource = unknown.text("/resource").to_owned();

    // Another address, then another account at the same address.
    configure(&gateway, &connection(&second), &default_client());
    reload(&mut gateway).await;
    assert_needs_manual_settlement(&gateway, &resource).await;
    let other_account = connection(&first).replace("account_id = 99", "account_id = 98");
    configure(&gateway, &other_account, &default_client());
    reload(&mut gateway).await;
    let before = calls(&first).await;
    assert_needs_manual_settlement(&gateway, &resource).await;
    assert_eq!(calls(&first).await, before);
    // The same after the process was killed and restarted.
    configure(&gateway, &connection(&second), &default_client());
    let gateway = Gateway::start_in(gateway.kill().await).await;
    assert_needs_manual_settlement(&gateway, &resource).await;
    assert_eq!(calls(&second).await, 0);
    // Back at the first account a retry reconciles it.
    set_faults(first.startexam(), json!({ "faults": [] })).await;
    let mut gateway = gateway;
    configure(&gateway, &connection(&first), &default_client());
    reload(&mut gateway).await;
    let settled = gateway.post("/candidates", &person("a")).await;
    assert_eq!((settled.status, settled.text("/state")), (200, "registered"), "{settled:?}");
    assert_eq!(format!("/candidates/{}", settled.text("/id")), resource);
    assert_eq!(calls(&second).await, 0);
}
