//! Hashes of a request's meaning: equal for two requests with the same meaning, different for any other two. They
//! distinguish a retry from a different request that uses the same `Idempotency-Key` by mistake.
//!
//! For JSON only the meaning counts: field order, white space, escapes and the spelling of numbers do not. Every part
//! is hashed with its kind and length, so that no two values have the same encoding.

use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub(in crate::http) type Fingerprint = [u8; 32];

/// How a body is parsed: the same bytes have different meanings in different formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum BodyFormat {
    /// No body.
    Empty,
    /// JSON, hashed by its meaning.
    Json,
    /// NDJSON, hashed by its bytes.
    Lines,
    /// CSV, hashed by its bytes.
    Csv,
}

/// Integers up to this one are exact in a double (2^53).
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Hashes the content of a request: its query and the hash of its body.
pub(in crate::http) fn request_fingerprint(query: Option<&str>, form: BodyFormat, body: &Fingerprint) -> Fingerprint {
    let mut pairs: Vec<_> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    pairs.sort();
    let mut hash = Sha256::new();
    length(&mut hash, b'q', pairs.len());
    for (name, value) in pairs {
        text(&mut hash, &name);
        text(&mut hash, &value);
    }
    hash.update(match form {
        BodyFormat::Empty => b"e",
        BodyFormat::Json => b"j",
        BodyFormat::Lines => b"l",
        BodyFormat::Csv => b"c",
    });
    hash.update(body);
    hash.finalize().into()
}

/// Hashes the meaning of a value.
pub(in crate::http) fn hash(value: &Value) -> Fingerprint {
    let mut hash = Sha256::new();
    write(&mut hash, value);
    hash.finalize().into()
}

/// Hashes many values one at a time, together with the value that surrounds them.
#[derive(Default)]
pub(in crate::http) struct SequenceHasher(Sha256);

impl SequenceHasher {
    pub(in crate::http) fn add(&mut self, value: &Value) {
        self.0.update(hash(value));
    }

    /// Returns the hash of the values in their order and of the value around them.
    pub(in crate::http) fn within(self, around: &Value) -> Fingerprint {
        let mut whole = Sha256::new();
        whole.update(hash(around));
        whole.update(self.0.finalize());
        whole.finalize().into()
    }
}

fn write(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => write_number(hash, number),
        Value::String(value) => text(hash, value),
        Value::Array(items) => {
            length(hash, b'a', items.len());
            for item in items {
                write(hash, item);
            }
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            length(hash, b'o', members.len());
            for (name, value) in members {
                text(hash, name);
                write(hash, value);
            }
        }
    }
}

/// Hashes a number: `1`, `1.0` and `10e-1` are equal (RFC 8259 §6 leaves that to the reader, and callers' libraries
/// differ).
fn write_number(hash: &mut Sha256, number: &Number) {
    let whole =
        number.as_f64().filter(|value| !number.is_i64() && !number.is_u64() && value.abs() <= MAX_EXACT_INTEGER);
    let spelt = match whole {
        // Adding zero turns -0 into 0.
        Some(value) if value.fract() == 0.0 => format!("{:.0}", value + 0.0),
        _ => number.to_string(),
    };
    length(hash, b'd', spelt.len());
    hash.update(spelt.as_bytes());
}

fn text(hash: &mut Sha256, value: &str) {
    length(hash, b's', value.len());
    hash.update(value.as_bytes());
}

fn length(hash: &mut Sha256, kind: u8, length: usize) {
    hash.update([kind]);
    hash.update((length as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Fingerprint {
        hash(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn spelling_does_not_change_the_hash() {
        for (one, other) in [
            (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ],\n\t\"a\" : 1 }"),
            (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#),
            (r#""\u00e4\/\n""#, "\"ä/\\n\""),
            ("1", "1.0"),
            ("100", "1e2"),
            ("0", "-0.0"),
            ("-3", "-30e-1"),
            ("0.5", "5E-1"),
            // Without `float_roundtrip`, serde_json parses the two slightly differently.
            ("9007199256744073709551616", "9.007199256744073e24"),
        ] {
            assert_eq!(of(one), of(other), "{one} {other}");
        }
    }

    #[test]
    fn every_other_difference_changes_the_hash() {
        let all = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "1.5",
            "9007199254740993",
            "9007199254740992",
            "\"\"",
            "\"1\"",
            "\"null\"",
            "[]",
            "[[]]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[\"ab\"]",
            "[\"a\",\"b\"]",
            "{}",
            "[{}]",
            r#"{"a":"b"}"#,
            r#"{"b":"a"}"#,
            r#"{"a":"b","c":"d"}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"["a","b","c","d"]"#,
            r#"{"a":null}"#,
            r#"{"a":[]}"#,
            "\"ä\"",
            "\"a\u{308}\"",
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(of(one), of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn query_is_hashed_by_its_meaning() {
        let body = [7; 32];
        let of =
            |query: &str| request_fingerprint(Some(query).filter(|query| !query.is_empty()), BodyFormat::Json, &body);
        assert_eq!(of("a=1&b=x%20y"), of("b=x+y&a=1"));
        for other in ["", "a=1", "a=1&b=xy", "a=b&1=x%20y", "a=1b=x&y="] {
            assert_ne!(of("a=1&b=x%20y"), of(other), "{other}");
        }
    }

    #[test]
    fn same_bytes_in_another_format_hash_differently() {
        let forms = [BodyFormat::Empty, BodyFormat::Json, BodyFormat::Lines, BodyFormat::Csv];
        for (index, one) in forms.iter().enumerate() {
            for other in &forms[index + 1..] {
                assert_ne!(request_fingerprint(None, *one, &[0; 32]), request_fingerprint(None, *other, &[0; 32]));
            }
        }
    }

    #[test]
    fn order_of_values_changes_the_hash() {
        let of = |values: &[Value], around: Value| {
            let mut many = SequenceHasher::default();
            for value in values {
                many.add(value);
            }
            many.within(&around)
        };
        let (a, b) = (Value::from(1), Value::from(2));
        assert_eq!(of(&[a.clone(), b.clone()], Value::Null), of(&[Value::from(1.0), b.clone()], Value::Null));
        assert_ne!(of(&[a.clone(), b.clone()], Value::Null), of(&[b.clone(), a.clone()], Value::Null));
        assert_ne!(of(&[a.clone(), b.clone()], Value::Null), of(std::slice::from_ref(&a), b.clone()));
        assert_ne!(of(std::slice::from_ref(&a), Value::Null), of(&[a], Value::from("x")));
    }
}
