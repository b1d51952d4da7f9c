//! Lists of events and long polling.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_list_goes_on_where_it_ended() {
    let (_sandbox, gateway) = start().await;
    let empty = gateway.get("/events").await;
    assert_eq!(items(&empty), Vec::<Value>::new());
    let first = empty.text("/nextCursor").to_owned();
    let mut operations = Vec::new();
    for number in 0..5 {
        operations.push(format!("/operations/{}", complete_operation(&gateway, &format!("e{number}")).await));
    }
    let events = all_events(&gateway).await;
    let resources: Vec<&str> = events.iter().map(|event| text(event, "/data/resource")).collect();
    assert_eq!(resources, operations);
    let counts = json!({ "total": 1, "applied": 1, "notApplied": 0, "unknown": 0, "skipped": 0 });
    let data = json!({
        "resource": operations[0], "connection": START, "action": "candidates.bulk", "state": "completed",
        "counts": counts,
    });
    assert_eq!(events[0]["data"], data);
    assert_eq!(events[0]["type"], "operation.completed");
    assert!(text(&events[0], "/id").starts_with("evt_") && text(&events[0], "/timestamp").ends_with('Z'));
    // A cursor from before there was an event, a number, and the latest.
    assert_eq!(items(&gateway.get(&format!("/events?after={first}&limit=2")).await), events[..2]);
    assert_eq!(items(&gateway.get("/events?after=3").await), events[3..]);
    assert_eq!(items(&gateway.get("/events?after=0").await), events);
    let latest = gateway.get("/events?after=latest").await;
    assert_eq!(items(&latest), Vec::<Value>::new());
    complete_operation(&gateway, "late").await;
    let next = items(&gateway.get(&format!("/events?after={}", latest.text("/nextCursor"))).await);
    assert_eq!((next.len(), &next[0]["previous"]), (1, &json!(5)));
}

#[tokio::test]
async fn filters_leave_gaps_in_the_numbers_and_none_in_the_chain() {
    let (sandbox, gateway) = start().await;
    for number in 0..3 {
        complete_operation(&gateway, &format!("e{number}")).await;
        let lost = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
        set_faults(sandbox.startexam(), json!({ "faults": [lost] })).await;
        let unknown = gateway.post("/candidates", &person(&format!("x{number}"))).await;
        assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
        wait_for_event(&gateway, "candidate.settled", unknown.text("/resource")).await;
    }
    let settled = items(&gateway.get("/events?types=candidate.*").await);
    let chain: Vec<(u64, Option<u64>)> = settled
        .iter()
        .map(|event| (event["sequence"].as_u64().expect("a number"), event["previous"].as_u64()))
        .collect();
    assert_eq!(chain.len(), 3, "{settled:?}");
    // Others are between them.
    assert!(chain.windows(2).all(|pair| pair[0].0 + 1 < pair[1].0), "{chain:?}");
    assert_eq!((chain[0].1, chain[1].1, chain[2].1), (None, Some(chain[0].0), Some(chain[1].0)));
    // A reader that wants none of the rest is moved behind it.
    let page = gateway.get("/events?types=report.parked").await;
    assert_eq!(items(&page), Vec::<Value>::new());
    assert_eq!(page.text("/nextCursor"), gateway.get("/events?after=latest").await.text("/nextCursor"));
    let both = items(&gateway.get("/events?types=candidate.settled,operation.completed&limit=200").await);
    assert_eq!(both.len(), 6, "{both:?}");
    all_events(&gateway).await;
    let none = gateway.get("/events?assignment=asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70").await;
    assert_eq!(items(&none), Vec::<Value>::new());
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let (_sandbox, gateway) = start().await;
    complete_operation(&gateway, "e1").await;
    for (query, pointer, hint) in [
        ("after=yesterday", "?after", "latest"),
        ("after=99", "?after", "the number 1"),
        ("types=result", "?types", "result.published"),
        ("types=ping", "?types", "result.published"),
        ("assignment=x", "?assignment", "identifier"),
        ("limit=0", "?limit", "1 to 200"),
        ("cursor=x", "?cursor", "unknown"),
    ] {
        let refused = gateway.get(&format!("/events?{query}")).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{query}: {refused:?}");
        let error = &refused.body["errors"][0];
        assert_eq!(error["pointer"], pointer, "{refused:?}");
        assert!(text(error, "/detail").contains(hint), "{refused:?}");
    }
}

#[tokio::test]
async fn a_request_that_waits_gets_the_first_event_at_once() {
    let (_sandbox, gateway) = start().await;
    let begun = std::time::Instant::now();
    let waiting = gateway.request(Method::GET, "/events?after=latest").header("Prefer", "wait=60").send();
    let (page, ()) = tokio::join!(waiting, async {
        // The request may not have begun to wait; then the event is there before it looks.
        complete_operation(&gateway, "e1").await;
    });
    assert!(items(&page).len() <= 1, "{page:?}");
    assert_eq!(page.header("preference-applied"), Some("wait=60"));
    assert!(begun.elapsed() < Duration::from_secs(55), "it does not wait to the end");
    let short = gateway.request(Method::GET, "/events?after=latest").header("Prefer", "wait=1").send().await;
    assert_eq!(items(&short), Vec::<Value>::new());
    assert_eq!(short.header("preference-applied"), Some("wait=1"));
}
