//! The screens of connections: their state, their calls, and what checking, reading and reading again do.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::json;

use super::browser::{Browser, Page};
use crate::results::{book, connections, finished, sit, start, text, wait_for_version};
use crate::support::connections::{client, client_with, examtesting, sandbox_connections, start_startexam};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::watch::{wait_for_state, wait_until};

const START: &str = "startexam-main";

async fn browser(gateway: &Gateway) -> Browser {
    Browser::signed_in(gateway.address, &key("lms")).await
}

fn own_token(page: &Page) -> String {
    page.form("sign-out").fields.into_iter().find(|(name, _)| name == "csrf").expect("a token").1
}

/// Returns how often this was done, by the audit log.
async fn audited(gateway: &Gateway, action: &str) -> usize {
    let log = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
    let lines = log.body.as_str().expect("lines").lines();
    lines.filter(|line| line.contains(&format!("\"action\":\"{action}\""))).count()
}

#[tokio::test]
async fn connections_are_listed_and_each_shows_its_calls_of_the_last_hour() {
    let (sandbox, gateway) = start_startexam("").await;
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("connections/{START}")).await;
    assert!(page.words().contains("No calls.") && page.text.contains("No call reached the vendor."), "{}", page.text);
    let refused = json!({ "name": "status", "operation": "employees", "status": 400, "effect": false, "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [refused] })).await;
    assert_ne!(gateway.post("/candidates", &person("e1")).await.status, 201);
    assert_eq!(gateway.post("/candidates", &person("e2")).await.status, 201);

    let list = browser.get("connections").await;
    assert_eq!((list.status, list.title()), (200, "Connections · examgate"));
    assert!(list.has_link(&format!("connections/{START}")), "{}", list.text);
    assert!(list.words().contains("startexam-main startexam ok"), "{}", list.words());
    let page = browser.get(&format!("connections/{START}")).await;
    assert_eq!(page.title(), format!("{START} · examgate"));
    let words = page.words();
    assert!(words.contains("2 calls, failed: 1 HTTP error") && words.contains("answered failed: 1"), "{words}");
    assert!(page.text.contains("Calls in each minute of the last hour</title>"), "{}", page.text);
    assert!(page.text.contains("of 2 calls in the hour 1 failed.</desc>"), "{}", page.text);
    let bars = page.text.matches("<rect class=\"bad\"").count();
    assert_eq!(bars, 1, "the failed call is in the chart: {}", page.text);
    let calls = gateway.get(&format!("/connections/{START}/calls")).await;
    let p95 = calls.body["hour"]["p95Ms"].as_u64().expect("a time");
    assert!(words.contains(&format!("p95: {p95} ms")), "{words} {calls:?}");
    assert!(!page.text.contains("style="), "no inline style");
}

#[tokio::test]
async fn a_check_shows_its_steps_and_what_to_do() {
    let sandbox = sandbox().await;
    let connection = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let wrong = sandbox_connections(&sandbox, "").replace(&connection, "")
        + &connection.replace(accounts::examtesting::API_KEY, "wrong");
    let gateway = Gateway::start(&wrong).await;
    let mut browser = browser(&gateway).await;
    let list = browser.get("connections").await;
    let checked = browser.submit(&list.form(&format!("connections/{START}/check"))).await;
    assert_eq!((checked.status, checked.title()), (200, format!("{START} · examgate").as_str()));
    let words = checked.words();
    for step in ["address", "reachability", "tls", "clock", "credentials"] {
        assert!(words.contains(step), "{step}: {words}");
    }
    assert!(words.contains("ok credentials StartExam listed"), "{words}");
    assert_eq!(audited(&gateway, "connections.check").await, 1);
    // Its address leads back after a sign-in in between.
    let again = browser.get(&format!("connections/{START}/check")).await;
    assert_eq!((again.status, again.header("location")), (303, format!("../../connections/{START}").as_str()));

    // Only what the vendor can do is offered.
    for (connection, reads, rereads) in
        [(START, true, true), ("thinkexam-main", false, true), ("examtesting-main", false, false)]
    {
        let page = browser.get(&format!("connections/{connection}")).await;
        let offered = (page.find_form("/read").is_some(), page.find_form("/reread").is_some());
        assert_eq!(offered, (reads, rereads), "{connection}");
    }

    // A finding is shown with its advice, as the API has it.
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "server_error" }] })).await;
    let form = browser.get(&format!("connections/{START}")).await.form("/check");
    let broken = browser.submit(&form).await;
    let found = gateway.post(&format!("/connections/{START}/check"), &json!({})).await;
    let steps = found.body["checks"].as_array().expect("steps");
    let fault = steps.iter().find(|step| step["result"] == "fault").expect("a fault");
    let words = broken.words();
    assert!(words.contains("Check fault"), "{words}");
    assert!(words.contains(fault["advice"].as_str().expect("advice")), "{words} {fault}");
}

