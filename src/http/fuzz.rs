//! Entry points for the fuzzer: any request body.
#![expect(clippy::missing_panics_doc, reason = "a panic reports a finding to the fuzzer")]

use serde_json::Value;

use crate::http::extract::fingerprint::{BodyFormat, hash, request_fingerprint};
use crate::http::extract::strict_json::parse_strict;
use crate::http::handlers::bulk::fuzz;

/// Maximum number of JSON values in a body.
const MAX_VALUES: usize = 10_000;

/// Parses the same bytes as CSV of candidates and of bookings.
pub fn csv(data: &[u8]) {
    fuzz::table(data);
}

/// Parses the same bytes as NDJSON and as one document.
pub fn bulk(data: &[u8]) {
    fuzz::lines(data);
    fuzz::document(data);
}

/// Checks that the fingerprint ignores the spelling of a JSON document and the order of a query, and that wrapping a
/// value changes it. The first line is the query.
pub fn canonical(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (query, body) = data.split_at(end);
    let query = String::from_utf8_lossy(query);
    let Ok(value) = parse_strict(body, MAX_VALUES) else { return };
    let fingerprint = hash(&value);
    let mut spelling = String::new();
    spell(&value, &mut spelling);
    for again in [value.to_string(), format!("{value:#}"), spelling] {
        let reread = parse_strict(again.as_bytes(), MAX_VALUES);
        assert!(reread.is_ok_and(|value| hash(&value) == fingerprint), "the spelling changes the fingerprint: {again}");
    }
    assert_ne!(hash(&Value::Array(vec![value])), fingerprint, "a list of one has the fingerprint of its entry");

    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let turned: Vec<_> = pairs.collect::<Vec<_>>().into_iter().rev().collect();
    let turned: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(turned).finish();
    let of = |query: &str, form| request_fingerprint(Some(query), form, &fingerprint);
    assert_eq!(of(&query, BodyFormat::Json), of(&turned, BodyFormat::Json), "the query's order counts");
    assert_ne!(of(&query, BodyFormat::Json), of(&query, BodyFormat::Lines), "the body format does not count");
}

/// Writes the value with its fields in reverse order, every character of a string escaped, and whitespace wherever JSON
/// allows it.
fn spell(value: &Value, to: &mut String) {
    let list = |to: &mut String, ends: [char; 2], parts: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        to.push(ends[0]);
        for (index, (name, part)) in parts.enumerate() {
            to.push_str(if index == 0 { "\n" } else { " ,\t" });
            if let Some(name) = name {
                escape(name, to);
                to.push_str(" :");
            }
            spell(part, to);
        }
        to.push(ends[1]);
    };
    match value {
        Value::String(text) => escape(text, to),
        Value::Array(items) => list(to, ['[', ']'], &mut items.iter().map(|item| (None, item))),
        Value::Object(members) => {
            let mut turned: Vec<_> = members.iter().collect();
            turned.reverse();
            list(to, ['{', '}'], &mut turned.into_iter().map(|(name, value)| (Some(name), value)));
        }
        plain => to.push_str(&plain.to_string()),
    }
}

fn escape(text: &str, to: &mut String) {
    to.push('"');
    to.extend(text.encode_utf16().map(|unit| format!("\\u{unit:04X}")));
    to.push('"');
}
