//! Meaning of `ExamTesting`'s errors for the write that met them (table: `documented_codes`).
//!
//! It must never report a write as not applied unless the text says so: an unpublished error leaves it unknown.

use std::sync::LazyLock;

use regex::Regex;

use super::wire::Action;
use crate::domain::error::{Code, FieldError};
use crate::domain::vendor::CallPurpose;
use crate::domain::vendor_error::VendorError;
use crate::vendors::examtesting::documented_codes::{DocumentedCode, published};
use crate::vendors::examtesting::error_text::fixed;
use crate::vendors::examtesting::parsed_response::Refusal;

const EXISTS: &str = "1007";

/// The "validation error" the vendor documents as plain text without a code, "when a required field is missing". Its
/// wording is not published, so the whole text must state that the vendor's own parameters are missing or not valid,
/// and nothing else: any other text may be about an error after the student was written.
static VALIDATION: LazyLock<Regex> = LazyLock::new(|| {
    const FIELD: &str = r"(?:(?:the|an?|your)\s+)?(?:valid\s+)?['\x22\[]?(?:action|institut(?:e|ion)[\s_-]?id|api[\s_-]?key|api[\s_-]?pass(?:word)?|stus[\s_-]?id|student[\s_-]?id|group(?:[\s_-]?name)?|status|first[\s_-]?name|last[\s_-]?name|street|city|state|zip(?:[\s_-]?code)?|country|mobile|phone|e-?mail(?:[\s_-]?address)?|user[\s_-]?name|password)['\x22\]]?(?:\s+(?:field|parameter|value))?";
    const SEPARATOR: &str = r"\s*(?:[,;.:|&]|\band\b|\s)\s*";
    const AT_FAULT: &str = r"(?:(?:is|are|was)\s+)?(?:required|mandatory|missing|empty|blank|invalid|not\s+valid|not\s+(?:given|provided|specified|supplied)|(?:(?:must|should|may)\s+not|can\s?not)\s+be\s+(?:empty|blank|null|missing)|must\s+be\s+(?:given|provided|specified|supplied|valid))";
    const MISSING: &str = r"(?:(?:missing|required|invalid)(?:\s+required)?(?:\s+(?:field|parameter|value)s?)?|please\s+(?:enter|provide|specify|supply))\s*[:=-]?\s*";
    const LABEL: &str = r"validation\s+(?:error|failed)";
    let fields = format!("{FIELD}(?:{SEPARATOR}{FIELD})*");
    let clause = format!(r"(?:{fields}\s+{AT_FAULT}|{MISSING}{fields})");
    let clauses = format!("{clause}(?:{SEPARATOR}{clause})*");
    fixed(&format!(r"(?i)^\s*(?:{LABEL}(?:[\s:;,.|-]+(?:{clauses}|{fields}))?|{clauses})[\s.!]*$"))
});

/// Properties of a request that decide what an error means.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestKind {
    pub(super) action: Action,
    pub(super) attempt: CallPurpose,
    /// Whether the gateway generated the user name, so that no other account can have it.
    pub(super) own_user_name: bool,
}

/// Meaning of an error for the write.
#[derive(Debug)]
pub(super) enum Mapping {
    /// An earlier attempt succeeded: the account exists and can only be ours.
    DoneBefore,
    /// An error.
    Fault(Box<VendorError>),
}

/// Maps an error of the vendor to its meaning for the write.
pub(super) fn meaning(refusal: &Refusal, asked: RequestKind) -> Mapping {
    let Some(published) = published(refusal) else { return Mapping::Fault(Box::new(unpublished(refusal))) };
    let settling = asked.attempt == CallPurpose::Reconcile && asked.action == Action::Add;
    if published.code == EXISTS && settling {
        return if asked.own_user_name { Mapping::DoneBefore } else { Mapping::Fault(Box::new(unverified())) };
    }
    let proof = published.proof && !mentions_account(refusal);
    let fault = fault(published, asked.action);
    Mapping::Fault(Box::new(if proof { fault.proving_no_effect() } else { fault }))
}

fn fault(published: &DocumentedCode, action: Action) -> VendorError {
    if published.code == "1004" && action == Action::Update {
        return VendorError::new(Code::CandidateNotFound, "The vendor has no student with this id.");
    }
    let fault = VendorError::new(published.kind, published.detail);
    match published.pointer {
        Some(pointer) => fault.with_field(FieldError::new(pointer, published.kind.as_str(), published.detail)),
        None => fault,
    }
}

fn unverified() -> VendorError {
    VendorError::unknown(
        Code::CandidateAlreadyExists,
        "account_exists_unverified: the vendor has an account with this user name; the gateway cannot determine \
         whether an earlier attempt created it.",
    )
}

fn unpublished(refusal: &Refusal) -> VendorError {
    if refusal.code.is_none() && VALIDATION.is_match(&refusal.message) {
        return VendorError::new(Code::VendorRejectedRequest, "The vendor rejected the request; its message says why.");
    }
    VendorError::unknown(Code::VendorErrorUnmapped, "The vendor reported an undocumented error.")
}

