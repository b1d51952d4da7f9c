//! The audit record and the exchanges: shown newest first; signing in and out is part of the record.

use reqwest::Method;
use serde_json::{Value, json};

use super::browser::{Browser, Page};
use super::{HeldClock, console_parts};
use crate::http::{ALL, send, serve_api};
use crate::support::connections::start_startexam;
use crate::support::gateway::key;
use crate::support::people::person;

/// Returns the entries' numbers as a page shows them.
fn numbers(page: &Page) -> Vec<u64> {
    let cells = page.text.split("<td class=\"full\">").skip(1).filter_map(|rest| rest.split_once('<'));
    cells.map(|(text, _)| text.trim().replace(',', "").parse().expect("a number")).collect()
}

#[tokio::test]
async fn the_record_is_shown_from_its_end_to_its_beginning_without_a_gap() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    assert_eq!(numbers(&browser.get("audit").await), [1], "the sign-in is the first entry");
    for _ in 0..130 {
        assert_eq!(send(server.request(Method::POST, "/candidates").json(&json!({}))).await.status, 422);
    }
    let mut page = browser.get("audit").await;
    let mut seen = numbers(&page);
    assert_eq!(seen.len(), 50);
    while let Some((_, rest)) = page.text.split_once("audit?before=") {
        let (before, _) = rest.split_once('"').expect("an address");
        page = browser.get(&format!("audit?before={before}")).await;
        seen.extend(numbers(&page));
    }
    assert_eq!(seen, (1..=131).rev().collect::<Vec<u64>>());
}

#[tokio::test]
async fn signing_in_and_out_and_refusals_are_recorded() {
    let parts = console_parts(&HeldClock::new(), &[1]).await;
    let server = serve_api(&parts).await;
    let mut browser = Browser::at(server.address, "");
    assert_eq!(browser.sign_in("wrong").await.status, 401);
    assert_eq!(browser.sign_in(ALL).await.status, 303);
    let form = browser.get("").await.form("sign-out");
    assert_eq!(browser.submit(&form).await.status, 303);
    let audit = server.get("/audit").await;
    let lines: Vec<[&Value; 4]> = audit.body["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| [&line["action"], &line["client"], &line["status"], &line["outcome"]])
        .collect();
    // Two tenants: whose the wrong key was meant to be is not known, so it is in the log only.
    let entry = |action: &str| [json!(action), json!("all"), json!(303), json!("applied")];
    let (sign_in, sign_out) = (entry("console.sign_in"), entry("console.sign_out"));
    assert_eq!(lines, [sign_in.each_ref(), sign_out.each_ref()]);
    assert!(!audit.body.to_string().contains(ALL));
}

#[tokio::test]
async fn a_refused_sign_in_is_in_the_record_of_the_only_tenant() {
    let (_sandbox, gateway) = start_startexam("").await;
    let mut browser = Browser::at(gateway.address, "");
    assert_eq!(browser.sign_in("wrong-key-4711").await.status, 401);
    assert_eq!(browser.sign_in(&key("lms")).await.status, 303);
    let page = browser.get("audit").await;
    let words = page.words();
    assert!(words.contains("not known answered console.sign_in 401 not applied unauthenticated"), "{words}");
    assert!(words.contains("lms answered console.sign_in 303 applied"), "{words}");
    let (_, log) = gateway.finish().await;
    assert!(log.contains("a sign-in to the console was refused") && !log.contains("wrong-key-4711"));
}

#[tokio::test]
async fn an_exchange_shows_its_vendor_calls() {
    let (_sandbox, gateway) = start_startexam("").await;
    let registered = gateway.post("/candidates", &person("x1")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let request_id = registered.header("x-request-id").expect("a request id").to_owned();
    let list = gateway.get("/exchanges?connection=startexam-main").await;
    let id = list.text("/items/0/id").to_owned();
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.get("exchanges?connection=startexam-main").await;
    assert!(page.has_link(&format!("exchanges/{id}")), "{}", page.text);
    assert!(page.words().contains("POST /candidates"), "{}", page.words());
    let page = browser.get(&format!("exchanges/{id}")).await;
    let words = page.words();
    assert!(words.contains("at startexam-main") && words.contains(&request_id), "{words}");
    assert!(!words.contains("x1@example.com") && !words.contains("Ada"), "redacted: {words}");
    // What the pages read is not among the exchanges, which are few.
    let all = gateway.get("/exchanges?limit=200").await;
    let items = all.body["items"].as_array().expect("a list").iter();
    let routes: Vec<String> = items.map(|it| format!("{} {}", it["method"], it["route"]).replace('"', "")).collect();
    assert_eq!(routes, ["GET /exchanges", "GET /exchanges", "POST /candidates"]);
}
