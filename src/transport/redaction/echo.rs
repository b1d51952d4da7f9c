//! Index of the request data that a vendor may echo, and the search for it in vendor texts.
//!
//! Literal (case-insensitive) echoes are masked in place. If an echo may be encoded (escapes, other spacing, Base64,
//! another spelling of its letters), the whole text is masked: when in doubt, show less.

use std::sync::LazyLock;

use data_encoding::BASE64_NOPAD;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::secret::MASK;
use crate::telemetry::spans::{TRACEPARENT, TRACESTATE};

/// Longer texts are not searched, and therefore masked.
pub(in crate::transport) const MAX_LENGTH: usize = 4_000;
/// Minimum letters and digits of a word that is searched for behind escapes and spacing; shorter ones would match
/// everywhere.
pub(in crate::transport) const MIN_ENCODED_LENGTH: usize = 4;
/// The last digits of a telephone number that identify it, whatever precedes them.
pub(in crate::transport) const DIGITS: usize = 7;
/// Headers that contain neither personal nor secret data.
pub(in crate::transport) const HARMLESS_HEADERS: [HeaderName; 8] =
    [ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, USER_AGENT, TRACEPARENT, TRACESTATE];

/// Everything in a request that must not be shown.
#[derive(Default)]
pub(in crate::transport) struct EchoIndex {
    /// Whole values and their parts; longest first.
    words: Vec<String>,
    /// The letters and digits of the values.
    squeezed: Vec<String>,
    /// Part of the request could not be parsed, so any text may echo it.
    unreadable: bool,
}

