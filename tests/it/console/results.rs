//! The screens of results: what they show is what the API says.

use examgate::sandbox::Sandbox;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::browser::Browser;
use crate::results::{
    THINK, all, book, booking, connections, deliver, finished, marks, path_of, read_feed, read_until, sit, start,
    start_with, switch, text, wait_for_count, wait_for_version,
};
use crate::support::connections::{client, client_with};
use crate::support::gateway::{Gateway, key, sandbox};
use crate::support::people::{person_at, with};

const START: &str = "startexam-main";
const RUST: &str = "rust-101";

async fn browser(gateway: &Gateway) -> Browser {
    Browser::signed_in(gateway.address, &key("lms")).await
}

/// Has `e1` finish, `e2` begin, and `t1` finish elsewhere; returns their bookings.
async fn three_results(sandbox: &Sandbox, gateway: &Gateway) -> [Value; 3] {
    let booked = [book(gateway, START, "e1").await, book(gateway, START, "e2").await, book(gateway, THINK, "t1").await];
    sit(sandbox, &finished(text(&booked[0], "/vendorRef/id"), 5.0)).await;
    sit(sandbox, &json!({ "participantId": text(&booked[1], "/vendorRef/id") })).await;
    read_feed(gateway).await;
    deliver(sandbox, gateway, &[marks("t1", 31.0)]).await;
    wait_for_count(gateway, "/results?limit=10", 3).await;
    booked
}

/// Returns the ids of the results of an assignment.
async fn results_of(gateway: &Gateway, assignment: &Value) -> Vec<String> {
    let found = all(gateway, &format!("/results?limit=10&assignment={}", text(assignment, "/id"))).await;
    found.iter().map(|result| text(result, "/id").to_owned()).collect()
}

#[tokio::test]
async fn results_are_listed_and_filtered_and_lead_to_their_people() {
    let (sandbox, gateway) = start().await;
    let booked = three_results(&sandbox, &gateway).await;
    let mut ids = Vec::new();
    for assignment in &booked {
        ids.extend(results_of(&gateway, assignment).await);
    }
    let mut browser = browser(&gateway).await;
    for (query, expected) in [
        (String::new(), vec![0, 1, 2]),
        (format!("?assessment={RUST}"), vec![0, 1]),
        (format!("?connection={THINK}"), vec![2]),
        ("?activity=in_progress".to_owned(), vec![1]),
        ("?grading=fully_graded&counts=true".to_owned(), vec![0, 2]),
        ("?assessment=other".to_owned(), vec![]),
    ] {
        let page = browser.get(&format!("results{query}")).await;
        assert_eq!((page.status, page.title()), (200, "Results · examgate"), "{query}");
        let listed: Vec<usize> = (0..3).filter(|index| page.has_link(&format!("results/{}", ids[*index]))).collect();
        assert_eq!(listed, expected, "{query}");
        assert_eq!(page.words().contains("No results."), expected.is_empty(), "{query}");
        let table = browser.get(&format!("results.csv{query}")).await;
        assert_eq!((table.status, table.text.lines().count()), (200, expected.len() + 1), "{query}: {}", table.text);
    }
    let page = browser.get("results").await;
    assert!(page.has_link(&format!("people/{}", text(&booked[0], "/candidate/id"))), "{}", page.text);
    assert!(page.words().contains("5 / 8"), "{}", page.words());
    let table = browser.get("results.csv").await;
    assert!(table.header("content-disposition").starts_with("attachment"), "{table:?}");
    let served = gateway.request(Method::GET, "/results").header("accept", "text/csv").send().await;
    assert_eq!(Some(table.text.as_str()), served.body.as_str(), "the API's own table");
    assert_eq!(browser.get("results?activity=odd").await.status, 422);
}

#[tokio::test]
async fn a_result_shows_its_parts_and_what_each_version_changed() {
    let (sandbox, gateway) = start().await;
    let booked = book(&gateway, START, "e1").await;
    let participant = text(&booked, "/vendorRef/id").to_owned();
    sit(&sandbox, &finished(&participant, 5.0)).await;
    read_feed(&gateway).await;
    wait_for_version(&gateway, &booked, 1).await;
    sit(&sandbox, &finished(&participant, 6.5)).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &booked, 2).await;
    let id = text(&result, "/id");
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("results/{id}")).await;
    assert_eq!((page.status, page.title()), (200, format!("{id} · examgate").as_str()));
    let words = page.words();
    assert!(words.contains("6.5 of 8 points fully graded"), "{words}");
    assert!(words.contains("Section #1 6.5 / 8 passed"), "{words}");
    assert!(words.contains("score: 5 / 8 → 6.5 / 8") && words.contains("first known: "), "{words}");
    assert!(words.find("Version 2: 6.5 / 8") < words.find("Version 1: 5 / 8"), "{words}");
    assert!(page.has_link(&format!("people/{}", text(&booked, "/candidate/id"))), "{}", page.text);
    assert_eq!(browser.get("results/res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73").await.status, 404);
}

