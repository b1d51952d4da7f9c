//! Tables as spreadsheets and people write them: what is read, and what the refusals say.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::start_startexam;
use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::watch::{call_count, changes, wait_for_state};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";
const TEST: &str = accounts::startexam::TESTS[0].0;
const CURE: &str = "save it as CSV UTF-8 with commas, or send it with `examgate import`";

async fn send(gateway: &Gateway, path: &str, form: &str, body: impl Into<Vec<u8>>) -> ApiResponse {
    gateway.request(Method::POST, path).body(form, body.into()).send().await
}

/// Returns status and details of every row: of its errors, or of its problem if it has no errors.
fn rows(response: &ApiResponse) -> Vec<(u64, Vec<String>)> {
    assert_eq!(response.status, 207, "{response:?}");
    let details = |row: &Value| {
        let problem = row.get("problem")?;
        let of = |error: &Value| format!("{}: {}", error["pointer"].as_str()?, error["detail"].as_str()?).into();
        let errors: Option<Vec<String>> = problem["errors"].as_array()?.iter().map(of).collect();
        Some(errors.filter(|errors| !errors.is_empty()).unwrap_or_default())
    };
    let problem = |row: &Value| row["problem"]["detail"].as_str().map(str::to_owned).into_iter().collect();
    let results = response.body["results"].as_array().expect("results").iter();
    results
        .map(|row| (row["status"].as_u64().expect("a status"), details(row).unwrap_or_else(|| problem(row))))
        .collect()
}

fn registered() -> (u64, Vec<String>) {
    (201, Vec::new())
}

fn refused(detail: &str) -> (u64, Vec<String>) {
    (422, vec![detail.to_owned()])
}

#[tokio::test]
async fn empty_columns_and_rows_of_a_sheet_are_nothing() {
    let (sandbox, gateway) = start_startexam("").await;
    for (table, ids) in [
        ("externalId,name.givenName,,,\nemp-4,Ana,,,\n", vec!["emp-4"]),
        ("externalId,name.givenName\r\nemp-5,Ana\r\n,\r\n , \r\n,,,\r\nemp-6,Ben,,\r\n,\r\n", vec!["emp-5", "emp-6"]),
        ("externalId,,name.givenName\nemp-7,,Ana\n,,\nemp-8, ,Ben\n", vec!["emp-7", "emp-8"]),
        ("sep=,\nexternalId,name.givenName\nemp-9,Ana\n", vec!["emp-9"]),
        (",,\n\nexternalId,name.givenName,\nemp-10,Ana,\n", vec!["emp-10"]),
    ] {
        let response = send(&gateway, "/candidates/bulk", CSV, table).await;
        assert_eq!(rows(&response), vec![registered(); ids.len()], "{table:?}");
        let created = changes(sandbox.startexam(), "employees", "created").await;
        assert_eq!(created[created.len() - ids.len()..], ids, "{table:?}");
    }
    let before = call_count(sandbox.startexam()).await;
    let stray = "externalId,,name.givenName\n\nemp-11,x,Ana\nemp-12,,Ben,,y\nemp-13\n";
    let response = send(&gateway, "/candidates/bulk", CSV, stray).await;
    let expected = [
        ": the record of line 3 has content in column 2, which has no name in the header",
        ": the record of line 4 has 5 cells, the header 3",
        ": the record of line 5 has 1 cell, the header 3",
    ];
    assert_eq!(rows(&response), expected.map(refused));
    assert_eq!(call_count(sandbox.startexam()).await, before);
}

