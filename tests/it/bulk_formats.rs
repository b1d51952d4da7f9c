//! The formats of a bulk: NDJSON and CSV besides JSON. Every row has its own outcome.

use std::io::Write as _;

use bytes::Bytes;
use examgate::sandbox::accounts;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{sandbox_connections, start_startexam};
use crate::support::gateway::{ApiResponse, Gateway, sandbox};
use crate::support::watch::{bodies, call_count, changes};

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const JSON: &str = "application/json";
const TEST: &str = accounts::startexam::TESTS[0].0;

async fn send_bulk(gateway: &Gateway, path: &str, form: &str, body: impl Into<Vec<u8>>) -> ApiResponse {
    gateway.request(Method::POST, path).body(form, body.into()).send().await
}

/// Returns status and problem code (or "") of every row.
fn rows(response: &ApiResponse) -> Vec<(u64, &str)> {
    assert_eq!(response.status, 207, "{response:?}");
    let results = response.body["results"].as_array().expect("results").iter();
    results.map(|row| (row["status"].as_u64().unwrap(), row["problem"]["code"].as_str().unwrap_or(""))).collect()
}

fn pointers(response: &ApiResponse) -> Vec<&str> {
    let errors = response.body["errors"].as_array().into_iter().flatten();
    errors.map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_malformed_line_fails_alone() {
    let (sandbox, gateway) = start_startexam("").await;
    let body = b"{\"itemId\":\"a\",\"externalId\":\"1\"}\r\n\n{\"externalId\":\n\"\xff\"\n{\"externalId\":\"2\",\"odd\":1}\n[]\n{\"externalId\":\"3\"}";
    let response = send_bulk(&gateway, "/candidates/bulk", NDJSON, &body[..]).await;
    let invalid = (422, "validation_failed");
    let malformed = (400, "malformed_json");
    assert_eq!(rows(&response), [(201, ""), malformed, malformed, invalid, invalid, (201, "")]);
    assert!(response.text("/results/1/problem/detail").starts_with("Line 3: "), "{response:?}");
    assert_eq!(response.text("/results/0/itemId"), "a");
    assert_eq!(response.text("/results/3/problem/errors/0/pointer"), "/odd");
    assert_eq!(bodies(sandbox.startexam(), "employees").await.len(), 1, "the valid rows were sent together");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["1", "3"]);
}

#[tokio::test]
async fn a_csv_table_is_read_by_its_column_names() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let table = "\u{feff}itemId,externalId,name.givenName,name.familyName,email,active,phoneNumbers.mobile,group\r\n\
                 a,1,Jane,\"Doe, Ph.D.\",jane@example.com,TRUE,+49 1,\r\n\
                 b,2,Jane\r\n\
                 c,3,Jane,Doe,nobody,ja,,\r\n\
                 d,4,Jane,Doe,d@example.com,,,\"\"\r\n";
    let path = "/candidates/bulk?connection=examtesting-main";
    let response = send_bulk(&gateway, path, CSV, table).await;
    let invalid = (422, "validation_failed");
    assert_eq!(rows(&response), [(201, ""), invalid, invalid, (201, "")]);
    let first = &response.body["results"][0]["resource"];
    assert_eq!(first["name"], json!({ "givenName": "Jane", "familyName": "Doe, Ph.D." }));
    assert_eq!(first["phoneNumbers"], json!([{ "type": "mobile", "value": "+49 1" }]));
    assert_eq!((&first["active"], &first["connection"]), (&json!(true), &json!("examtesting-main")));
    assert!(response.text("/results/1/problem/detail").contains("line 3 has 3 cells"), "{response:?}");
    let wrong: Vec<&Value> = response.body["results"][2]["problem"]["errors"].as_array().unwrap().iter().collect();
    let mut wrong: Vec<&str> = wrong.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    wrong.sort_unstable();
    assert_eq!(wrong, ["/active", "/email"]);
    assert_eq!(response.text("/results/2/itemId"), "c");
    assert_eq!(call_count(sandbox.examtesting()).await, 2);
}

