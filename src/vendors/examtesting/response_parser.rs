//! Parses responses of `ExamTesting`. The vendor documents the fields (`Status`, `StudentId`, `Reason`, `error`, eight
//! codes) but never describes their format (<https://www.examtesting.com/api-doc.aspx>), so every format read here is
//! our guess. Once a pilot has shown the real one, an operator can set it.
//!
//! It must never report a success or a refusal that the text does not clearly state: anything else is
//! [`ParsedResponse::Unclear`], and the write stays unknown. It reads any bytes without panicking.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::transport::Response;
use crate::vendors::examtesting::error_text::{
    ERROR_FIRST, STATUS_FIELD, code_alone, code_in, fixed, message, states_published_error,
};
use crate::vendors::examtesting::parsed_response::{CONTRADICTION, ParsedResponse, Refusal, opaque_id, unclear};
use crate::vendors::examtesting::response_fields::{Fields, json, labelled, xml};

/// Expected format of a response.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// Any format whose meaning is unambiguous.
    Auto,
    /// Status, id or code, and message, separated by `|` or `,`.
    Pipe,
    /// Named values.
    Kv,
    /// JSON.
    Json,
    /// XML.
    Xml,
    /// An expression with the groups `status`, `id`, `code`, `msg`.
    Regex(Regex),
}

const NOT_IN_FORM: &str = "it does not have the format configured for this connection";
const NO_STATUS: &str = "it contains neither SUCCESS nor ERROR";

static MARKUP: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)<!DOCTYPE|<html"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?is)<title[^>]*>(.*?)</title"));
// `-u`: ASCII case folding only; Unicode also folds `ſ` (long s) to `S`, and a word with it is not one of these.
static SUCCESS_FIRST: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)^\W*(?-u:SUCCESS)\b"));
static SUCCESS_WORD: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\b(?-u:SUCCESS)\b"));
static ERROR_WORD: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\bERROR\b"));
// A success may contain an empty field `error`.
static EMPTY_ERROR: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\berror\s*[=:]\s*(?:[&,;|]|$)"));
static ID_LABEL: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\bStudentId\b"));
static ID_FIELD: LazyLock<Regex> =
    LazyLock::new(|| fixed(r#"(?i)\bStudentId(?:["'\s]*(?:=>|[:=|,>])["'\s]*|\s+)([^\s&|,;:=<>"'{}\[\]\pC]+)"#));
// Without a label, an id must contain a digit: `SUCCESS Student added` has none.
static ID_AFTER_WORD: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r#"(?i)\b(?-u:SUCCESS)\b[\s:|,;"']*([^\s&|,;:=<>"'{}\[\]\pC]*[0-9][^\s&|,;:=<>"'{}\[\]\pC]*)"#)
});

/// Returns the content of a response of any format for operators, without the student's id.
pub(super) fn document(answer: &Response) -> Value {
    match Format::Auto.read(&answer.body) {
        ParsedResponse::Success { .. } => serde_json::json!({ "status": "SUCCESS" }),
        ParsedResponse::Refused(Refusal { code, message }) => {
            serde_json::json!({ "status": "ERROR", "code": code, "message": message })
        }
        ParsedResponse::Unclear { why, text } => serde_json::json!({ "status": why, "message": text }),
    }
}

impl Format {
    /// Parses a response body.
    pub(super) fn read(&self, body: &[u8]) -> ParsedResponse {
        let whole = decoded(body);
        let whole = whole.trim();
        if let Self::Regex(expression) = self {
            // With its markup: the operator's expression may rely on it.
            return by_expression(expression, whole).unwrap_or_else(|| unclear(NOT_IN_FORM, whole));
        }
        let text = before_markup(whole);
        if text.is_empty() {
            let why = if whole.is_empty() { "it is empty" } else { "it is a web page" };
            return ParsedResponse::Unclear { why, text: title(whole) };
        }
        let reading = match self {
            Self::Auto => return automatic(text),
            Self::Pipe => separated(text),
            Self::Kv => Some(labelled(text)).filter(Fields::has_status).map(Fields::reading),
            Self::Json => json(text).filter(Fields::has_status).map(Fields::reading),
            Self::Xml => xml(text).map(|(fields, _)| fields).filter(Fields::has_status).map(Fields::reading),
            Self::Regex(_) => None,
        };
        reading.unwrap_or_else(|| unclear(NOT_IN_FORM, text))
    }
}

