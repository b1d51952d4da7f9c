//! The screens of operations: what is shown of rows, and what buttons do, looked at through the API.

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use super::browser::{Browser, Page};
use crate::support::connections::{client, client_with, examtesting, start_examtesting, start_startexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::people::{people, person, with};
use crate::support::watch::{changes, wait_for_state, wait_until};

async fn browser(gateway: &Gateway) -> Browser {
    Browser::signed_in(gateway.address, &key("lms")).await
}

/// Starts a gateway whose StartExam connection sends one row per call and one call at a time, slowly.
async fn start_slow() -> (Sandbox, Gateway) {
    let (sandbox, gateway) = start_startexam("max_in_flight = 1\nbatch_size = 1").await;
    let slow = json!({ "name": "delay_before_effect", "delayMs": 100 });
    set_faults(sandbox.startexam(), json!({ "faults": [slow] })).await;
    (sandbox, gateway)
}

/// Begins a bulk of so many people; returns the id of its operation.
async fn begin(gateway: &Gateway, items: &[Value]) -> String {
    let request = gateway.request(Method::POST, "/candidates/bulk").header("prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.text("/id").to_owned()
}

/// Starts a gateway with an operation of five rows, by its id: one applied, two skipped, two not applied.
async fn start_mixed(clients: &str) -> (Sandbox, Gateway, String) {
    let sandbox = sandbox().await;
    let connection = examtesting(&format!("http://{}", sandbox.examtesting()), "max_in_flight = 1");
    let gateway = Gateway::start_with(&connection, clients).await;
    let refused = json!({ "name": "vendor_error", "code": "1005", "after": 1, "times": 1 });
    set_faults(sandbox.examtesting(), json!({ "faults": [refused] })).await;
    let mut items = people(4);
    items[0]["itemId"] = json!("=first");
    items.push(json!({ "odd": 1 }));
    let response = gateway.post("/candidates/bulk", &json!({ "failOnErrors": 2, "items": items })).await;
    let counts = ["applied", "notApplied", "skipped"].map(|field| response.body["summary"][field].clone());
    assert_eq!(counts, [1, 2, 2], "{response:?}");
    let id = response.text("/operation").to_owned();
    (sandbox, gateway, id)
}

fn progress(response: &ApiResponse, field: &str) -> u64 {
    response.body["progress"][field].as_u64().unwrap_or_else(|| panic!("no {field}: {response:?}"))
}

/// Returns the numbers of the rows on a page.
fn rows(page: &Page) -> Vec<&str> {
    let cells = page.text.split("<td class=\"full\"><code>").skip(1);
    cells.map(|cell| cell.split_once("</code>").map_or("", |(index, _)| index)).collect()
}

#[tokio::test]
async fn a_list_shows_how_far_operations_are_and_is_filtered() {
    let (_sandbox, gateway, id) = start_mixed(&client("lms", "", "[\"*\"]")).await;
    let mut browser = browser(&gateway).await;
    let page = browser.get("operations").await;
    assert_eq!((page.status, page.title()), (200, "Operations · examgate"));
    assert!(page.has_link(&format!("operations/{id}")), "{}", page.text);
    let words = page.words();
    assert!(words.contains("1 applied · 2 not applied · 2 skipped"), "{words}");
    assert!(words.contains("candidates examtesting-main"), "{words}");
    let label = "aria-label=\"5 rows: 1 applied · 2 not applied · 2 skipped\"";
    assert!(page.text.contains(label) && page.text.contains("width=\"20.00\""), "{}", page.text);
    let state = gateway.get(&format!("/operations/{id}")).await.text("/state").to_owned();
    for (query, is_listed) in [
        (format!("?state={state}"), true),
        ("?state=running".to_owned(), false),
        ("?kind=candidates&connection=examtesting-main".to_owned(), true),
        ("?kind=assignments".to_owned(), false),
    ] {
        let page = browser.get(&format!("operations{query}")).await;
        assert_eq!((page.status, page.has_link(&format!("operations/{id}"))), (200, is_listed), "{query}");
        assert_eq!(page.words().contains("No operations."), !is_listed, "{query}");
    }
    for (query, status) in [("?state=odd", 422), ("?connection=other", 404)] {
        assert_eq!(browser.get(&format!("operations{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn a_list_of_many_operations_has_pages_that_keep_the_filter() {
    let (_sandbox, gateway) = start_startexam("").await;
    for number in 0..51 {
        let row = json!({ "externalId": format!("e{number}") });
        assert_eq!(gateway.post("/candidates/bulk", &json!({ "items": [row] })).await.status, 207);
    }
    let mut browser = browser(&gateway).await;
    let first = browser.get("operations?kind=candidates").await;
    let (_, next) =
        first.text.split_once("rel=\"next\"").and_then(|_| first.text.split_once("Next page")).expect("a link");
    assert!(!next.contains("First page"), "{next}");
    let cursor = gateway.get("/operations?limit=50").await.text("/nextCursor").to_owned();
    assert!(first.text.contains(&format!("kind=candidates&#38;cursor={cursor}")), "{}", first.text);
    let last = browser.get(&format!("operations?kind=candidates&cursor={cursor}")).await;
    let words = last.words();
    assert!(words.contains("1 applied") && words.contains("First page") && !words.contains("Next page"), "{words}");
}

#[tokio::test]
async fn rows_say_what_came_of_them_and_lead_to_their_people() {
    let (_sandbox, gateway, id) = start_mixed(&client("lms", "", "[\"*\"]")).await;
    let items = gateway.get(&format!("/operations/{id}/items")).await;
    let candidate = items.text("/items/0/resource/id").to_owned();
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("operations/{id}")).await;
    assert_eq!((page.title(), rows(&page)), (format!("{id} · examgate").as_str(), vec!["0", "1", "2", "3", "4"]));
    assert!(page.has_link(&format!("people/{candidate}")), "{}", page.text);
    let words = page.words();
    assert!(words.contains("skipped ·") && words.contains("/odd"), "{words}");
    assert!(words.contains(items.text("/items/1/problem/detail")), "{words}");
    assert!(!page.text.contains("Ada"), "names are on the page of the person");
    for (outcome, expected) in [
        ("applied", vec!["0"]),
        ("not_applied", vec!["1", "2", "3", "4"]),
        ("skipped", vec!["2", "3"]),
        ("unknown", vec![]),
    ] {
        let page = browser.get(&format!("operations/{id}?outcome={outcome}")).await;
        assert_eq!(rows(&page), expected, "{outcome}");
    }
    assert_eq!(browser.get(&format!("operations/{id}?outcome=odd")).await.status, 422);
}

#[tokio::test]
async fn all_rows_are_downloaded_as_a_table_however_many_there_are() {
    let (_sandbox, gateway) = start_startexam("").await;
    let response = gateway.post("/candidates/bulk", &json!({ "items": people(450) })).await;
    let id = response.text("/operation").to_owned();
    let mut browser = browser(&gateway).await;
    let table = browser.get(&format!("operations/{id}/rows.csv")).await;
    assert_eq!((table.status, table.header("content-type")), (200, "text/csv; charset=utf-8; header=present"));
    assert_eq!(table.header("content-disposition"), format!("attachment; filename=\"{id}.csv\""));
    let mut reader = csv::Reader::from_reader(table.text.trim_start_matches('\u{feff}').as_bytes());
    let found: Vec<(String, String)> =
        reader.records().map(|row| row.expect("a row")).map(|row| (row[0].to_owned(), row[6].to_owned())).collect();
    let mut expected = Vec::new();
    let mut path = format!("/operations/{id}/items?limit=200");
    loop {
        let part = gateway.get(&path).await;
        let rows = part.body["items"].as_array().expect("items").iter();
        expected.extend(rows.map(|row| (row["index"].to_string(), row["resource"]["id"].as_str().unwrap().to_owned())));
        let Some(cursor) = part.body["nextCursor"].as_str() else { break };
        path = format!("/operations/{id}/items?limit=200&cursor={cursor}");
    }
    assert_eq!((found.len(), &found), (450, &expected));
}

#[tokio::test]
async fn a_table_evaluates_nothing_and_has_the_outcome_that_is_asked_for() {
    let (_sandbox, gateway, id) = start_mixed(&client("lms", "", "[\"*\"]")).await;
    let mut browser = browser(&gateway).await;
    let all = browser.get(&format!("operations/{id}/rows.csv")).await;
    assert!(all.text.contains("\"0\",\"'=first\",\"applied\",\"201\",\"\""), "{}", all.text);
    assert_eq!(all.text.lines().count(), 6, "{}", all.text);
    let skipped = browser.get(&format!("operations/{id}/rows.csv?outcome=skipped")).await;
    assert_eq!(skipped.text.matches("\"skipped\"").count(), 2, "{}", skipped.text);
    assert_eq!(skipped.text.lines().count(), 3, "{}", skipped.text);
}

#[tokio::test]
async fn an_operation_is_followed_cancelled_and_retried() {
    let (sandbox, gateway) = start_slow().await;
    let id = begin(&gateway, &people(100)).await;
    let path = format!("/operations/{id}");
    wait_until(&gateway, &path, |response| progress(response, "applied") >= 1).await;
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("operations/{id}")).await;
    assert!(page.text.contains(&format!("data-live=\"../operations/{id}/events\"")), "{}", page.text);
    assert!(page.has_link(&format!("operations/{id}")) && page.words().contains("Look again"), "without a script");
    assert!(page.find_form("/retry").is_none(), "it has not ended");

    let cancelled = browser.submit(&page.form("/cancel")).await;
    let there = format!("../../operations/{id}?notice=cancelled");
    assert_eq!((cancelled.status, cancelled.header("location")), (303, there.as_str()), "{cancelled:?}");
    assert!(browser.follow(cancelled).await.words().contains("The operation is cancelled"));
    let ended = wait_for_state(&gateway, &path, "cancelled").await;
    let (applied, skipped) = (progress(&ended, "applied"), progress(&ended, "skipped"));
    assert!(skipped >= 1 && applied + skipped == 100, "{ended:?}");
    let page = browser.get(&format!("operations/{id}")).await;
    assert!(!page.text.contains("data-live") && page.find_form("/cancel").is_none(), "{}", page.text);

    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    let retry = page.form("/retry");
    let retried = browser.submit(&retry).await;
    assert!(browser.follow(retried).await.words().contains("are sent again"));
    let completed = wait_for_state(&gateway, &path, "completed").await;
    assert_eq!((progress(&completed, "applied"), progress(&completed, "skipped")), (100, 0));
    assert_eq!(browser.submit(&retry).await.status, 303, "sent twice");
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await.len(), 100);
}

#[tokio::test]
async fn the_progress_is_streamed_to_the_page_as_the_api_streams_it() {
    let (_sandbox, gateway) = start_slow().await;
    let id = begin(&gateway, &people(12)).await;
    let mut browser = browser(&gateway).await;
    let stream = browser.get(&format!("operations/{id}/events")).await;
    assert_eq!((stream.status, stream.header("content-type")), (200, "text/event-stream"), "{stream:?}");
    let data = stream.text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).expect("JSON")).collect();
    assert!(events.len() >= 2, "{events:?}");
    assert_eq!(events.last(), Some(&gateway.get(&format!("/operations/{id}")).await.body));
    browser.headers.push(("last-event-id", "end".to_owned()));
    assert_eq!(browser.get(&format!("operations/{id}/events")).await.status, 204, "the browser stops asking");
}

#[tokio::test]
async fn an_unknown_row_is_settled_at_its_record() {
    let (sandbox, gateway) = start_examtesting("").await;
    let lost = json!({ "name": "reset_after_effect", "operation": "add", "times": 1 });
    set_faults(sandbox.examtesting(), json!({ "faults": [lost] })).await;
    // The name they chose proves nothing, so the gateway cannot find out by itself.
    let row = with(person("x1"), "userName", json!("ada"));
    let response = gateway.post("/candidates/bulk", &json!({ "items": [row] })).await;
    let id = response.text("/operation").to_owned();
    let path = format!("/operations/{id}");
    let ended = wait_until(&gateway, &path, |shown| progress(shown, "unknown") == 1).await;
    assert_eq!(ended.text("/state"), "completed", "{ended:?}");
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("operations/{id}?outcome=unknown")).await;
    assert_eq!(rows(&page), ["0"]);
    assert!(page.find_form(&format!("operations/{id}/settle")).is_none(), "rows of a bulk are settled one by one");
    let form = page.form("/settle").with("outcome", "applied");
    assert!(form.action.path().starts_with("/console/candidates/cand_"), "{form:?}");
    let settled = browser.submit(&form).await;
    let page = browser.follow(settled).await;
    assert_eq!(page.url.path(), format!("/console/operations/{id}"));
    assert!(page.words().contains("The outcome is recorded."), "{}", page.words());
    let settled = gateway.get(&path).await;
    assert_eq!((progress(&settled, "applied"), progress(&settled, "unknown")), (1, 0), "{settled:?}");
}

