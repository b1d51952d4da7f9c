//! What an import tells its user: progress, summary, and the same for programs.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{CommandOutput, ImportFolder, PEOPLE, applied_items, completed_gateway, operation_body};
use crate::support::snapshots::assert_output;
use crate::support::vendor::{Stub, json_response};

fn refused(index: usize, detail: &str) -> Value {
    json!({ "index": index, "status": 422, "outcome": "not_applied", "problem": {
        "code": "validation_failed", "detail": format!("/email: {detail}"), "retryable": false,
        "errors": [{ "pointer": "/email", "code": "invalid_field", "detail": detail }] } })
}

/// Eight rows of every kind of result.
fn mixed_items() -> Vec<Value> {
    let mut items = applied_items(2);
    let differs = json!([{ "code": "existing_differs", "pointer": "/email", "detail": "x" }]);
    let reused = |index: usize, warnings: Value| json!({ "index": index, "status": 200, "outcome": "applied", "resource": { "id": "cand_9", "warnings": warnings } });
    let failed = |index: usize, outcome: &str, code: &str| {
        json!({ "index": index, "status": 503, "outcome": outcome, "problem": {
            "code": code, "detail": format!("Detail of {code}."), "retryable": true } })
    };
    items.extend([
        reused(2, differs),
        reused(3, json!([])),
        refused(4, "is not an e-mail address"),
        failed(5, "not_applied", "vendor_unreachable"),
        refused(6, "is not an e-mail address"),
        failed(7, "unknown", "vendor_timeout"),
        failed(8, "not_applied", "skipped"),
    ]);
    items
}

fn nine_rows() -> ImportFolder {
    ImportFolder::with((1..=9).fold("externalId,email\n".to_owned(), |text, row| format!("{text}emp-{row},x\n")))
}

#[tokio::test]
async fn the_summary_says_what_became_of_the_rows_and_what_to_do_next() {
    let stub = Stub::start(completed_gateway(mixed_items())).await;
    let folder = nine_rows();
    assert_output("import-mixed", &folder.output(&stub.url(), &["--quiet"]).await);
    let stub = Stub::start(completed_gateway(applied_items(9))).await;
    assert_output("import-applied", &folder.output(&stub.url(), &[]).await);
}

#[tokio::test]
async fn programs_get_one_json_document() {
    let stub = Stub::start(completed_gateway(mixed_items())).await;
    let output = nine_rows().output(&stub.url(), &["--output", "json"]).await;
    assert_output("import-mixed-json", &output);
    let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let lines: Vec<u64> =
        told["rows"].as_array().expect("rows").iter().map(|row| row["line"].as_u64().expect("a line")).collect();
    assert_eq!(lines, [6, 7, 8, 9, 10]);
    assert_eq!(told["summary"]["existingDiffers"], 1);
}

#[tokio::test]
async fn programs_get_one_json_document_for_a_command_line_that_cannot_be_parsed() {
    let run = async |arguments: &[&str]| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"));
        command.args(arguments).current_dir(folder.path()).env_clear().stdin(std::process::Stdio::null());
        CommandOutput::of(&command.output().await.expect("the program runs"))
    };
    let json = ["--output", "json"];
    for (arguments, expected, words) in [
        (&["import", "--connection", "main"][..], json!({ "connection": "main", "file": null }), "<FILE>"),
        (&["import", "people.csv"][..], json!({ "file": "people.csv", "connection": null }), "--connection"),
        (
            &["import", "-", "--connection", "main", "--map", "x"][..],
            json!({ "file": "standard input" }),
            "COLUMN=TARGET",
        ),
        (&["import", "--conection", "main", "a.csv"][..], json!({ "operation": null }), "'--connection'"),
    ] {
        let output = run(&[arguments, &json].concat()).await;
        assert_eq!(output.code, Some(2), "{output:?}");
        let document: Value = serde_json::from_str(&output.out).expect("one JSON document");
        let names: Vec<&String> = document.as_object().expect("an object").keys().collect();
        assert_eq!(names.len(), 5, "{names:?}");
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&document[name], value, "{document}");
        }
        let error = document["error"].as_str().expect("a text");
        assert!(error.contains(words) && output.err.trim_end() == error, "{output:?}");
        let equals = run(&[arguments, &["--output=json"]].concat()).await;
        assert_eq!((equals.code, &equals.out), (output.code, &output.out));
        let text = run(&[arguments, &["--output", "text"]].concat()).await;
        assert_eq!((text.code, &*text.out), (Some(2), ""), "{text:?}");
    }
    for arguments in [&["import", "--help"][..], &["import", "a.csv", "--", "--output", "json"], &["check", "--x"]] {
        let output = run(&[arguments, if arguments.len() > 3 { &[][..] } else { &json[..] }].concat()).await;
        assert!(!output.out.starts_with('{'), "{output:?}");
    }
}

#[tokio::test]
async fn the_progress_says_how_many_rows_a_restart_left_to_settle() {
    let polls = AtomicUsize::new(0);
    let whole = completed_gateway(applied_items(3));
    let stub = Stub::start(move |seen| {
        if seen.uri.path() == "/operations/op_7" && polls.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut running = operation_body("running", &[]);
            running["progress"] =
                json!({ "total": 3, "applied": 1, "notApplied": 0, "unknown": 0, "skipped": 0, "pending": 2, "settling": 2 });
            return json_response(200, &running);
        }
        whole(seen)
    })
    .await;
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import(&stub.url(), &[]).await;
    let line = "\n1 of 3 rows done: 1 applied, 2 pending; settling 2 rows after a restart\n";
    assert!(output.code == Some(0) && output.err.contains(line), "{output:?}");
    let output = folder.import(&stub.url(), &["--quiet"]).await;
    assert_eq!((output.code, &*output.err), (Some(0), ""), "{output:?}");
    assert!(output.out.starts_with("people.csv: 3 rows to startexam-main, op_7\n"), "{output:?}");
}
