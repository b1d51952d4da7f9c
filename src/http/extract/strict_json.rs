//! Parses JSON as strictly as RFC 8259 and RFC 7493 allow: rejects duplicate fields, trailing data, deep nesting and
//! more values than any legitimate request has, so that two parsers can never read two different documents.

use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use crate::domain::deserialize::{JsonTree, TreeSeed};

/// Error text for an object with a duplicate field.
pub(in crate::http) const DUPLICATE_FIELD: &str = "an object names a field twice";

/// Why a text is rejected.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum ParseError {
    /// It is not valid strict JSON; the message names line and column.
    Malformed(String),
    /// It has more values than the limit allows.
    TooMany(String),
}

/// Parses the document in these bytes, with at most `most` values.
///
/// # Errors
/// [`ParseError`].
pub(in crate::http) fn parse_strict(bytes: &[u8], most: usize) -> Result<Value, ParseError> {
    let mut left = most;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict::at(0, &mut left).deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if left == 0 => Err(ParseError::TooMany(format!("The body has more than {most} values."))),
        Err(error) => Err(ParseError::Malformed(format!("{error}."))),
    }
}

/// A deserialiser seed for a value within a larger document that is read part by part.
pub(in crate::http) type Strict<'a> = TreeSeed<'a, Value>;

impl JsonTree for Value {
    type Fields = Map<String, Self>;

    fn check_name(fields: &Self::Fields, name: &str) -> Result<(), &'static str> {
        if fields.contains_key(name) { Err(DUPLICATE_FIELD) } else { Ok(()) }
    }

    fn add(fields: &mut Self::Fields, name: String, value: Self) {
        fields.insert(name, value);
    }

    fn object(fields: Self::Fields) -> Self {
        Self::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::deserialize::MAX_DEPTH;

    fn read(text: &str) -> Result<Value, ParseError> {
        parse_strict(text.as_bytes(), 10_000)
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e300..1e300_f64).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parses_every_document_like_serde_json(value in any_json()) {
            prop_assert_eq!(read(&value.to_string()), Ok(serde_json::from_str::<Value>(&value.to_string()).unwrap()));
        }

        #[test]
        fn never_panics_and_accepts_no_more_than_serde_json(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = parse_strict(&bytes, 10_000) {
                prop_assert_eq!(value, serde_json::from_slice::<Value>(&bytes).unwrap());
            }
        }

        #[test]
        fn duplicate_field_is_found_at_any_depth(value in any_json(), depth in 0_usize..10, name in "[a-z]{0,5}") {
            let inner = format!("{{{name:?}:{value},{name:?}:{value}}}");
            let text = format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert!(matches!(read(&text), Err(ParseError::Malformed(_))));
        }
    }

    #[test]
    fn error_names_line_and_column() {
        let Err(ParseError::Malformed(detail)) = read("{\n  \"a\": 1,\n  \"a\": 2\n}") else { panic!() };
        assert!(detail.contains("twice at line 3 column"), "{detail}");
    }

    #[test]
    fn escapes_do_not_hide_a_duplicate_field() {
        assert!(read(r#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn invalid_document_is_malformed() {
        for text in ["", " ", "{", "{}{}", "[1,]", "nul", "{'a':1}", "NaN", "1e999", "\u{feff}{}", "\"\\ud800\""] {
            assert!(matches!(read(text), Err(ParseError::Malformed(_))), "{text:?}");
        }
        assert!(parse_strict(b"\"\xff\"", 9).is_err());
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH + 1)).is_ok());
        assert!(matches!(read(&nested(MAX_DEPTH + 2)), Err(ParseError::Malformed(_))));
        assert!(read(&nested(100_000)).is_err());
    }

    #[test]
    fn number_of_values_is_limited() {
        assert!(parse_strict(b"[1,2,3]", 5).is_ok());
        assert!(matches!(parse_strict(b"[1,2,3,4]", 5), Err(ParseError::TooMany(_))));
    }
}
