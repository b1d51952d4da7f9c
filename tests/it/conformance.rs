//! Every vendor × write kind: what a vendor declares works at its simulator; what it does not declare is
//! `capability_unsupported`, and nothing reaches the vendor.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use examgate::domain::capability::{VendorDescriptor, WriteKind};
use examgate::sandbox::{Sandbox, accounts};
use examgate::service::Gateway as Dispatch;
use serde_json::{Value, json};

use crate::support::connections::sandbox_connections;
use crate::support::gateway::{ApiResponse, Gateway, read_effects, sandbox};
use crate::support::people::{person, with};

/// What the tests need to know about a vendor besides its declarations.
struct VendorFixture {
    connection: &'static str,
    port: fn(&Sandbox) -> SocketAddr,
    candidate: fn(usize) -> Value,
    assessment: &'static str,
    /// A change the vendor supports, and the field that shows it.
    change: (&'static str, &'static str),
}

fn vendor_fixtures() -> BTreeMap<&'static str, VendorFixture> {
    BTreeMap::from([
        (
            "startexam",
            VendorFixture {
                connection: "startexam-main",
                port: Sandbox::startexam,
                candidate: |n| person(&format!("c{n}")),
                assessment: accounts::startexam::TESTS[0].0,
                change: ("email", "new@example.com"),
            },
        ),
        (
            "thinkexam",
            VendorFixture {
                connection: "thinkexam-main",
                port: Sandbox::thinkexam,
                candidate: |n| person(&format!("c{n}")),
                assessment: accounts::thinkexam::TESTS[0].0,
                change: ("group", accounts::thinkexam::COURSES[1]),
            },
        ),
        (
            "examtesting",
            VendorFixture {
                connection: "examtesting-main",
                port: Sandbox::examtesting,
                candidate: |n| person(&format!("c{n}")),
                assessment: "any",
                change: ("email", "new@example.com"),
            },
        ),
    ])
}

/// Starts a sandbox and a gateway. Updates at ExamTesting are enabled, since the vendor declares them.
async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connections = sandbox_connections(&sandbox, "")
        .replace("vendor = \"examtesting\"\n", "vendor = \"examtesting\"\nupdate_enabled = true\n");
    let gateway = Gateway::start(&connections).await;
    (sandbox, gateway)
}

async fn call_count(sandbox: &Sandbox, fixture: &VendorFixture) -> usize {
    read_effects((fixture.port)(sandbox)).await["calls"].as_array().map_or(0, Vec::len)
}

async fn attempt(gateway: &Gateway, fixture: &VendorFixture, operation: WriteKind, candidate: &str) -> ApiResponse {
    let VendorFixture { connection, assessment, change, .. } = fixture;
    match operation {
        WriteKind::CandidatesCreate => {
            gateway.post("/candidates", &with((fixture.candidate)(2), "connection", json!(connection))).await
        }
        WriteKind::CandidatesUpdate => {
            gateway.patch(&format!("/candidates/{candidate}"), &json!({ change.0: change.1 })).await
        }
        WriteKind::CandidatesDelete => gateway.delete(&format!("/candidates/{candidate}")).await,
        WriteKind::AssignmentsCreate => {
            let order = json!({ "connection": connection, "candidate": { "id": candidate }, "assessment": assessment });
            gateway.post("/assignments", &order).await
        }
        WriteKind::AssignmentsUpdate => {
            let order = json!({ "connection": connection, "candidate": { "id": candidate }, "assessment": assessment });
            let booked = gateway.post("/assignments", &order).await;
            gateway
                .patch(
                    &format!("/assignments/{}", booked.text("/id")),
                    &json!({ "validUntil": "2040-01-01T00:00:00Z" }),
                )
                .await
        }
        WriteKind::AssignmentsCancel => {
            let order = json!({ "connection": connection, "candidate": { "id": candidate }, "assessment": assessment });
            let booked = gateway.post("/assignments", &order).await;
            gateway.delete(&format!("/assignments/{}", booked.text("/id"))).await
        }
        WriteKind::ProgramsEmployees => {
            let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
            gateway
                .post(&path, &json!({ "connection": connection, "scope": "all", "register": [{ "id": candidate }] }))
                .await
        }
    }
}

