//! The import of a spreadsheet: a file becomes a review, and the review an operation.

use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};

use super::browser::{Browser, Form, Page};
use crate::support::connections::{client, client_with, sandbox_connections};
use crate::support::gateway::{Gateway, key, read_effects, sandbox};
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

/// Uploads a table of people and returns the review.
async fn review(browser: &mut Browser, name: &str, table: &[u8]) -> Page {
    let form = browser.get("import").await.form("import");
    let form = form.with("kind", "candidates").with("connection", "startexam-main");
    browser.upload(&form, name, table).await
}

/// Returns the form of a review as a browser would send it: with what is selected.
fn form_of(page: &Page) -> Form {
    let form = page.form("import").with("kind", "candidates").with("connection", "startexam-main");
    (0..columns(page)).map(|column| format!("column-{column}")).fold(form, |form, name| {
        let selected = selected(page, &name);
        form.with(&name, &selected)
    })
}

/// Returns the form as its button "Send" sends it.
fn to_send(form: Form) -> Form {
    let action = form.action.join("import/send").expect("an address");
    Form { action, ..form }
}

fn columns(page: &Page) -> usize {
    let fields = page.form("import").fields;
    let (_, count) = fields.iter().find(|(name, _)| name == "columns").expect("a count");
    count.parse().expect("a number")
}

/// Returns what is selected in the list with this name.
fn selected(page: &Page, name: &str) -> String {
    let (_, rest) = page.text.split_once(&format!("<select name=\"{name}\">")).expect("the list is there");
    let list = rest.split("</select>").next().unwrap_or_default();
    let chosen = list.split("<option").find_map(|option| option.strip_prefix(" selected>"));
    chosen.map_or_else(String::new, |chosen| chosen.split('<').next().unwrap_or_default().to_owned())
}

/// Waits for the end of the operation that a page leads to, and returns it.
async fn finished(gateway: &Gateway, page: &Page) -> Value {
    assert_eq!(page.status, 303, "{page:?}");
    let id = page.header("location").strip_prefix("../operations/").expect("the operation's page").to_owned();
    let path = format!("/operations/{id}");
    wait_until(gateway, &path, |operation| operation.body.get("finishedAt").is_some()).await.body
}

#[tokio::test]
async fn a_sheet_is_reviewed_mapped_and_sent_once() {
    let (sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let words = browser.get("import").await.words();
    assert!(words.contains("at most 5 MiB and 10,000 rows"), "{words}");

    let page = review(&mut browser, "people.csv", PEOPLE.as_bytes()).await;
    assert_eq!(page.status, 200, "{page:?}");
    let proposed: Vec<String> = (0..4).map(|column| selected(&page, &format!("column-{column}"))).collect();
    assert_eq!(proposed[1..], ["name.givenName", "email", ""], "{page:?}");
    assert!(page.words().contains("Ana") && page.words().contains("separated by semicolons"), "{}", page.words());
    assert!(!page.text.contains("<script>alert"), "cells are escaped");
    assert!(!page.words().contains("--map") && !page.words().contains("--ignore"), "{}", page.words());
    assert_eq!(page.title(), "Import · examgate", "no title names a file");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]), "a review sends nothing");

    // The error of a row is named by its line and column.
    let page = browser.submit(&form_of(&page).with("column-0", "externalId")).await;
    assert_eq!(selected(&page, "column-0"), "externalId", "{page:?}");
    assert!(page.words().contains("4 C E-Mail"), "{}", page.words());

    // What was not reviewed is not sent.
    let changed = browser.submit(&to_send(form_of(&page)).with("column-3", "custom.Notes")).await;
    assert_eq!(changed.status, 400, "{changed:?}");
    assert!(changed.words().contains("Choices were changed"), "{}", changed.words());
    assert_eq!(selected(&changed, "column-3"), "custom.Notes");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]), "nothing was sent");
    let operations = gateway.get("/operations").await;
    assert_eq!(operations.body["items"], json!([]), "{operations:?}");

    let form = to_send(form_of(&page));
    let sent = browser.submit(&form).await;
    let operation = finished(&gateway, &sent).await;
    assert_eq!(
        (&operation["progress"]["applied"], &operation["progress"]["total"]),
        (&json!(2), &json!(3)),
        "{operation}"
    );
    // A double click sends the same form twice.
    let again = browser.submit(&form).await;
    assert_eq!(again.header("location"), sent.header("location"), "{again:?}");
    let found = gateway.get("/candidates?externalId=emp-1").await;
    assert_eq!(found.body["items"][0]["name"]["givenName"], "Ana", "{found:?}");
}