/// Returns whether the error also mentions an existing account. The vendor says that an error may have several reasons;
/// one that mentions an account does not prove that there is none.
fn mentions_account(refusal: &Refusal) -> bool {
    refusal.message.contains(EXISTS) || refusal.message.to_lowercase().contains("already exist")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::outcome::Outcome;
    use crate::vendors::examtesting::documented_codes::TABLE;

    const FIRST: RequestKind = RequestKind { action: Action::Add, attempt: CallPurpose::Initial, own_user_name: true };
    const SETTLING: RequestKind = RequestKind { attempt: CallPurpose::Reconcile, ..FIRST };

    fn refusal(code: Option<&str>, message: &str) -> Refusal {
        Refusal { code: code.map(str::to_owned), message: message.to_owned() }
    }

    fn fault_of(refusal: &Refusal, asked: RequestKind) -> VendorError {
        match meaning(refusal, asked) {
            Mapping::Fault(fault) => *fault,
            Mapping::DoneBefore => panic!("{refusal:?}"),
        }
    }

    #[rstest]
    #[case::action("1001", Code::VendorContractError, None)]
    #[case::institution("1002", Code::ConnectionMisconfigured, None)]
    #[case::credentials("1003", Code::ConnectionCredentialsInvalid, None)]
    #[case::student_id("1004", Code::InvalidField, Some("/externalId"))]
    #[case::group("1005", Code::GroupNotFound, Some("/group"))]
    #[case::status("1006", Code::InvalidField, Some("/active"))]
    #[case::user_name_taken("1007", Code::CandidateAlreadyExists, Some("/userName"))]
    #[case::seats("1008", Code::VendorSeatLimitReached, None)]
    fn every_published_code_is_mapped(#[case] code: &str, #[case] expected: Code, #[case] pointer: Option<&str>) {
        let error = fault_of(&refusal(Some(code), ""), FIRST);
        assert_eq!((error.code, error.outcome), (expected, Outcome::NotApplied));
        assert_eq!(error.errors.first().map(|error| error.pointer.as_str()), pointer);
    }

    #[test]
    fn only_1004_to_1006_are_proof() {
        for published in &TABLE {
            if published.code != EXISTS {
                let expected = ["1004", "1005", "1006"].contains(&published.code);
                assert_eq!(
                    fault_of(&refusal(Some(published.code), ""), SETTLING).proves_no_effect,
                    expected,
                    "{}",
                    published.code
                );
            }
        }
        let both = refusal(Some("1005"), "Group Name is invalid, 1007 Username already exist");
        assert!(!fault_of(&both, SETTLING).proves_no_effect);
        assert!(!fault_of(&refusal(None, "email is required"), SETTLING).proves_no_effect);
    }

    #[test]
    fn a_published_message_without_its_code_is_recognised() {
        assert_eq!(fault_of(&refusal(None, "username ALREADY EXIST"), FIRST).code, Code::CandidateAlreadyExists);
        let full = "Maximum Student count is reached. You cannot add more students";
        assert_eq!(fault_of(&refusal(None, full), FIRST).code, Code::VendorSeatLimitReached);
    }

    #[test]
    fn an_unknown_student_id_on_update_means_candidate_not_found() {
        let update = RequestKind { action: Action::Update, ..FIRST };
        assert_eq!(fault_of(&refusal(Some("1004"), ""), update).code, Code::CandidateNotFound);
    }

    #[test]
    fn a_taken_name_on_a_retry_is_proof_only_for_a_generated_name() {
        assert!(matches!(meaning(&refusal(Some("1007"), ""), SETTLING), Mapping::DoneBefore));
        let theirs = RequestKind { own_user_name: false, ..SETTLING };
        let fault = fault_of(&refusal(Some("1007"), ""), theirs);
        assert_eq!(
            (fault.code, fault.outcome, fault.proves_no_effect),
            (Code::CandidateAlreadyExists, Outcome::Unknown, false)
        );
        assert!(fault.detail.starts_with("account_exists_unverified:"));
    }

    #[rstest]
    #[case::code(Some("1099"), "email is required")]
    #[case::no_text(None, "")]
    #[case::exception(None, "System.Data.SqlClient.SqlException: column 'x' is required")]
    #[case::mail_not_sent(None, "E-mail could not be sent")]
    #[case::added_without_mail(
        None,
        "Student 12345 was added, but the welcome mail needs a sender: it must not be empty"
    )]
    #[case::added(None, "Student added. Email is missing in the confirmation")]
    #[case::saved(None, "email is required. The student is saved without a group")]
    #[case::licence(None, "A licence is required")]
    #[case::later_step(None, "The password must be changed at the first login")]
    fn an_unpublished_error_leaves_the_write_unknown(#[case] code: Option<&str>, #[case] message: &str) {
        let error = fault_of(&refusal(code, message), FIRST);
        assert_eq!((error.code, error.outcome), (Code::VendorErrorUnmapped, Outcome::Unknown));
    }

    #[rstest]
    #[case::two_required("email is required, username is required")]
    #[case::two_required_by_colon("email is required: password is required")]
    #[case::heading("Validation error")]
    #[case::heading_and_field("Validation error: email")]
    #[case::heading_and_required("Validation error|email is required")]
    #[case::not_valid("Password is not valid")]
    #[case::list_required("groupName, email and username are required.")]
    #[case::empty("The e-mail address must not be empty")]
    #[case::list_missing("Missing required fields: email, password")]
    #[case::enter_valid("Please enter a valid email address")]
    fn a_validation_text_rejects_the_request(#[case] text: &str) {
        let error = fault_of(&refusal(None, text), FIRST);
        assert_eq!((error.code, error.outcome), (Code::VendorRejectedRequest, Outcome::NotApplied));
    }
}