#[tokio::test]
async fn flags_are_read_as_people_write_them() {
    let (sandbox, gateway) = start_startexam("").await;
    let table = "externalId,name.givenName,active\nf1,Ana,1\nf2,Ben,yes\nf3,Cleo,TRUE\nf4,Dan,0\nf5,Eve,No\n\
                 f6,Fay,false\nf7,Gil,\nf8,Hal,wahr\nf9,Ida,2\n";
    let response = send(&gateway, "/candidates/bulk", CSV, table).await;
    let wrong = || refused("/active: must be true or false, yes or no, 1 or 0");
    let found = rows(&response);
    assert_eq!(found[..7], vec![registered(); 7]);
    assert_eq!(found[7..], [wrong(), wrong()]);
    let flags: Vec<&Value> = (0..7).map(|row| &response.body["results"][row]["resource"]["active"]).collect();
    assert_eq!(
        flags,
        [&json!(true), &json!(true), &json!(true), &json!(false), &json!(false), &json!(false), &json!(true)]
    );
    // JSON has flags of its own.
    let lines = "{\"externalId\":\"f8\",\"active\":\"yes\"}\n";
    assert_eq!(rows(&send(&gateway, "/candidates/bulk", NDJSON, lines).await)[0].0, 422);
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 7);
}

#[tokio::test]
async fn ids_that_a_spreadsheet_has_damaged_are_refused_in_tables() {
    let (sandbox, gateway) = start_startexam("").await;
    let table = "externalId,name.givenName\n1.23457E+11,Ana\n\"=\"\"00123\"\"\",Ben\n'00124,Cleo\n\"1,23457E+11\",Dan\n\
                 ####,Eve\n#N/A,Fay\n=A7,Gil\n#BEZUG!,Hal\n";
    let response = send(&gateway, "/candidates/bulk", CSV, table).await;
    for (status, details) in rows(&response) {
        let [detail] = &details[..] else { panic!("{response:?}") };
        assert_eq!(status, 422);
        assert!(detail.starts_with("/externalId: is damaged by a spreadsheet: "), "{detail}");
        assert!(detail.contains("Format the column as text") && detail.contains("allowDamagedIds=true"), "{detail}");
    }
    assert_eq!(response.text("/results/0/problem/errors/0/code"), "damaged_id");
    assert_eq!(call_count(sandbox.startexam()).await, 0);

    let people = "externalId\n00123\n+491510000001\n-7\n2021E0001\n12E5\nO'Neil\n";
    assert_eq!(rows(&send(&gateway, "/candidates/bulk", CSV, people).await), vec![registered(); 6]);
    let orders = format!("candidate.externalId,assessment\n1.23457E+11,{TEST}\n00123,#REF!\n00123,{TEST}\n");
    let found = rows(&send(&gateway, "/assignments/bulk", CSV, orders).await);
    assert_eq!(found.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [422, 422, 201]);
    assert!(found[0].1[0].starts_with("/candidate/externalId: is damaged"), "{found:?}");
    assert!(found[1].1[0].starts_with("/assessment: is damaged"), "{found:?}");

    let path = "/candidates/bulk?allowDamagedIds=true";
    let allowed = send(&gateway, path, CSV, "externalId\n1.23457E+11\n\"=\"\"00123\"\"\"\n").await;
    assert_eq!(rows(&allowed), [registered(), registered()]);
    assert_eq!(allowed.text("/results/1/resource/externalId"), "=\"00123\"");
    let lines = "{\"externalId\":\"1.5E+12\"}\n{\"externalId\":\"'00124\"}\n";
    assert_eq!(rows(&send(&gateway, "/candidates/bulk", NDJSON, lines).await), [registered(), registered()]);
    let document = gateway.post("/candidates/bulk", &json!({ "items": [{ "externalId": "#N/A" }] })).await;
    assert_eq!(rows(&document), [registered()]);
    for (form, query, detail) in [
        (NDJSON, "true", "is for text/csv only; ids in JSON are taken as they are"),
        (CSV, "yes", "must be true or false"),
    ] {
        let path = format!("/candidates/bulk?allowDamagedIds={query}");
        let wrong = send(&gateway, &path, form, "externalId\n1\n").await;
        assert_eq!(wrong.problem(), (422, "validation_failed", "not_applied"));
        assert_eq!((wrong.text("/errors/0/pointer"), wrong.text("/errors/0/detail")), ("?allowDamagedIds", detail));
    }
}