#[tokio::test]
async fn unknown_calls_of_an_enrolment_are_settled_one_by_one_or_all() {
    let (sandbox, gateway) = start_startexam("").await;
    for id in ["e1", "e2"] {
        assert_eq!(gateway.post("/candidates", &person(id)).await.status, 201);
    }
    let down = json!({ "name": "server_error", "operation": "program_employees" });
    set_faults(sandbox.startexam(), json!({ "faults": [down] })).await;
    let mut browser = browser(&gateway).await;
    for (employee, one) in [("e1", true), ("e2", false)] {
        let program = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
        let unknown = gateway.post(&program, &json!({ "scope": "all", "register": [employee] })).await;
        assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
        let path = unknown.text("/resource").to_owned();
        wait_until(&gateway, &path, |shown| progress(shown, "unknown") == 1).await;
        let page = browser.get(path.trim_start_matches('/')).await;
        let all = page.form(&format!("{path}/settle"));
        assert!(all.fields.iter().all(|(name, _)| name != "item"), "the first form is for all: {all:?}");
        let form = if one { all.with("item", "0") } else { all };
        let refused = browser.submit(&form.clone().with("outcome", "applied").with("item", "7")).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert_eq!(browser.submit(&form.clone().with("outcome", "applied").with("item", "x")).await.status, 422);
        let settled = browser.submit(&form.with("outcome", "not_applied")).await;
        assert!(browser.follow(settled).await.words().contains("The outcome is recorded."));
        let settled = gateway.get(&path).await;
        assert_eq!((progress(&settled, "notApplied"), progress(&settled, "unknown")), (1, 0), "{settled:?}");
    }
}

