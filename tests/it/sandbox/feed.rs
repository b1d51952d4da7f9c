//! The feed's faults: sessions that appear late, tokens and times that are not what they should be, damaged pages.

use super::sessions::{create_finished_sessions, create_session, get, read_page};
use super::*;

fn text(seconds: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    jiff::Timestamp::try_from(at).expect("in range").to_string()
}

async fn sit(bench: &Bench, order: Value) {
    let response = create_session(bench, &order).await;
    assert_eq!(response.status, Some(200), "{order}: {}", response.text());
}

async fn read_since(bench: &Bench, since: &str) -> SimulatorResponse {
    get(bench, "/v2/sessions", &format!("center=mycenter&modifiedSince={since}")).await
}

/// Returns how many sessions a page has, and until when it claims to be complete.
async fn page_since(bench: &Bench, since: &str) -> (usize, String) {
    let page = read_since(bench, since).await.json();
    let until = page["modifiedUntil"].as_str().expect("a time").to_owned();
    (page["sessions"].as_array().expect("a list").len(), until)
}

#[tokio::test]
async fn a_session_that_appears_late_is_missed_by_a_feed_that_follows_modified_until() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    let modified = text(unix_now() - 3_600);
    bench.set_switch(address, "feed_lag_seconds", 7_200).await;
    sit(&bench, json!({ "unregistered": true, "finished": true, "modified": modified })).await;
    let (count, until) = page_since(&bench, "2026-01-01T00:00:00Z").await;
    assert!(count == 0 && until > modified, "{count} until {until}");
    // Two hours later.
    bench.set_switch(address, "feed_lag_seconds", 0).await;
    assert_eq!(page_since(&bench, &until).await.0, 0);
    assert_eq!(page_since(&bench, "2026-01-01T00:00:00Z").await.0, 1);
}

#[tokio::test]
async fn an_honest_modified_until_waits_for_the_sessions_that_appear_late() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.set_switch(address, "modified_until", "complete").await;
    let (late, soon) = (text(unix_now() - 3_600), text(unix_now() - 60));
    let order = json!({ "unregistered": true, "modified": late, "lagSeconds": 7_200 });
    let id = create_session(&bench, &order).await.json()["participantId"].clone();
    sit(&bench, json!({ "unregistered": true, "modified": soon })).await;
    // The second one is in the feed already, but later than what is complete.
    assert_eq!(page_since(&bench, "2026-01-01T00:00:00Z").await, (0, late.clone()));
    sit(&bench, json!({ "participantId": id, "unregistered": true, "modified": late, "lagSeconds": 0 })).await;
    bench.set_switch(address, "feed_lag_seconds", 600).await;
    assert_eq!(page_since(&bench, "2026-01-01T00:00:00Z").await, (1, soon.clone()));
    bench.set_switch(address, "feed_lag_seconds", 0).await;
    let (count, until) = page_since(&bench, "2026-01-01T00:00:00Z").await;
    assert!(count == 2 && until > soon, "{count} until {until}");
}

#[tokio::test]
async fn the_report_shows_a_session_that_the_feed_does_not_have_yet() {
    let bench = Bench::start().await;
    bench.set_switch(bench.sandbox.startexam(), "feed_lag_seconds", 7_200).await;
    let id = create_finished_sessions(&bench, 1).await.remove(0);
    assert_eq!(read_page(&bench, &Value::Null).await.json()["sessions"], json!([]));
    let report = get(&bench, "/v2/session", &format!("participantId={id}")).await.json();
    assert_eq!(report["isFinished"], true);
    sit(&bench, json!({ "participantId": id, "lagSeconds": i64::MAX })).await;
    assert_eq!(read_page(&bench, &Value::Null).await.json()["sessions"], json!([]));
}

#[tokio::test]
async fn a_token_may_be_refused_or_loop_at_its_first_use() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 3).await;
    bench.configure(address, json!({ "switches": { "session_page_size": 1, "fresh_token": "refused" } })).await;
    let token = read_page(&bench, &Value::Null).await.json()["continuationToken"].clone();
    let refused = read_page(&bench, &token).await;
    assert_eq!((refused.status, refused.json()["message"].is_string()), (Some(400), true));
    bench.configure(address, json!({ "switches": { "fresh_token": "loop", "used_token": "loop" } })).await;
    let token = read_page(&bench, &Value::Null).await.json()["continuationToken"].clone();
    let looped = read_page(&bench, &token).await.json();
    assert_eq!((&looped["continuationToken"], looped.get("modifiedUntil")), (&token, None));
    assert_eq!(read_page(&bench, &token).await.json(), looped);
}

