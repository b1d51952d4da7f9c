//! The result sheet: the rows as they were, each with its result.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{
    CommandOutput, ImportFolder, KEY, PEOPLE, applied_item, applied_items, column, completed_gateway, item_page, mode,
    operation_body, posts, problem_body, sheet,
};
use crate::support::vendor::{Stub, json_response};

#[tokio::test]
async fn every_row_is_repeated_with_its_result() {
    let invalid = json!({
        "code": "validation_failed", "detail": "1 member is wrong", "retryable": false,
        "errors": [{ "pointer": "/email", "code": "invalid_field", "detail": "is not an e-mail address" }] });
    let ignored = json!({ "code": "field_ignored", "pointer": "/group", "detail": "x" });
    let differs = json!({ "code": "existing_differs", "pointer": "/email", "detail": "x" });
    let refused = json!({
        "code": "vendor_rejected_request", "detail": "The vendor refused the row.", "retryable": false,
        "vendor": { "connection": "startexam-main", "httpStatus": 400, "code": "E-17", "message": "=No seats" } });
    let stub = Stub::start(completed_gateway(vec![
        applied_item(
            0,
            &json!({ "id": "cand_1", "state": "registered", "externalId": "emp-1", "userName": "emp-1-x",
                     "initialPassword": "pass,word1", "warnings": [ignored] }),
        ),
        json!({ "index": 1, "itemId": "row-2", "status": 200, "outcome": "applied", "resource": {
                "id": "cand_2", "state": "registered", "externalId": "=1+1", "userName": "@bo", "warnings": [differs] } }),
        json!({ "index": 2, "status": 422, "outcome": "not_applied", "problem": invalid }),
        json!({ "index": 3, "status": 422, "outcome": "not_applied", "problem": refused }),
    ]))
    .await;
    // Excel's own way: byte order mark, CRLF, and a cell with a line break.
    let people =
        "externalId,email\r\nemp-1,ann@example.com\r\n=1+1,bo@example.com\r\n\r\n\"a\r\nb\",nobody\r\n+49;-1,\r\n";
    let folder = ImportFolder::with(format!("\u{feff}{people}"));
    let output = folder.import(&stub.url(), &["--fail-on-errors", "5"]).await;

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.ends_with("2 of 4 rows applied\n"), "{output:?}");
    assert!(!format!("{output:?}").contains("pass,word1"), "{output:?}");
    assert_eq!(
        folder.result().replace("a\r\nb", "a b"),
        sheet(
            "externalId|email|result.line|result.outcome|result.id|result.state|result.userName|result.initialPassword|\
             result.differs|result.warnings|result.code|result.detail|result.vendorCode|result.vendorMessage|result.pointer|result.zeros\n\
             emp-1|ann@example.com|2|applied|cand_1|registered|emp-1-x|pass,word1||field_ignored||||||\n\
             '=1+1|bo@example.com|3|applied|cand_2|registered|'@bo||/email|existing_differs||||||\n\
             a b|nobody|5|not_applied|||||||validation_failed|1 member is wrong; /email is not an e-mail address|||/email|\n\
             '+49;'-1||7|not_applied|||||||vendor_rejected_request|The vendor refused the row.|E-17|'=No seats||\n"
        )
    );
    assert_eq!(mode(&folder.path("people.result.csv")), 0o600);
    assert_eq!(std::fs::read_dir(folder.folder.path()).expect("a folder").count(), 2, "nothing else is left");

    let upload = &posts(&stub)[0];
    assert_eq!(upload.uri, "/candidates/bulk?connection=startexam-main&failOnErrors=5");
    assert_eq!(upload.body, people, "the content without the byte order mark");
    assert_eq!(upload.headers["content-length"], people.len().to_string());
    assert_eq!(upload.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(upload.headers["prefer"], "respond-async");
    assert_eq!(stub.seen().iter().filter(|seen| seen.uri.path().ends_with("/items")).count(), 2, "two pages");
}

