//! Who gets which events.

use super::*;
use crate::support::connections::{client, client_with, examtesting};
use crate::support::people::person_at;

async fn get(gateway: &Gateway, who: &str, path: &str) -> ApiResponse {
    gateway.request_as(&key(who), Method::GET, path).send().await
}

async fn complete(gateway: &Gateway, who: &str, connection: &str, id: &str) {
    let bulk = json!({ "connection": connection, "items": [person(id)] });
    let request = gateway.request_as(&key(who), Method::POST, "/candidates/bulk").header("Prefer", "wait=60");
    let done = request.json(&bulk).send().await;
    assert_eq!(done.body["summary"]["applied"], 1, "{done:?}");
}

#[tokio::test]
async fn a_client_gets_its_tenants_events_at_its_connections() {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "")
        + &examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let clients = client("lms", "a", "[\"*\"]")
        + &client("narrow", "a", "[\"startexam-main\"]")
        + &client("stranger", "b", "[\"*\"]")
        + &client_with("reader", "a", "[\"*\"]", "[\"results:read\"]");
    let gateway = Gateway::start_with(&connections, &clients).await;
    for (number, connection) in (0..).zip([START, "examtesting-main", "examtesting-main", START]) {
        complete(&gateway, "lms", connection, &format!("e{number}")).await;
    }
    complete(&gateway, "stranger", START, "other").await;
    let numbers = |page: &ApiResponse| {
        let numbers = items(page).into_iter().map(|event| (event["sequence"].as_u64(), event["previous"].as_u64()));
        numbers.collect::<Vec<_>>()
    };
    let all = get(&gateway, "lms", "/events").await;
    assert_eq!(numbers(&all), [(Some(1), None), (Some(2), Some(1)), (Some(3), Some(2)), (Some(4), Some(3))]);
    let narrow = get(&gateway, "narrow", "/events").await;
    assert_eq!(numbers(&narrow), [(Some(1), None), (Some(4), Some(1))]);
    assert_eq!(numbers(&get(&gateway, "narrow", "/events?after=1").await), [(Some(4), Some(1))]);
    assert_eq!(numbers(&get(&gateway, "stranger", "/events").await), [(Some(1), None)]);
    let refused = get(&gateway, "reader", "/events").await;
    assert_eq!(refused.problem(), (403, "insufficient_scope", "not_applied"), "{refused:?}");
}

#[tokio::test]
async fn an_event_holds_nothing_of_a_person_and_stays_as_it_is_when_the_person_is_erased() {
    const PLANTED: &str = "plmark";
    let (sandbox, gateway) = start().await;
    let planted = json!({
        "connection": START, "externalId": format!("{PLANTED}-1"), "email": format!("{PLANTED}@example.com"),
        "name": { "givenName": format!("Given{PLANTED}"), "familyName": format!("Family{PLANTED}") },
    });
    let lost = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
    let unknown = gateway.post("/candidates", &planted).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    wait_for_event(&gateway, "candidate.settled", unknown.text("/resource")).await;
    let bulk = json!({ "connection": START, "items": [person_at(START, PLANTED)] });
    let mut row = bulk.clone();
    row["items"][0].as_object_mut().expect("an object").remove("connection");
    gateway.post("/candidates/bulk", &row).await;
    let path = "/events?limit=200&types=candidate.*,operation.*";
    let before = gateway.get(path).await;
    assert_eq!(items(&before).len(), 2, "{before:?}");
    assert!(!before.body.to_string().contains(PLANTED), "{before:?}");
    assert_eq!(gateway.delete(unknown.text("/resource")).await.status, 204);
    let after = gateway.get(path).await;
    assert_eq!(items(&after), items(&before));
}
