//! The stream of Server-Sent Events.

use super::*;

#[tokio::test]
async fn a_stream_has_what_was_there_and_what_comes_and_resumes() {
    let (_sandbox, gateway) = start().await;
    complete_operation(&gateway, "e1").await;
    let mut stream = Stream::open(&gateway, "", None).await;
    let (_, first) = stream.next().await.expect("the event that was there");
    assert_eq!((&first["sequence"], first.get("previous")), (&json!(1), None));
    complete_operation(&gateway, "e2").await;
    let (last, second) = stream.next().await.expect("the event that has come");
    assert_eq!((&second["sequence"], &second["previous"]), (&json!(2), &json!(1)));
    drop(stream);
    for number in 3..6 {
        complete_operation(&gateway, &format!("e{number}")).await;
    }
    // The header takes precedence over the parameter.
    let gateway = Gateway::start_in(gateway.kill().await).await;
    let mut stream = Stream::open(&gateway, "after=latest", Some(&last)).await;
    for number in 3..6 {
        let (_, event) = stream.next().await.expect("an event");
        assert_eq!((&event["sequence"], &event["previous"]), (&json!(number), &json!(number - 1)));
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_gateway_stops() {
    let (_sandbox, mut gateway) = start().await;
    let mut stream = Stream::open(&gateway, "after=latest", None).await;
    gateway.terminate().await;
    assert!(stream.next().await.is_none());
    assert_eq!(gateway.wait_for_exit().await, Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_a_stream_is_a_problem() {
    let (_sandbox, gateway) = start().await;
    let open = |query: &str, last: &str| {
        let request = gateway.request(Method::GET, &format!("/events?{query}"));
        request.header("accept", "text/event-stream").header("last-event-id", last).send()
    };
    for (query, last, pointer) in [
        ("", "x", "Last-Event-ID"),
        ("", "latest", "Last-Event-ID"),
        ("", "77", "Last-Event-ID"),
        ("limit=5", "0", "?limit"),
        ("types=x", "0", "?types"),
    ] {
        let refused = open(query, last).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{query} {last}: {refused:?}");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{refused:?}");
    }
}

#[tokio::test]
async fn a_stream_says_where_it_begins_so_that_a_client_misses_nothing_before_its_first_event() {
    let (_sandbox, gateway) = start().await;
    complete_operation(&gateway, "e1").await;
    let mut stream = Stream::open(&gateway, "after=latest", None).await;
    let bookmark = stream.bookmark().await;
    assert_eq!(bookmark, "1");
    // The connection is lost, and an event comes before the client is back.
    drop(stream);
    complete_operation(&gateway, "e2").await;
    let mut stream = Stream::open(&gateway, "after=latest", Some(&bookmark)).await;
    let (_, event) = stream.next().await.expect("the event that has come meanwhile");
    assert_eq!((&event["sequence"], &event["previous"]), (&json!(2), &json!(1)));
}
