//! Accepted settings, and the errors of invalid ones.

use rstest::rstest;
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

#[rstest]
#[case::without_scheme("api.startexam.com")]
#[case::query("https://api.startexam.com/?a=b")]
#[case::user_and_password("https://me:pw@api.startexam.com")]
#[case::ftp("ftp://x/")]
fn a_base_url_with_more_than_a_path_is_rejected(#[case] url: &str) {
    assert_eq!(keys(&json!({ "base_url": url })), ["base_url"]);
}

#[rstest]
#[case::with_a_path("https://proxy.example.com/startexam/")]
#[case::http_on_loopback("http://127.0.0.1:9101")]
fn another_base_url_is_accepted(#[case] url: &str) {
    assert_eq!(keys(&json!({ "base_url": url })), Vec::<String>::new());
}

#[rstest]
#[case::no_url("{id}")]
#[case::placeholder_in_the_host("https://{id}.example.com/")]
#[case::unknown_placeholder("https://go.example.com/{participant}?{id}")]
#[case::doubled_braces("https://go.example.com/{{id}}")]
#[case::plain_http("http://go.example.com/{id}")]
#[case::javascript("javascript:alert({id})")]
#[case::empty("")]
fn a_link_template_may_use_placeholders_only_after_the_host(#[case] link: &str) {
    assert_eq!(keys(&json!({ "link_template": link })), ["link_template"]);
}

#[test]
fn a_link_template_may_use_placeholders_in_its_query() {
    assert_eq!(keys(&json!({ "link_template": "https://go.example.com/x?c={center}&p={id}" })), Vec::<String>::new());
}

#[rstest]
#[case::no_base64("base64", "plain:not base64!")]
#[case::no_hex("hex", "plain:xyzw")]
#[case::odd_padding("base64", "plain:QUJD=")]
fn a_secret_that_does_not_decode_is_rejected_and_never_shown(#[case] encoding: &str, #[case] secret: &str) {
    let errors = faults(&json!({ "secret": secret, "secret_encoding": encoding }));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].0, "secret");
    assert!(!errors[0].1.contains(secret.trim_start_matches("plain:")));
}

#[rstest]
#[case::utf8("utf8", "plain:not base64!")]
#[case::base64("base64", "plain:QUJD")]
#[case::hex("hex", "plain:C0ffee")]
fn a_secret_that_decodes_is_accepted(#[case] encoding: &str, #[case] secret: &str) {
    assert_eq!(faults(&json!({ "secret": secret, "secret_encoding": encoding })), []);
}

#[test]
fn debug_output_hides_the_secret() {
    assert!(!format!("{:?}", settings(&json!({ "secret": "plain:hunter2-hunter2" }))).contains("hunter2"));
}

#[test]
fn unknown_keys_are_reported() {
    let table = json!({ "account_id": 1, "secret": "plain:x", "center": "c", "profile_id": "p",
                        "scret": 1, "profile_fields": { "mail": "Email" } });
    let mut pointers: Vec<_> = read::<Settings>(table).unwrap_err().iter().map(DeserializeError::pointer).collect();
    pointers.sort();
    assert_eq!(pointers, ["/profile_fields/mail", "/scret"]);
}

#[rstest]
fn a_missing_key_is_reported(#[values("account_id", "secret", "center", "profile_id")] key: &str) {
    let mut table = json!({ "account_id": 1, "secret": "plain:x", "center": "c", "profile_id": "p" });
    table.as_object_mut().unwrap().remove(key);
    let errors = read::<Settings>(table).unwrap_err();
    assert_eq!(errors.iter().map(DeserializeError::pointer).collect::<Vec<_>>(), [format!("/{key}")]);
}
