//! Kills at any moment: an event is there if and only if its change was committed.

use super::*;

#[tokio::test]
async fn every_unknown_write_that_became_known_has_one_event_whatever_was_killed() {
    let (sandbox, gateway) = start().await;
    let mut gateway = gateway;
    let lost = json!({ "faults": [{ "name": "reset_after_effect", "operation": "employees", "probability": 0.5 }] });
    set_faults(sandbox.startexam(), lost).await;
    let (mut unknown, mut known) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let requests = (0..8).map(|number| {
            let body = person(&format!("e{round}-{number}"));
            let request = gateway.request(Method::POST, "/candidates").json(&body);
            request.try_send()
        });
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_millis(40 * round)).await;
            gateway.signal("KILL").await;
        };
        let (responses, ()) = tokio::join!(futures_util::future::join_all(requests), kill);
        for response in responses.into_iter().flatten() {
            match (response.status, response.text("/outcome")) {
                (201, _) => known.push(format!("/candidates/{}", response.text("/id"))),
                (_, "unknown") => unknown.push(response.text("/resource").to_owned()),
                _ => {}
            }
        }
        gateway = Gateway::start_in(gateway.kill().await).await;
    }
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    let is_settled = |page: &ApiResponse| {
        let items = page.body["items"].as_array().expect("a list");
        items.iter().all(|candidate| !["unknown", "pending"].contains(&text(candidate, "/state")))
    };
    wait_until(&gateway, "/candidates?limit=200", is_settled).await;
    let events = all_events(&gateway).await;
    let settled = by_resource(&events, "candidate.settled");
    assert!(settled.values().all(|count| *count == 1), "{settled:?}");
    for resource in &unknown {
        assert!(settled.contains_key(resource), "{resource} was unknown and became known: {events:?}");
    }
    for resource in &known {
        assert!(!settled.contains_key(resource), "{resource} was told by its response");
    }
    for resource in settled.keys() {
        assert_eq!(gateway.get(resource).await.text("/outcome"), "applied", "{resource}");
    }
}
