//! Write intents, stored before a vendor is called. While an intent is open, the gateway must claim neither that the
//! write happened nor that it did not.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::candidate::Candidate;
use super::capability::{RetrySafety, WriteKind};
use super::ids::OperationId;
use super::operation::ItemId;
use super::program::Enrolled;
use super::vendor::{Booking, Cancellation, CandidateSnapshot, EnrolmentBatch, Registration, Update, Vendor};
use crate::secret::Secret;

/// One write at a vendor, with everything needed to send it again.
#[derive(Debug, Clone)]
pub enum Write {
    /// Registers a person.
    Register(Registration),
    /// Updates a person.
    Update(Update),
    /// Hides a person.
    Hide(CandidateSnapshot),
    /// Books a candidate.
    Assign(Booking),
    /// Cancels a booking.
    Cancel(Cancellation),
    /// Changes a program's employees.
    Enrol(EnrolmentWrite),
}

/// One vendor call that changes a program's employees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentWrite {
    /// The id of the call, from its operation and position; see [`EnrolmentWrite::id_for`].
    pub id: String,
    /// The call.
    pub call: EnrolmentBatch,
}

impl EnrolmentWrite {
    /// Builds the id of an operation's call.
    #[must_use]
    pub fn id_for(at: &ItemId) -> String {
        format!("{}/{}", at.operation, at.index)
    }
}

impl Write {
    /// Returns the write kind.
    #[must_use]
    pub const fn kind(&self) -> WriteKind {
        match self {
            Self::Register(_) => WriteKind::CandidatesCreate,
            Self::Update(_) => WriteKind::CandidatesUpdate,
            Self::Hide(_) => WriteKind::CandidatesDelete,
            Self::Assign(_) => WriteKind::AssignmentsCreate,
            Self::Cancel(_) => WriteKind::AssignmentsCancel,
            Self::Enrol(_) => WriteKind::ProgramsEmployees,
        }
    }

    /// Returns how the write is reconciled if its response is lost, as declared by the vendor.
    #[must_use]
    pub fn retry_safety(&self, vendor: &dyn Vendor) -> RetrySafety {
        match self {
            Self::Register(registration) => vendor.registration_retry_safety(registration),
            Self::Assign(booking) => vendor.booking_retry_safety(booking),
            Self::Update(_) | Self::Hide(_) | Self::Cancel(_) | Self::Enrol(_) => {
                vendor.descriptor().capability(self.kind()).retry_safety
            }
        }
    }

    /// Returns the id of the record written. It is also the intent's key: a record has at most one open write.
    #[must_use]
    pub fn record_id(&self) -> &str {
        match self {
            Self::Register(registration) => registration.id.as_str(),
            Self::Update(update) => update.candidate.id.as_str(),
            Self::Hide(candidate) => candidate.id.as_str(),
            Self::Assign(booking) => booking.id.as_str(),
            Self::Cancel(cancellation) => cancellation.id.as_str(),
            Self::Enrol(enrolment) => &enrolment.id,
        }
    }
}

/// A write that was or is about to be sent and whose outcome is not yet known.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The tenant that owns the record.
    pub tenant: String,
    /// The connection of the write.
    pub connection: String,
    /// The account and address of the connection when the intent was stored; the write can be reconciled only there.
    /// Unset in intents of earlier versions.
    pub destination: Option<Box<str>>,
    /// The write.
    pub write: Write,
    /// The subject by which writes are ordered: no two writes of one subject run at once.
    pub subject: String,
    /// The origin of the write.
    pub origin: WriteOrigin,
    /// The time at which the intent was first stored.
    pub opened: Timestamp,
    /// The start of the last attempt.
    pub started: Timestamp,
    /// The number of attempts so far that may have had an effect.
    pub attempts: u32,
    /// Whether the instance that stored this intent is sending the write now; if that instance dies, the outcome is
    /// unknown.
    pub under_way: bool,
    /// Whether the last attempt ended without a complete response, so that it may still take effect for a while.
    pub lingering: bool,
    /// The end of that grace period, by the clock of the process that saw the attempt end.
    pub settle_from: Timestamp,
    /// The total back-off of the background reconciler so far.
    pub rested: Duration,
    /// The time of the next background reconciliation; `None` if only a person can determine the outcome.
    pub due: Option<Timestamp>,
    /// A sentence on why the write is still open, if an attempt ended without reconciling it.
    pub reason: Option<String>,
}

/// The origin of a write: the key and row that receive its outcome, besides the waiting caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOrigin {
    /// The `Idempotency-Key` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKeyUse>,
    /// The row of an operation that caused the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
}

/// An `Idempotency-Key` in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKeyUse {
    /// Method, path and the caller's key; a tenant has scopes of its own.
    pub scope: String,
    /// Identifies this use of the key, so that a late result of an earlier use is ignored after the key was released.
    pub token: String,
}

impl IdempotencyKeyUse {
    /// The scope prefix of keys that the gateway assigns to requests itself. No caller's key can have it, because a
    /// caller's scope begins with a method.
    pub const OF_PASSWORD: &'static str = "initial password\n";

    /// Returns whether the gateway assigned the key to a request without one, to store the generated password.
    #[must_use]
    pub fn is_for_password(&self) -> bool {
        self.scope.starts_with(Self::OF_PASSWORD)
    }
}

/// The reply of a finished write, stored under its `Idempotency-Key`.
#[derive(Debug, Clone)]
pub enum StoredReply {
    /// A candidate, registered or updated now or already present.
    Candidate {
        /// Whether the candidate was registered now.
        created: bool,
        /// The candidate.
        candidate: Box<Candidate>,
        /// The password that the gateway generated.
        initial_password: Option<Secret>,
    },
    /// An assignment.
    Assignment {
        /// Whether the assignment was booked now.
        created: bool,
        /// The assignment.
        assignment: Box<Assignment>,
    },
    /// The resource was deleted or cancelled.
    Gone,
    /// A program's employees were changed.
    Enrolled(Enrolled),
    /// An operation was accepted; its current state is looked up for each reply.
    Operation(OperationId),
}
