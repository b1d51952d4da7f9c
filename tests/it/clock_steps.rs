//! Steps of the wall clock, by hours and by weeks, forwards and back: nothing is reconciled too early, abandoned or
//! deleted because of them.

use examgate::sandbox::{Sandbox, accounts};
use jiff::SignedDuration;
use serde_json::json;

use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, sandbox, set_faults};
use crate::support::machine::Machine;
use crate::support::people::{order_if_exists, person};
use crate::support::watch::{bodies, changes, wait_for_effect, wait_for_state, wait_until};

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn start(machine: &Machine, more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let connection = connection.replace("settle_grace = \"0s\"\n", more);
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
    assert_eq!(gateway.post("/candidates", &person("emp-a")).await.status, 201);
    (sandbox, gateway)
}

#[tokio::test]
async fn the_program_reads_the_clock_of_its_machine() {
    let machine = Machine::new();
    machine.set_clock_ahead(SignedDuration::from_hours(365 * 24));
    let (_sandbox, gateway) = start(&machine, "").await;
    let made = gateway.post("/candidates", &person("emp-b")).await;
    let created: jiff::Timestamp = made.text("/meta/created").parse().expect("a time");
    let ahead = created.duration_since(jiff::Timestamp::now());
    assert!(ahead > SignedDuration::from_hours(364 * 24), "{created}");
}

#[tokio::test]
async fn a_forward_clock_step_does_not_shorten_the_grace_period() {
    let machine = Machine::new();
    let (sandbox, gateway) = start(&machine, "timeout = \"3s\"\nsettle_grace = \"40s\"\n").await;
    let port = sandbox.startexam();
    let late =
        json!({ "name": "delay_before_effect", "operation": "employees_participants", "delayMs": 8_000, "times": 1 });
    set_faults(port, json!({ "faults": [late] })).await;
    let lost = gateway.post("/assignments", &order_if_exists("emp-a", TEST, "reuse")).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    machine.set_clock_ahead(SignedDuration::from_hours(1));
    // The first attempt takes effect within the grace period; until then nothing may be resent.
    wait_for_effect(port, "employees_participants", "emp-a").await;
    assert_eq!(bodies(port, "employees_participants").await.len(), 1, "settled within the grace");
}

#[tokio::test]
async fn a_write_that_falls_due_while_the_clock_is_ahead_is_not_abandoned() {
    let machine = Machine::new();
    let (sandbox, gateway) = start(&machine, "settle_grace = \"0s\"\n").await;
    let port = sandbox.startexam();
    let (lost, down) = (
        json!({ "name": "reset_before_effect", "operation": "employees", "times": 1 }),
        json!({ "name": "unavailable", "operation": "employees" }),
    );
    set_faults(port, json!({ "faults": [lost, down] })).await;
    let before = bodies(port, "employees").await.len();
    let response = gateway.post("/candidates", &person("emp-b")).await;
    assert_eq!(response.text("/outcome"), "unknown", "{response:?}");
    machine.set_clock_ahead(SignedDuration::from_hours(25));
    let began = std::time::Instant::now();
    while bodies(port, "employees").await.len() < before + 2 {
        assert!(began.elapsed() < crate::support::gateway::TIMEOUT, "it is never tried");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    machine.set_clock_ahead(SignedDuration::ZERO);
    set_faults(port, json!({ "faults": [] })).await;
    let settled = wait_for_state(&gateway, response.text("/resource"), "registered").await;
    assert_eq!(settled.text("/outcome"), "applied");
    assert_eq!(changes(port, "employees", "created").await, ["emp-a", "emp-b"]);
}

#[tokio::test]
async fn no_clock_step_loses_an_idempotency_key_or_an_operation() {
    let machine = Machine::new();
    let (sandbox, gateway) = start(&machine, "").await;
    let port = sandbox.startexam();
    let body = order_if_exists("emp-a", TEST, "create_new");
    let first = gateway.post_with_key("/assignments", "book-1", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let items = json!({ "items": [person("emp-b")] });
    let bulk = gateway.post_with_key("/candidates/bulk", "bulk-1", &items).await;
    assert_eq!(bulk.status, 207, "{bulk:?}");
    let operation = format!("/operations/{}", bulk.text("/operation"));
    for hours in [25, -25, 40 * 24, 0] {
        machine.set_clock_ahead(SignedDuration::from_hours(hours));
        let again = gateway.post_with_key("/assignments", "book-1", &body).await;
        assert_eq!((again.status, &again.body), (201, &first.body), "{hours} h: {again:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{hours} h");
        let read = wait_until(&gateway, &operation, |response| response.status != 503).await;
        assert_eq!((read.status, read.text("/state")), (200, "completed"), "{hours} h: {read:?}");
        let again = gateway.post_with_key("/candidates/bulk", "bulk-1", &items).await;
        assert_eq!((again.status, again.text("/operation")), (207, bulk.text("/operation")), "{hours} h: {again:?}");
    }
    assert_eq!(changes(port, "employees_participants", "created").await.len(), 1, "booked twice");
}

#[tokio::test]
async fn a_clock_that_stepped_while_a_new_gateway_was_down_loses_no_idempotency_key() {
    let machine = Machine::new();
    let (sandbox, gateway) = start(&machine, "").await;
    let body = order_if_exists("emp-a", TEST, "create_new");
    let first = gateway.post_with_key("/assignments", "book-1", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let folder = gateway.kill().await;
    machine.set_clock_ahead(SignedDuration::from_hours(40 * 24));
    let gateway = Gateway::start_in_with_env(folder, &machine.environment()).await;
    let again = gateway.post_with_key("/assignments", "book-1", &body).await;
    assert_eq!((again.status, &again.body), (201, &first.body), "{again:?}");
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 1, "booked twice");
}
