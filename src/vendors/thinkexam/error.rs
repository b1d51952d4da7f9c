//! One table from `ThinkExam`'s codes to ours, and the meaning of every response that is not a success.
//!
//! The vendor documents four error codes and no HTTP status. A success counts only under a 2xx; any other status
//! contradicts it and leaves the write unknown. A code in the table decides under any status; without one the status
//! decides; an undocumented error leaves the write unknown.

use http::StatusCode;

use super::wire::{ReplyResult, VendorMessage};
use crate::domain::error::{Code, VendorResponse};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::transport::{Client, Response, general_error};

/// Codes for invalid requests. As far as its pages show, the vendor checks these before it acts, so a retry rejected
/// with one of them proves that the first attempt had no effect. Sources: the knowledge base articles "Bulk
/// Registration Candidate" (3023, 3084) and "Assign Test to Candidate" (3095). 3100, `Something went wrong`, is omitted
/// on purpose: it does not show what happened.
const TABLE: [(&str, Code, &str); 3] = [
    ("3023", Code::MissingField, "ThinkExam reports that a field is blank."),
    ("3084", Code::InvalidReference, "ThinkExam reports that something the request refers to does not exist."),
    ("3095", Code::MissingField, "ThinkExam reports that a field is missing."),
];

/// Evidence that a response is about the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Its status or message is about the signature.
    Signature,
    /// Something has expired: perhaps the signature's time stamp, but it may be a test or a course. With a fresh
    /// signature, the same message can only mean the latter.
    Expiry,
}

/// A response and the context for reporting its error.
pub(super) struct ErrorContext<'a> {
    pub(super) client: &'a Client,
    pub(super) operation: &'static str,
    pub(super) answer: &'a Response,
    /// Secrets to redact besides the connection's own: passwords sent and the signature used.
    pub(super) masks: Vec<Secret>,
}

impl ErrorContext<'_> {
    /// Returns whether the vendor seems to reject the signature; undocumented, so judged by status and message.
    pub(super) fn suspicion(&self, said: &ReplyResult) -> Option<Suspicion> {
        let status = self.answer.status;
        let (words, is_error) = match said {
            ReplyResult::Success => return None,
            ReplyResult::Error(words) => (words, true),
            ReplyResult::Odd(words) | ReplyResult::Nothing(words) => (words, false),
        };
        if row_of(words).is_some() {
            return None;
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Some(Suspicion::Signature);
        }
        let by_status = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
        if by_status || !is_error { None } else { suspicion_of(words.message.as_deref()?) }
    }

    /// Returns the error of a response or item; `None` for a success.
    pub(super) fn fault(&self, said: &ReplyResult) -> Option<VendorError> {
        match said {
            ReplyResult::Success => None,
            ReplyResult::Error(words) | ReplyResult::Odd(words) => Some(self.refusal(words)),
            ReplyResult::Nothing(words) => Some(self.by_status(words).unwrap_or_else(|| {
                self.bad_response("ThinkExam's response does not show whether the request succeeded.")
            })),
        }
    }

    /// Returns the error of a call whose signature the vendor rejected although it was as fresh as possible.
    pub(super) fn credentials(&self, said: &ReplyResult) -> VendorError {
        let (ReplyResult::Error(words) | ReplyResult::Odd(words) | ReplyResult::Nothing(words)) = said else {
            return self.bad_response("ThinkExam's response contradicts itself.");
        };
        VendorError::new(Code::ConnectionCredentialsInvalid, "ThinkExam rejected the signature (ak, sgn, ts).")
            .with_vendor_response(self.vendor_answer(words))
    }

    /// Returns the error of a response whose body reports success but whose status does not.
    pub(super) fn contradiction(&self) -> VendorError {
        let status = self.answer.status.as_u16();
        self.bad_response(&format!("ThinkExam's response reports success, but its status is {status}."))
    }

    /// Returns the error of an unreadable response.
    pub(super) fn bad_response(&self, detail: &str) -> VendorError {
        VendorError::unknown(Code::VendorBadResponse, detail)
            .with_vendor_response(self.vendor_answer(&VendorMessage::default()))
    }

    fn refusal(&self, words: &VendorMessage) -> VendorError {
        let said = self.vendor_answer(words);
        if let Some((_, code, detail)) = row_of(words) {
            return VendorError::new(*code, *detail).with_vendor_response(said).proving_no_effect();
        }
        self.by_status(words).unwrap_or_else(|| {
            VendorError::unknown(Code::VendorErrorUnmapped, "ThinkExam reported an undocumented error.")
                .with_vendor_response(said)
        })
    }

    fn by_status(&self, words: &VendorMessage) -> Option<VendorError> {
        let VendorMessage { code, message } = self.cleaned(words);
        general_error(self.client, self.operation, self.answer, code.as_deref(), message.as_deref())
    }

    fn vendor_answer(&self, words: &VendorMessage) -> VendorResponse {
        let VendorMessage { code, message } = self.cleaned(words);
        self.answer.describe(self.operation, code, message)
    }

    fn cleaned(&self, words: &VendorMessage) -> VendorMessage {
        let clean = |text: &String| self.client.clean(text, &self.masks);
        VendorMessage { code: words.code.as_ref().map(clean), message: words.message.as_ref().map(clean) }
    }
}

fn row_of(words: &VendorMessage) -> Option<&'static (&'static str, Code, &'static str)> {
    let code = words.code.as_deref()?;
    TABLE.iter().find(|(known, _, _)| *known == code)
}

/// Compares whole words: `assigned` contains `sign`, but "Test already assigned" is not about a signature.
fn suspicion_of(message: &str) -> Option<Suspicion> {
    let message = message.to_lowercase();
    let mut words = message.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    if words.clone().any(about_signature) {
        return Some(Suspicion::Signature);
    }
    words.any(|word| word.starts_with("expire")).then_some(Suspicion::Expiry)
}

fn about_signature(word: &str) -> bool {
    let inside = ["signature", "sgn", "token", "timestamp", "unauth"];
    let start = ["authent", "authori", "authoris"];
    matches!(word, "sign" | "signed" | "signing" | "auth")
        || inside.iter().any(|part| word.contains(part))
        || start.iter().any(|part| word.starts_with(part))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::signature("Invalid signature", Some(Suspicion::Signature))]
    #[case::sgn("invalid_sgn", Some(Suspicion::Signature))]
    #[case::token("Token mismatch.", Some(Suspicion::Signature))]
    #[case::unauthenticated("Unauthenticated.", Some(Suspicion::Signature))]
    #[case::timestamp("time out of timestamp", Some(Suspicion::Signature))]
    #[case::expired("Request expired", Some(Suspicion::Expiry))]
    #[case::assigned("Test already assigned", None)]
    #[case::designed("Test designed by author", None)]
    #[case::anything("Something went wrong", None)]
    #[case::empty("", None)]
    fn messages_about_the_signature_are_recognised(#[case] message: &str, #[case] expected: Option<Suspicion>) {
        assert_eq!(suspicion_of(message), expected);
    }

    #[test]
    fn only_codes_of_the_table_are_known() {
        for (code, ours, _) in TABLE {
            let words = VendorMessage { code: Some(code.to_owned()), message: None };
            assert_eq!(row_of(&words).map(|(_, ours, _)| *ours), Some(ours));
        }
        assert_eq!(row_of(&VendorMessage { code: Some("3100".to_owned()), message: None }), None);
    }
}