#[tokio::test]
async fn bookings_can_be_sent_as_csv_too() {
    let (sandbox, gateway) = start_startexam("").await;
    let people = "externalId\n1\n2\n";
    assert_eq!(rows(&send_bulk(&gateway, "/candidates/bulk", CSV, people).await), [(201, ""), (201, "")]);
    let table = format!(
        "candidate.externalId,assessment,validUntil,proctoring.enabled,reference\n1,{TEST},2099-01-01T00:00:00Z,false,x\n\
         2,{TEST},soon,,\n"
    );
    let response = send_bulk(&gateway, "/assignments/bulk", CSV, table).await;
    assert_eq!(rows(&response), [(201, ""), (422, "validation_failed")]);
    assert_eq!(response.text("/results/0/resource/reference"), "x");
    assert_eq!(response.text("/results/1/problem/errors/0/pointer"), "/validUntil");
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 1);
}

#[tokio::test]
async fn an_error_in_the_bulk_as_a_whole_sends_nothing() {
    let (sandbox, gateway) = start_startexam("").await;
    for (query, form, body, pointer) in [
        ("", CSV, String::new(), ""),
        ("", CSV, "externalId,email\n".to_owned(), ""),
        ("", CSV, "externalId,emial\n1,a\n".to_owned(), "/emial"),
        ("", CSV, "externalId,email,email\n1,a,b\n".to_owned(), "/email"),
        ("", CSV, "externalId;email\n1;a@example.com\n".to_owned(), ""),
        ("", NDJSON, String::new(), ""),
        ("", NDJSON, "\n\r\n".to_owned(), ""),
        ("?failOnErrors=0", NDJSON, "{}\n".to_owned(), "?failOnErrors"),
        ("?failOnErrors=x", CSV, "externalId\n1\n".to_owned(), "?failOnErrors"),
        ("?connection=%20", CSV, "externalId\n1\n".to_owned(), "?connection"),
        ("?odd=1", NDJSON, "{}\n".to_owned(), "?odd"),
        ("?connection=a", JSON, "{\"items\":[{}]}".to_owned(), "?connection"),
        ("?failOnErrors=3", JSON, "{\"items\":[{}]}".to_owned(), "?failOnErrors"),
        ("", NDJSON, "{\"connection\":\"startexam-main\"}\n{}\n".to_owned(), "?connection"),
    ] {
        let refused = send_bulk(&gateway, &format!("/candidates/bulk{query}"), form, body.clone()).await;
        let body: String = body.chars().take(40).collect();
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{query} {form} {body:?}");
        assert_eq!(pointers(&refused), [pointer], "{query} {form} {body:?}");
    }
    let elsewhere = send_bulk(&gateway, "/candidates/bulk?connection=nowhere", NDJSON, "{}\n").await;
    assert_eq!(elsewhere.problem(), (404, "connection_not_found", "not_applied"));
    assert_eq!(call_count(sandbox.startexam()).await, 0);
    assert_eq!(gateway.get("/operations").await.body["items"], json!([]), "nothing is stored");
}

#[tokio::test]
async fn a_connection_named_by_every_row_need_not_be_repeated() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let table = "connection,externalId\nstartexam-main,1\nthinkexam-main,2\nstartexam-main,3\n";
    let response = send_bulk(&gateway, "/candidates/bulk", CSV, table).await;
    assert_eq!(rows(&response), [(201, ""), (422, "validation_failed"), (201, "")]);
    assert_eq!(response.text("/results/1/problem/errors/0/pointer"), "/connection");
    assert_eq!((call_count(sandbox.startexam()).await, call_count(sandbox.thinkexam()).await), (1, 0));
    // In JSON the connection may follow the rows.
    let late = |name: &str| {
        format!(r#"{{"items":[{{"connection":"startexam-main","externalId":"4"}}],"connection":"{name}"}}"#)
    };
    assert_eq!(rows(&send_bulk(&gateway, "/candidates/bulk", JSON, late("startexam-main")).await), [(201, "")]);
    let other = send_bulk(&gateway, "/candidates/bulk", JSON, late("thinkexam-main")).await;
    assert_eq!((other.problem().0, pointers(&other)), (422, vec!["/connection"]));
}

