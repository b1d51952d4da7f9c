//! Every vendor × operation: what a vendor declares it can do, the whole journey does at its simulator; what it does not
//! declare is `capability_unsupported`, and nothing reaches the vendor.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use examgate::dispatch::Gateway as Dispatch;
use examgate::domain::capability::{Descriptor, Operation};
use examgate::sandbox::{Sandbox, accounts};
use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, effects, sandbox, sandbox_connections};

/// What a journey needs to know of a vendor, apart from what it declares.
struct Traveller {
    connection: &'static str,
    port: fn(&Sandbox) -> SocketAddr,
    candidate: fn(usize) -> Value,
    assessment: &'static str,
    /// A change the vendor can make, and the member that shows it.
    change: (&'static str, &'static str),
}

fn travellers() -> BTreeMap<&'static str, Traveller> {
    BTreeMap::from([
        (
            "startexam",
            Traveller {
                connection: "startexam-main",
                port: Sandbox::startexam,
                candidate: |n| json!({ "externalId": format!("c{n}"), "name": { "givenName": "Ada", "familyName": "King" }, "email": format!("c{n}@example.com") }),
                assessment: accounts::startexam::TESTS[0].0,
                change: ("email", "new@example.com"),
            },
        ),
        (
            "thinkexam",
            Traveller {
                connection: "thinkexam-main",
                port: Sandbox::thinkexam,
                candidate: |n| json!({ "externalId": format!("c{n}"), "name": { "givenName": "Ada", "familyName": "King" }, "email": format!("c{n}@example.com") }),
                assessment: accounts::thinkexam::TESTS[0].0,
                change: ("group", accounts::thinkexam::COURSES[1]),
            },
        ),
        (
            "examtesting",
            Traveller {
                connection: "examtesting-main",
                port: Sandbox::examtesting,
                candidate: |n| json!({ "externalId": format!("c{n}"), "name": { "givenName": "Ada", "familyName": "King" }, "email": format!("c{n}@example.com") }),
                assessment: "any",
                change: ("email", "new@example.com"),
            },
        ),
    ])
}

fn with_connection(mut body: Value, connection: &str) -> Value {
    body["connection"] = json!(connection);
    body
}

/// Starts everything; updates at ExamTesting are switched on, since the vendor names them.
async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connections = sandbox_connections(&sandbox, "")
        .replace("vendor = \"examtesting\"\n", "vendor = \"examtesting\"\nupdate_enabled = true\n");
    let gateway = Gateway::start(&connections).await;
    (sandbox, gateway)
}

async fn calls(sandbox: &Sandbox, traveller: &Traveller) -> usize {
    effects((traveller.port)(sandbox)).await["calls"].as_array().map_or(0, Vec::len)
}

async fn attempt(gateway: &Gateway, traveller: &Traveller, operation: Operation, candidate: &str) -> Answer {
    let Traveller { connection, assessment, change, .. } = traveller;
    match operation {
        Operation::CandidatesCreate => {
            gateway.post("/candidates", &with_connection((traveller.candidate)(2), connection)).await
        }
        Operation::CandidatesUpdate => {
            gateway.patch(&format!("/candidates/{candidate}"), &json!({ change.0: change.1 })).await
        }
        Operation::CandidatesDelete => gateway.delete(&format!("/candidates/{candidate}")).await,
        Operation::AssignmentsCreate => {
            let order = json!({ "connection": connection, "candidate": { "id": candidate }, "assessment": assessment });
            gateway.post("/assignments", &order).await
        }
        Operation::AssignmentsCancel => {
            let order = json!({ "connection": connection, "candidate": { "id": candidate }, "assessment": assessment });
            let booked = gateway.post("/assignments", &order).await;
            gateway.delete(&format!("/assignments/{}", booked.text("/id"))).await
        }
        Operation::ProgramsEmployees => {
            let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
            gateway
                .post(&path, &json!({ "connection": connection, "scope": "all", "register": [{ "id": candidate }] }))
                .await
        }
    }
}

fn expected_success(operation: Operation) -> u16 {
    match operation {
        Operation::CandidatesCreate | Operation::AssignmentsCreate => 201,
        Operation::CandidatesUpdate | Operation::ProgramsEmployees => 200,
        Operation::CandidatesDelete | Operation::AssignmentsCancel => 204,
    }
}

#[tokio::test]
async fn declared_operations_work_and_others_never_reach_the_vendor() {
    let (sandbox, gateway) = start().await;
    let travellers = travellers();
    for descriptor in Dispatch::descriptors() {
        let Descriptor { kind, .. } = descriptor;
        let traveller = travellers.get(kind).unwrap_or_else(|| panic!("no journey is written for the vendor {kind}"));
        let first = gateway.post("/candidates", &with_connection((traveller.candidate)(1), traveller.connection)).await;
        assert_eq!(first.status, 201, "{kind}: {first:?}");
        // Deleting comes last: the others need the candidate.
        let mut operations = Operation::ALL;
        operations.sort_by_key(|operation| *operation == Operation::CandidatesDelete);
        for operation in operations {
            let before = calls(&sandbox, traveller).await;
            let answer = attempt(&gateway, traveller, operation, first.text("/id")).await;
            let after = calls(&sandbox, traveller).await;
            let what = format!("{kind} {}: {answer:?}", operation.as_str());
            let declared = descriptor.capability(operation);
            assert_eq!(declared.operation, operation, "{kind} declares its capabilities out of order");
            if declared.supported {
                assert_eq!(answer.status, expected_success(operation), "{what}");
                assert!(after > before, "{what}: nothing reached the vendor");
            } else if operation == Operation::CandidatesDelete {
                // The local record goes all the same; only the vendor is left alone.
                assert_eq!((answer.status, after), (204, before), "{what}");
            } else if operation == Operation::AssignmentsCancel
                && !descriptor.capability(Operation::AssignmentsCreate).supported
            {
                assert_eq!(after, before, "{what}");
            } else {
                assert_eq!(answer.problem(), (422, "capability_unsupported", "not_applied"), "{what}");
                // What is to be cancelled was booked a step earlier and is only found again.
                assert_eq!(after, before, "{what}: something reached the vendor");
            }
        }
    }
}

#[tokio::test]
async fn every_vendor_describes_itself_as_it_behaves() {
    let (_sandbox, gateway) = start().await;
    let listed = gateway.get("/vendors").await;
    assert_eq!(listed.status, 200);
    for descriptor in Dispatch::descriptors() {
        let shown = gateway.get(&format!("/vendors/{}", descriptor.kind)).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let text = shown.body.to_string();
        for operation in Operation::ALL {
            assert!(text.contains(operation.as_str()), "{text} does not speak of {}", operation.as_str());
        }
        assert!(!descriptor.name.is_empty() && descriptor.documentation.starts_with("https://"));
    }
}
