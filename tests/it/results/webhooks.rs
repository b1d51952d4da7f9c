//! ThinkExam's webhooks: both forms, copies, any order, wrong keys and addresses.

use serde_json::{Value, json};

use super::*;
use crate::support::gateway::ApiResponse;

const OLDER: &str = "older_score_member = \"CORRECT_MARKS\"";

#[tokio::test]
async fn either_form_of_the_body_becomes_a_result() {
    let (sandbox, gateway) = start_with("", OLDER).await;
    let [current, older, named] =
        [book(&gateway, THINK, "t1").await, book(&gateway, THINK, "t2").await, book(&gateway, THINK, "t3").await];
    let subjects = json!({ "subjectNames": ["Logic", "Words"], "subjectMarks": [20, 11] });
    let mut first = marks("t1", 31.0);
    first.as_object_mut().expect("an object").extend(subjects.as_object().expect("an object").clone());
    deliver_unnamed(&sandbox, &gateway, &[first, with(marks("t2", 32.0), "form", json!("older"))]).await;
    deliver(&sandbox, &gateway, &[marks("t3", 33.0)]).await;

    let result = wait_for_version(&gateway, &current, 1).await;
    assert_eq!(result["score"], json!({ "given": 31.0, "maximum": 50.0, "percent": 62.0 }), "{result}");
    let labels: Vec<_> = result["parts"].as_array().expect("parts").iter().map(|part| text(part, "/label")).collect();
    assert_eq!((labels, text(&result, "/parts/0/kind")), (vec!["Logic", "Words"], "subject"), "{result}");
    assert!(warning_codes(&result).contains(&"matched_by_only_open"), "the body names no test: {result}");
    assert_eq!(
        (text(&result, "/source"), &result["attempt"]["approximate"]),
        ("webhook", &json!(["completedAt"])),
        "{result}"
    );
    let result = wait_for_version(&gateway, &older, 1).await;
    assert_eq!(
        result["score"],
        json!({ "given": 32.0, "maximum": 50.0 }),
        "the older form has no percentage: {result}"
    );
    assert!(!warning_codes(&result).contains(&"matched_by_only_open"), "the body names the test: {result}");
    let result = wait_for_version(&gateway, &named, 1).await;
    assert_eq!(
        (&result["score"]["given"], warning_codes(&result).len()),
        (&json!(33.0), 0),
        "the path names it: {result}"
    );
    let shown = wait_for_activity(&gateway, &named, "completed").await;
    assert_eq!((text(&shown, "/progress/grading"), shown["progress"].get("asOf")), ("fully_graded", None), "{shown}");
}

#[tokio::test]
async fn copies_are_one_report_and_one_result() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    deliver(&sandbox, &gateway, &[with(marks("t1", 31.0), "copies", json!(20))]).await;
    let path = "/reports?limit=100";
    let reports = wait_until(&gateway, path, |page| page.body["items"][0]["repeats"] == 19).await;
    assert_eq!(reports.body["items"].as_array().map(Vec::len), Some(1), "{reports:?}");
    wait_for_version(&gateway, &assignment, 1).await;
}

#[tokio::test]
async fn a_second_result_is_another_attempt_or_a_correction_as_configured() {
    for (setting, count) in [("attempt", 2), ("correction", 1)] {
        let (sandbox, gateway) = start_with("", &format!("second_result = \"{setting}\"")).await;
        let assignment = book(&gateway, THINK, "t1").await;
        // One after the other: there is nothing in them that says which is later.
        for given in [31.0, 37.0] {
            deliver(&sandbox, &gateway, &[marks("t1", given)]).await;
        }
        let path = format!("/results?assignment={}", text(&assignment, "/id"));
        let complete = |page: &ApiResponse| {
            let mut results = page.body["items"].as_array().into_iter().flatten();
            results.any(|result| result["score"]["given"] == 37.0)
        };
        wait_until(&gateway, &path, complete).await;
        let results = wait_for_count(&gateway, &path, count).await;
        let counting = results.iter().find(|result| result["counts"] == true).expect("one that counts");
        assert_eq!(counting["score"]["given"], 37.0, "{setting}: the latest counts: {results:?}");
        assert_eq!(counting["version"], if setting == "correction" { 2 } else { 1 }, "{results:?}");
    }
}

#[tokio::test]
async fn an_unfinished_status_that_arrives_late_undoes_nothing() {
    let (sandbox, gateway) = start().await;
    let [in_order, reversed] = [book(&gateway, THINK, "t1").await, book(&gateway, THINK, "t2").await];
    let begun = |id: &str| with(marks(id, 0.0), "status", json!("STARTED"));
    deliver(&sandbox, &gateway, &[begun("t1"), marks("t1", 31.0), marks("t2", 31.0), begun("t2")]).await;
    wait_for_count(&gateway, "/reports?limit=100&state=applied", 4).await;
    for assignment in [in_order, reversed] {
        wait_for_activity(&gateway, &assignment, "completed").await;
        let path = format!("/results?assignment={}", text(&assignment, "/id"));
        let results = wait_for_count(&gateway, &path, 1).await;
        assert_eq!(
            (&results[0]["score"]["given"], text(&results[0], "/activity")),
            (&json!(31.0), "completed"),
            "{results:?}"
        );
    }
}