#[tokio::test]
async fn results_are_summed_up_by_assessment_with_the_bookings_that_have_none() {
    let (sandbox, gateway) = start_with("expire_after = \"0s\"", "").await;
    three_results(&sandbox, &gateway).await;
    let registered = gateway.post("/candidates", &person_at(START, "e3")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let until = (Timestamp::now() + SignedDuration::from_mins(5)).to_string();
    let missed = gateway.post("/assignments", &with(booking(START, "e3"), "validUntil", json!(until))).await;
    assert_eq!(missed.status, 201, "{missed:?}");
    book(&gateway, START, "e4").await;
    switch(&sandbox, "clock_offset_seconds", json!(800)).await;
    let path = path_of(&missed.body);
    read_until(&gateway, &path, |shown| shown.text("/progress/activity") == "expired").await;

    let mut browser = browser(&gateway).await;
    let page = browser.get("results/assessments").await;
    assert_eq!((page.status, page.title()), (200, "Results by assessment · examgate"));
    // Done, running, expired, not started, passed, failed.
    assert!(page.words().contains(&format!("{RUST} {RUST} {START} 1 1 1 1 0 0")), "{}", page.words());
    assert!(page.has_link("results/summary"), "{}", page.text);
    let summary = browser.get(&format!("results/summary?assessment={RUST}&connection={START}")).await;
    assert_eq!(summary.title(), format!("Results of {RUST} · examgate"));
    let words = summary.words();
    assert!(words.contains("2 results at startexam-main"), "{words}");
    assert!(words.contains("done 1 running 1 expired 1 not started 1 passed 0 failed 0 median 62.5 %"), "{words}");
    assert!(summary.text.contains("Of 1 score, most are 60 to below 70 %."), "{}", summary.text);
    assert_eq!(summary.text.matches("<rect").count(), 1, "{}", summary.text);
    let api = gateway.get(&format!("/results/summary?assessment={RUST}")).await;
    assert_eq!(api.body["scores"]["tenths"][6], 1, "{api:?}");
    let every = browser.get("results/summary").await;
    assert!(every.words().contains("3 results"), "{}", every.words());
}

#[tokio::test]
async fn a_client_sees_results_of_its_tenant_and_connections_and_with_its_scopes_only() {
    let sandbox = sandbox().await;
    let clients = client("lms", "t", "[\"*\"]")
        + &client("rival", "other", "[\"*\"]")
        + &client_with("viewer", "t", &format!("[\"{START}\"]"), "[\"results:read\"]")
        + &client_with("none", "t", "[\"*\"]", "[\"assignments:read\"]");
    let gateway = Gateway::start_with(&connections(&sandbox, "", ""), &clients).await;
    let booked = three_results(&sandbox, &gateway).await;
    let (own, elsewhere) = (results_of(&gateway, &booked[0]).await, results_of(&gateway, &booked[2]).await);
    let (own, elsewhere) = (format!("results/{}", own[0]), format!("results/{}", elsewhere[0]));
    let mut rival = Browser::signed_in(gateway.address, &key("rival")).await;
    assert!(rival.get("results").await.words().contains("No results."));
    assert_eq!(rival.get(&own).await.status, 404);
    assert_eq!(rival.get("results.csv").await.text.lines().count(), 1);
    let summary = rival.get(&format!("results/summary?assessment={RUST}")).await;
    assert!(
        summary.words().contains("There are no scores.") && summary.words().contains("0 results"),
        "{}",
        summary.words()
    );

    let mut viewer = Browser::signed_in(gateway.address, &key("viewer")).await;
    let list = viewer.get("results").await;
    assert!(list.has_link(&own) && !list.has_link(&elsewhere), "{}", list.text);
    assert!(!list.text.contains("/people/") && !list.has_link("results/assessments"), "{}", list.text);
    assert_eq!((viewer.get(&own).await.status, viewer.get(&elsewhere).await.status), (200, 404));
    let summary = viewer.get("results/summary").await;
    assert!(summary.words().contains("2 results") && !summary.words().contains("expired"), "{}", summary.words());
    let catalogue = viewer.get("results/assessments").await;
    assert_eq!(catalogue.status, 403);
    assert!(catalogue.words().contains("catalogue:read"), "{}", catalogue.words());

    let mut none = Browser::signed_in(gateway.address, &key("none")).await;
    for page in ["results", "results.csv", "results/summary", &own] {
        let refused = none.get(page).await;
        assert_eq!(refused.status, 403, "{page}");
        let words = refused.words();
        assert!(words.contains("results:read") && !words.contains("Results"), "the menu leaves it out: {words}");
    }
}