#[tokio::test]
async fn the_sheet_of_a_workbook_can_be_chosen() {
    let (_sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let mut workbook = Workbook::new();
    workbook.add_worksheet().set_name("Notes").expect("a name").write(0, 0, "not this").expect("a cell");
    let people = workbook.add_worksheet().set_name("People").expect("a name");
    people.write_row(0, 0, ["externalId", "name.givenName"]).expect("cells");
    people.write_row(1, 0, ["00917", "Ana"]).expect("cells");
    let file = workbook.save_to_buffer().expect("a workbook");
    let page = review(&mut browser, "people.xlsx", &file).await;
    assert!(page.text.contains("<option>Notes</option><option>People</option>"), "{page:?}");
    let page = browser.submit(&form_of(&page).with("sheet", "People")).await;
    assert!(page.words().contains("00917"), "{page:?}");
    let sent = browser.submit(&to_send(form_of(&page)).with("sheet", "People")).await;
    let operation = finished(&gateway, &sent).await;
    assert_eq!(operation["progress"]["applied"], 1, "{operation}");
}

#[tokio::test]
async fn files_that_are_too_large_empty_or_damaged_are_refused() {
    let (_sandbox, gateway) = start(&client("lms", "", "[\"*\"]")).await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    // Compressible or not, a file within the limit is read.
    let rows = format!("externalId\n{}", "emp-1\n".repeat(10_001));
    let page = review(&mut browser, "people.csv", rows.as_bytes()).await;
    assert!(page.words().contains("more than 10000 rows"), "{}", page.words());
    let long = format!("externalId,custom.x\nemp-1,{}\n", "a".repeat(3 << 20));
    let page = review(&mut browser, "people.csv", long.as_bytes()).await;
    assert_eq!(page.status, 200, "{}", page.words());
    let large = vec![b'a'; (5 << 20) + 1];
    let page = review(&mut browser, "people.csv", &large).await;
    assert!(page.status == 400 && page.words().contains("larger than 5 MiB"), "{}", page.status);
    let page = review(&mut browser, "people.csv", b"").await;
    assert!(page.status == 400 && page.words().contains("Choose a file"), "{page:?}");
    let page = review(&mut browser, "people.xlsx", b"PK\x03\x04 rest").await;
    assert!(page.words().contains("damaged Excel workbook"), "{page:?}");
    let form = browser.get("import").await.form("import").with("kind", "candidates").with("packed", "AAAA");
    let page = browser.submit(&to_send(form)).await;
    assert!(page.status == 400 && page.words().contains("damaged on its way"), "{page:?}");
}

#[tokio::test]
async fn an_import_needs_a_scope_and_shows_what_the_api_refuses() {
    let clients = client("lms", "", "[\"*\"]")
        + &client_with("reader", "", "[\"*\"]", "[\"candidates:read\"]")
        + &client_with("writer", "", "[\"thinkexam-main\"]", "[\"candidates:write\"]");
    let (sandbox, gateway) = start(&clients).await;
    let mut reader = Browser::signed_in(gateway.address, &key("reader")).await;
    let page = reader.get("import").await;
    assert!(page.status == 403 && page.words().contains("candidates:write"), "{page:?}");

    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let form = browser.get("import").await.form("import").with("kind", "candidates").without("csrf");
    let page = browser.upload(&form, "people.csv", PEOPLE.as_bytes()).await;
    assert_eq!(page.status, 403, "without the session's token: {page:?}");

    let mut writer = Browser::signed_in(gateway.address, &key("writer")).await;
    let page = review(&mut writer, "people.csv", b"externalId\nemp-1\n").await;
    assert!(!page.text.contains("value=\"assignments\""), "only what the client may send is offered: {page:?}");
    let refused = writer.submit(&to_send(form_of(&page))).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let words = refused.words();
    assert!(words.contains("connection_forbidden") && refused.text.contains("column-0"), "{words}");
    assert_eq!(read_effects(sandbox.startexam()).await["effects"], json!([]));
}