#[tokio::test]
async fn the_feed_is_read_now_and_its_progress_shown() {
    let (sandbox, gateway) = start().await;
    let booked = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&booked, "/vendorRef/id"), 5.0)).await;
    let mut browser = browser(&gateway).await;
    let form = browser.get(&format!("connections/{START}")).await.form("/read");
    let answer = browser.submit(&form).await;
    let there = format!("../../connections/{START}?notice=reading");
    assert_eq!((answer.status, answer.header("location")), (303, there.as_str()), "{answer:?}");
    assert!(browser.follow(answer).await.words().contains("The feed of results is being read."));
    wait_for_version(&gateway, &booked, 1).await;
    let path = format!("/assignments/{}", text(&booked, "/id"));
    wait_until(&gateway, &path, |shown| !shown.text("/progress/asOf").is_empty()).await;
    let page = browser.get(&format!("connections/{START}")).await;
    assert!(page.words().contains("Feed read until 20"), "{}", page.words());
}

#[tokio::test]
async fn kept_reports_are_read_again() {
    let (sandbox, gateway) = start().await;
    let booked = book(&gateway, START, "e1").await;
    sit(&sandbox, &finished(text(&booked, "/vendorRef/id"), 5.0)).await;
    assert_eq!(gateway.post(&format!("/connections/{START}/read"), &json!({})).await.status, 202);
    wait_for_version(&gateway, &booked, 1).await;
    let mut browser = browser(&gateway).await;
    let form = browser.get(&format!("connections/{START}")).await.form("/reread");
    assert_eq!(browser.submit(&form.clone().with("since", "yesterday")).await.status, 422);
    for since in ["", "2020-01-01"] {
        let form = form.clone().with("since", since).with("key", &format!("key-{since}"));
        let answer = browser.submit(&form).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        // A second click leads to the same operation.
        assert_eq!(browser.submit(&form).await.header("location"), answer.header("location"));
        let page = browser.follow(answer).await;
        assert!(page.words().contains("reread"), "{}", page.words());
        let operation = page.url.path().strip_prefix("/console").expect("an operation's page").to_owned();
        let ended = wait_for_state(&gateway, &operation, "completed").await;
        assert_eq!((ended.text("/kind"), ended.text("/connection")), ("reread", START), "{ended:?}");
        assert_eq!(ended.body["progress"]["notApplied"], 0, "{ended:?}");
    }
    assert_eq!(gateway.get("/operations?kind=reread").await.body["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_client_sees_its_connections_and_the_buttons_its_scopes_permit() {
    let sandbox = sandbox().await;
    let clients = client("lms", "t", "[\"*\"]")
        + &client_with("think-only", "t", "[\"thinkexam-main\"]", "[\"catalogue:read\"]")
        + &client_with("none", "t", "[\"*\"]", "[\"candidates:read\"]");
    let gateway = Gateway::start_with(&connections(&sandbox, "", ""), &clients).await;
    let check = browser(&gateway).await.get("connections").await.form(&format!("{START}/check"));
    let mut think = Browser::signed_in(gateway.address, &key("think-only")).await;
    let list = think.get("connections").await;
    assert!(list.has_link("connections/thinkexam-main") && !list.text.contains(START), "{}", list.text);
    let foreign = think.get(&format!("connections/{START}")).await;
    assert_eq!(foreign.status, 403, "{}", foreign.words());
    let page = think.get("connections/thinkexam-main").await;
    assert_eq!(page.status, 200);
    for form in ["/check", "/read", "/reread"] {
        assert!(page.find_form(form).is_none(), "{form}: {}", page.text);
    }
    assert!(!page.words().contains("Feed read until"), "it may not read bookings");
    let refused = think.submit(&check.with("csrf", &own_token(&page))).await;
    assert_eq!(refused.status, 403);
    assert!(refused.words().contains("connections:check"), "{}", refused.words());
    assert_eq!(audited(&gateway, "connections.check").await, 1, "the refusal");
    let mut none = Browser::signed_in(gateway.address, &key("none")).await;
    let refused = none.get("connections").await;
    assert_eq!(refused.status, 403);
    let words = refused.words();
    assert!(words.contains("catalogue:read") && !words.contains("Connections"), "the menu leaves it out: {words}");
}