#[tokio::test]
async fn only_the_right_address_with_the_right_key_is_taken() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    let one = |name: &str, value: Value| with(with(marks("t1", 31.0), "attempts", json!(1)), name, value);
    let own = receiver(&gateway, &format!("/{APTITUDE}"));
    assert_eq!(deliver_to(&sandbox, &own, &[one("key", json!("another-key"))]).await, [401]);
    assert_eq!(deliver_to(&sandbox, &own, &[one("keyHeader", json!("none"))]).await, [401]);
    // Trying addresses reveals nothing: the same answer for any of them.
    let mut answers = Vec::new();
    for address in [
        format!("/receivers/{THINK}/another-token-of-tests"),
        format!("/receivers/{THINK}/another-token-of-tests/{APTITUDE}"),
        format!("/receivers/{START}/{TOKEN}"),
        format!("/receivers/nowhere/{TOKEN}"),
    ] {
        let request =
            gateway.anonymous(Method::POST, &address).header("x-webhook_key", accounts::thinkexam::WEBHOOK_KEY);
        let answer = request.json(&json!({ "result": {} })).send().await;
        assert_eq!(answer.status, 404, "{address}: {answer:?}");
        assert!(!answer.body.to_string().contains("token") && !answer.body.to_string().contains(THINK), "{answer:?}");
        let mut body = answer.body.clone();
        for own in ["instance", "requestId"] {
            body.as_object_mut().expect("a problem").remove(own);
        }
        answers.push(body);
    }
    assert!(answers.iter().all(|body| *body == answers[0]), "{answers:?}");
    // Every spelling of the header is taken, also one that a proxy has made of it.
    for header in ["X-webhook_key", "webhook_key", "X-Webhook-Key"] {
        deliver(&sandbox, &gateway, &[one("keyHeader", json!(header))]).await;
    }
    wait_for_version(&gateway, &assignment, 1).await;
    let reports = wait_until(&gateway, "/reports?limit=10", |page| page.body["items"][0]["repeats"] == 2).await;
    assert_eq!(reports.body["items"].as_array().map(Vec::len), Some(1), "nothing refused was kept: {reports:?}");
}

#[tokio::test]
async fn a_refusal_may_be_answered_as_if_it_were_taken() {
    let (sandbox, gateway) = start_with("", "on_refusal = 200").await;
    let assignment = book(&gateway, THINK, "t1").await;
    let own = receiver(&gateway, "");
    assert_eq!(deliver_to(&sandbox, &own, &[with(marks("t1", 1.0), "key", json!("another-key"))]).await, [200]);
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!(result["score"]["given"], 31.0, "{result}");
    assert_eq!(all(&gateway, "/reports?limit=10").await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_as_rejected_and_what_is_too_long_is_refused() {
    let (sandbox, gateway) = start().await;
    let path = format!("/receivers/{THINK}/{TOKEN}");
    let post = |body: String| {
        let request = gateway.anonymous(Method::POST, &path).header("x-webhook_key", accounts::thinkexam::WEBHOOK_KEY);
        request.body("text/plain", body)
    };
    for body in ["no JSON", "[]", "{\"result\":{\"email\":\"nobody\"}}", ""] {
        assert_eq!(post(body.to_owned()).send().await.status, 200, "{body}");
    }
    let rejected = wait_for_count(&gateway, "/reports?limit=10&state=rejected", 4).await;
    assert!(rejected.iter().all(|report| text(report, "/connection") == THINK), "{rejected:?}");
    let long = format!("{{\"result\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(post(long).send().await.status, 413);
    // Marks that are no number leave the attempt without a score, and say so.
    let assignment = book(&gateway, THINK, "t1").await;
    deliver(&sandbox, &gateway, &[with(marks("t1", 0.0), "marksText", json!("absent"))]).await;
    let result = wait_for_version(&gateway, &assignment, 1).await;
    assert_eq!((text(&result, "/grading"), result.get("score")), ("failed", None), "{result}");
}

#[tokio::test]
async fn receivers_can_have_a_listener_of_their_own() {
    let sandbox = sandbox().await;
    let environment = [("EXAMGATE__SERVER__RECEIVER_LISTEN", "127.0.0.1:0")];
    let clients = crate::support::connections::client("lms", "", "[\"*\"]");
    let mut gateway = Gateway::start_with_env(&connections(&sandbox, "", ""), &clients, &environment).await;
    let address = gateway.receiver_address().await;
    let assignment = book(&gateway, THINK, "t1").await;
    let url = format!("http://{address}/receivers/{THINK}/{TOKEN}");
    assert_eq!(deliver_to(&sandbox, &url, &[marks("t1", 31.0)]).await, [200]);
    wait_for_version(&gateway, &assignment, 1).await;
    // Nothing else need face the Internet.
    for path in ["/results", "/livez", "/openapi.json", "/docs"] {
        let there = http().get(format!("http://{address}{path}")).send().await.expect("a response");
        assert_eq!(there.status().as_u16(), 404, "{path}");
    }
}
