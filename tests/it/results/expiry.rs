//! Bookings whose window is over: expired only if the vendor's own time has passed it, and what comes later is taken.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::support::watch::{calls_of, wait_for_calls};

/// How far the vendor's clock is ahead in these tests: within what its check of dates accepts, so that minutes need not pass.
const AHEAD: i64 = 800;

/// Books an assessment that is over in some minutes.
async fn book_briefly(gateway: &Gateway, id: &str) -> Value {
    let registered = gateway.post("/candidates", &person_at(START, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let until = (Timestamp::now() + SignedDuration::from_mins(5)).to_string();
    let booked = gateway.post("/assignments", &with(booking(START, id), "validUntil", json!(until))).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    booked.body
}

#[tokio::test]
async fn a_booking_expires_by_the_vendors_clock_and_a_late_attempt_is_taken() {
    let (sandbox, gateway) = start_with("expire_after = \"0s\"", "").await;
    let [missed, late] = [book_briefly(&gateway, "e1").await, book_briefly(&gateway, "e2").await];
    let shown = wait_for_first_run(&gateway, &missed).await;
    assert_eq!(text(&shown, "/progress/activity"), "not_started", "{shown}");
    switch(&sandbox, "clock_offset_seconds", json!(AHEAD)).await;
    for assignment in [&missed, &late] {
        let path = path_of(assignment);
        let expired = read_until(&gateway, &path, |shown| shown.text("/progress/activity") == "expired").await;
        assert_eq!(
            (expired.text("/state"), &expired.body["progress"]["attempts"]),
            ("assigned", &json!(0)),
            "{expired:?}"
        );
    }
    sit(&sandbox, &with(finished(text(&late, "/vendorRef/id"), 5.0), "elapsedSeconds", json!(10))).await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &late, 1).await;
    assert!(warning_codes(&result).contains(&"outside_window"), "{result}");
    wait_for_activity(&gateway, &late, "completed").await;
    assert_eq!(gateway.get(&path_of(&missed)).await.text("/progress/activity"), "expired");
    // An event has told so, once of each.
    for assignment in [&missed, &late] {
        let path = format!("/events?types=assignment.expired&assignment={}", text(assignment, "/id"));
        let told = wait_for_count(&gateway, &path, 1).await;
        assert_eq!(text(&told[0], "/data/resource"), path_of(assignment));
    }
}

#[tokio::test]
async fn nothing_expires_while_the_feed_is_silent() {
    let (sandbox, gateway) = start_with("expire_after = \"0s\"", "").await;
    let assignment = book_briefly(&gateway, "e1").await;
    wait_for_first_run(&gateway, &assignment).await;
    fault(&sandbox, json!({ "name": "server_error" })).await;
    switch(&sandbox, "clock_offset_seconds", json!(AHEAD)).await;
    let before = calls_of(sandbox.startexam(), "sessions").await;
    read_feed(&gateway).await;
    wait_for_calls(sandbox.startexam(), "sessions", before).await;
    let shown = gateway.get(&path_of(&assignment)).await;
    assert_eq!(shown.text("/progress/activity"), "not_started", "{shown:?}");
}