#[tokio::test]
async fn the_result_of_bookings_is_the_sheet_to_hand_links_out_from() {
    let launch = json!({ "url": "https://go.example.com/#participant/1", "expiresAt": "2027-01-01T00:00:00Z" });
    let booking = |candidate: Value| {
        json!({ "id": "asg_1", "state": "assigned", "candidate": candidate, "assessment": "rust-101", "launch": launch,
                "validFrom": "2026-12-01T00:00:00Z", "validUntil": "2027-01-01T00:00:00Z", "warnings": [] })
    };
    let items = vec![
        applied_item(0, &booking(json!({ "id": "cand_1", "externalId": "emp-1" }))),
        applied_item(1, &booking(json!({ "id": "cand_2", "email": "bo@example.com" }))),
    ];
    let stub = Stub::start(move |seen| match seen.uri.path().strip_prefix("/exam-api") {
        // Done before the response, as a gateway does with few rows if possible.
        Some("/assignments/bulk") => json_response(207, &json!({ "operation": "op_7", "summary": {}, "results": [] })),
        Some("/operations/op_7") => json_response(200, &operation_body("completed", &items)),
        Some("/operations/op_7/items") => item_page(&items, seen.uri.query().unwrap_or_default()),
        _ => json_response(404, &problem_body(404, "not_found")),
    })
    .await;
    let folder = ImportFolder::with(
        "candidate.externalId,candidate.email,assessment\nemp-1,,rust-101\n,bo@example.com,rust-101\n",
    );
    std::fs::write(folder.path("key.txt"), format!("{KEY}\n")).expect("the key can be written");
    let address = format!("{}/exam-api/", stub.url());
    let more = ["--kind", "assignments", "--url", &address, "--key-file", "key.txt", "--result", "links.csv"];
    let output = folder.import("http://127.0.0.1:9", &more).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let result = std::fs::read_to_string(folder.path("links.csv")).expect("a result");
    let end = "rust-101|2026-12-01T00:00:00Z|2027-01-01T00:00:00Z|https://go.example.com/#participant/1|\
               2027-01-01T00:00:00Z||||||||\n";
    assert_eq!(
        result,
        sheet(&format!(
            "candidate.externalId|candidate.email|assessment|result.line|result.outcome|result.id|result.state|\
             result.candidate|result.assessment|result.validFrom|result.validUntil|result.launchUrl|\
             result.launchExpiresAt|result.differs|result.warnings|result.code|result.detail|result.vendorCode|\
             result.vendorMessage|result.pointer|result.zeros\n\
             emp-1||rust-101|2|applied|asg_1|assigned|emp-1|{end}|bo@example.com|rust-101|3|applied|asg_1|assigned|\
             bo@example.com|{end}"
        ))
    );
    assert!(!folder.path("people.result.csv").exists());
}

