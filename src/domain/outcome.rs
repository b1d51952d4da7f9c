//! What is known of a write at the vendor: the gateway's central promise is that this word is true.

use serde::{Deserialize, Serialize};

/// What is known of a write at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor has done it.
    Applied,
    /// The vendor has not done it and will not.
    NotApplied,
    /// It may or may not have happened.
    Unknown,
}

impl Outcome {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// Something the caller should know about a write that did succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A word a program can act on: `field_ignored`, `existing_differs`, `launch_unknown`, …
    pub code: String,
    /// RFC 6901 pointer into the request, where the warning is about one member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// One sentence for people.
    pub detail: String,
}

impl Warning {
    /// A warning about the write as a whole.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), pointer: None, detail: detail.into() }
    }

    /// A warning about one member.
    #[must_use]
    pub fn at(code: &str, pointer: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), pointer: Some(pointer.to_owned()), detail: detail.into() }
    }

    /// The vendor has no place for this member; the gateway keeps it locally.
    #[must_use]
    pub fn field_ignored(pointer: &str) -> Self {
        Self::at(Self::FIELD_IGNORED, pointer, "The vendor has no place for this member; the gateway keeps it.")
    }

    /// Code of a member that has another value in the record that is answered.
    pub const EXISTING_DIFFERS: &'static str = "existing_differs";
    /// Code of a password that was not sent, since the vendor knows the person already.
    pub const PASSWORD_IGNORED: &'static str = "password_ignored";
    /// Code of a change that changes nothing, so that nothing was sent.
    pub const UNCHANGED: &'static str = "unchanged";
    /// Code of a booking that is answered although it cannot be taken any more.
    pub const WINDOW_OVER: &'static str = "window_over";

    /// Whether the warning is about one request, so that the record does not have it.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        [Self::EXISTING_DIFFERS, Self::PASSWORD_IGNORED, Self::UNCHANGED, Self::WINDOW_OVER]
            .contains(&self.code.as_str())
    }

    /// Code of [`Warning::field_ignored`], the one warning that `Prefer: handling=strict` turns into a refusal.
    pub const FIELD_IGNORED: &'static str = "field_ignored";
}
