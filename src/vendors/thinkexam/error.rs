//! One table from `ThinkExam`'s codes to ours, and the reading of every answer that is no success.
//!
//! The vendor documents four error codes and no HTTP status. A success counts only under a 2xx: under any other status,
//! which speaks against it, the write is unknown. A code in the table decides whatever the status; without one the status
//! decides; an error nobody has documented leaves the write unknown.

use http::StatusCode;

use super::wire::{ParsedReply, VendorMessage};
use crate::domain::error::{Code, Error, VendorResponse};
use crate::secret::Secret;
use crate::transport::{Client, Response, general_error};

/// Codes that say what was wrong with the request. The vendor checks these before it acts, so far as its pages tell, which
/// is why a repeat refused for one of them proves that the first attempt did nothing. Sources: the knowledge base articles
/// "Bulk Registration Candidate" (3023, 3084) and "Assign Test to Candidate" (3095). 3100, `Something went wrong`, is
/// left out on purpose: it says nothing about what happened.
const TABLE: [(&str, Code, &str); 3] = [
    ("3023", Code::MissingField, "ThinkExam says that a field is blank."),
    ("3084", Code::InvalidReference, "ThinkExam says that something the request refers to does not exist."),
    ("3095", Code::MissingField, "ThinkExam says that a field is missing."),
];

/// How sure it is that an answer is about the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// Its status or words speak of the signature.
    Signature,
    /// Something has expired: the signature's time stamp, perhaps, but it may be a test or a course. With a fresh
    /// signature the same words can only mean the latter.
    Expiry,
}

/// An answer and what is needed to tell about it.
pub(super) struct ErrorContext<'a> {
    pub(super) client: &'a Client,
    pub(super) operation: &'static str,
    pub(super) answer: &'a Response,
    /// What must not be shown besides the connection's own secrets: passwords sent, the signature used.
    pub(super) masks: Vec<Secret>,
}

impl ErrorContext<'_> {
    /// Whether the call seems to have been refused for its signature; undocumented, so told by status and words.
    pub(super) fn suspicion(&self, said: &ParsedReply) -> Option<Suspicion> {
        let status = self.answer.status;
        let (words, is_error) = match said {
            ParsedReply::Success => return None,
            ParsedReply::Error(words) => (words, true),
            ParsedReply::Odd(words) | ParsedReply::Nothing(words) => (words, false),
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

    /// The fault of an answer, or an item, that is no success; `None` for one that is.
    pub(super) fn fault(&self, said: &ParsedReply) -> Option<Error> {
        match said {
            ParsedReply::Success => None,
            ParsedReply::Error(words) | ParsedReply::Odd(words) => Some(self.refusal(words)),
            ParsedReply::Nothing(words) => Some(self.by_status(words).unwrap_or_else(|| {
                self.bad_response("ThinkExam's answer does not say whether the request succeeded.")
            })),
        }
    }

    /// The fault of a call refused for its signature although that was as fresh as it can be.
    pub(super) fn credentials(&self, said: &ParsedReply) -> Error {
        let (ParsedReply::Error(words) | ParsedReply::Odd(words) | ParsedReply::Nothing(words)) = said else {
            return self.bad_response("ThinkExam's answer contradicts itself.");
        };
        Error::new(Code::ConnectionCredentialsInvalid, "ThinkExam refused the signature (ak, sgn, ts).")
            .with_vendor_response(self.vendor_answer(words))
    }

    /// The fault of an answer whose body says success while its status does not.
    pub(super) fn contradiction(&self) -> Error {
        let status = self.answer.status.as_u16();
        self.bad_response(&format!("ThinkExam's answer says success, but its status is {status}."))
    }

    /// The fault of an answer that cannot be understood.
    pub(super) fn bad_response(&self, detail: &str) -> Error {
        Error::unknown(Code::VendorBadResponse, detail)
            .with_vendor_response(self.vendor_answer(&VendorMessage::default()))
    }

    fn refusal(&self, words: &VendorMessage) -> Error {
        let said = self.vendor_answer(words);
        if let Some((_, code, detail)) = row_of(words) {
            return Error::new(*code, *detail).with_vendor_response(said).proving_no_effect();
        }
        self.by_status(words).unwrap_or_else(|| {
            Error::unknown(Code::VendorErrorUnmapped, "ThinkExam reported an error nobody has documented.")
                .with_vendor_response(said)
        })
    }

    fn by_status(&self, words: &VendorMessage) -> Option<Error> {
        let VendorMessage { code, message } = self.cleaned(words);
        general_error(self.client, self.operation, self.answer, code.as_deref(), message.as_deref())
    }

    fn vendor_answer(&self, words: &VendorMessage) -> VendorResponse {
        let VendorMessage { code, message } = self.cleaned(words);
        let http_status = Some(self.answer.status.as_u16());
        VendorResponse { operation: self.operation.to_owned(), http_status, code, message }
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

/// Looks at whole words: `assigned` contains `sign`, and "Test already assigned" is about no signature.
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
    use super::*;

    #[test]
    fn words_about_the_signature_are_told_from_others() {
        for message in
            ["Invalid signature", "invalid_sgn", "Token mismatch.", "Unauthenticated.", "time out of timestamp"]
        {
            assert_eq!(suspicion_of(message), Some(Suspicion::Signature), "{message}");
        }
        assert_eq!(suspicion_of("Request expired"), Some(Suspicion::Expiry));
        for message in ["Test already assigned", "Test designed by author", "Something went wrong", ""] {
            assert_eq!(suspicion_of(message), None, "{message}");
        }
    }

    #[test]
    fn every_code_of_the_table_is_a_refusal_by_the_request() {
        for (code, ours, _) in TABLE {
            let words = VendorMessage { code: Some(code.to_owned()), message: None };
            assert_eq!(row_of(&words).map(|(_, ours, _)| *ours), Some(ours));
        }
        assert_eq!(row_of(&VendorMessage { code: Some("3100".to_owned()), message: None }), None);
    }
}
