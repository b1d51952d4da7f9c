//! A measurement rather than an assertion about time: how many sessions a second come from the feed to results.
//!
//! `cargo test --release --test it -- results::throughput --ignored --nocapture`; `EXAMGATE_SESSIONS` is their number.

use std::io::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// Registers and books `e0`, `e1` and so on, some thousands.
pub(super) async fn book_thousands(gateway: &Gateway, count: usize) {
    let mut booked = 0;
    while booked < count {
        let ids = (booked..count.min(booked + 1_000)).map(|number| format!("e{number}"));
        let people: Vec<Value> = ids.clone().map(|id| person_at(START, &id)).collect();
        let orders: Vec<Value> = ids.map(|id| bulk_row(&booking(START, &id))).collect();
        for (path, items) in [("/candidates/bulk", people), ("/assignments/bulk", orders)] {
            let rows = items.len();
            let done = gateway.post(path, &json!({ "connection": START, "items": items })).await;
            assert_eq!(done.body["summary"]["applied"], rows, "{done:?}");
        }
        booked += 1_000;
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn sessions_per_second() {
    let sessions: usize = std::env::var("EXAMGATE_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    // The report of each session says nothing new: without this, each would be fetched.
    let (sandbox, gateway) = start_with("session_report = \"never\"\nregression = \"ignore\"", "").await;
    book_thousands(&gateway, sessions).await;
    let many = json!({ "count": sessions, "participants": "registered", "finished": true,
                       "sections": [{ "title": "Section #1", "score": 2, "maxScore": 3 }, { "title": "Section #2", "score": 2, "maxScore": 4 }] });
    for what in ["new", "repeated"] {
        if what == "new" {
            sit(&sandbox, &many).await;
        }
        let before = wait_for_progress(&gateway, |_| true).await;
        // The vendor's clock has whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        let began = Instant::now();
        read_feed(&gateway).await;
        wait_for_progress(&gateway, |as_of| as_of > before.as_str()).await;
        let took = began.elapsed().as_secs_f64();
        let rate = f64::from(u32::try_from(sessions).expect("a number")) / took;
        let line = format!("{sessions} {what} sessions in {took:.2} s: {rate:.0} a second\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr");
    }
    let last = gateway.get(&format!("/results?externalId=e{}", sessions - 1)).await;
    assert_eq!(last.text("/items/0/grading"), "fully_graded", "{last:?}");
}

/// Waits until the time of the feed meets the condition; it moves when a run has ended.
async fn wait_for_progress(gateway: &Gateway, wanted: impl Fn(&str) -> bool) -> String {
    let path = "/assignments?limit=1";
    let wanted = |page: &ApiResponse| {
        let as_of = page.text("/items/0/progress/asOf");
        !as_of.is_empty() && wanted(as_of)
    };
    wait_until(gateway, path, wanted).await.text("/items/0/progress/asOf").to_owned()
}
