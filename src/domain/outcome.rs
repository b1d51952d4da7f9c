//! The outcome of a write at the vendor. The gateway's central promise is that this value is true.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::words;

words! {
    /// What is known about a write at the vendor.
    pub enum Outcome {
        /// The vendor has applied the write.
        Applied "applied",
        /// The vendor has not applied the write and will not.
        NotApplied "not_applied",
        /// The write may or may not have happened.
        Unknown "unknown",
    }
}

words! {
    /// The kind of a [`Warning`], machine-readable.
    pub enum WarningCode {
        /// The vendor does not support a field; the gateway keeps it. The only warning that `Prefer: handling=strict`
        /// turns into a rejection.
        FieldIgnored "field_ignored",
        /// The returned record has another value in this field.
        ExistingDiffers "existing_differs",
        /// The password was not sent, because the vendor already knows the person.
        PasswordIgnored "password_ignored",
        /// The request changes nothing, so nothing was sent.
        Unchanged "unchanged",
        /// The validity window of the returned booking is over.
        WindowOver "window_over",
        /// The booking exists, but the vendor returned no launch link for it.
        LaunchUnknown "launch_unknown",
        /// It is unknown whether the vendor sent its mail.
        MailUncertain "mail_uncertain",
        /// The vendor adds a group to the person's groups instead of replacing them.
        GroupAdded "group_added",
        /// The vendor accepted the person without returning its own id.
        VendorIdMissing "vendor_id_missing",
        /// The name was sent as one part, because it cannot be split reliably.
        NameUnsplit "name_unsplit",
        /// The vendor's counts cover fewer calls than the gateway made.
        CountsLowerBound "counts_lower_bound",
        /// The outcome of the last write is unknown.
        Unsettled "unsettled",
        /// An operator stated the outcome.
        SettledByHand "settled_by_hand",
        /// The number of the attempt is the order in which attempts were first seen; the vendor numbers none.
        AttemptNumberAssumed "attempt_number_assumed",
        /// The vendor reports figures that cannot be, so there is no score.
        ScoreImplausible "score_implausible",
        /// The vendor's percentage differs from that of its points by more than 0.01.
        PercentDiffers "percent_differs",
        /// The vendor reports more parts than are kept, or parts that cannot be read.
        PartsIncomplete "parts_incomplete",
        /// The report names no test; it was taken to be about the candidate's only open booking.
        MatchedByOnlyOpen "matched_by_only_open",
        /// The report was matched by e-mail address only.
        MatchedByEmail "matched_by_email",
        /// The attempt was known before the booking that claims it.
        ClaimedLater "claimed_later",
        /// The attempt was reported after the booking had been cancelled.
        AfterCancellation "after_cancellation",
        /// The attempt took place outside the booking's window.
        OutsideWindow "outside_window",
    }
}

/// A remark on a write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The code to act on: `field_ignored`, `existing_differs`, `launch_unknown`, … New ones may be added.
    #[schema(value_type = String)]
    pub code: WarningCode,
    /// RFC 6901 pointer into the request, if the warning concerns one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// One sentence for people.
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
