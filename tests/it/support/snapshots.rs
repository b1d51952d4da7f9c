//! Comparison of whole responses and outputs with those stored in `tests/it/snapshots`. CONTRIBUTING says how to update
//! them.

use std::process::Output;

use serde_json::json;

use super::gateway::ApiResponse;

/// What differs from run to run, and what is stored in its place.
const VARYING: [(&str, &str); 7] = [
    (r"\b(cand|asg|op|exc)_[0-9a-f]{32}\b", "${1}_[id]"),
    // Of a participant; the guid of an assessment is always the same.
    (r#"(participant/|"id": ")[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"#, "${1}[guid]"),
    (r#""requestId": "[^"]*""#, r#""requestId": "[request id]""#),
    (r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "[time]"),
    // Free ports have five digits; a default such as 8080 is part of the output.
    (r"\b127\.0\.0\.1:\d{5}\b", "127.0.0.1:[port]"),
    (r"\b\d+ ms\b", "[duration]"),
    (concat!(r"\b", env!("CARGO_PKG_VERSION"), r"\b"), "[version]"),
];

/// Compares status, headers that carry meaning, and body.
pub fn assert_response(name: &str, response: &ApiResponse) {
    let headers = ["content-type", "location", "retry-after", "www-authenticate", "allow"];
    let headers = headers.map(|name| (name, response.header(name))).into_iter().filter(|(_, value)| value.is_some());
    let headers: serde_json::Map<_, _> = headers.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let shown = json!({ "status": response.status, "headers": headers, "body": response.body });
    settings().bind(|| insta::assert_json_snapshot!(name, shown));
}

/// Compares exit code, standard output and standard error.
pub fn assert_output(name: &str, output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (code, out, err) = (output.status.code(), text(&output.stdout), text(&output.stderr));
    settings().bind(|| insta::assert_snapshot!(name, format!("exit code: {code:?}\n\n{out}\n-- stderr\n{err}")));
}

/// Compares a text, such as the outputs of several runs.
pub fn assert_text(name: &str, text: &str) {
    settings().bind(|| insta::assert_snapshot!(name, text));
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_sort_maps(true);
    for (varying, stored) in VARYING {
        settings.add_filter(varying, stored);
    }
    settings
}
