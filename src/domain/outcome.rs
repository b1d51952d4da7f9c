//! The outcome of a write at the vendor. The gateway's central promise is that this value is true.

use serde::{Deserialize, Serialize};

/// The known outcome of a write at the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor has applied the write.
    Applied,
    /// The vendor has not applied the write and will not.
    NotApplied,
    /// The write may or may not have happened.
    Unknown,
}

impl Outcome {
    /// Returns the word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// The kind of a [`Warning`], machine-readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// The vendor does not support a field; the gateway keeps it. The only warning that `Prefer: handling=strict` turns
    /// into a rejection.
    FieldIgnored,
    /// The returned record has another value in this field.
    ExistingDiffers,
    /// The password was not sent, because the vendor already knows the person.
    PasswordIgnored,
    /// The request changes nothing, so nothing was sent.
    Unchanged,
    /// The validity window of the returned booking is over.
    WindowOver,
    /// The booking exists, but the vendor returned no launch link for it.
    LaunchUnknown,
    /// It is unknown whether the vendor sent its mail.
    MailUncertain,
    /// The vendor adds a group to the person's groups instead of replacing them.
    GroupAdded,
    /// The vendor accepted the person without returning its own id.
    VendorIdMissing,
    /// The name was sent as one part, because it cannot be split reliably.
    NameUnsplit,
    /// The vendor's counts cover fewer calls than the gateway made.
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

/// A warning about a write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The kind of warning.
    pub code: WarningCode,
    /// RFC 6901 pointer into the request, if the warning concerns one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// One human-readable sentence.
    pub detail: String,
}

impl Warning {
    /// Creates a warning about the write as a whole.
    #[must_use]
    pub fn new(code: WarningCode, detail: impl Into<String>) -> Self {
        Self { code, pointer: None, detail: detail.into() }
    }

    /// Creates a warning about one field.
    #[must_use]
    pub fn with_pointer(code: WarningCode, pointer: &str, detail: impl Into<String>) -> Self {
        Self { code, pointer: Some(pointer.to_owned()), detail: detail.into() }
    }

    /// Creates the warning about a field that the vendor does not support.
    #[must_use]
    pub fn field_ignored(pointer: &str) -> Self {
        Self::with_pointer(
            WarningCode::FieldIgnored,
            pointer,
            "The vendor does not support this field; only the gateway stores it.",
        )
    }

    /// Returns whether the warning concerns one request only, so that the record does not keep it.
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
    fn a_code_is_stored_as_its_api_word() {
        for code in [WarningCode::FieldIgnored, WarningCode::CountsLowerBound, WarningCode::SettledByHand] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
