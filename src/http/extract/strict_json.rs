//! Parses JSON as strictly as RFC 8259 and RFC 7493 allow: rejects duplicate fields, trailing data, deep nesting and
//! more values than any legitimate request has, so that two parsers can never read two different documents.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum nesting of arrays and objects.
pub(in crate::http) const MAX_DEPTH: usize = 64;

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
    let value = Strict { depth: 0, left: &mut left }.deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if left == 0 => Err(ParseError::TooMany(format!("The body has more than {most} values."))),
        Err(error) => Err(ParseError::Malformed(format!("{error}."))),
    }
}

/// A deserialiser seed for a value within a larger document that is read part by part.
pub(in crate::http) struct Strict<'a> {
    depth: usize,
    left: &'a mut usize,
}

impl<'a> Strict<'a> {
    /// Creates a seed for a value at this depth of its document. `left` is the number of values still allowed; it is 0
    /// once there were too many.
    pub(in crate::http) fn at(depth: usize, left: &'a mut usize) -> Self {
        Self { depth, left }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        *self.left = self.left.saturating_sub(1);
        if *self.left == 0 {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Strict { depth: self.depth + 1, left: self.left })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(DUPLICATE_FIELD));
            }
            let value = access.next_value_seed(Strict { depth: self.depth + 1, left: self.left })?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