impl EchoIndex {
    /// Indexes these documents, except the listed fields' own values, and these headers.
    pub(in crate::transport) fn of<'a>(
        documents: impl IntoIterator<Item = &'a Value>,
        listed: &[&str],
        headers: &HeaderMap,
        unreadable: bool,
    ) -> Self {
        let mut said = Self { unreadable, ..Self::default() };
        documents.into_iter().for_each(|tree| said.tree(tree, listed));
        let revealing = headers.iter().filter(|(name, _)| !HARMLESS_HEADERS.contains(name));
        revealing.for_each(|(_, value)| said.header(value));
        said.words.sort_unstable_by(|a, b| (b.len(), b).cmp(&(a.len(), a)));
        said.words.dedup();
        said
    }

    /// Returns the text with every echo masked.
    pub(in crate::transport) fn scrub(&self, text: &str) -> String {
        if self.unreadable || text.chars().take(MAX_LENGTH + 1).count() > MAX_LENGTH {
            return MASK.to_owned();
        }
        let freed = self.masked(text);
        if self.contains_encoded(&freed) { MASK.to_owned() } else { freed }
    }

    fn tree(&mut self, tree: &Value, listed: &[&str]) {
        match tree {
            Value::String(text) => self.text(text),
            Value::Number(number) => self.text(&number.to_string()),
            Value::Array(elements) => elements.iter().for_each(|element| self.tree(element, listed)),
            Value::Object(members) => {
                for (name, value) in members {
                    if !listed.contains(&name.as_str()) || value.is_object() || value.is_array() {
                        self.tree(value, listed);
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.words.push(text.to_owned());
        self.words.extend(text.split_whitespace().map(str::to_owned));
        // A message may echo one part of a name or an address.
        let parts = text.split(|c: char| !c.is_alphanumeric());
        self.words.extend(parts.filter(|part| part.chars().count() >= 3).map(str::to_owned));
        self.hidden(text);
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= DIGITS && digits.len() * 3 >= text.chars().count() * 2 {
            self.squeezed.push(digits[digits.len() - DIGITS..].to_owned());
        }
    }

    fn header(&mut self, value: &HeaderValue) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let parts = text.split([' ', ',', ';', ':']).filter(|part| part.len() >= 8);
        for part in parts.chain([&*text]) {
            self.words.push(part.to_owned());
            self.hidden(part);
        }
    }

    fn hidden(&mut self, text: &str) {
        let parts = text.split(|c: char| !c.is_alphanumeric());
        for word in parts.chain(text.split_whitespace()).chain([text]) {
            let squeezed = alphanumeric_lowercase(word);
            if !squeezed.is_ascii() {
                // The parts that remain if its letters are spelt otherwise ("Müller", "Mueller", "MÃ¼ller").
                let rests = squeezed.split(|c: char| !c.is_ascii()).filter(|rest| rest.len() >= 3);
                self.squeezed.extend(rests.map(str::to_owned));
            }
            if squeezed.chars().count() >= MIN_ENCODED_LENGTH {
                self.squeezed.push(squeezed);
            }
        }
    }

    fn masked(&self, text: &str) -> String {
        let text = self.words.iter().fold(text.to_owned(), |text, word| mask_word(text, word));
        EMAIL.replace_all(&text, MASK).into_owned()
    }

    /// Returns whether the text contains an echo that could not be masked in place.
    fn contains_encoded(&self, text: &str) -> bool {
        let Some(plain) = unescaped(text) else { return true };
        let found = |text: &str| {
            let text = alphanumeric_lowercase(text);
            self.squeezed.iter().any(|said| text.contains(said.as_str()))
        };
        (plain != text && self.masked(&plain) != plain)
            || found(&plain)
            || TOKEN.find_iter(&plain).any(|token| found(&from_base64(token.as_str())))
    }
}

#[expect(clippy::expect_used, reason = "the expressions are constant, and a unit test uses each")]
fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[^\s@<>()\x22',;:]+(?:@|%40|&#64;|&#x40;|\\u0040)[^\s@<>()\x22',;:]+"));
static TOKEN: LazyLock<Regex> = LazyLock::new(|| expression(r"[A-Za-z0-9+/_-]{6,}"));
static ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| expression(r"&#(?:[xX]([0-9a-fA-F]{1,6})|([0-9]{1,7}));|\\[uU]([0-9a-fA-F]{4})"));
static ENTITY: LazyLock<Regex> = LazyLock::new(|| expression(r"&[A-Za-z][A-Za-z0-9]*;"));

/// Decodes escapes, also nested ones; `None` if an unknown escape remains.
fn unescaped(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..3 {
        let decoded = percent_decode_str(&text).decode_utf8().ok()?.into_owned();
        let decoded = ESCAPE.replace_all(&decoded, |found: &Captures<'_>| {
            let code = [(1, 16), (2, 10), (3, 16)].into_iter().find_map(|(group, base)| {
                found.get(group).and_then(|digits| u32::from_str_radix(digits.as_str(), base).ok())
            });
            code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        });
        let decoded =
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&nbsp;", " "), ("&amp;", "&")]
                .into_iter()
                .fold(decoded.into_owned(), |text, (entity, character)| text.replace(entity, character));
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let doubtful = |c: char| c == char::REPLACEMENT_CHARACTER || ('\u{300}'..='\u{36f}').contains(&c);
    (!ENTITY.is_match(&text) && !text.chars().any(doubtful)).then_some(text)
}

/// Keeps letters and digits, in lower case.
fn alphanumeric_lowercase(text: &str) -> String {
    if text.is_ascii() {
        let kept = text.bytes().filter(u8::is_ascii_alphanumeric);
        return kept.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    text.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

/// Decodes a Base64 token up to its last whole group.
pub(in crate::transport) fn from_base64(token: &str) -> String {
    let whole = &token[..token.len() / 4 * 4];
    let decoded = if whole.contains(['-', '_']) {
        BASE64_NOPAD.decode(whole.replace('-', "+").replace('_', "/").as_bytes())
    } else {
        BASE64_NOPAD.decode(whole.as_bytes())
    };
    decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Masks a value case-insensitively; short words only where they are whole words.
fn mask_word(text: String, said: &str) -> String {
    // A longer value cannot be contained. Only for ASCII is this certain without changing the case first.
    if said.len() > text.len() && said.is_ascii() && text.is_ascii() {
        return text;
    }
    let length = said.chars().count();
    // Scripts without spaces have short names that are never between spaces.
    let (least, word) = if said.is_ascii() { (2, length < 4) } else { (1, false) };
    if length < least {
        return text;
    }
    let (lower, needle) = (text.to_lowercase(), said.to_lowercase());
    // If changing the case changes the length, positions differ between the two texts: match only the exact spelling.
    let (lower, needle) = if lower.len() == text.len() { (lower, needle) } else { (text.clone(), said.to_owned()) };
    if !lower.contains(&needle) {
        return text;
    }
    let (mut freed, mut from) = (String::with_capacity(text.len()), 0);
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find(&needle)).map(|at| at + from) {
        let end = at + needle.len();
        let alone = !lower[..at].chars().next_back().is_some_and(char::is_alphanumeric)
            && !lower[end..].chars().next().is_some_and(char::is_alphanumeric);
        let (Some(before), true) = (text.get(from..at), text.is_char_boundary(end)) else { break };
        freed.push_str(before);
        freed.push_str(if alone || !word { MASK } else { &text[at..end] });
        from = end;
    }
    freed.push_str(text.get(from..).unwrap_or_default());
    freed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn freed(text: &str) -> String {
        let sent = json!({
            "email": "José.O'Brien@Example.org", "name": "José O'Brien-Müller", "phone": "+1 (555) 010-9999",
            "id": "emp-4711", "short": "Li", "native": "王", "street": "7 High Street", "testId": "t-100", "n": 5_551_234,
        });
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("sgn"), HeaderValue::from_static("HoMark+sgn/==")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        EchoIndex::of([&sent], &["testId"], &headers, false).scrub(text)
    }

    #[test]
    fn literal_echoes_are_masked_in_place() {
        for (said, shown) in [
            ("JOSÉ O'BRIEN-MÜLLER may not take t-100", "*** may not take t-100"),
            ("Brien, josé", "***, ***"),
            ("Li is not in Lisbon", "*** is not in Lisbon"),
            ("用户王不存在", "用户***不存在"),
            ("other.person@mail.example is taken", "*** is taken"),
            ("other%40mail.example is taken", "*** is taken"),
            ("EMP-4711 and 5551234 and HoMark+sgn/==", "*** and *** and ***"),
            ("application/json is wanted, code 3023", "application/json is wanted, code 3023"),
        ] {
            assert_eq!(freed(said), shown);
        }
    }

    #[test]
    fn encoded_echoes_mask_the_whole_text() {
        for said in [
            "user jos%C3%A9 is blocked",
            "user jos%25C3%25A9 is blocked",
            "user Jos%E9 is blocked",
            "user Jos&eacute; is blocked",
            "user Jos&#233; O&#39;Brien is blocked",
            "user Jos&#xe9; is blocked",
            r"user Jos\u00e9 is blocked",
            "user Jose\u{301} is blocked",
            "user Jose is blocked",
            "user JosÃ© is blocked",
            "user Mueller is blocked",
            "user O Brien Muller is blocked",
            "user o_b_r_i_e_n is blocked",
            "555-010-9999 is taken",
            "0109999 is taken",
            "1 555 0109999 is taken",
            "555.010.9999 is taken",
            "emp 4711 is taken",
            "e.m.p.4.7.1.1 is taken",
            "token Sm9zw6kuTydCcmllbkBFeGFtcGxlLm9yZw== is bad",
            "&#76;&#105; is blocked",
            "homark%2Bsgn%2F%3D%3D is wrong",
        ] {
            let shown = freed(said);
            let rest = alphanumeric_lowercase(&shown);
            assert!(
                shown == MASK
                    || !["jos", "brien", "ller", "9999", "4711", "homark"].iter().any(|word| rest.contains(word)),
                "{said}: {shown}"
            );
        }
        assert_eq!(freed(&"x".repeat(MAX_LENGTH + 1)), MASK);
        assert_eq!(EchoIndex { unreadable: true, ..EchoIndex::default() }.scrub("anything"), MASK);
    }
}