fn automatic(text: &str) -> ParsedResponse {
    match text.as_bytes().first() {
        Some(b'{' | b'[') => json(text).map_or_else(|| unclear("it is not complete JSON", text), Fields::reading),
        Some(b'<') => match xml(text) {
            // Complete markup without named fields is read as plain text. Incomplete markup is not, because a truncated
            // id looks like an id.
            Some((fields, inner)) if !fields.has_status() => plain(inner.trim()),
            Some((fields, _)) => fields.reading(),
            None => unclear("it is not complete XML", text),
        },
        _ => plain(text),
    }
}

/// Reads free text. The order matters: an id may look like a code, and an empty `error=` may follow a success.
fn plain(text: &str) -> ParsedResponse {
    let mut named = STATUS_FIELD.captures_iter(text).map(|found| is_success(&found[1]));
    if let Some(first) = named.next() {
        return match (first, named.all(|other| other == first)) {
            (_, false) => unclear(CONTRADICTION, text),
            (true, true) => success(text),
            (false, true) => ParsedResponse::Refused(refusal(text)),
        };
    }
    let bare = EMPTY_ERROR.replace_all(text, " ");
    match (SUCCESS_WORD.is_match(&bare), ERROR_WORD.is_match(&bare)) {
        // A refusal read from such a text could wrongly prove that the write had no effect.
        (true, true) => unclear(CONTRADICTION, text),
        (true, false) => match success(text) {
            // Inside a sentence ("without success"), the word counts only with an id beside it.
            ParsedResponse::Success { id: None } if !SUCCESS_FIRST.is_match(text) => unclear(NO_STATUS, text),
            reading => reading,
        },
        (false, true) => ParsedResponse::Refused(refusal(text)),
        (false, false) if states_published_error(text) => ParsedResponse::Refused(refusal(text)),
        (false, false) => unclear(NO_STATUS, text),
    }
}

fn success(text: &str) -> ParsedResponse {
    let mut labelled = ID_FIELD.captures_iter(text).map(|found| found[1].to_owned());
    if let Some(id) = labelled.next() {
        let alone = labelled.all(|other| other == id);
        return if alone { ParsedResponse::Success { id: opaque_id(&id) } } else { unclear(CONTRADICTION, text) };
    }
    let id = if ID_LABEL.is_match(text) { None } else { ID_AFTER_WORD.captures(text) };
    ParsedResponse::Success { id: id.and_then(|found| opaque_id(&found[1])) }
}

fn separated(text: &str) -> Option<ParsedResponse> {
    let mut parts = text.split(['|', ',']);
    let word = parts.next()?.trim();
    if word.eq_ignore_ascii_case("SUCCESS") {
        let id = parts.next().and_then(|part| part.split_whitespace().next()).and_then(opaque_id);
        return Some(ParsedResponse::Success { id });
    }
    let error = word.eq_ignore_ascii_case("ERROR") || code_alone(word).is_some() && ERROR_FIRST.is_match(word);
    error.then(|| ParsedResponse::Refused(refusal(text)))
}

fn by_expression(expression: &Regex, text: &str) -> Option<ParsedResponse> {
    let found: Captures<'_> = expression.captures(text)?;
    let group = |name| found.name(name).map(|group| group.as_str().trim()).filter(|text| !text.is_empty());
    let status = group("status")?;
    if status.eq_ignore_ascii_case("SUCCESS") {
        return Some(ParsedResponse::Success { id: group("id").and_then(opaque_id) });
    }
    status.eq_ignore_ascii_case("ERROR").then(|| {
        let code = group("code").map(|code| code_alone(code).unwrap_or_else(|| code.to_owned()));
        ParsedResponse::Refused(Refusal { code, message: group("msg").unwrap_or_default().to_owned() })
    })
}

/// Reads the refusal in free text.
pub(super) fn refusal(text: &str) -> Refusal {
    let fields = labelled(text);
    if fields.has_status() && fields.has_message() {
        return fields.refusal();
    }
    let code = code_in(text);
    Refusal { message: message(text, code.as_deref()), code }
}

fn is_success(word: &str) -> bool {
    word.eq_ignore_ascii_case("SUCCESS")
}

/// Decodes UTF-8, else Latin-1, in which every byte is a character. Strips a byte order mark.
fn decoded(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    match str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])),
        Err(_) => Cow::Owned(body.iter().copied().map(char::from).collect()),
    }
}

/// Returns the text before markup, because an `.aspx` page may append its own markup to the text it writes.
fn before_markup(text: &str) -> &str {
    let end = MARKUP.find(text).map_or(text.len(), |found| found.start());
    text[..end].trim()
}

