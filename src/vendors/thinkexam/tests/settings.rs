//! Accepted settings, and the errors of invalid ones.

use serde_json::{Value, json};

use super::*;

fn faults(settings: Value) -> Vec<(String, String)> {
    let faults = attempt_connect(settings, &ConnectionSettings::default()).err().unwrap_or_default();
    faults.into_iter().map(|fault| (fault.key, fault.detail)).collect()
}

fn keys(settings: Value) -> Vec<String> {
    faults(settings).into_iter().map(|(key, _)| key).collect()
}

fn remote(more: &Value) -> Value {
    let mut signature = json!({
        "mode": "remote", "url": "https://exams.example.com/api/v1/signature", "api_key": "plain:k1", "secret": "plain:s1",
    });
    signature.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "base_url": "https://exams.example.com", "signature": signature })
}

#[test]
fn the_documented_example_is_accepted() {
    let more = json!({
        "method": "POST",
        "headers": {},
        "body": "{\"apiKey\":\"{api_key}\",\"secret\":\"{secret}\"}",
        "ak_pointer": "/ak", "sgn_pointer": "/sgn", "ts_pointer": "/ts", "ttl": "60s",
    });
    let mut settings = remote(&more);
    settings["password_encoding"] = json!("plain");
    settings["default_group"] = json!("");
    settings["link_template"] = json!("");
    assert_eq!(faults(settings), []);
}

#[test]
fn every_error_is_reported_at_once() {
    let settings = json!({
        "base_url": "http://exams.example.com",
        "link_template": "https://exams.example.com/{tokn}",
        "signature": { "mode": "remote", "url": "nonsense", "method": "DELETE", "sgn_pointer": "sgn", "secret": "env:NO" },
    });
    let expected = [
        "base_url",
        "link_template",
        "signature.url",
        "signature.method",
        "signature.api_key",
        "signature.secret",
        "signature.sgn_pointer",
    ];
    assert_eq!(keys(settings), expected);
}

#[test]
fn a_key_of_another_mode_is_an_error() {
    let expected = ["signature.algorithm", "signature.ts", "signature.sgn"];
    assert_eq!(keys(remote(&json!({ "algorithm": "md5", "ts": "seconds", "sgn": "plain:x" }))), expected);
    let fixed = json!({ "mode": "static", "ak": "plain:a", "sgn": "plain:b", "ts": "plain:1", "api_key": "plain:k" });
    assert_eq!(keys(json!({ "base_url": "https://x.example", "signature": fixed })), ["signature.api_key"]);
}

#[test]
fn urls_that_would_send_secrets_in_clear_text_are_rejected() {
    assert_eq!(keys(remote(&json!({ "url": "http://sign.example.com/" }))), ["signature.url"]);
    assert_eq!(keys(remote(&json!({ "url": "https://me:pw@sign.example.com/" }))), ["signature.url"]);
    assert_eq!(keys(remote(&json!({ "url": "http://127.0.0.1:9/" }))), Vec::<String>::new());
}

#[test]
fn templates_are_checked_before_they_are_used() {
    assert_eq!(keys(remote(&json!({ "body": "{\"k\":\"{apikey}\"}" }))), ["signature.body"]);
    assert_eq!(keys(remote(&json!({ "body": "key={api_key}" }))), ["signature.body"]);
    assert_eq!(keys(remote(&json!({ "headers": { "bad name": "x" } }))), ["signature.headers.bad name"]);
}

#[rstest]
#[case::base64("plain:not base64!", "base64")]
#[case::hex("plain:abc", "hex")]
fn a_secret_that_does_not_match_key_encoding_is_an_error(#[case] secret: &str, #[case] encoding: &str) {
    let signature = json!({ "mode": "hmac", "api_key": "plain:k1", "secret": secret, "key_encoding": encoding });
    assert_eq!(keys(json!({ "base_url": "https://x.example", "signature": signature })), ["signature.secret"]);
}

#[test]
fn static_mode_needs_all_three_values() {
    let signature = json!({ "mode": "static", "sgn": "plain:b\nc", "ts": "1795348800" });
    let settings = json!({ "base_url": "https://x.example", "signature": signature });
    assert_eq!(keys(settings), ["signature.ak", "signature.ts"]);
}

#[test]
fn no_secret_is_shown() {
    let hidden = ["hunter2", "hunter3", "hunter4"];
    let signature = json!({
        "mode": "static", "ak": "plain:hunter2", "sgn": "hunter3-", "ts": "hunter4", "body": "{\"s\":\"hunter2\"}",
        "headers": { "X-Secret": "hunter2" },
    });
    let reference =
        serde_json::from_value::<Settings>(json!({ "base_url": "https://x", "signature": signature.clone() }));
    let told = reference.unwrap_err().to_string();
    let mut signature = signature;
    signature["sgn"] = json!("plain:hunter3");
    let settings: Settings =
        serde_json::from_value(json!({ "base_url": "https://x", "signature": signature.clone() })).unwrap();
    let shown = format!("{settings:?}{told}{:?}", faults(json!({ "base_url": "https://x", "signature": signature })));
    for secret in hidden {
        assert!(!shown.contains(secret), "{shown}");
    }
}
