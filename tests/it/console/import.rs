//! The import of a spreadsheet in the console: a file becomes a review, and the review an operation.

use http::StatusCode;
use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};

use crate::support::browser::{Browser, ConsolePage, Part};
use crate::support::connections::{client, client_with, sandbox_connections};
use crate::support::gateway::{Gateway, read_effects, sandbox};
use crate::support::watch::wait_until;

const PEOPLE: &str = "Personal Id;First Name;E-Mail;Notes\n\
                      emp-1;Ana;ana@example.org;first\n\
                      emp-2;<script>alert(1)</script>;bo@example.org;second\n\
                      emp-3;Cy;nobody;third\n";

async fn start(clients: &str) -> (examgate::sandbox::Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start_with(&sandbox_connections(&sandbox, ""), clients).await;
    (sandbox, gateway)
}

/// Uploads a table and returns the review.
async fn review(browser: &mut Browser, name: &str, table: &[u8], more: &[(&str, &str)]) -> ConsolePage {
    let mut parts = vec![
        Part::File("file", name, table),
        Part::Text("kind", "candidates"),
        Part::Text("connection", "startexam-main"),
    ];
    parts.extend(more.iter().map(|(name, value)| Part::Text(name, value)));
    browser.post("import", &parts).await
}

/// Posts the form of a review, with some of its fields changed.
async fn submit(browser: &mut Browser, path: &str, page: &ConsolePage, changes: &[(&str, &str)]) -> ConsolePage {
    let columns: usize = page.hidden("columns").expect("a count").parse().expect("a number");
    let mut fields =
        vec![("kind".to_owned(), "candidates".to_owned()), ("connection".to_owned(), "startexam-main".to_owned())];
    for name in ["key", "name", "packed", "basis", "columns", "reviewed"] {
        fields.extend(page.hidden(name).map(|value| (name.to_owned(), value)));
    }
    for column in 0..columns {
        let name = format!("column-{column}");
        let selected = page.selected(&name);
        fields.push((name, selected));
    }
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    let parts: Vec<Part<'_>> = fields.iter().map(|(name, value)| Part::Text(name, value)).collect();
    browser.post(path, &parts).await
}

/// Waits for the end of the operation that a page leads to, and returns it.
async fn finished(gateway: &Gateway, page: &ConsolePage) -> Value {
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{page:?}");
    let location = page.location.as_deref().expect("a location");
    let id = location.strip_prefix("../operations/").expect("the operation's page").to_owned();
    wait_until(gateway, &format!("/operations/{id}"), |operation| operation.body.get("finishedAt").is_some()).await.body
}

#[tokio::test]
async fn a_sheet_is_reviewed_mapped_and_sent_once() {
    let (sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::sign_in(&gateway, "lms").await;
    assert!(browser.get("import").await.text.contains("at most 5 MiB and 10,000 rows"));

    let page = review(&mut browser, "people.csv", PEOPLE.as_bytes(), &[]).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let proposed: Vec<String> = (0..4).map(|column| page.selected(&format!("column-{column}"))).collect();
    assert_eq!(proposed[1..], ["name.givenName", "email", ""], "{page:?}");
    assert!(page.text.contains("Ana") && page.text.contains("separated by semicolons"), "{page:?}");
    assert!(!page.text.contains("<script>alert"), "cells are escaped");
    assert!(!page.text.contains("--map") && !page.text.contains("--ignore"), "{page:?}");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]), "a review sends nothing");

    // The error of a row is named by its line and column.
    let page = submit(&mut browser, "import", &page, &[("column-0", "externalId")]).await;
    assert_eq!(page.selected("column-0"), "externalId", "{page:?}");
    assert!(page.text.contains("data-label=\"Line\">4<") && page.text.contains("C E-Mail"), "{page:?}");

    // What was not reviewed is not sent.
    let changed = submit(&mut browser, "import/send", &page, &[("column-3", "custom.Notes")]).await;
    assert_eq!((changed.status, changed.location.as_deref()), (StatusCode::BAD_REQUEST, None), "{changed:?}");
    assert!(changed.text.contains("Choices were changed"), "{changed:?}");
    assert_eq!(changed.selected("column-3"), "custom.Notes");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]), "nothing was sent");

    let sent = submit(&mut browser, "import/send", &page, &[]).await;
    let operation = finished(&gateway, &sent).await;
    assert_eq!(
        (&operation["progress"]["applied"], &operation["progress"]["total"]),
        (&json!(2), &json!(3)),
        "{operation}"
    );
    // A double click sends the same form twice.
    let again = submit(&mut browser, "import/send", &page, &[]).await;
    assert_eq!(again.location, sent.location, "{again:?}");
    let found = gateway.get("/candidates?externalId=emp-1").await;
    assert_eq!(found.body["items"][0]["name"]["givenName"], "Ana", "{found:?}");
}

