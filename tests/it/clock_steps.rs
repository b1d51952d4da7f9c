//! The time of day steps, by hours and by weeks, forwards and back: nothing is settled too early, given up or forgotten
//! because of it.

use examgate::sandbox::Sandbox;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, client, sandbox, startexam};
use crate::support::machine::Machine;

fn person(id: &str) -> Value {
    json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } })
}

async fn start(machine: &Machine, more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let connection = connection.replace("settle_grace = \"0s\"\n", more);
    let gateway = Gateway::start_under(&connection, &client("lms", "", "[\"*\"]"), &machine.environment()).await;
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
