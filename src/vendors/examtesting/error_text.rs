//! Codes and messages in free text that is known to be an error, or may be one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::vendors::examtesting::documented_codes::published_by_message;

// `-u`: see `response_parser`.
pub(super) static STATUS_FIELD: LazyLock<Regex> =
    LazyLock::new(|| fixed(r#"(?i)\bstatus["']?[\s:=|,]+["']?((?-u:SUCCESS|ERROR))\b"#));
pub(super) static ERROR_FIRST: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)^\W*ERROR\b"));
static CODE_AFTER_ERROR: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"(?i)\bERROR[\s:_|,=(\[#-]*(?:code|no)?[\s:.=#-]*(\d{4})\b"));
static CODE_FIELD: LazyLock<Regex> =
    LazyLock::new(|| fixed(r#"(?i)\b(?:reason|error[\s_-]?code)["']?[\s:=|,]*["']?(\d{4})\b"#));
static KNOWN_CODE: LazyLock<Regex> = LazyLock::new(|| fixed(r"\b100[1-8]\b"));
static CODE_FIRST: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)^(?:ERROR[\s:_|,=-]*)?(\d{4})\b"));
static CODE_ALONE: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)^(?:ERROR[\s:_|,=-]*)?(\d{4})$"));
static TAG: LazyLock<Regex> = LazyLock::new(|| fixed(r"<[a-zA-Z/!][^<>]{0,200}>"));

/// Finds the code in a text that is known to be an error. A number anywhere in it may be a student's, so it counts only
/// together with a published message.
pub(super) fn code_in(text: &str) -> Option<String> {
    let written = CODE_AFTER_ERROR.captures(text).or_else(|| CODE_FIELD.captures(text));
    let anywhere = || KNOWN_CODE.find(text).filter(|_| published_by_message(text).is_some());
    written.map(|found| found[1].to_owned()).or_else(|| anywhere().map(|found| found.as_str().to_owned()))
}

/// Returns the code a value begins with.
pub(super) fn code_first(text: &str) -> Option<String> {
    CODE_FIRST.captures(text.trim()).map(|found| found[1].to_owned())
}

/// Returns the code if the text contains nothing else.
pub(super) fn code_alone(text: &str) -> Option<String> {
    CODE_ALONE.captures(text.trim()).map(|found| found[1].to_owned())
}

/// Returns whether a text without a status word is still an error: it has a published code and a published message.
pub(super) fn states_published_error(text: &str) -> bool {
    KNOWN_CODE.is_match(text) && published_by_message(text).is_some()
}

/// Returns the text without status word and code.
pub(super) fn message(text: &str, code: Option<&str>) -> String {
    let text = without_tags(text);
    let text = STATUS_FIELD.replace(&text, "");
    let text = ERROR_FIRST.replace(&text, "");
    let text = match code {
        Some(code) => CODE_AFTER_ERROR
            .replace(&text, |found: &Captures<'_>| if &found[1] == code { "" } else { &found[0] }.to_owned()),
        None => text,
    };
    let text = match code {
        Some(code) => Cow::Owned(text.replacen(code, "", 1)),
        None => text,
    };
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || "|,:;-=&()[]#".contains(c));
    text.trim_end_matches(|c: char| c.is_whitespace() || "|,:;-=&".contains(c)).to_owned()
}

/// Replaces every tag with a line break.
pub(super) fn without_tags(text: &str) -> Cow<'_, str> {
    TAG.replace_all(text, "\n")
}

#[expect(clippy::expect_used, reason = "the patterns are constants; a test compiles every one")]
pub(super) fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern compiles")
}