#[tokio::test]
async fn the_end_of_the_feed_may_be_absent_or_go_backwards() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 1).await;
    bench.set_switch(address, "modified_until", "absent").await;
    let page = read_page(&bench, &Value::Null).await.json();
    assert_eq!(
        (page.as_object().map(serde_json::Map::len), page["sessions"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    bench.set_switch(address, "modified_until", "backwards").await;
    assert_eq!(page_since(&bench, "2026-01-02T00:00:00Z").await, (1, "2026-01-01T00:00:00Z".to_owned()));
}

#[tokio::test]
async fn the_feed_and_every_response_go_by_the_vendors_clock() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    // 14 minutes late: the caller's Date is accepted, its time as modifiedSince is not.
    bench.set_switch(address, "clock_offset_seconds", -840).await;
    let now = unix_now();
    assert_eq!(read_since(&bench, &text(now)).await.status, Some(400));
    create_finished_sessions(&bench, 1).await;
    let response = read_since(&bench, &text(now - 900)).await;
    let date = httpdate::parse_http_date(&response.date).expect("a date");
    let date = date.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((now - 840..now).contains(&date), "{}", response.date);
    let page = response.json();
    let until = page["modifiedUntil"].as_str().expect("a time");
    assert_eq!(page["sessions"].as_array().map(Vec::len), Some(1));
    assert!((text(now - 840)..text(now)).contains(&until.to_owned()), "{until}");
    bench.inject_fault(address, json!({ "name": "rate_limited" })).await;
    let refused = read_page(&bench, &Value::Null).await;
    let date = httpdate::parse_http_date(&refused.date).expect("a date");
    assert!(refused.status == Some(429) && date < SystemTime::now() - Duration::from_secs(700), "{}", refused.date);
}

#[tokio::test]
async fn a_later_page_may_be_cut_replaced_or_refused() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 2).await;
    bench.set_switch(address, "session_page_size", 1).await;
    for (fault, status, retry_after) in [
        (json!({ "name": "rate_limited", "retryAfter": null }), 429, ""),
        (json!({ "name": "rate_limited", "retryAfter": 7 }), 429, "7"),
        (json!({ "name": "html_page" }), 200, ""),
        (json!({ "name": "truncated_json" }), 200, ""),
        (json!({ "name": "message_with_200" }), 200, ""),
    ] {
        let mut order = fault.clone();
        order["operation"] = json!("sessions");
        order["after"] = json!(1);
        bench.inject_fault(address, order).await;
        let token = read_page(&bench, &Value::Null).await.json()["continuationToken"].clone();
        let page = read_page(&bench, &token).await;
        assert_eq!((page.status, &*page.retry_after), (Some(status), retry_after), "{fault}");
        let read: Value = serde_json::from_str(&page.text()).unwrap_or_default();
        assert!(read.get("sessions").is_none(), "{fault}: {read}");
    }
    bench.inject_fault(address, json!({ "name": "truncated_body", "operation": "sessions" })).await;
    assert_eq!(read_page(&bench, &Value::Null).await.body, None);
}

#[tokio::test]
async fn pages_are_spelt_in_ways_that_no_page_documents() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 1).await;
    let read = async |faults: Value| {
        bench.configure(address, json!({ "faults": faults })).await;
        read_page(&bench, &Value::Null).await.json()
    };
    let pascal = read(json!([{ "name": "pascal_case" }])).await;
    assert_eq!((&pascal["Sessions"][0]["IsFinished"], pascal["ModifiedUntil"].is_string()), (&json!(true), true));
    let strings = read(json!([{ "name": "numbers_as_strings" }])).await;
    assert_eq!((&strings["sessions"][0]["score"], &strings["sessions"][0]["percent"]), (&json!("4"), &json!("57.14")));
    let extra = read(json!([{ "name": "extra_fields" }])).await;
    assert!(extra["apiVersion"].is_string() && extra["sessions"][0]["apiVersion"].is_string());
    bench.configure(address, json!({ "switches": { "second_list": true, "session_list_name": "items" } })).await;
    let page = read(json!([])).await;
    assert_eq!((&page["messages"], page["items"].as_array().map(Vec::len)), (&json!([]), Some(1)));
}

#[tokio::test]
async fn a_large_feed_is_read_once_and_in_order() {
    let bench = Bench::start().await;
    let order = json!({
        "count": 2_600, "finished": true, "modified": "2026-03-01T10:00:00Z", "spreadSeconds": 600,
        "data": [{ "name": "Number", "value": "{n}" }],
    });
    sit(&bench, order).await;
    let (mut token, mut numbers, mut pages) = (Value::Null, Vec::new(), 0);
    while pages < 10 {
        let page = read_page(&bench, &token).await.json();
        pages += 1;
        numbers.extend(page["sessions"].as_array().expect("a list").iter().map(|one| {
            let number = one["participantData"][0]["value"].as_str().expect("text");
            number.parse::<usize>().expect("a number")
        }));
        token = page["continuationToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!((pages, numbers), (6, (1..=2_600).collect::<Vec<_>>()));
}