#[tokio::test]
async fn duplicates_are_counted_as_their_sender_counts() {
    let (sandbox, gateway) = start_startexam("").await;
    let line = |own: u64, earlier: u64| {
        refused(&format!("Line {own} has the same externalId as line {earlier}; it was not sent."))
    };
    let table = "externalId,name.givenName\nemp-2,Ana\nemp-2,Ana\nemp-3\n";
    let response = send(&gateway, "/candidates/bulk", CSV, table).await;
    let short = refused(": the record of line 4 has 1 cell, the header 2");
    assert_eq!(rows(&response), [registered(), line(3, 2), short.clone()]);
    // The words are the same if the first row was planned by an earlier run.
    let path = format!("/operations/{}", response.text("/operation"));
    gateway.post(&format!("{path}/retry"), &json!({})).await;
    wait_for_state(&gateway, &path, "completed").await;
    let items = gateway.get(&format!("{path}/items")).await;
    let details = ["/items/1/problem/detail", "/items/2/problem/errors/0/detail"].map(|at| items.text(at).to_owned());
    assert_eq!(
        details.map(|detail| vec![detail])[..],
        [line(3, 2).1, vec![short.1[0].trim_start_matches(": ").to_owned()]]
    );

    for (breaks, id) in [("\n", "b1"), ("\r\n", "b2"), ("\r", "b3")] {
        let table = format!("\u{feff}sep=,\nexternalId,name.formatted\n\nx,\"a\nb\"\n,\n{id},Ana\n{id},Ana\n");
        let found = rows(&send(&gateway, "/candidates/bulk", CSV, table.replace('\n', breaks)).await);
        assert_eq!((found[0].0, &found[1..]), (422, &[registered(), line(8, 7)][..]), "{breaks:?}");
    }
    let lines = "\n{\"externalId\":\"n1\"}\n\n{\"externalId\":\"n1\"}\n";
    assert_eq!(rows(&send(&gateway, "/candidates/bulk", NDJSON, lines).await), [registered(), line(4, 2)]);
    let items = json!([{ "externalId": "j0" }, { "externalId": "j1" }, { "odd": 1 }, { "externalId": "j1" }]);
    let found = rows(&gateway.post("/candidates/bulk", &json!({ "items": items })).await);
    assert_eq!(found[3], refused("items/3 has the same externalId as items/1; it was not sent."));

    let orders = format!("candidate.externalId,assessment\nj0,{TEST}\n,\nj1,{TEST}\nj0,{TEST}\n");
    let found = rows(&send(&gateway, "/assignments/bulk", CSV, orders).await);
    assert_eq!(found[2], refused("Line 5 books the same candidate and assessment as line 2; it was not sent."));
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 2);
}

