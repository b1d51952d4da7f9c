//! What a response of `ExamTesting` says, whatever its format.

/// Result that a response reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedResponse {
    /// A success.
    Success {
        /// The student's id, if the response contains one.
        id: Option<String>,
    },
    /// An error.
    Refused(Refusal),
    /// Neither a clear success nor a clear error.
    Unclear {
        /// The reason.
        why: &'static str,
        /// The text, for people.
        text: String,
    },
}

/// An error in the vendor's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The vendor's code, if there is one; normally four digits.
    pub(super) code: Option<String>,
    /// The remaining text.
    pub(super) message: String,
}

/// Maximum length of an id, in characters.
pub(super) const MAX_ID: usize = 100;

/// The reason for a response that says both.
pub(super) const CONTRADICTION: &str = "it contradicts itself";

/// Returns the id, unless it is a placeholder for none. A program without an id returns `0` or `-1`; stored as ids,
/// they would direct a later update to another student.
pub(super) fn opaque_id(text: &str) -> Option<String> {
    let id = text.trim();
    let none = matches!(id, "" | "0" | "-1") || id.eq_ignore_ascii_case("null");
    let odd = id.chars().count() > MAX_ID || id.chars().any(char::is_control);
    (!none && !odd).then(|| id.to_owned())
}

pub(super) fn unclear(why: &'static str, text: &str) -> ParsedResponse {
    ParsedResponse::Unclear { why, text: text.to_owned() }
}