#[tokio::test]
async fn another_tenants_operation_does_not_exist_and_a_missing_scope_is_named() {
    let all = "[\"*\"]";
    let clients = client("lms", "", all)
        + &client("rival", "", all)
        + &client_with("viewer", "lms", all, "[\"operations:read\"]")
        + &client_with("none", "lms", all, "[\"candidates:read\"]");
    let (_sandbox, gateway, id) = start_mixed(&clients).await;
    let path = format!("/operations/{id}");
    let before = gateway.get(&path).await.body;
    let retry = browser(&gateway).await.get(&format!("operations/{id}")).await.form("/retry");
    let own_token = |page: &Page| page.form("sign-out").fields.into_iter().find(|(name, _)| name == "csrf").unwrap().1;

    let mut rival = Browser::signed_in(gateway.address, &key("rival")).await;
    let list = rival.get("operations").await;
    assert!(list.words().contains("No operations.") && !list.text.contains(&id), "{}", list.text);
    for page in [format!("operations/{id}"), format!("operations/{id}/events"), format!("operations/{id}/rows.csv")] {
        let missing = rival.get(&page).await;
        assert_eq!(missing.status, 404, "{page}");
        assert!(missing.words().contains("not_found"), "{}", missing.words());
    }
    let form = retry.clone().with("csrf", &own_token(&list));
    assert_eq!(rival.submit(&form).await.status, 404);

    let mut viewer = Browser::signed_in(gateway.address, &key("viewer")).await;
    let page = viewer.get(&format!("operations/{id}")).await;
    assert_eq!((page.status, rows(&page).len()), (200, 5));
    assert!(page.find_form("/retry").is_none() && !page.text.contains("/console/people"), "{}", page.text);
    let refused = viewer.submit(&retry.clone().with("csrf", &own_token(&page))).await;
    assert_eq!(refused.status, 403);
    assert!(refused.words().contains("operations:write"), "{}", refused.words());

    let mut none = Browser::signed_in(gateway.address, &key("none")).await;
    let refused = none.get("operations").await;
    assert_eq!(refused.status, 403);
    let words = refused.words();
    assert!(words.contains("operations:read") && !words.contains("Operations"), "the menu leaves it out: {words}");
    assert_eq!(gateway.get(&path).await.body, before, "nothing has changed");
}
