//! Accepted settings, and the errors of invalid ones.

use serde_json::{Value, json};

use super::{Settings, adapter, connection, settings};
use crate::domain::deserialize::{DeserializeError, read};

fn faults(changes: &Value) -> Vec<(String, String)> {
    let result = adapter(settings(changes), &connection());
    let faults = result.err().into_iter().flatten();
    faults.map(|fault| (fault.key, fault.detail)).collect()
}

fn keys(changes: &Value) -> Vec<String> {
    faults(changes).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn the_required_settings_are_enough() {
    assert_eq!(faults(&json!({})), []);
    let settings = settings(&json!({ "profile_fields": { "email": "E-Mail" } }));
    assert_eq!(settings.base_url, "https://api.startexam.com");
    assert_eq!(settings.link_template, "https://go.startexam.com/{center}#participant/{id}");
    let fields = settings.profile_fields;
    assert_eq!([fields.given_name, fields.family_name, fields.email], ["First Name", "Last Name", "E-Mail"]);
    assert_eq!(fields.phone_mobile, "");
}

#[test]
fn every_error_is_reported_at_once() {
    let changes = json!({
        "base_url": "http://api.startexam.com",
        "account_id": 0,
        "secret": "env:ANOTHER",
        "center": " ",
        "profile_id": "d51b5efd",
        "profile_fields": { "email": "First Name", "street": "a\nb" },
        "link_template": "https://go.startexam.com/",
    });
    let mut expected =
        ["base_url", "account_id", "secret", "center", "profile_id", "profile_fields.email", "profile_fields.street"]
            .map(str::to_owned)
            .to_vec();
    expected.push("link_template".to_owned());
    assert_eq!(keys(&changes), expected);
}

#[test]
fn a_base_url_with_more_than_a_path_is_rejected() {
    for url in ["api.startexam.com", "https://api.startexam.com/?a=b", "https://me:pw@api.startexam.com", "ftp://x/"] {
        assert_eq!(keys(&json!({ "base_url": url })), ["base_url"], "{url}");
    }
    for url in ["https://proxy.example.com/startexam/", "http://127.0.0.1:9101"] {
        assert_eq!(keys(&json!({ "base_url": url })), Vec::<String>::new(), "{url}");
    }
}

#[test]
fn a_link_template_may_use_placeholders_only_after_the_host() {
    for link in [
        "{id}",
        "https://{id}.example.com/",
        "https://go.example.com/{participant}?{id}",
        "https://go.example.com/{{id}}",
        "http://go.example.com/{id}",
        "javascript:alert({id})",
        "",
    ] {
        assert_eq!(keys(&json!({ "link_template": link })), ["link_template"], "{link}");
    }
    assert_eq!(keys(&json!({ "link_template": "https://go.example.com/x?c={center}&p={id}" })), Vec::<String>::new());
}

#[test]
fn a_secret_that_does_not_decode_is_rejected_and_never_shown() {
    for (encoding, secret) in [("base64", "plain:not base64!"), ("hex", "plain:xyzw"), ("base64", "plain:QUJD=")] {
        let faults = faults(&json!({ "secret": secret, "secret_encoding": encoding }));
        assert_eq!(faults.len(), 1, "{encoding} {secret}");
        assert_eq!(faults[0].0, "secret");
        assert!(!faults[0].1.contains(secret.trim_start_matches("plain:")));
    }
    for (encoding, secret) in [("utf8", "plain:not base64!"), ("base64", "plain:QUJD"), ("hex", "plain:C0ffee")] {
        assert_eq!(faults(&json!({ "secret": secret, "secret_encoding": encoding })), [], "{encoding} {secret}");
    }
    assert!(!format!("{:?}", settings(&json!({ "secret": "plain:hunter2-hunter2" }))).contains("hunter2"));
}

#[test]
fn unknown_and_missing_keys_are_reported() {
    let table = json!({ "account_id": 1, "secret": "plain:x", "center": "c", "profile_id": "p",
                        "scret": 1, "profile_fields": { "mail": "Email" } });
    let mut pointers: Vec<_> = read::<Settings>(table).unwrap_err().iter().map(DeserializeError::pointer).collect();
    pointers.sort();
    assert_eq!(pointers, ["/profile_fields/mail", "/scret"]);
    for key in ["account_id", "secret", "center", "profile_id"] {
        let mut table = json!({ "account_id": 1, "secret": "plain:x", "center": "c", "profile_id": "p" });
        table.as_object_mut().unwrap().remove(key);
        let faults = read::<Settings>(table).unwrap_err();
        assert_eq!(faults.iter().map(DeserializeError::pointer).collect::<Vec<_>>(), [format!("/{key}")]);
    }
}
