//! Fuzz target that reads arbitrary responses of `ExamTesting`.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::sync::LazyLock;

use crate::vendors::examtesting::error_text::fixed;
use crate::vendors::examtesting::parsed_response::{MAX_ID, ParsedResponse, Refusal};
use crate::vendors::examtesting::response_parser::Format;

/// Every format. A clone of the expression would allocate its caches anew for each input.
static FORMATS: LazyLock<[Format; 6]> = LazyLock::new(|| {
    let expression = fixed(r"(?<status>\w+)\W+(?<id>\w+)?(?:\W+(?<code>\d{4})\W+(?<msg>.*))?");
    [Format::Auto, Format::Pipe, Format::Kv, Format::Json, Format::Xml, Format::Regex(expression)]
});

/// Reads a response in every format. Success and error must always be stated in the text.
pub fn examtesting(body: &[u8]) {
    let text = body.to_ascii_lowercase();
    let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
    // The formats have escapes in which a word does not appear literally.
    let plain = !text.iter().any(|byte| b"\\&%<".contains(byte));
    for format in &*FORMATS {
        match format.read(body) {
            ParsedResponse::Success { id } => {
                assert!(!plain || has("success"), "a success the response does not state");
                assert!(id.is_none_or(|id| is_id(&id)), "an invalid id");
            }
            ParsedResponse::Refused(Refusal { code, .. }) => {
                assert!(!plain || has("error") || has("100"), "an error the response does not state");
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