#[tokio::test]
async fn fail_on_errors_can_be_set_in_the_query() {
    let (sandbox, gateway) = start_startexam("").await;
    let table = "externalId,email\n1,nobody\n2,a@example.com\n";
    let response = send_bulk(&gateway, "/candidates/bulk?failOnErrors=1", CSV, table).await;
    assert_eq!(rows(&response), [(422, "validation_failed"), (424, "skipped")]);
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn an_aborted_body_leaves_nothing_behind() {
    let (sandbox, gateway) = start_startexam("").await;
    for (form, first) in
        [(CSV, "externalId\n1\n2\n"), (NDJSON, "{\"externalId\":\"1\"}\n"), (JSON, "{\"items\":[{},{}")]
    {
        let pieces = [Ok(Bytes::from(first)), Err(std::io::Error::other("cut"))];
        let body = reqwest::Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(
            pieces.map(|piece| piece.map(http_body::Frame::data)),
        )));
        let request = crate::support::gateway::http()
            .post(format!("http://{}/candidates/bulk", gateway.address))
            .bearer_auth(crate::support::gateway::key("lms"))
            .header("content-type", form)
            .body(body);
        assert!(request.send().await.is_err(), "{form}");
    }
    assert_eq!(gateway.get("/operations").await.body["items"], json!([]));
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn a_large_bulk_uses_little_memory() {
    let (_sandbox, gateway) = start_startexam("").await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    gateway.get("/operations").await;
    let before = resident();
    // Rows that fail immediately: only the intake is measured.
    let row = |number: usize| format!("row-{number},{number},nobody,{}\n", "A".repeat(20_000));
    let table = (0..1500).map(row).fold("itemId,externalId,email,photo\n".to_owned(), |text, row| text + &row);
    let size = table.len() / 1024;
    let request = gateway.request(Method::POST, "/candidates/bulk").header("prefer", "respond-async");
    let accepted = request.body(CSV, table).send().await;
    assert_eq!((accepted.status, &accepted.body["progress"]["total"]), (202, &json!(1500)), "{accepted:?}");
    let grown = resident() - before;
    assert!(grown < 12 * 1024, "the peak grew by {grown} KiB for {size} KiB");
}

/// Spreadsheets and editors put a byte order mark before UTF-8 text; senders compress what is long.
#[tokio::test]
async fn a_byte_order_mark_and_gzip_change_nothing_in_any_format() {
    let (sandbox, gateway) = start_startexam("").await;
    for (number, (form, text)) in [
        (JSON, "{\"items\":[{\"externalId\":\"ID\"}]}"),
        (NDJSON, "{\"externalId\":\"ID\"}\n"),
        (CSV, "externalId\r\nID\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        for (variant, mark, packed) in [("m", "\u{feff}", false), ("z", "", true), ("mz", "\u{feff}", true)] {
            let content = format!("{mark}{}", text.replace("ID", &format!("{number}{variant}")));
            let request = gateway.request(Method::POST, "/candidates/bulk");
            let response = if packed {
                let request = request.header("content-encoding", "gzip");
                request.body(form, gzip(content.as_bytes())).send().await
            } else {
                request.body(form, content).send().await
            };
            assert_eq!(rows(&response), [(201, "")], "{form} {variant}");
        }
    }
    let twice = send_bulk(&gateway, "/candidates/bulk", JSON, "\u{feff}\u{feff}{\"items\":[{}]}").await;
    assert_eq!(twice.problem().1, "malformed_json");
    let created = changes(sandbox.startexam(), "employees", "created").await;
    assert_eq!(created, ["0m", "0z", "0mz", "1m", "1z", "1mz", "2m", "2z", "2mz"]);
}

/// A caller that compresses its retry, or adds a mark, still means the same request.
#[tokio::test]
async fn the_spelling_of_a_body_does_not_make_another_request_of_it() {
    let (sandbox, gateway) = start_startexam("").await;
    let single = "{\"externalId\":\"a\"}";
    let bulk = "{\"items\":[{\"externalId\":\"b\"}]}";
    let lines = "{\"externalId\":\"c\"}\n";
    for (path, form, text, marked) in [
        ("/candidates", JSON, single, true),
        ("/candidates/bulk", JSON, bulk, true),
        ("/candidates/bulk", NDJSON, lines, false),
    ] {
        let keyed = || gateway.request(Method::POST, path).header("Idempotency-Key", &format!("\"{}\"", text.len()));
        let first = keyed().body(form, text).send().await;
        assert!(first.status < 300 && first.header("idempotent-replayed").is_none(), "{first:?}");
        let mut spellings =
            vec![gzip(text.as_bytes()), [gzip(&text.as_bytes()[..4]), gzip(&text.as_bytes()[4..])].concat()];
        if marked {
            spellings.push(gzip(format!("\u{feff}{text}").as_bytes()));
            let again = keyed().body(form, format!("\u{feff}{text}")).send().await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
        }
        for spelling in spellings {
            let again = keyed().header("content-encoding", "gzip").body(form, spelling).send().await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
        }
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["a", "b", "c"]);
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("gzip");
    encoder.finish().expect("gzip")
}
