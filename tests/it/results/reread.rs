//! Reading the kept reports again: the same as having read them so from the start.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::*;

/// Returns what results say, without ids, times and versions, in order.
async fn sayings(gateway: &Gateway) -> BTreeSet<String> {
    let live = |result: &Value| result["superseded"] != true;
    let said = all(gateway, "/results?limit=100").await.into_iter().filter(live).map(|result| {
        let member = |name: &str| result.get(name).cloned().unwrap_or_default();
        let said = json!({
            "who": text(&result, "/candidate/externalId"), "number": result["attempt"]["number"],
            "claimed": result.get("assignment").is_some(), "closedBy": result["attempt"]["closedBy"],
            "activity": member("activity"), "grading": member("grading"), "score": member("score"),
            "level": member("level"), "parts": member("parts"), "counts": member("counts"),
            "warnings": warning_codes(&result),
        });
        said.to_string()
    });
    said.collect()
}

/// Changes settings in the configuration of a stopped gateway.
fn change(folder: &tempfile::TempDir, from: &str, to: &str) {
    let path = folder.path().join("examgate.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&path, text.replace(from, to)).expect("the configuration can be written");
}

async fn reread(gateway: &Gateway, connection: &str) -> Value {
    let accepted = gateway.post(&format!("/connections/{connection}/reread"), &json!({})).await;
    assert_eq!((accepted.status, accepted.text("/kind")), (202, "reread"), "{accepted:?}");
    let path = format!("/operations/{}", accepted.text("/id"));
    wait_until(gateway, &path, |shown| shown.text("/state") == "completed").await.body
}

/// Sends everything there is, in an order that makes trouble.
async fn play_webhooks(sandbox: &Sandbox, gateway: &Gateway) {
    for id in ["t1", "t2", "t3"] {
        book(gateway, THINK, id).await;
    }
    let older = |id: &str, given: f64| with(marks(id, given), "form", json!("older"));
    let sent = [
        with(marks("t1", 0.0), "status", json!("STARTED")),
        marks("t1", 31.0),
        marks("t1", 35.0),
        older("t2", 41.0),
        with(marks("t3", 20.0), "status", json!("SUBMITTED")),
    ];
    for result in sent {
        deliver(sandbox, gateway, &[result]).await;
    }
    wait_for_count(gateway, "/reports?limit=100&state=applied", 5).await;
}

#[tokio::test]
async fn webhooks_read_again_under_other_settings_are_as_if_read_so_from_the_start() {
    let sandbox = sandbox().await;
    let later = "second_result = \"correction\"\ncompletes = [\"COMPLETED\", \"SUBMITTED\"]\nolder_score_member = \"CORRECT_MARKS\"";
    let fresh = Gateway::start(&connections(&sandbox, "", later)).await;
    play_webhooks(&sandbox, &fresh).await;
    let expected = sayings(&fresh).await;

    let earlier = "second_result = \"attempt\"\ncompletes = [\"COMPLETED\"]";
    let gateway = Gateway::start(&connections(&sandbox, "", earlier)).await;
    play_webhooks(&sandbox, &gateway).await;
    let before = sayings(&gateway).await;
    assert_ne!(before, expected);
    // Under the same settings nothing changes.
    reread(&gateway, THINK).await;
    assert_eq!(sayings(&gateway).await, before);
    let results = all(&gateway, "/results?limit=100").await;
    assert!(results.iter().all(|result| result["version"].as_u64() <= Some(2)), "{results:?}");

    gateway.terminate().await;
    let folder = gateway.folder_after_exit().await;
    change(&folder, earlier, later);
    let gateway = Gateway::start_in(folder).await;
    assert_eq!(sayings(&gateway).await, before, "nothing is read again by itself");
    reread(&gateway, THINK).await;
    assert_eq!(sayings(&gateway).await, expected);
    let merged = all(&gateway, "/results?limit=100").await.into_iter().find(|result| result["superseded"] == true);
    assert!(merged.is_some(), "the second attempt is now a correction of the first");

    // And back.
    gateway.terminate().await;
    let folder = gateway.folder_after_exit().await;
    change(&folder, later, earlier);
    let gateway = Gateway::start_in(folder).await;
    reread(&gateway, THINK).await;
    assert_eq!(sayings(&gateway).await, before);
}

#[tokio::test]
async fn sessions_read_again_under_other_settings_are_as_if_read_so_from_the_start() {
    let sandbox = sandbox().await;
    let play = async |gateway: &Gateway, prefix: &str| {
        let mut sessions = Vec::new();
        for id in ["open", "closed", "bare", "twice"] {
            let assignment = book(gateway, START, &format!("{prefix}-{id}")).await;
            let participant = text(&assignment, "/vendorRef/id").to_owned();
            sessions.push(match id {
                "open" => json!({ "participantId": participant }),
                "closed" => json!({ "participantId": participant, "autoClosed": true }),
                "bare" => with(with(finished(&participant, 5.0), "score", Value::Null), "maxScore", Value::Null),
                _ => with(finished(&participant, 5.0), "started", json!("2026-01-01T09:00:00Z")),
            });
            if id == "twice" {
                let again = with(finished(&participant, 6.0), "restart", json!(true));
                sessions.push(with(again, "started", json!("2026-01-02T09:00:00Z")));
            }
        }
        sit(&sandbox, &json!(sessions)).await;
        read_feed(gateway).await;
        wait_for_count(gateway, "/reports?limit=100&state=applied", 5).await;
    };
    let unnamed = |sayings: BTreeSet<String>, prefix: &str| -> BTreeSet<String> {
        sayings.into_iter().map(|said| said.replace(&format!("{prefix}-"), "")).collect()
    };
    let never = "session_report = \"never\"\nregression = \"ignore\"\n";
    let later = format!("{never}unscored = \"final\"\nrestart = \"correction\"\nauto_closed_ends = true");
    let earlier = format!("{never}unscored = \"pending\"\nrestart = \"attempt\"\nauto_closed_ends = false");
    // People of the other gateway are strangers to this one: their sessions are parked, and not shown.
    let fresh = Gateway::start(&connections(&sandbox, &later, "")).await;
    play(&fresh, "fresh").await;
    let expected = unnamed(sayings(&fresh).await, "fresh");
    let gateway = Gateway::start(&connections(&sandbox, &earlier, "")).await;
    play(&gateway, "later").await;
    assert_ne!(unnamed(sayings(&gateway).await, "later"), expected);
    gateway.terminate().await;
    let folder = gateway.folder_after_exit().await;
    change(&folder, &earlier, &later);
    let gateway = Gateway::start_in(folder).await;
    reread(&gateway, START).await;
    assert_eq!(unnamed(sayings(&gateway).await, "later"), expected);
}

#[tokio::test]
async fn a_reading_that_a_kill_interrupts_is_finished_by_the_next_process() {
    let (sandbox, gateway) =
        start_with("session_report = \"never\"\nregression = \"ignore\"\nunscored = \"pending\"", "").await;
    let participants = book_many(&gateway, 60).await;
    let sessions: Vec<Value> =
        participants.iter().map(|participant| with(finished(participant, 5.0), "score", Value::Null)).collect();
    sit(&sandbox, &json!(sessions)).await;
    read_feed(&gateway).await;
    wait_for_count(&gateway, "/results?limit=100&grading=pending", 60).await;
    gateway.terminate().await;
    let folder = gateway.folder_after_exit().await;
    change(&folder, "unscored = \"pending\"", "unscored = \"final\"");
    let gateway = Gateway::start_in(folder).await;
    let accepted = gateway.post(&format!("/connections/{START}/reread"), &json!({})).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let gateway = Gateway::start_in(gateway.kill().await).await;
    wait_until(&gateway, &format!("/operations/{}", accepted.text("/id")), |shown| shown.text("/state") == "completed")
        .await;
    let results = wait_for_count(&gateway, "/results?limit=100&grading=not_graded", 60).await;
    assert!(results.iter().all(|result| result["version"] == 2), "{results:?}");
}

#[tokio::test]
async fn a_request_under_a_key_begins_one_operation() {
    let (_sandbox, gateway) = start().await;
    let path = format!("/connections/{START}/reread");
    let since = json!({ "since": "2026-01-01T00:00:00Z" });
    let first = gateway.post_with_key(&path, "k1", &since).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, None), "{first:?}");
    let again = gateway.post_with_key(&path, "k1", &since).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")), "{again:?}");
    assert_eq!(again.text("/id"), first.text("/id"));
    let other = gateway.post_with_key(&path, "k1", &json!({})).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused", "not_applied"));
    // No body means the same as an empty object.
    let all = gateway.post_with_key(&path, "k2", &json!({})).await;
    let bare = gateway.request(Method::POST, &path).header("idempotency-key", "k2").send().await;
    assert_eq!((bare.status, bare.text("/id")), (202, all.text("/id")), "{bare:?}");
    assert_eq!(gateway.get("/operations?kind=reread").await.body["items"].as_array().map(Vec::len), Some(2));
}
