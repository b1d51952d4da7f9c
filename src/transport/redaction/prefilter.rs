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

/// The shortest parts of a document's or a request's data by which a text can echo it, split once for all texts.
#[derive(Default)]
pub(in crate::transport) struct Needles {
    /// The parts, one after the other, in lower case.
    text: Vec<u8>,
    /// Where each part ends.
    ends: Vec<usize>,
    /// Whether there are data in other scripts, which only a full search finds.
    has_other_scripts: bool,
}

impl Needles {
    /// Adds the parts of a document, except the listed fields' own values.
    pub(in crate::transport) fn add_tree(&mut self, tree: &Value, listed: &[&str]) {
        match tree {
            Value::String(said) => self.add(said),
            Value::Number(number) => self.add(&number.to_string()),
            Value::Array(elements) => elements.iter().for_each(|element| self.add_tree(element, listed)),
            Value::Object(members) => {
                for (name, value) in members {
                    if value.is_object() || value.is_array() || !listed.contains(&name.as_str()) {
                        self.add_tree(value, listed);
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Adds the parts of every significant header value.
    pub(in crate::transport) fn add_headers(&mut self, headers: &HeaderMap) {
        for (_, value) in headers.iter().filter(|(name, _)| !HARMLESS_HEADERS.contains(name)) {
            match value.to_str() {
                Ok(said) => said.split([' ', ',', ';', ':']).chain([said]).for_each(|part| self.add(part)),
                Err(_) => self.has_other_scripts = true,
            }
        }
    }

    /// Adds the parts that [`crate::transport::redaction::echo::EchoIndex`] looks for, or shorter ones. A text that
    /// contains a part with all its pairs contains those of each part of it, so only the shortest are added.
    fn add(&mut self, said: &str) {
        if !said.is_ascii() {
            self.has_other_scripts = true;
            return;
        }
        let whole = said.as_bytes();
        // Whether one of the parts is within the whole text, and within its letters and digits alone.
        let (mut is_within, mut is_within_squeezed) = (false, false);
        for word in whole.split(|byte| char::from(*byte).is_whitespace()).filter(|word| word.len() >= 2) {
            let known = self.ends.len();
            let parts = word.split(|byte| !byte.is_ascii_alphanumeric());
            parts.filter(|part| part.len() >= 3).for_each(|part| self.push(part.iter().copied()));
            if self.ends.len() > known {
                is_within_squeezed = true;
            } else {
                self.push(word.iter().copied());
                is_within_squeezed |= self.push_squeezed(word) || word.iter().all(u8::is_ascii_alphanumeric);
            }
            is_within = true;
        }
        if !is_within && whole.len() >= 2 {
            self.push(whole.iter().copied());
        }
        if !is_within_squeezed {
            self.push_squeezed(whole);
        }
        let digits = whole.iter().copied().filter(u8::is_ascii_digit);
        if let Some(more) = digits.clone().count().checked_sub(DIGITS) {
            self.push(digits.skip(more));
        }
    }

    /// Adds the letters and digits of a word, if they are enough to be searched for behind escapes and spacing.
    fn push_squeezed(&mut self, word: &[u8]) -> bool {
        let squeezed = word.iter().copied().filter(u8::is_ascii_alphanumeric);
        let is_enough = squeezed.clone().nth(MIN_ENCODED_LENGTH - 1).is_some();
        if is_enough {
            self.push(squeezed);
        }
        is_enough
    }

    fn push(&mut self, part: impl Iterator<Item = u8>) {
        self.text.extend(part.map(|byte| byte.to_ascii_lowercase()));
        self.ends.push(self.text.len());
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.text.get(start..*end))
    }
}

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

    /// Returns whether the text may contain any of these parts.
    pub(in crate::transport) fn may_contain(&self, needles: &Needles) -> bool {
        let contains = |part: &[u8]| part.windows(2).all(|pair| self.has(usize::from(pair[0]), usize::from(pair[1])));
        needles.has_other_scripts || needles.parts().any(contains)
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

    fn has(&self, one: usize, next: usize) -> bool {
        self.0[one] & (1 << next) != 0
    }
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
        let mut needles = Needles::default();
        needles.add_tree(tree, &["listed"]);
        needles.add_headers(headers);
        BigramFilter::of(text).is_none_or(|pairs| pairs.may_contain(&needles))
    }

    /// Looks for every part, those of other parts too.
    fn contains_any_part(pairs: &BigramFilter, said: &str) -> bool {
        let all = |text: &[u8]| text.windows(2).all(|pair| pairs.has(folded(pair[0]), folded(pair[1])));
        let squeezed = |text: &str| text.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
        let words = said.split_whitespace().chain([said]);
        let parts = said.split(|c: char| !c.is_ascii_alphanumeric());
        let digits: Vec<u8> = said.bytes().filter(u8::is_ascii_digit).collect();
        !said.is_ascii()
            || words.clone().any(|word| word.len() >= 2 && all(word.as_bytes()))
            || parts.filter(|part| part.len() >= 3).any(|part| all(part.as_bytes()))
            || words.map(squeezed).any(|word| word.len() >= MIN_ENCODED_LENGTH && all(&word))
            || (digits.len() >= DIGITS && all(&digits[digits.len() - DIGITS..]))
    }

    proptest! {
        #[test]
        fn the_shortest_parts_find_what_all_parts_find(
            said in "[a-c .\u{b}\t-]{0,8}|[a-c0-2 .-]{0,12}|[ -~]{0,12}|[0-9 -]{5,12}|[a-zé]{0,3}",
            around in "[a-c0-2 .-]{0,6}",
            shown in "[a-c0-2 .-]{0,20}",
            how in 0_usize..3,
        ) {
            let text = match how {
                0 => shown,
                1 => format!("{around}{said}{around}"),
                _ => said.chars().filter(|c| c.is_alphanumeric()).collect(),
            };
            if let Some(pairs) = BigramFilter::of(&text) {
                let mut needles = Needles::default();
                needles.add(&said);
                prop_assert_eq!(pairs.may_contain(&needles), contains_any_part(&pairs, &said));
            }
        }

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
