//! The webhooks as a source of reports.

use serde_json::json;

use super::*;
use crate::domain::error::Code;
use crate::domain::results::{
    AttemptRule, ChangesQuery, Repetition, ReportChannel, ReportContext, ReportKind, ScoringRules,
};

fn receiving(more: &Value) -> VendorConnection {
    let mut results = json!({
        "mode": "webhook", "path_token": "plain:0123456789abcdef", "keys": ["plain:key-of-the-webhook", "plain:next-key"],
    });
    results.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    connected_with("https://exams.example.com", &json!({ "results": results }))
}

fn webhook() -> Vec<u8> {
    let result = json!({ "email": "ada@example.com", "status": "COMPLETED", "marks_scored": 8, "total_marks": "20" });
    json!({ "result": result }).to_string().into_bytes()
}

#[test]
fn the_plan_is_that_of_the_settings() {
    assert!(connected("https://exams.example.com").vendor.report_source().is_none(), "off by default");
    let connected = receiving(&json!({ "on_refusal": 200, "match": ["path"], "owner": "hr" }));
    let source = connected.vendor.report_source().unwrap();
    let ReportChannel::Receiver(plan) = source.channel() else { panic!("a receiver") };
    assert_eq!((plan.on_refusal, plan.only_open, source.owner()), (200, false, Some("hr")));
    assert!(plan.path_token.matches_constant_time("0123456789abcdef"));
    let keys: Vec<&str> = plan.keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["key-of-the-webhook", "next-key"]);
    assert_eq!(plan.key_headers, ["X-webhook_key", "webhook_key", "X-Webhook-Key"]);
    let connected = receiving(&json!({ "second_result": "correction" }));
    let source = connected.vendor.report_source().unwrap();
    let ReportChannel::Receiver(plan) = source.channel() else { panic!("a receiver") };
    assert_eq!((plan.on_refusal, plan.only_open, source.owner()), (401, true, None));
    let fold = source.fold_settings(ScoringRules::default());
    assert_eq!(fold.attempts, AttemptRule::ByReport(Repetition::Correction));
}

#[test]
fn a_webhook_is_read_with_the_test_that_its_address_names() {
    let connected = receiving(&json!({}));
    let source = connected.vendor.report_source().unwrap();
    let context = ReportContext { assessment: Some("1401".to_owned()), ..ReportContext::default() };
    let named = source.read_report(ReportKind::Webhook, &webhook(), &context).reading.unwrap();
    assert_eq!(named.hints.test.as_deref(), Some("1401"));
    let unnamed = source.read_report(ReportKind::Webhook, &webhook(), &ReportContext::default()).reading.unwrap();
    assert_eq!((unnamed.hints.test, unnamed.hints.email.as_deref()), (None, Some("ada@example.com")));
}

#[tokio::test]
async fn the_vendor_cannot_be_asked_for_results() {
    let connected = receiving(&json!({}));
    let source = connected.vendor.report_source().unwrap();
    let query = ChangesQuery { since: Timestamp::UNIX_EPOCH, center: None, token: None };
    let errors = [
        source.read_changes(&query, &first()).await.unwrap_err(),
        source.fetch_report("1", None, &first()).await.unwrap_err(),
        source.vendor_time(&first()).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.code == Code::CapabilityUnsupported), "{errors:?}");
}

#[test]
fn secrets_of_the_receiver_are_masked_and_their_errors_named() {
    let connected = receiving(&json!({}));
    let said = connected.client.clean("0123456789abcdef key-of-the-webhook next-key", []);
    assert_eq!(said, "*** *** ***");
    let settings = json!({
        "base_url": "https://exams.example.com",
        "signature": { "mode": "static", "ak": "plain:a1", "sgn": "plain:b1", "ts": "plain:1" },
        "results": { "mode": "webhook", "path_token": "plain:short-hunter2", "keys": ["env:NONE"], "match": [] },
    });
    let errors = attempt_connect(settings, &unlimited()).err().unwrap();
    let keys: Vec<&str> = errors.iter().map(|error| &*error.key).collect();
    assert_eq!(keys, ["results.keys.0", "results.path_token", "results.match"]);
    assert!(!format!("{errors:?}").contains("hunter2"));
}
