//! Imports into the real gateway, which registers and books at the simulators.

use examgate::sandbox::Sandbox;

use super::{CommandOutput, ImportFolder, column};
use crate::support::connections::sandbox_connections;
use crate::support::gateway::{Gateway, key, sandbox};
use crate::support::watch::changes;

async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

async fn import(gateway: &Gateway, folder: &ImportFolder, more: &[&str]) -> CommandOutput {
    let address = format!("http://{}", gateway.address);
    let output = folder.command(&address, more).env("EXAMGATE_API_KEY", key("lms")).output().await;
    CommandOutput::of(&output.expect("the program runs"))
}

/// People, then their bookings, then both again.
#[tokio::test]
async fn people_and_bookings_are_imported_once() {
    let (sandbox, gateway) = start().await;
    let people =
        ImportFolder::with("externalId,name.givenName,email\nemp-1,Ann,ann@example.com\nemp-2,Bo,nobody\nemp-3,Cy,\n");
    for earlier in [false, true] {
        let output = import(&gateway, &people, &[]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert_eq!(output.err.contains("this table was imported before, as op_"), earlier, "{output:?}");
        assert!(output.out.contains("\n1 row: /email ") && output.out.contains(" (line 3)\n"), "{output:?}");
        let result = people.result();
        assert_eq!(column(&result, "result.outcome"), ["applied", "not_applied", "applied"], "{result}");
        assert_eq!(column(&result, "result.pointer"), ["", "/email", ""], "{result}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["emp-1", "emp-3"]);

    let test = examgate::sandbox::accounts::startexam::TESTS[0].0;
    let bookings = ImportFolder::with(format!("candidate.externalId,assessment\nemp-1,{test}\nemp-3,{test}\n"));
    for _ in 0..2 {
        let output = import(&gateway, &bookings, &["--kind", "assignments"]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        let result = bookings.result();
        assert_eq!(column(&result, "result.candidate"), ["emp-1", "emp-3"], "{result}");
        assert_eq!(column(&result, "result.assessment"), [test, test], "{result}");
        for name in ["result.validFrom", "result.validUntil", "result.launchUrl"] {
            assert!(column(&result, name).iter().all(|cell| !cell.is_empty()), "{name}: {result}");
        }
        assert_eq!(result.matches("#participant/").count(), 2, "{result}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 2);
}

#[tokio::test]
async fn a_changed_address_of_a_known_person_is_in_the_summary() {
    let (_sandbox, gateway) = start().await;
    let folder = ImportFolder::with("externalId,name.givenName,email\r\nemp-7,Ana,old@example.com\r\n");
    let output = import(&gateway, &folder, &[]).await;
    assert!(output.code == Some(0) && output.out.contains("\n  applied           1\n"), "{output:?}");

    let changed = "externalId,name.givenName,email\r\nemp-7,Ana,new@example.com\r\n";
    std::fs::write(folder.path("people.csv"), changed).expect("the file can be written");
    let output = import(&gateway, &folder, &[]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let line = "\n  applied           1  (1 already registered, differs: see existing_differs)\n";
    assert!(output.out.contains(line), "{output:?}");
    assert!(output.out.contains("existing_differs: 1 row: the record has another /email and was not changed (line 2)"));
    assert_eq!(column(&folder.result(), "result.differs"), ["/email"]);

    let output = import(&gateway, &folder, &["--if-exists", "update"]).await;
    assert!(output.code == Some(0) && !output.out.contains("existing_differs"), "{output:?}");
    let output = import(&gateway, &folder, &["--if-exists", "fail"]).await;
    assert!(output.code == Some(1) && output.out.contains("\n1 row: candidate_already_exists: "), "{output:?}");
}

#[tokio::test]
async fn ids_with_leading_signs_survive_the_way_through_the_result() {
    let (sandbox, gateway) = start().await;
    let folder = ImportFolder::with("externalId,name.givenName\r\n+491510000001,Ana\r\n-7,Ben\r\n");
    assert_eq!(import(&gateway, &folder, &[]).await.code, Some(0));
    std::fs::rename(folder.path("people.result.csv"), folder.path("people.csv")).expect("a result");
    let output = import(&gateway, &folder, &[]).await;
    assert!(output.code == Some(0) && output.out.contains("applied           2  (2 already registered)"), "{output:?}");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["+491510000001", "-7"]);
    assert_eq!(column(&folder.result(), "externalId"), ["'+491510000001", "'-7"]);
}

#[tokio::test]
async fn a_retry_leaves_an_invalid_row_with_its_reason() {
    let (_sandbox, gateway) = start().await;
    let folder = ImportFolder::with(
        "externalId,name.givenName,email\r\nemp-1,Ann,ann@example.com\r\nemp-2,Bo,nobody\r\nemp-3,Cy,cy@example.com\r\n",
    );
    for _ in 0..2 {
        let output = import(&gateway, &folder, &["--retry"]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.out.contains("  applied           2") && output.out.contains("  not applied       1\n"));
        assert!(output.out.contains("\n1 row: /email ") && output.out.contains(" (line 3)\n"), "{output:?}");
        assert_eq!(column(&folder.result(), "result.line"), ["2", "3", "4"]);
        assert_eq!(column(&folder.result(), "result.code"), ["", "validation_failed", ""]);
    }
}