#[tokio::test]
async fn the_sheet_of_a_workbook_can_be_chosen() {
    let (_sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::sign_in(&gateway, "lms").await;
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Notes").expect("a name").write(0, 0, "not this").expect("a cell");
    let people = workbook.add_worksheet().set_name("People").expect("a name");
    people.write_row(0, 0, ["externalId", "name.givenName"]).expect("cells");
    people.write_row(1, 0, ["00917", "Ana"]).expect("cells");
    let file = workbook.save_to_buffer().expect("a workbook");
    let page = review(&mut browser, "people.xlsx", &file, &[]).await;
    assert!(page.text.contains("<option>Notes</option><option>People</option>"), "{page:?}");
    let page = submit(&mut browser, "import", &page, &[("sheet", "People")]).await;
    assert!(page.text.contains("00917"), "{page:?}");
    let operation = finished(&gateway, &submit(&mut browser, "import/send", &page, &[("sheet", "People")]).await).await;
    assert_eq!(operation["progress"]["applied"], 1, "{operation}");
}

#[tokio::test]
async fn files_that_are_too_large_empty_or_damaged_are_refused() {
    let (_sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::sign_in(&gateway, "lms").await;
    let large = vec![b'a'; (5 << 20) + 1];
    let page = review(&mut browser, "people.csv", &large, &[]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text.len());
    assert!(page.text.contains("larger than 5 MiB"));
    let largest = format!("externalId\n{}", "emp-1\n".repeat(10_001));
    let page = review(&mut browser, "people.csv", largest.as_bytes(), &[]).await;
    assert!(page.text.contains("more than 10000 rows"), "{}", page.text.len());
    let page = review(&mut browser, "people.csv", b"", &[]).await;
    assert!(page.status == StatusCode::BAD_REQUEST && page.text.contains("Choose a file"), "{page:?}");
    let page = review(&mut browser, "people.xlsx", b"PK\x03\x04 rest", &[]).await;
    assert!(page.text.contains("damaged Excel workbook"), "{page:?}");
    let damaged = [Part::Text("packed", "AAAA"), Part::Text("kind", "candidates")];
    let page = browser.post("import/send", &damaged).await;
    assert!(page.status == StatusCode::BAD_REQUEST && page.text.contains("damaged on its way"), "{page:?}");
}

#[tokio::test]
async fn an_import_needs_a_scope_and_the_forms_token_and_shows_what_the_api_refuses() {
    let clients = client("lms", "", "[\"*\"]")
        + &client_with("reader", "", "[\"*\"]", "[\"candidates:read\"]")
        + &client_with("writer", "", "[\"thinkexam-main\"]", "[\"candidates:write\"]");
    let (sandbox, gateway) = start(&clients).await;
    let mut reader = Browser::sign_in(&gateway, "reader").await;
    let page = reader.get("import").await;
    assert!(page.status == StatusCode::FORBIDDEN && page.text.contains("candidates:write"), "{page:?}");
    let page = review(&mut reader, "people.csv", PEOPLE.as_bytes(), &[]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{page:?}");

    let mut browser = Browser::sign_in(&gateway, "lms").await;
    let parts = [Part::File("file", "people.csv", PEOPLE.as_bytes()), Part::Text("kind", "candidates")];
    let page = browser.post_without_token("import", &parts).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{page:?}");

    let mut writer = Browser::sign_in(&gateway, "writer").await;
    let page = review(&mut writer, "people.csv", b"externalId\nemp-1\n", &[]).await;
    assert!(!page.text.contains("value=\"assignments\""), "only what the client may send is offered: {page:?}");
    let refused = submit(&mut writer, "import/send", &page, &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(refused.text.contains("connection_forbidden") && refused.text.contains("column-0"), "{refused:?}");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]));
}
