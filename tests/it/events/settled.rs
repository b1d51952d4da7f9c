//! Writes whose outcome was unknown, and operations.

use super::*;

/// Makes the next registration lose its response after the effect; returns the resource that is unknown.
async fn register_unknown(sandbox: &Sandbox, gateway: &Gateway, id: &str) -> String {
    let lost = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
    set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
    let unknown = gateway.post("/candidates", &person(id)).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    unknown.text("/resource").to_owned()
}

async fn settled_by(gateway: &Gateway, resource: &str) -> Value {
    let event = wait_for_event(gateway, "candidate.settled", resource).await;
    json!([event["data"]["by"], event["data"]["outcome"], event["data"]["action"]])
}

#[tokio::test]
async fn the_reconciler_tells_by_an_event() {
    let (sandbox, gateway) = start().await;
    let resource = register_unknown(&sandbox, &gateway, "e1").await;
    assert_eq!(settled_by(&gateway, &resource).await, json!(["reconciler", "applied", "candidates.create"]));
    // What a response tells is no event.
    assert_eq!(gateway.post("/candidates", &person("e2")).await.status, 201);
    assert_eq!(items(&gateway.get("/events?types=candidate.*,assignment.*").await).len(), 1);
}

#[tokio::test]
async fn a_caller_who_tries_again_and_an_operator_tell_the_others() {
    let sandbox = sandbox().await;
    let patient = startexam(&format!("http://{}", sandbox.startexam()), "");
    let patient = patient.replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&patient).await;
    let resource = register_unknown(&sandbox, &gateway, "e1").await;
    let settled = gateway.post(&format!("{resource}/settle"), &json!({ "outcome": "not_applied" })).await;
    assert_eq!(settled.status, 200, "{settled:?}");
    assert_eq!(settled_by(&gateway, &resource).await, json!(["operator", "not_applied", "candidates.create"]));
    let (folder, _) = gateway.finish().await;
    let path = folder.path().join("examgate.toml");
    let configured = std::fs::read_to_string(&path).expect("the configuration");
    // Due only after the first back-off, so that the caller is first.
    std::fs::write(&path, configured.replace("settle_grace = \"1h\"", "settle_grace = \"0s\"")).expect("written");
    let gateway = Gateway::start_in(folder).await;
    for number in 0.. {
        let resource = register_unknown(&sandbox, &gateway, &format!("x{number}")).await;
        let again = gateway.post("/candidates", &person(&format!("x{number}"))).await;
        assert_eq!(again.status, 200, "{again:?}");
        if settled_by(&gateway, &resource).await[0] == "caller" {
            break;
        }
        assert!(number < 50, "the reconciler is always first");
    }
    let events = all_events(&gateway).await;
    assert!(by_resource(&events, "candidate.settled").values().all(|count| *count == 1), "{events:?}");
}

#[tokio::test]
async fn an_operation_tells_its_counts_also_after_a_207() {
    let (_sandbox, gateway) = start().await;
    let rows = json!({ "connection": START, "items": [person("e1"), person("e1"), person("e2")] });
    let bulk = gateway.post("/candidates/bulk", &rows).await;
    assert_eq!(bulk.status, 207, "{bulk:?}");
    let events = all_events(&gateway).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        events[0]["data"]["counts"],
        json!({ "total": 3, "applied": 2, "notApplied": 1, "unknown": 0, "skipped": 0 })
    );
    let listed = gateway.get("/metrics").await;
    assert_eq!(listed.status, 404, "metrics have a listener of their own");
}
