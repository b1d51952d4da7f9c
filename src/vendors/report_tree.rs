//! A vendor's report as a JSON tree that keeps what is repeated.
//!
//! A parser that takes the last of two fields of one name can take the wrong score, so an object that is read must name each
//! field once, in whatever case. What is not read (questions, answers, proctoring) is not looked at.

use std::collections::HashSet;

use serde::de::DeserializeSeed;
use serde_json::Number;

use crate::domain::deserialize::{JsonTree, Scalar, TreeSeed};
use crate::domain::results::{
    Figure, PartScore, Points, Reading, Rejection, RejectionReason, ReportedScore, ScoreVerdict,
};
use crate::domain::validation::sanitize_for_display;

/// Maximum length of a report in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Maximum number of values in a report.
const MAX_VALUES: usize = 100_000;

/// A JSON value. An object keeps its fields in their order, also repeated ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Parses a report.
    ///
    /// # Errors
    /// If it is too long, not JSON, or has too many values.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > MAX_BYTES {
            return Err(Rejection::whole(RejectionReason::TooLarge));
        }
        let mut left = MAX_VALUES;
        let mut reader = serde_json::Deserializer::from_slice(without_mark(bytes));
        let tree = TreeSeed::at(0, &mut left).deserialize(&mut reader);
        let tree = tree.and_then(|tree| reader.end().map(|()| tree));
        let reason = if left == 0 { RejectionReason::TooLarge } else { RejectionReason::NotJson };
        tree.map_err(|_| Rejection::whole(reason))
    }

    /// Returns the tree as JSON without white space, the fields of each object in order of their names.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut text = String::new();
        self.write(&mut text);
        text.into_bytes()
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.to_string()),
            Self::Text(value) => write_text(value, text),
            Self::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Object(fields) => {
                let mut fields: Vec<&(String, Self)> = fields.iter().collect();
                // Stable, so that repeated fields keep their order.
                fields.sort_by(|left, right| left.0.cmp(&right.0));
                text.push('{');
                for (index, (name, value)) in fields.into_iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    write_text(name, text);
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }

    fn is_absent(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }

    /// Returns the elements of a list.
    pub(super) fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// Returns text, or a number as text; `None` for blank text.
    pub(super) fn scalar(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Self::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns a truth value, also one in text.
    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// Returns the figure in a number or a text; `None` where there is nothing, which is not zero.
    pub(super) fn figure(&self) -> Option<Figure> {
        if self.is_absent() {
            return None;
        }
        let points = match self {
            Self::Text(text) => Points::parse(text),
            Self::Number(number) => number.as_f64().and_then(Points::new),
            Self::Null | Self::Bool(_) | Self::List(_) | Self::Object(_) => None,
        };
        Some(points.map_or(Figure::Unreadable, Figure::Points))
    }
}

/// Strips a byte order mark, which proxies and .NET services sometimes put before JSON.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn write_text(value: &str, text: &mut String) {
    // `Display` of a JSON string escapes it.
    text.push_str(&serde_json::Value::from(value).to_string());
}

/// An object whose fields have different names, in whatever case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [(String, Tree)]);

impl<'a> Fields<'a> {
    /// Returns the fields of an object.
    ///
    /// # Errors
    /// If it is no object, or names a field twice.
    pub(super) fn of(tree: &'a Tree) -> Result<Self, Rejection> {
        let Tree::Object(fields) = tree else { return Err(Rejection::whole(RejectionReason::NotJson)) };
        let mut names = HashSet::new();
        if fields.iter().all(|(name, _)| names.insert(name.to_ascii_lowercase())) {
            return Ok(Self(fields));
        }
        Err(Rejection::whole(RejectionReason::RepeatedField))
    }

