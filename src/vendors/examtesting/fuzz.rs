//! Any answer of `ExamTesting`, for the fuzzer.
#![expect(clippy::missing_panics_doc, reason = "to panic is how the fuzzer is told")]

use std::sync::LazyLock;

use regex::Regex;

use crate::vendors::examtesting::response_parser::{Format, MAX_ID, ParsedResponse, Refusal, fixed};

static EXPRESSION: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"(?<status>\w+)\W+(?<id>\w+)?(?:\W+(?<code>\d{4})\W+(?<msg>.*))?"));

/// Reads an answer in every form. Whatever it is, success and refusal are said in words that stand there.
pub fn examtesting(body: &[u8]) {
    let text = body.to_ascii_lowercase();
    let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
    // The forms have spellings in which a word does not stand there as it is.
    let plain = !text.iter().any(|byte| b"\\&%<".contains(byte));
    let expression = Format::Regex(EXPRESSION.clone());
    for format in [Format::Auto, Format::Pipe, Format::Kv, Format::Json, Format::Xml, expression] {
        match format.read(body) {
            ParsedResponse::Success { id } => {
                assert!(!plain || has("success"), "a success nobody stated");
                assert!(id.is_none_or(|id| is_id(&id)), "an id that is none");
            }
            ParsedResponse::Refused(Refusal { code, .. }) => {
                assert!(!plain || has("error") || has("100"), "a refusal nobody stated");
                assert!(code.is_none_or(|code| !code.is_empty()), "an empty code");
            }
            ParsedResponse::Unclear { why, .. } => assert!(!why.is_empty()),
        }
    }
}

fn is_id(id: &str) -> bool {
    let length = id.chars().count();
    id.trim() == id && (1..=MAX_ID).contains(&length) && !id.chars().any(char::is_control) && id != "0"
}
