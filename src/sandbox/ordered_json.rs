//! JSON that keeps the order of its fields and is written in a vendor's own layout.
//!
//! The vendors' published responses have a fixed field order and indentation; a client that depends on either should
//! meet the same bytes here. Requests are read with `serde_json`. This must never become a general JSON library.

use std::fmt::Write as _;

/// A field of an object: name and value.
pub(super) type Member = (String, Json);

/// A JSON value whose fields keep their order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<Member>),
}

/// A vendor's JSON layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Two spaces per level; the argument is the line ending.
    Indented(&'static str),
    /// On one line, non-ASCII characters escaped as PHP's `json_encode` does.
    Php { escape_slashes: bool },
}

/// Creates an object from its fields in order.
pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Json {
    /// Writes this value in a layout, without a final newline.
    pub(super) fn write(&self, layout: Layout) -> String {
        let mut out = String::new();
        self.write_to(&mut out, layout, 0);
        out
    }

    /// Applies a change to every object, outermost first, including this one.
    pub(super) fn each_object(&mut self, change: &mut dyn FnMut(&mut Vec<Member>)) {
        match self {
            Json::Object(members) => {
                change(members);
                for (_, value) in members {
                    value.each_object(change);
                }
            }
            Json::List(items) => items.iter_mut().for_each(|item| item.each_object(change)),
            Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Decimal(_) | Json::Text(_) => {}
        }
    }

    /// Applies a change to every value that is neither list nor object.
    pub(super) fn each_leaf(&mut self, change: &mut dyn FnMut(&mut Json)) {
        match self {
            Json::Object(members) => members.iter_mut().for_each(|(_, value)| value.each_leaf(change)),
            Json::List(items) => items.iter_mut().for_each(|item| item.each_leaf(change)),
            leaf => change(leaf),
        }
    }

    /// Returns the field of this name, if this is an object that has one.
    pub(super) fn member_mut(&mut self, name: &str) -> Option<&mut Json> {
        let Json::Object(members) = self else {
            return None;
        };
        members.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn write_to(&self, out: &mut String, layout: Layout, depth: usize) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Integer(number) => out.push_str(&number.to_string()),
            // NaN becomes null: JSON cannot represent it.
            Json::Decimal(number) => out.push_str(&serde_json::Value::from(*number).to_string()),
            Json::Text(text) => write_text(out, layout, text),
            Json::List(items) => write_all(out, layout, depth, ('[', ']'), items, |out, item| {
                item.write_to(out, layout, depth + 1);
            }),
            Json::Object(members) => write_all(out, layout, depth, ('{', '}'), members, |out, (name, value)| {
                write_text(out, layout, name);
                out.push_str(if matches!(layout, Layout::Indented(_)) { ": " } else { ":" });
                value.write_to(out, layout, depth + 1);
            }),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Json::Text(text)
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Self {
        Json::Bool(flag)
    }
}

impl From<usize> for Json {
    fn from(count: usize) -> Self {
        Json::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Self {
        Json::Integer(number)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Null, Into::into)
    }
}

fn write_all<T>(
    out: &mut String,
    layout: Layout,
    depth: usize,
    brackets: (char, char),
    items: &[T],
    mut write_item: impl FnMut(&mut String, &T),
) {
    out.push(brackets.0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        break_line(out, layout, depth + 1);
        write_item(out, item);
    }
    if !items.is_empty() {
        break_line(out, layout, depth);
    }
    out.push(brackets.1);
}

fn break_line(out: &mut String, layout: Layout, depth: usize) {
    if let Layout::Indented(newline) = layout {
        out.push_str(newline);
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

fn write_text(out: &mut String, layout: Layout, text: &str) {
    let quoted = serde_json::Value::from(text).to_string();
    let Layout::Php { escape_slashes } = layout else {
        out.push_str(&quoted);
        return;
    };
    for character in quoted.chars() {
        match character {
            '/' if escape_slashes => out.push_str("\\/"),
            _ if character.is_ascii() => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_layout_has_two_spaces_and_no_final_newline() {
        let json =
            object([("b", 1_i64.into()), ("a", Json::List(vec!["x".into(), Json::Null])), ("e", Json::List(vec![]))]);
        assert_eq!(
            json.write(Layout::Indented("\n")),
            "{\n  \"b\": 1,\n  \"a\": [\n    \"x\",\n    null\n  ],\n  \"e\": []\n}"
        );
    }

    #[test]
    fn php_layout_escapes_slashes_and_non_ascii() {
        let json = object([("url", "https://x/é😀".into())]);
        assert_eq!(json.write(Layout::Php { escape_slashes: true }), r#"{"url":"https:\/\/x\/\u00e9\ud83d\ude00"}"#);
        assert_eq!(json.write(Layout::Php { escape_slashes: false }), r#"{"url":"https://x/\u00e9\ud83d\ude00"}"#);
    }
}