#[tokio::test]
async fn a_result_is_imported_again_as_the_same_rows() {
    let failed =
        json!({ "index": 1, "status": 422, "outcome": "not_applied", "problem": { "code": "x", "detail": "=d" } });
    let mut items = applied_items(3);
    items[1] = failed;
    let stub = Stub::start(completed_gateway(items)).await;
    let people = "externalId,group\n+491510000001,\"a;=1\"\n-7,'=x\n=1+1,\"say \"\"x\"\"\"\n";
    let folder = ImportFolder::with(people);
    assert_eq!(folder.import(&stub.url(), &[]).await.code, Some(1));
    assert_eq!(column(&folder.result(), "externalId"), ["'+491510000001", "'-7", "'=1+1"]);

    std::fs::rename(folder.path("people.result.csv"), folder.path("people.csv")).expect("a result");
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.err.contains("this is the result of an import: all its rows are sent again"), "{output:?}");
    let rows = |body: &[u8]| -> Vec<csv::StringRecord> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(body);
        reader.records().map(|record| record.expect("a record")).collect()
    };
    assert_eq!(rows(&posts(&stub)[1].body), rows(people.as_bytes()), "no guard and no result column is sent");

    stub.respond_with(completed_gateway(applied_items(1)));
    let output = folder.import(&stub.url(), &["--only-failed"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let sent = rows(&posts(&stub)[2].body);
    assert_eq!(sent, [vec!["externalId", "group"], vec!["-7", "'=x"]]);
    assert_eq!(column(&folder.result(), "result.line"), ["3"], "the line in the sheet that was imported");

    std::fs::rename(folder.path("people.result.csv"), folder.path("people.csv")).expect("a result");
    let output = folder.import(&stub.url(), &["--only-failed"]).await;
    assert!(output.code == Some(2) && output.err.contains("has no rows left to send: all are applied"), "{output:?}");
}

#[tokio::test]
async fn what_to_do_with_existing_people_is_sent_with_every_row() {
    let stub = Stub::start(completed_gateway(applied_items(2))).await;
    let folder = ImportFolder::with("externalId,group\na,x\nb,y\n");
    assert_eq!(folder.import(&stub.url(), &["--if-exists", "update"]).await.code, Some(0));
    assert_eq!(posts(&stub)[0].body, "externalId,group,ifExists\na,x,update\nb,y,update\n");
    // The result repeats the sheet, not what was added to it.
    assert!(folder.result().starts_with("\u{feff}\"externalId\",\"group\",\"result.line\""), "{}", folder.result());

    let folder = ImportFolder::with("candidate.externalId,ifExists,assessment\na,,x\nb,fail,x\n");
    let more = ["--kind", "assignments", "--if-exists", "create_new"];
    assert_eq!(folder.import(&stub.url(), &more).await.code, Some(0));
    let sent = "candidate.externalId,ifExists,assessment\na,create_new,x\nb,fail,x\n";
    assert_eq!(posts(&stub)[1].body, sent, "a cell of the sheet has precedence");
}

#[tokio::test]
async fn a_password_column_is_sent_but_not_repeated() {
    let stub = Stub::start(completed_gateway(applied_items(1))).await;
    let people = "externalId,password,group\na,correct horse,x\n";
    let folder = ImportFolder::with(people);
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.err.contains("the column password is sent, but not repeated in the result"), "{output:?}");
    assert_eq!(posts(&stub)[0].body, people);
    assert!(!folder.result().contains("correct horse") && !folder.result().contains("\"password\""));
    assert_eq!(column(&folder.result(), "group"), ["x"]);
}

#[tokio::test]
async fn a_table_from_standard_input_has_its_result_on_standard_output() {
    let stub = Stub::start(completed_gateway(applied_items(3))).await;
    let folder = ImportFolder::with("");
    let run = async |more: &[&str]| {
        let mut command = folder.command_for("-", &stub.url(), more);
        command.stdin(Stdio::piped());
        let mut running = command.spawn().expect("the program starts");
        let mut input = running.stdin.take().expect("a pipe");
        // The program may end without reading.
        drop(input.write_all(PEOPLE.as_bytes()).await);
        drop(input);
        CommandOutput::of(&running.wait_with_output().await.expect("it ends"))
    };
    let output = run(&[]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(column(&output.out, "externalId"), ["emp-1", "emp-2", "emp-3"]);
    assert!(output.err.contains("standard input: 3 rows to startexam-main, op_7\n"), "{output:?}");
    assert_eq!(posts(&stub)[0].body, PEOPLE);

    let output = run(&["--result", "links.csv", "--output", "json"]).await;
    let told: Value = serde_json::from_str(&output.out).expect("one JSON document");
    assert_eq!((&told["file"], &told["result"]), (&json!("standard input"), &json!("links.csv")));
    assert!(folder.path("links.csv").exists());

    let output = run(&["--output", "json"]).await;
    assert!(output.code == Some(2) && output.err.contains("add --result FILE"), "{output:?}");
}
