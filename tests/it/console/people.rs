//! People: found, looked at, and acted upon; what was done is looked at through the API.

use examgate::sandbox::accounts;
use serde_json::json;

use super::browser::Browser;
use crate::results::{START, book, connections, finished, read_feed, sit, wait_for_version};
use crate::settling::TEST;
use crate::support::connections::{
    client_with, sandbox_connections, start_examtesting, start_startexam, start_thinkexam, startexam,
};
use crate::support::gateway::{Gateway, TIMEOUT, key, sandbox};
use crate::support::people::{order, person, with};

#[tokio::test]
async fn a_person_of_several_connections_is_found_at_each() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for connection in ["startexam-main", "thinkexam-main"] {
        let registered = gateway.post("/candidates", &with(person("x1"), "connection", json!(connection))).await;
        assert_eq!(registered.status, 201, "{registered:?}");
    }
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let form = browser.get("people").await.form("people").with("by", "externalId").with("value", " x1 ");
    let both = browser.submit(&form).await;
    assert_eq!(both.status, 200);
    let words = both.words();
    assert!(words.contains("Found 2") && words.contains("startexam-main registered"), "{words}");
    assert!(words.contains("thinkexam-main registered"), "{words}");
    let one = browser.submit(&form.with("connection", "thinkexam-main")).await;
    assert_eq!(one.status, 303, "{one:?}");
    let page = browser.follow(one).await;
    assert!(
        page.words().contains("Ada King registered") && page.words().contains("thinkexam-main"),
        "{}",
        page.words()
    );
}

#[tokio::test]
async fn the_page_of_a_person_has_their_booking_and_cancels_it() {
    let (_sandbox, gateway) = start_thinkexam("").await;
    let registered = gateway.post("/candidates", &person("t1")).await;
    let id = registered.text("/id").to_owned();
    let body = with(order("t1", "2415"), "reference", json!("order-7781"));
    let booked = gateway.post("/assignments", &body).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let booking = booked.text("/id").to_owned();
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.open(&format!("assignments/{booking}")).await;
    assert_eq!(page.url.path(), format!("/console/people/{id}"), "a booking leads to its person");
    let words = page.words();
    assert!(words.contains("Booking for 2415 applied"), "{words}");
    assert!(words.contains("reference order-7781") && words.contains("Registration applied"), "{words}");

    let answer = browser.submit(&page.form(&format!("assignments/{booking}/cancel"))).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let page = browser.follow(answer).await;
    assert_eq!(page.url.path(), format!("/console/people/{id}"));
    assert!(page.words().contains("The booking is cancelled at the vendor."), "{}", page.words());
    assert_eq!(gateway.get(&format!("/assignments/{booking}")).await.text("/state"), "cancelled");
    assert!(page.find_form("cancel").is_none(), "{}", page.text);
}

#[tokio::test]
async fn the_time_line_has_results_with_their_versions_events_and_deliveries() {
    let sandbox = sandbox().await;
    let delivery = "[delivery]\nallow_hosts = [\"127.0.0.1\"]\nallow_private = [\"127.0.0.1\"]\nallow_http = true\n";
    let gateway = Gateway::start(&(connections(&sandbox, "", "") + delivery)).await;
    let hook = format!("http://{}{}", sandbox.lms(), accounts::lms::PATH);
    let created = gateway.post("/webhooks", &json!({ "url": hook, "secret": accounts::lms::SECRET })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let booked = book(&gateway, START, "e1").await;
    let participant = booked["vendorRef"]["id"].as_str().expect("an id");
    for (version, score) in [(1, 4.0), (2, 5.0)] {
        sit(&sandbox, &finished(participant, score)).await;
        read_feed(&gateway).await;
        wait_for_version(&gateway, &booked, version).await;
    }
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let path = format!("assignments/{}", booked["id"].as_str().expect("an id"));
    let began = std::time::Instant::now();
    let page = loop {
        let page = browser.open(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        if page.words().contains("Delivery of result.corrected") {
            break page;
        }
        assert!(began.elapsed() < TIMEOUT, "{}", page.words());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let words = page.words();
    let places: Vec<_> = [
        "Event result.corrected",
        "Result of rust-101, version 2: 5 of 8 fully graded",
        "Event result.published",
        "Result of rust-101, version 1: 4 of 8 fully graded",
        "Booking for rust-101 applied",
    ]
    .iter()
    .map(|text| words.find(text).unwrap_or_else(|| panic!("{text}: {words}")))
    .collect();
    assert!(places[4] > *places[..4].iter().max().expect("places"), "the oldest is last: {words}");
    assert!(words.contains("changed: "), "{words}");
}

#[tokio::test]
async fn a_problem_of_the_api_is_a_page_with_its_status_and_what_to_do() {
    let (_sandbox, gateway) = start_startexam("").await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let missing = browser.get("people/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").await;
    assert_eq!(missing.status, 404);
    let words = missing.words();
    assert!(words.contains("Nothing has changed.") && words.contains("not_found · request req_"), "{words}");
}

fn csrf(page: &super::browser::Page) -> String {
    let fields = page.form("sign-out").fields;
    fields.into_iter().find(|(name, _)| name == "csrf").expect("a token").1
}

#[tokio::test]
async fn a_generated_password_is_shown_only_when_it_is_asked_for_and_that_is_recorded() {
    let (_sandbox, gateway) = start_examtesting("").await;
    let registered = gateway.post("/candidates", &person("x1")).await;
    let (id, password) = (registered.text("/id").to_owned(), registered.text("/initialPassword").to_owned());
    assert!(password.len() > 6, "{registered:?}");
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.get(&format!("people/{id}")).await;
    assert!(!page.text.contains(&password));
    let shown = browser.submit(&page.form("initial-password")).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(shown.words().contains(&password), "{}", shown.words());
    assert_eq!(shown.header("cache-control"), "no-store");
    let audit = gateway.get("/audit").await;
    assert!(audit.body.to_string().contains("candidates.initial_password"), "{audit:?}");
    assert!(!audit.body.to_string().contains(&password));
}

#[tokio::test]
async fn who_may_only_read_has_no_buttons() {
    let sandbox = sandbox().await;
    let clients = crate::support::connections::client("lms", "acme", "[\"*\"]")
        + &client_with("viewer", "acme", "[\"*\"]", "[\"candidates:read\", \"assignments:read\"]");
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::start_with(&connection, &clients).await;
    let id = gateway.post("/candidates", &person("x1")).await.text("/id").to_owned();
    let booked = gateway.post("/assignments", &order("x1", TEST)).await;
    let booking = booked.text("/id").to_owned();
    let mut viewer = Browser::signed_in(gateway.address, &key("viewer")).await;
    let page = viewer.get(&format!("people/{id}")).await;
    assert!(page.words().contains(TEST), "{}", page.words());
    assert!(page.find_form("cancel").is_none() && page.find_form("initial-password").is_none(), "{}", page.text);
    // A form of somebody else's page, with a token of one's own, changes nothing either.
    let mut owner = Browser::signed_in(gateway.address, &key("lms")).await;
    let form = owner.get(&format!("people/{id}")).await.form("cancel").with("csrf", &csrf(&page));
    let refused = viewer.submit(&form).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.words().contains("assignments:write"), "{}", refused.words());
    assert_eq!(gateway.get(&format!("/assignments/{booking}")).await.text("/state"), "assigned");
}