fn expected_success(operation: WriteKind) -> u16 {
    match operation {
        WriteKind::CandidatesCreate | WriteKind::AssignmentsCreate => 201,
        WriteKind::CandidatesUpdate | WriteKind::AssignmentsUpdate | WriteKind::ProgramsEmployees => 200,
        WriteKind::CandidatesDelete | WriteKind::AssignmentsCancel => 204,
    }
}

#[tokio::test]
async fn declared_operations_work_and_others_never_reach_the_vendor() {
    let (sandbox, gateway) = start().await;
    let vendor_fixtures = vendor_fixtures();
    for descriptor in Dispatch::descriptors() {
        let VendorDescriptor { kind, .. } = descriptor;
        let fixture =
            vendor_fixtures.get(kind).unwrap_or_else(|| panic!("no journey is written for the vendor {kind}"));
        let first =
            gateway.post("/candidates", &with((fixture.candidate)(1), "connection", json!(fixture.connection))).await;
        assert_eq!(first.status, 201, "{kind}: {first:?}");
        // Deletion comes last: the others need the candidate. Cancellation books first, which by then reuses the
        // booking.
        let mut operations = WriteKind::ALL.to_vec();
        operations.sort_by_key(|operation| *operation == WriteKind::CandidatesDelete);
        for operation in operations {
            let before = call_count(&sandbox, fixture).await;
            let response = attempt(&gateway, fixture, operation, first.text("/id")).await;
            let after = call_count(&sandbox, fixture).await;
            let what = format!("{kind} {}: {response:?}", operation.as_str());
            let declared = descriptor.capability(operation);
            assert_eq!(declared.kind, operation, "{kind} declares its capabilities out of order");
            if declared.supported {
                assert_eq!(response.status, expected_success(operation), "{what}");
                assert!(after > before, "{what}: nothing reached the vendor");
            } else if operation == WriteKind::CandidatesDelete {
                // The local record is deleted anyway; only the vendor is not called.
                assert_eq!((response.status, after), (204, before), "{what}");
            } else if matches!(operation, WriteKind::AssignmentsUpdate | WriteKind::AssignmentsCancel)
                && !descriptor.capability(WriteKind::AssignmentsCreate).supported
            {
                assert_eq!(after, before, "{what}");
            } else {
                assert_eq!(response.problem(), (422, "capability_unsupported", "not_applied"), "{what}");
                assert_eq!(after, before, "{what}: something reached the vendor");
            }
        }
    }
}

#[tokio::test]
async fn every_vendor_description_names_every_write_kind() {
    let (_sandbox, gateway) = start().await;
    let listed = gateway.get("/vendors").await;
    assert_eq!(listed.status, 200);
    for descriptor in Dispatch::descriptors() {
        let shown = gateway.get(&format!("/vendors/{}", descriptor.kind)).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let text = shown.body.to_string();
        for operation in WriteKind::ALL {
            assert!(text.contains(operation.as_str()), "{text} does not speak of {}", operation.as_str());
        }
        assert!(!descriptor.name.is_empty() && descriptor.documentation.starts_with("https://"));
    }
}

#[tokio::test]
async fn vendor_requirements_are_reported_together_with_malformed_fields() {
    let (_sandbox, gateway) = start().await;
    let pointers = |response: &ApiResponse| {
        let errors = response.body["errors"].as_array().cloned().unwrap_or_default();
        let mut pointers: Vec<String> =
            errors.iter().filter_map(|error| Some(error["pointer"].as_str()?.to_owned())).collect();
        pointers.sort();
        pointers
    };
    let person =
        json!({ "connection": "startexam-main", "email": "nobody", "name": { "givenName": 7 }, "nickname": "x" });
    let response = gateway.post("/candidates", &person).await;
    assert_eq!(response.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(pointers(&response), ["/email", "/externalId", "/name/givenName", "/nickname"], "{response:?}");

    let order = json!({
        "connection": "startexam-main", "candidate": { "externalId": "c1" }, "assessment": accounts::startexam::TESTS[0].0,
        "notify": "vendor_email", "passwordless": true, "validUntil": "tomorrow",
    });
    let response = gateway.post("/assignments", &order).await;
    assert_eq!(response.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(pointers(&response), ["/notify", "/passwordless", "/validUntil"], "{response:?}");
}