fn title(page: &str) -> String {
    TITLE.captures(page).map(|found| found[1].trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const ANSWERS: &str = include_str!("../../../tests/fixtures/examtesting/answers.json");

    fn format_of(case: &Value) -> Format {
        match case["format"].as_str().unwrap() {
            "auto" => Format::Auto,
            "pipe" => Format::Pipe,
            "kv" => Format::Kv,
            "json" => Format::Json,
            "xml" => Format::Xml,
            "regex" => Format::Regex(Regex::new(case["regex"].as_str().unwrap()).unwrap()),
            other => panic!("{other}"),
        }
    }

    fn body_of(case: &Value) -> Vec<u8> {
        match case["body"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => data_encoding::HEXLOWER.decode(case["hex"].as_str().unwrap().as_bytes()).unwrap(),
        }
    }

    #[test]
    fn every_recorded_response_is_read_as_expected() {
        let cases: Vec<Value> = serde_json::from_str(ANSWERS).unwrap();
        assert!(cases.len() > 70);
        for case in &cases {
            let name = &case["name"];
            assert!(case["origin"].is_string(), "{name}");
            let expected = &case["expect"];
            match format_of(case).read(&body_of(case)) {
                ParsedResponse::Success { id } => {
                    assert!(expected.get("success").is_some(), "{name}: {id:?}");
                    assert_eq!(id.as_deref(), expected["success"].as_str(), "{name}");
                }
                ParsedResponse::Refused(Refusal { code, message }) => {
                    assert!(expected.get("code").is_some(), "{name}: {code:?} {message}");
                    assert_eq!(code.as_deref(), expected["code"].as_str(), "{name}");
                    assert_eq!(Some(message.as_str()), expected["message"].as_str(), "{name}");
                }
                ParsedResponse::Unclear { why, .. } => {
                    assert_eq!(expected["unclear"], Value::Bool(true), "{name}: {why}");
                }
            }
        }
    }

    #[test]
    fn a_code_is_found_in_every_format() {
        for form in [
            "ERROR|{}|Some text",
            "ERROR,{},Some text",
            "status=ERROR&Reason={}&error=Some text",
            "status: ERROR, Reason: {}, error: Some text",
            "status:ERROR<br/>Reason:{}<br/>error:Some text",
            r#"{"status":"ERROR","Reason":"{}","error":"Some text"}"#,
            r#"[{"status":"ERROR","ErrorCode":"{}","error":"Some text"}]"#,
            "<r><status>ERROR</status><Reason>{}</Reason><error>Some text</error></r>",
        ] {
            for code in ["1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1099"] {
                for written in [code.to_owned(), format!("ERROR {code}")] {
                    let text = form.replace("{}", &written);
                    let refusal = Refusal { code: Some(code.to_owned()), message: "Some text".to_owned() };
                    assert_eq!(Format::Auto.read(text.as_bytes()), ParsedResponse::Refused(refusal), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_web_page_is_described_by_its_title() {
        let page = b"<html><head><TITLE> Runtime\r\nError </TITLE></head></html>";
        let ParsedResponse::Unclear { text, .. } = Format::Auto.read(page) else { panic!() };
        assert_eq!(text, "Runtime\r\nError");
    }

    fn formats() -> [Format; 6] {
        let expression = fixed("(?s)(?<status>SUCCESS|ERROR)(?<id>.)?(?<code>.)?(?<msg>.*)");
        [Format::Auto, Format::Pipe, Format::Kv, Format::Json, Format::Xml, Format::Regex(expression)]
    }

    #[test]
    fn words_that_match_only_by_unicode_folding_are_ignored() {
        for text in ["Status=\u{17f}UCCESS", "\u{17f}ucce\u{17f}\u{17f}|12345", "SUCCE\u{17f}S 12345"] {
            assert!(matches!(Format::Auto.read(text.as_bytes()), ParsedResponse::Unclear { .. }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panicking(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in formats() {
                format.read(&body);
            }
        }

        #[test]
        fn any_mixture_of_keywords_is_read_without_panicking(
            words in proptest::collection::vec(
                prop::sample::select(vec![
                    "SUCCESS", "ERROR", "Status", "StudentId", "Reason", "error", "errorcode", "1007", "1099", "=", ":",
                    "|", ",", "&", "<br/>", "<a>", "</a>", "<html", "{", "}", "[", "]", "\"", " ", "\n", "é", "\u{0}", "&#x41;",
                ]),
                0..30,
            )
        ) {
            for format in formats() {
                format.read(words.concat().as_bytes());
            }
        }

        #[test]
        fn a_text_without_keywords_is_never_a_success(text in "[^sS]{0,80}") {
            for format in formats() {
                let success = matches!(format.read(text.as_bytes()), ParsedResponse::Success { .. });
                prop_assert!(!success);
            }
        }
    }
}
