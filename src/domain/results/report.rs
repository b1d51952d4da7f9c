//! A report: what a vendor said about an attempt, as it came. Its body is kept sealed elsewhere.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reading::Reading;
use crate::domain::ids::{AssignmentId, CandidateId, ReportId, ResultId};
use crate::domain::words::words;

words! {
    /// How a report reached the gateway.
    pub enum ReportKind {
        /// An entry of the vendor's list of changes.
        FeedItem "feed",
        /// A report that the gateway asked for.
        FetchedReport "report",
        /// A request of the vendor's to the gateway.
        Webhook "webhook",
    }
}

words! {
    /// What became of a report.
    pub enum ReportState {
        /// A result is made from it.
        Applied "applied",
        /// It is the same as an earlier one, where it is counted.
        Repeated "repeated",
        /// It is not known whose it is.
        Parked "parked",
        /// It cannot be read.
        Rejected "rejected",
        /// A person has decided that it is of no use, or the person it is about was erased.
        Dismissed "dismissed",
    }
}

words! {
    /// Why it is not known whose a report is.
    pub enum ParkReason {
        /// No candidate of the connection fits.
        UnknownCandidate "unknown_candidate",
        /// Several candidates, or candidates of several tenants, fit.
        SeveralCandidates "several_candidates",
        /// The report names no test, and the candidate has no open booking.
        NoOpenBooking "no_open_booking",
        /// The report names no test, and the candidate has several open bookings.
        SeveralOpenBookings "several_open_bookings",
        /// A booking that it may belong to is being written; it is looked at again by itself.
        BookingInProgress "booking_in_progress",
    }
}

words! {
    /// Why a report cannot be read.
    pub enum RejectionReason {
        /// It is not a JSON object, or nested too deep.
        NotJson "not_json",
        /// It is too long, or has too many values.
        TooLarge "too_large",
        /// An object names a field twice, perhaps in another case: which one counts is not known.
        RepeatedField "repeated_field",
        /// A field that is needed is missing.
        MissingField "missing_field",
        /// A field has a value that the vendor does not document.
        InvalidField "invalid_field",
        /// The vendor's answer is about something else than was asked for.
        Mismatch "mismatch",
    }
}

/// Why a report cannot be read, and where. Holds nothing of the report: the field is named in the gateway's spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectionReason,
    /// The vendor's name of the field, if one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
}

impl Rejection {
    /// Creates a rejection of the report as a whole.
    #[must_use]
    pub const fn whole(reason: RejectionReason) -> Self {
        Self { reason, field: None }
    }

    /// Creates a rejection for one field.
    #[must_use]
    pub const fn field(reason: RejectionReason, field: &'static str) -> Self {
        Self { reason, field: Some(Cow::Borrowed(field)) }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{} ({field})", self.reason.as_str()),
            None => f.write_str(self.reason.as_str()),
        }
    }
}

/// The keyed digest of a report: two reports with the same one are the same report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportDigest(pub [u8; 32]);

/// Returns what a report's keyed digest is computed over: connection, kind and canonical content, each with its length.
#[must_use]
pub fn digest_input(connection: &str, kind: ReportKind, canonical: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(connection.len() + canonical.len() + 32);
    for part in [connection.as_bytes(), kind.as_str().as_bytes(), canonical] {
        input.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        input.extend_from_slice(part);
    }
    input
}

/// What a report's reader needs besides its bytes; kept with the report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportContext {
    /// The centre whose feed it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center: Option<String>,
    /// The vendor's id of the registration that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// The vendor's id of the assessment that the receiver's address names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assessment: Option<String>,
}

/// A report as an adapter has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReport {
    /// The body as it came, to be kept sealed.
    pub body: Vec<u8>,
    /// The content without white space and in one order of fields, for the digest.
    pub canonical: Vec<u8>,
    /// What it says, or why it cannot be read.
    pub reading: Result<Reading, Rejection>,
}

/// A report as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The gateway's identifier.
    pub id: ReportId,
    /// The tenant that owns it; `None` while that is not known.
    pub tenant: Option<String>,
    /// The connection.
    pub connection: String,
    /// How it reached the gateway.
    pub kind: ReportKind,
    /// What became of it.
    pub state: ReportState,
    /// Why it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_for: Option<ParkReason>,
    /// Why it is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// When it was first received, by the gateway's clock.
    pub received: Timestamp,
    /// Until when the vendor's state is known by it: the end of the feed it was in, the time a report was fetched (both by
    /// the vendor's clock), the first arrival of a webhook. A feed item or a fetched report that is repeated later says that
    /// the state is the same until then, so this time moves with it; that of a webhook stays, since a repeat may be an old
    /// request.
    pub as_of: Timestamp,
    /// The keyed digest over [`digest_input`].
    pub digest: ReportDigest,
    /// How often the same report came again.
    pub repeats: u64,
    /// What its reader needs besides its body.
    #[serde(default)]
    pub context: ReportContext,
    /// Whether a person has said whose it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// The candidate it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateId>,
    /// The assignment it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentId>,
    /// The result that is made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultId>,
}
