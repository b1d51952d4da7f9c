//! People: found, looked at, and acted upon; what was done is looked at through the API.

use serde_json::json;

use super::browser::Browser;
use crate::settling::TEST;
use crate::support::connections::{client_with, sandbox_connections, start_examtesting, start_startexam, startexam};
use crate::support::gateway::{Gateway, key, sandbox};
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
async fn the_page_of_a_person_tells_what_happened_and_cancels_a_booking() {
    let (_sandbox, gateway) = start_startexam("").await;
    let registered = gateway.post("/candidates", &person("x1")).await;
    let id = registered.text("/id").to_owned();
    let booked = gateway.post("/assignments", &with(order("x1", TEST), "reference", json!("order-7781"))).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let booking = booked.text("/id").to_owned();
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.open(&format!("assignments/{booking}")).await;
    assert_eq!(page.url.path(), format!("/console/people/{id}"), "a booking leads to its person");
    let words = page.words();
    assert!(words.contains(&format!("Booking for {TEST} applied reference order-7781")), "{words}");
    assert!(words.contains("Registration applied"), "{words}");

    let form = page.form(&format!("assignments/{booking}/cancel"));
    let answer = browser.submit(&form).await;
    let page = browser.follow(answer).await;
    assert_eq!(page.url.path(), format!("/console/people/{id}"));
    let cancelled = gateway.get(&format!("/assignments/{booking}")).await;
    if cancelled.text("/state") == "cancelled" {
        assert!(page.words().contains("The booking is cancelled at the vendor."), "{}", page.words());
    } else {
        panic!("{cancelled:?} {}", page.words());
    }
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
