//! Cheap pre-filter: can a vendor text contain any data from the request?
//!
//! Building an [`EchoIndex`] takes longer than all other redaction of a call, and is nearly always useless: a status or
//! a configured id shares no letter sequence with personal data. The pre-filter therefore compares pairs of
//! neighbouring characters first. No false negatives; possible matches are confirmed by [`EchoIndex`].
//!
//! [`EchoIndex`]: crate::transport::redaction::echo::EchoIndex

use http::HeaderMap;
use serde_json::Value;

use crate::transport::redaction::echo::{DIGITS, HARMLESS_HEADERS, MAX_LENGTH, MIN_ENCODED_LENGTH, from_base64};

/// The pairs of neighbouring characters in a text: in the text itself, in its letters and digits alone, and in its
/// Base64-decoded tokens. Case-insensitive.
pub(in crate::transport) struct BigramFilter([u128; 128]);

impl BigramFilter {
    /// Returns `None` for a text that needs a full search: one with escapes, an address, or letters of other scripts.
    pub(in crate::transport) fn of(text: &str) -> Option<Self> {
        let simple = |byte: u8| byte.is_ascii() && !b"@%&\\".contains(&byte);
        if text.len() > MAX_LENGTH || !text.bytes().all(simple) {
            return None;
        }
        let mut pairs = Self([0; 128]);
        pairs.add(text.bytes());
        pairs.add(text.bytes().filter(u8::is_ascii_alphanumeric));
        let tokens = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/_-".contains(c));
        for token in tokens.filter(|token| token.len() >= 6) {
            let said = from_base64(token).to_lowercase();
            // Non-ASCII letters only add pairs that are never looked up.
            pairs.add(said.chars().filter(|c| c.is_alphanumeric()).map(|c| u8::try_from(c).unwrap_or(0)));
        }
        Some(pairs)
    }

    /// Returns whether the text may contain any part of this document, except the listed fields' own values.
    pub(in crate::transport) fn may_contain_tree(&self, tree: &Value, listed: &[&str]) -> bool {
        match tree {
            Value::String(said) => self.may_contain(said),
            Value::Number(number) => self.may_contain(&number.to_string()),
            Value::Array(elements) => elements.iter().any(|element| self.may_contain_tree(element, listed)),
            Value::Object(members) => members.iter().any(|(name, value)| {
                let looked_into = value.is_object() || value.is_array();
                (looked_into || !listed.contains(&name.as_str())) && self.may_contain_tree(value, listed)
            }),
            Value::Null | Value::Bool(_) => false,
        }
    }

    /// Returns whether the text may contain any significant header value.
    pub(in crate::transport) fn may_contain_header(&self, headers: &HeaderMap) -> bool {
        let mut told = headers.iter().filter(|(name, _)| !HARMLESS_HEADERS.contains(name));
        told.any(|(_, value)| match value.to_str() {
            Ok(said) => said.split([' ', ',', ';', ':']).chain([said]).any(|part| self.may_contain(part)),
            Err(_) => true,
        })
    }

    /// Looks for the same parts as [`crate::transport::redaction::echo::EchoIndex`], or shorter ones.
    fn may_contain(&self, said: &str) -> bool {
        if !said.is_ascii() {
            return true;
        }
        let words = said.split_whitespace().chain([said]);
        let parts = said.split(|c: char| !c.is_ascii_alphanumeric());
        let digits = || said.bytes().rev().filter(u8::is_ascii_digit).take(DIGITS);
        words.clone().filter(|word| word.len() >= 2).any(|word| self.all(word.bytes()))
            || parts.filter(|part| part.len() >= 3).any(|part| self.all(part.bytes()))
            || words.map(str::as_bytes).any(|word| {
                let squeezed = word.iter().copied().filter(u8::is_ascii_alphanumeric);
                squeezed.clone().nth(MIN_ENCODED_LENGTH - 1).is_some() && self.all(squeezed)
            })
            || (digits().count() == DIGITS && self.contains_pairs_reversed(digits()))
    }

    fn add(&mut self, text: impl Iterator<Item = u8>) {
        let mut before = None;
        for byte in text.map(folded) {
            if let Some(before) = before {
                self.0[before] |= 1 << byte;
            }
            before = Some(byte);
        }
    }

    fn all(&self, text: impl Iterator<Item = u8>) -> bool {
        neighbours(text).all(|(one, next)| self.has(one, next))
    }

    fn contains_pairs_reversed(&self, text: impl Iterator<Item = u8>) -> bool {
        neighbours(text).all(|(next, one)| self.has(one, next))
    }

    fn has(&self, one: usize, next: usize) -> bool {
        self.0[one] & (1 << next) != 0
    }
}

fn neighbours(text: impl Iterator<Item = u8>) -> impl Iterator<Item = (usize, usize)> {
    let mut before = None;
    text.map(folded).filter_map(move |byte| before.replace(byte).map(|before| (before, byte)))
}

fn folded(byte: u8) -> usize {
    usize::from(byte.to_ascii_lowercase() & 0x7f)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::transport::redaction::echo::EchoIndex;

    fn may_hold(text: &str, tree: &Value, headers: &HeaderMap) -> bool {
        BigramFilter::of(text)
            .is_none_or(|pairs| pairs.may_contain_tree(tree, &["listed"]) || pairs.may_contain_header(headers))
    }

    proptest! {
        /// The filter may report false positives, but no false negatives.
        #[test]
        fn texts_it_passes_contain_no_echo(
            said in prop::collection::vec("[ -~]{0,12}|[a-c ._-]{0,6}|[0-9 +()-]{0,16}|[a-zé]{2,5}", 1..4),
            header in "[ -~]{0,24}",
            around in "[a-c0-9 .:+/_-]{0,12}",
            number: u32,
            at in 0_usize..4,
            how in 0_usize..5,
        ) {
            let tree = json!({"a": said, "n": number, "listed": "active"});
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&header).unwrap())]);
            let quoted = said.get(at).map_or(header.as_str(), String::as_str);
            let quoted = match how {
                0 => quoted.to_owned(),
                1 => quoted.to_uppercase(),
                2 => quoted.split(|c: char| !c.is_alphanumeric()).max_by_key(|part| part.len()).unwrap_or_default().to_owned(),
                3 => quoted.chars().flat_map(|c| [c, '.']).collect(),
                _ => data_encoding::BASE64.encode(quoted.as_bytes()),
            };
            for text in [format!("{around}{quoted}"), format!("{quoted} {around}"), around.clone(), quoted] {
                if !may_hold(&text, &tree, &headers) {
                    prop_assert_eq!(EchoIndex::of([&tree], &["listed"], &headers, false).scrub(&text), text);
                }
            }
        }
    }

    #[test]
    fn text_without_echo_passes_unchanged() {
        let tree = json!({"employees": [{"id": "w-10042", "name": "Ines Costa", "email": "w-10042@example.com"}]});
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("sgn"),
            HeaderValue::from_static("5rzCkSsh0v6i8VkFrvX3m2c1QmDq0Q8KJ5o3Sg4hXxA="),
        )]);
        for text in ["active", "d51b5efd-fb21-4cb8-94e2-145014839465", "3", "mycenter"] {
            assert!(!may_hold(text, &tree, &headers), "{text}");
        }
        for text in ["costa", "Ines is known", "10042", "aW5lcyBjb3N0YQ", "i.n.e.s", "jos%C3%A9"] {
            assert!(may_hold(text, &tree, &headers), "{text}");
        }
    }
}