    /// Returns the value of a field; `None` for `null` and blank text, which the vendors use like an absent field.
    pub(super) fn get(self, name: &str) -> Option<&'a Tree> {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        found.filter(|value| !value.is_absent())
    }

    /// Returns the value of a field with two names.
    ///
    /// # Errors
    /// If both are there with different values: which one counts is not known.
    pub(super) fn either(self, name: &'static str, other: &str) -> Result<Option<&'a Tree>, Rejection> {
        match (self.get(name), self.get(other)) {
            (Some(one), Some(two)) if one != two => Err(Rejection::field(RejectionReason::RepeatedField, name)),
            (one, two) => Ok(one.or(two)),
        }
    }

    /// Reads an optional field.
    ///
    /// # Errors
    /// If it is there and `read` makes nothing of it.
    pub(super) fn read<T>(
        self,
        name: &'static str,
        read: impl FnOnce(&'a Tree) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        let invalid = || Rejection::field(RejectionReason::InvalidField, name);
        self.get(name).map(|value| read(value).ok_or_else(invalid)).transpose()
    }

    /// Reads a field that every report has.
    ///
    /// # Errors
    /// If it is not there, or `read` makes nothing of it.
    pub(super) fn require<T>(
        self,
        name: &'static str,
        read: impl FnOnce(&'a Tree) -> Option<T>,
    ) -> Result<T, Rejection> {
        self.read(name, read)?.ok_or_else(|| Rejection::field(RejectionReason::MissingField, name))
    }

    /// Returns a text of the vendor's for display; `None` if it is blank or not text.
    pub(super) fn label(self, name: &str) -> Option<String> {
        let text = sanitize_for_display(&self.get(name)?.scalar()?, Reading::MAX_TEXT);
        Some(text).filter(|text| !text.is_empty())
    }
}

/// Returns the score of a part; false if there are figures that are none.
pub(super) fn part_score(reported: ReportedScore) -> (Option<PartScore>, bool) {
    match reported.verdict() {
        ScoreVerdict::Absent => (None, true),
        ScoreVerdict::Plausible(score) => (Some(PartScore { given: score.given, maximum: score.maximum }), true),
        ScoreVerdict::Implausible => (None, false),
    }
}

impl From<Scalar> for Tree {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Number(number) => Self::Number(number),
            Scalar::Text(text) => Self::Text(text),
        }
    }
}

impl From<Vec<Self>> for Tree {
    fn from(items: Vec<Self>) -> Self {
        Self::List(items)
    }
}

impl JsonTree for Tree {
    type Fields = Vec<(String, Self)>;

    fn check_name(_fields: &Self::Fields, _name: &str) -> Result<(), &'static str> {
        Ok(())
    }

    fn add(fields: &mut Self::Fields, name: String, value: Self) {
        fields.push((name, value));
    }

    fn object(fields: Self::Fields) -> Self {
        Self::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deserialize::MAX_DEPTH;

    fn canonical(text: &str) -> String {
        String::from_utf8(Tree::parse(text.as_bytes()).unwrap().canonical()).unwrap()
    }

    #[test]
    fn canonical_content_ignores_white_space_and_order_of_fields_only() {
        let one = canonical(r#" { "b" : [1, 2.50], "a" : "\u0041" } "#);
        assert_eq!(one, r#"{"a":"A","b":[1,2.5]}"#);
        assert_eq!(canonical(r#"{"a":"A","b":[1,2.5]}"#), one);
        for other in [r#"{"a":"A","b":[2.5,1]}"#, r#"{"a":"a","b":[1,2.5]}"#, r#"{"a":"A"}"#] {
            assert_ne!(canonical(other), one);
        }
        assert_eq!(canonical(r#"{"a":1,"A":2,"a":3}"#), r#"{"A":2,"a":1,"a":3}"#);
    }

    #[test]
    fn a_repeated_field_is_found_in_any_case_and_spelling() {
        for text in [r#"{"score":1,"score":1}"#, r#"{"score":1,"Score":2}"#, r#"{"score":1,"\u0073core":2}"#] {
            let tree = Tree::parse(text.as_bytes()).unwrap();
            assert_eq!(Fields::of(&tree).unwrap_err(), Rejection::whole(RejectionReason::RepeatedField), "{text}");
        }
    }

    #[test]
    fn large_and_deep_documents_are_rejected() {
        let reason = |text: String| Tree::parse(text.as_bytes()).unwrap_err().reason;
        assert_eq!(reason("\"".to_owned() + &"x".repeat(MAX_BYTES)), RejectionReason::TooLarge);
        assert_eq!(reason(format!("[{}1]", "1,".repeat(MAX_VALUES))), RejectionReason::TooLarge);
        assert_eq!(reason("[".repeat(100_000)), RejectionReason::NotJson);
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Tree::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(reason(nested(MAX_DEPTH + 2)), RejectionReason::NotJson);
        for text in ["", "{", "{} {}", "NaN", "1e999", "{'a':1}"] {
            assert_eq!(reason(text.to_owned()), RejectionReason::NotJson, "{text}");
        }
        assert!(Tree::parse(b"\xef\xbb\xbf{}").is_ok());
    }

    #[test]
    fn figures_are_numbers_or_numbers_in_text() {
        let figure = |text: &str| Tree::parse(text.as_bytes()).unwrap().figure();
        let points = |value| Points::new(value).map(Figure::Points);
        for (text, value) in [("4", 4.0), ("4.5", 4.5), ("\" 4.5 \"", 4.5), ("-1", -1.0)] {
            assert_eq!(figure(text), points(value), "{text}");
        }
        for text in ["null", "\"\"", "\"  \""] {
            assert_eq!(figure(text), None, "{text}");
        }
        for text in ["\"4,5\"", "\"NA\"", "true", "[4]", "{}", "9007199254740993", "\"NaN\""] {
            assert_eq!(figure(text), Some(Figure::Unreadable), "{text}");
        }
    }
}