#[tokio::test]
async fn times_that_are_not_date_times_are_explained() {
    let (sandbox, gateway) = start_startexam("").await;
    let table = "candidate.externalId,assessment,validUntil\nemp-7,rust-101,03/05/2027\nemp-7,rust-101,2027-05-03\n\
                 emp-7,rust-101,2027-05-03 18:00\nemp-7,rust-101,9999-12-31T23:59:59Z\n\
                 emp-7,rust-101,10000-01-01T00:00:00Z\n";
    let form = "expected a date-time of the form 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00";
    let late = "/validUntil: is too late; the latest date-time is 9999-12-30T22:00:00Z";
    let expected = [
        "/validUntil: is not a date-time of the form 2026-11-22T10:00:00Z".to_owned(),
        format!("/validUntil: is a date without time and UTC offset; {form}"),
        format!("/validUntil: has no UTC offset; {form}"),
        late.to_owned(),
        late.to_owned(),
    ];
    let response = send(&gateway, "/assignments/bulk", CSV, table).await;
    assert_eq!(rows(&response), expected.each_ref().map(|detail| refused(detail)));
    let order = json!({
        "candidate": { "externalId": "emp-7" }, "assessment": "rust-101", "validUntil": "9999-12-31T23:59:59Z",
    });
    let single = gateway.post("/assignments", &order).await;
    assert_eq!(single.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(format!("{}: {}", single.text("/errors/0/pointer"), single.text("/errors/0/detail")), late);
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn unknown_columns_and_fields_get_a_suggestion() {
    let (sandbox, gateway) = start_startexam("").await;
    let table = "id,First Name,last_name,E-Mail,Department,phone\n1,Ana,Lima,ana@example.com,Sales,1\n";
    let refused = send(&gateway, "/candidates/bulk", CSV, table).await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
    let errors = refused.body["errors"].as_array().expect("errors");
    let details: Vec<&str> = errors.iter().map(|error| error["detail"].as_str().expect("a detail")).collect();
    let expected = [
        "unknown column 1 `id` (did you mean externalId?)",
        "unknown column 2 `First Name` (did you mean name.givenName?)",
        "unknown column 3 `last_name` (did you mean name.familyName?)",
        "unknown column 4 `E-Mail` (did you mean email?)",
        "unknown column 5 `Department`",
        "unknown column 6 `phone` (did you mean phoneNumbers.mobile or phoneNumbers.work?)",
    ];
    assert_eq!(details, expected);
    let single = gateway.post("/candidates", &json!({ "externalId": "1", "firstName": "Ana", "odd": 1 })).await;
    let mut found: Vec<&str> =
        single.body["errors"].as_array().expect("errors").iter().filter_map(|error| error["detail"].as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["unknown field `firstName` (did you mean /name/givenName?)", "unknown field `odd`"]);
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn other_encodings_and_separators_are_refused_with_the_cure() {
    let (sandbox, gateway) = start_startexam("").await;
    for (table, expected) in [
        (
            &b"externalId;name.givenName\r\n1;J\xfcrgen\r\n"[..],
            "the header names no known column; its semicolons should be commas",
        ),
        (b"sep=;\r\nexternalId;name.givenName\r\n1;Ana\r\n", "line 1 says that semicolons separate the cells"),
        (b"externalId\tname.givenName\n1\tAna\n", "the header names no known column; its tabs should be commas"),
        (b"\xff\xfee\0x\0\n\0", "the header is not UTF-8, but UTF-16"),
    ] {
        let refused = send(&gateway, "/candidates/bulk", CSV, table).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
        let detail = refused.text("/errors/0/detail");
        assert!(detail.starts_with(expected) && detail.ends_with(CURE), "{detail}");
    }
    let windows = b"externalId,name.givenName\r\nx1,Ana\r\nx2,Ren\xe9e\r\n";
    let found = rows(&send(&gateway, "/candidates/bulk", CSV, &windows[..]).await);
    assert_eq!(found, [registered(), refused(&format!(": the record of line 3 is not UTF-8; {CURE}"))]);
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["x1"]);
}

#[tokio::test]
async fn a_retry_keeps_the_reason_of_a_row_that_could_not_be_read() {
    let (sandbox, gateway) = start_startexam("").await;
    let table =
        "externalId,name.givenName,email\nr1,Ana,ana@example.com\nr2,Ben,no address\nr3,Cleo,cleo@example.com\n";
    let response = send(&gateway, "/candidates/bulk", CSV, table).await;
    assert_eq!(rows(&response).iter().map(|(status, _)| *status).collect::<Vec<_>>(), [201, 422, 201]);
    let path = format!("/operations/{}", response.text("/operation"));
    let items = async || {
        let page = gateway.get(&format!("{path}/items")).await;
        let ends = page.body["items"].as_array().expect("items").iter();
        ends.map(|item| json!([item["resource"], item["problem"]["errors"]])).collect::<Vec<_>>()
    };
    let before = items().await;
    let calls = call_count(sandbox.startexam()).await;
    for _ in 0..2 {
        gateway.post(&format!("{path}/retry"), &json!({})).await;
        let ended = wait_for_state(&gateway, &path, "completed").await;
        let progress = |field: &str| ended.body["progress"][field].as_u64();
        assert_eq!(["applied", "notApplied", "pending"].map(progress), [Some(2), Some(1), Some(0)], "{ended:?}");
        assert_eq!(items().await, before);
    }
    assert_eq!(before[1][1][0]["pointer"], "/email");
    assert_eq!(call_count(sandbox.startexam()).await, calls);
}
