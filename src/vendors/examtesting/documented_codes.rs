//! The vendor's error table of <https://www.examtesting.com/api-doc.aspx>, with our code for each of its codes.

use super::parsed_response::Refusal;
use crate::domain::error::Code;

/// One published code.
pub(super) struct DocumentedCode {
    /// Four digits.
    pub(super) code: &'static str,
    /// The vendor's message, as published.
    message: &'static str,
    /// Our code.
    pub(super) kind: Code,
    /// The field concerned.
    pub(super) pointer: Option<&'static str>,
    /// Whether it proves that an earlier attempt of the same write had no effect either: the vendor runs these checks
    /// before it writes the student, and their result does not depend on whether the student exists.
    pub(super) proof: bool,
    /// One sentence for people.
    pub(super) detail: &'static str,
}

pub(super) const TABLE: [DocumentedCode; 8] = [
    DocumentedCode {
        code: "1001",
        message: "Action is invalid",
        kind: Code::VendorContractError,
        pointer: None,
        proof: false,
        detail: "The vendor does not know the action the gateway requested.",
    },
    DocumentedCode {
        code: "1002",
        message: "Institution Id is invalid",
        kind: Code::ConnectionMisconfigured,
        pointer: None,
        proof: false,
        detail: "The vendor does not know the connection's institution_id.",
    },
    DocumentedCode {
        code: "1003",
        message: "Invalid Api Credentials",
        kind: Code::ConnectionCredentialsInvalid,
        pointer: None,
        proof: false,
        detail: "The vendor rejected the connection's api_key or api_pass.",
    },
    DocumentedCode {
        code: "1004",
        message: "Student ID is invalid",
        kind: Code::InvalidField,
        pointer: Some("/externalId"),
        proof: true,
        detail: "The vendor rejected the student id.",
    },
    DocumentedCode {
        code: "1005",
        message: "Group Name is invalid",
        kind: Code::GroupNotFound,
        pointer: Some("/group"),
        proof: true,
        detail: "The vendor has no group of this name.",
    },
    DocumentedCode {
        code: "1006",
        message: "Status is invalid",
        kind: Code::InvalidField,
        pointer: Some("/active"),
        proof: true,
        detail: "The vendor rejected the student's status.",
    },
    DocumentedCode {
        code: "1007",
        message: "Username already exist",
        kind: Code::CandidateAlreadyExists,
        pointer: Some("/userName"),
        proof: false,
        detail: "The vendor already has an account with this user name.",
    },
    DocumentedCode {
        code: "1008",
        message: "Maximum Student count is reached",
        kind: Code::VendorSeatLimitReached,
        pointer: None,
        proof: false,
        detail: "The vendor's plan allows no more students.",
    },
];

/// Finds the published error, by its code or, without one, by its message.
pub(super) fn published(refusal: &Refusal) -> Option<&'static DocumentedCode> {
    match &refusal.code {
        Some(code) => TABLE.iter().find(|published| published.code == code),
        None => published_by_message(&refusal.message),
    }
}

/// Finds the first published error whose message occurs in the text.
pub(super) fn published_by_message(text: &str) -> Option<&'static DocumentedCode> {
    let text = text.to_lowercase();
    TABLE.iter().find(|published| text.contains(&published.message.to_lowercase()))
}
