//! Bookings whose window is over: expired only if the vendor's own time has passed it, and what comes later is taken.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::outbound::metric_sum;
use crate::support::connections::client;
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

#[tokio::test]
async fn the_sweep_finds_an_attempt_that_the_feed_left_out_and_counts_it() {
    let sandbox = sandbox().await;
    let environment = [("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let (off, on) = ("mode = \"off\"", "mode = \"feed\"");
    let unread = connections(&sandbox, "expire_after = \"0s\"", "").replace(on, off);
    let gateway = Gateway::start_with_env(&unread, &client("lms", "", "[\"*\"]"), &environment).await;
    let [left_out, missed] = [book_briefly(&gateway, "e1").await, book_briefly(&gateway, "e2").await];
    // The report has it, and the feed not for years.
    let session = with(finished(text(&left_out, "/vendorRef/id"), 5.0), "lagSeconds", json!(100_000_000));
    sit(&sandbox, &session).await;
    switch(&sandbox, "clock_offset_seconds", json!(AHEAD)).await;
    // The first sweep comes after the first run, which finds nothing.
    let folder = gateway.kill().await;
    let path = folder.path().join("examgate.toml");
    let configured = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, configured.replace(off, on)).expect("written");
    let mut gateway = Gateway::start_in_with_env(folder, &environment).await;
    let admin = gateway.admin_address().await;
    gateway.wait_for_log("the vendor's feed left out attempts").await;
    let result = wait_for_version(&gateway, &left_out, 1).await;
    assert_eq!((text(&result, "/source"), &result["score"]["given"]), ("report", &json!(5.0)), "{result}");
    wait_for_activity(&gateway, &left_out, "completed").await;
    read_until(&gateway, &path_of(&missed), |shown| shown.text("/progress/activity") == "expired").await;
    // It is counted right after it is logged.
    let started = std::time::Instant::now();
    while metric_sum(admin, "examgate_feed_holes_total", &[START]).await < 1.0 {
        assert!(started.elapsed().as_secs() < 300, "never counted");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!((metric_sum(admin, "examgate_feed_holes_total", &[]).await - 1.0).abs() < 0.1, "one hole");
}
