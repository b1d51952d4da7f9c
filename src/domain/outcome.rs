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

/// The kind of a [`Warning`]: the word a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// The vendor has no place for a field; the gateway keeps it. The one warning that `Prefer: handling=strict` turns into a
    /// rejection.
    FieldIgnored,
    /// The record returned has another value in this field.
    ExistingDiffers,
    /// The password was not sent, because the vendor knows the person already.
    PasswordIgnored,
    /// The change changes nothing, so nothing was sent.
    Unchanged,
    /// The booking returned cannot be taken any more.
    WindowOver,
    /// The booking exists, but the vendor returned no launch link for it.
    LaunchUnknown,
    /// Whether the vendor sent its mail is not known.
    MailUncertain,
    /// The vendor adds a group to the person's groups instead of replacing them.
    GroupAdded,
    /// The vendor accepted the person without returning its own id.
    VendorIdMissing,
    /// The name was sent as one part, because it cannot be split reliably.
    NameUnsplit,
    /// The vendor's counts cover fewer calls than were made.
    CountsLowerBound,
    /// The outcome of the last write is unknown.
    Unsettled,
    /// An operator stated the outcome.
    SettledByHand,
}

impl WarningCode {
    /// Returns the word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldIgnored => "field_ignored",
            Self::ExistingDiffers => "existing_differs",
            Self::PasswordIgnored => "password_ignored",
            Self::Unchanged => "unchanged",
            Self::WindowOver => "window_over",
            Self::LaunchUnknown => "launch_unknown",
            Self::MailUncertain => "mail_uncertain",
            Self::GroupAdded => "group_added",
            Self::VendorIdMissing => "vendor_id_missing",
            Self::NameUnsplit => "name_unsplit",
            Self::CountsLowerBound => "counts_lower_bound",
            Self::Unsettled => "unsettled",
            Self::SettledByHand => "settled_by_hand",
        }
    }
}

/// Something the caller should know about a write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What kind of warning it is.
    pub code: WarningCode,
    /// RFC 6901 pointer into the request, where the warning is about one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// One sentence for people.
    pub detail: String,
}

impl Warning {
    /// Makes a warning about the write as a whole.
    #[must_use]
    pub fn new(code: WarningCode, detail: impl Into<String>) -> Self {
        Self { code, pointer: None, detail: detail.into() }
    }

    /// Makes a warning about one field.
    #[must_use]
    pub fn with_pointer(code: WarningCode, pointer: &str, detail: impl Into<String>) -> Self {
        Self { code, pointer: Some(pointer.to_owned()), detail: detail.into() }
    }

    /// Makes the warning about a field the vendor has no place for.
    #[must_use]
    pub fn field_ignored(pointer: &str) -> Self {
        Self::with_pointer(
            WarningCode::FieldIgnored,
            pointer,
            "The vendor has no place for this field; the gateway keeps it.",
        )
    }

    /// Returns whether the warning is about one request only, so that the record does not keep it.
    #[must_use]
    pub fn concerns_request_only(&self) -> bool {
        use WarningCode::{ExistingDiffers, PasswordIgnored, Unchanged, WindowOver};
        matches!(self.code, ExistingDiffers | PasswordIgnored | Unchanged | WindowOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_stored_as_the_word_of_the_api() {
        for code in [WarningCode::FieldIgnored, WarningCode::CountsLowerBound, WarningCode::SettledByHand] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
