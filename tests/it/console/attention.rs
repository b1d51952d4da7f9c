//! The first screen: what needs a person is on it, and goes when it was done.

use serde_json::json;

use super::browser::Browser;
use crate::support::connections::{examtesting, start_examtesting};
use crate::support::gateway::{Gateway, key, set_faults};
use crate::support::people::{person, with};

/// Registers a person so that it stays unknown whether the vendor has them: the response is lost, and the name they chose
/// proves nothing. Returns the path of the record.
async fn unknown_candidate(gateway: &Gateway, vendor: std::net::SocketAddr) -> String {
    set_faults(vendor, json!({ "faults": [{ "name": "reset_after_effect", "operation": "add", "times": 1 }] })).await;
    let body = with(person("x1"), "userName", json!("ada"));
    let unknown = gateway.post("/candidates", &body).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    let again = gateway.post("/candidates", &body).await;
    assert_eq!((again.status, again.text("/outcome")), (409, "unknown"), "{again:?}");
    unknown.text("/resource").to_owned()
}

#[tokio::test]
async fn an_unknown_write_is_shown_until_a_person_says_what_became_of_it() {
    let (sandbox, gateway) = start_examtesting("").await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.get("").await;
    assert!(page.words().contains("All is well."), "{}", page.words());

    let resource = unknown_candidate(&gateway, sandbox.examtesting()).await;
    let id = resource.strip_prefix("/candidates/").expect("an id").to_owned();
    let page = browser.get("").await;
    assert!(page.words().contains("Unknown writes") && page.words().contains("One thing needs"), "{}", page.words());
    assert!(page.has_link(&format!("people/{id}")), "{}", page.text);
    let form = page.form(&format!("candidates/{id}/settle"));
    let refused = browser.submit(&form.clone().with("outcome", "perhaps")).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.words().contains("not applied") && refused.text.contains("/outcome"), "{}", refused.words());
    assert_eq!(gateway.get(&resource).await.text("/state"), "unknown");

    let answer = browser.submit(&form.with("outcome", "applied")).await;
    assert_eq!((answer.status, answer.header("location")), (303, "../../?notice=settled"), "{answer:?}");
    let page = browser.follow(answer).await;
    assert!(
        page.words().contains("The outcome is recorded.") && page.words().contains("All is well."),
        "{}",
        page.words()
    );
    let read = gateway.get(&resource).await;
    assert_eq!((read.text("/state"), read.text("/outcome")), ("registered", "applied"));
    let audit = gateway.get("/audit").await;
    let actions: Vec<&str> =
        audit.body["items"].as_array().expect("a list").iter().filter_map(|line| line["action"].as_str()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "candidates.settle").count(), 2, "{actions:?}");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_does_its_work_once() {
    let (sandbox, gateway) = start_examtesting("").await;
    let resource = unknown_candidate(&gateway, sandbox.examtesting()).await;
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let form = browser.get("").await.form("settle").with("outcome", "not_applied");
    let first = browser.submit(&form).await;
    let second = browser.submit(&form).await;
    assert_eq!((first.status, second.status), (303, 303), "{second:?}");
    assert_eq!(gateway.get(&resource).await.text("/state"), "failed");
}

#[tokio::test]
async fn a_connection_whose_vendor_refuses_its_credentials_is_shown() {
    let sandbox = crate::support::gateway::sandbox().await;
    let connection = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let wrong = connection.replace(examgate::sandbox::accounts::examtesting::API_KEY, "wrong");
    assert_ne!(wrong, connection);
    let gateway = Gateway::start(&wrong).await;
    let refused = gateway.post("/candidates", &person("x1")).await;
    assert_eq!(refused.text("/code"), "connection_credentials_invalid", "{refused:?}");
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let page = browser.get("").await;
    assert!(page.words().contains("credentials invalid Connection examtesting-main"), "{}", page.words());
    assert!(page.find_form("connections/examtesting-main/check").is_some(), "{}", page.text);
}
