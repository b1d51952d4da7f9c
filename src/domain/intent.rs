//! What is written down before a vendor is called: the intent. As long as it stands without an answer, nobody may say
//! that the write happened, nor that it did not.

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
    /// Register a person.
    Register(Registration),
    /// Change a person.
    Update(Update),
    /// Hide a person.
    Hide(CandidateSnapshot),
    /// Book a candidate.
    Assign(Booking),
    /// Withdraw a booking.
    Cancel(Cancellation),
    /// Change a program's employees.
    Enrol(EnrolmentWrite),
}

/// One vendor call that changes a program's employees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentWrite {
    /// Names the call: its operation and position, see [`EnrolmentWrite::id_for`].
    pub id: String,
    /// The call.
    pub call: EnrolmentBatch,
}

impl EnrolmentWrite {
    /// The id of an operation's call.
    #[must_use]
    pub fn id_for(at: &ItemId) -> String {
        format!("{}/{}", at.operation, at.index)
    }
}

impl Write {
    /// Which operation it is.
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

    /// How it is settled when its answer was lost, by the vendor's own word.
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

    /// The identifier of the record it is about, which is also the intent's key: a record has at most one open write.
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

/// A write that has been or is about to be sent and whose outcome is not known yet.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Who owns the record.
    pub tenant: String,
    /// The connection it goes through.
    pub connection: String,
    /// The account and address the connection led to when it was written down: only there can it be settled. Unset in
    /// intents of earlier versions.
    pub destination: Option<Box<str>>,
    /// What is written.
    pub write: Write,
    /// What writes it is ordered with: no two of one subject are under way at once.
    pub subject: String,
    /// On whose behalf.
    pub origin: WriteOrigin,
    /// When it was first written down.
    pub opened: Timestamp,
    /// When the last attempt began.
    pub started: Timestamp,
    /// Attempts so far of which something may have come.
    pub attempts: u32,
    /// Whether the instance that wrote this is sending it now; if that instance dies, nobody knows what became of it.
    pub under_way: bool,
    /// Whether the last attempt ended without a complete answer, so that it may still take effect for a while.
    pub lingering: bool,
    /// When that while is over, by the clock of the process that saw the attempt end.
    pub settle_from: Timestamp,
    /// How long the background has rested between its attempts, all pauses together.
    pub rested: Duration,
    /// When the background settles it next; `None` where only a person can.
    pub due: Option<Timestamp>,
    /// Why it is still open, in a sentence, where an attempt has ended without settling it.
    pub reason: Option<String>,
}

/// On whose behalf a write is made: who is told its outcome besides whoever waits for the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOrigin {
    /// The `Idempotency-Key` it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKeyUse>,
    /// The row of an operation it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
}

/// An `Idempotency-Key` in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKeyUse {
    /// Tenant, method, path and the caller's key.
    pub scope: String,
    /// Which use of it: what an earlier use still has to say about a key that was freed meanwhile is not heard.
    pub token: String,
}

impl IdempotencyKeyUse {
    /// What the scope of a key begins with that the gateway gives a request itself. No caller's key can: its scope begins
    /// with a method.
    pub const OF_PASSWORD: &'static str = "initial password\n";

    /// Whether the gateway gave it to a request without one, to keep the password it makes up.
    #[must_use]
    pub fn is_for_password(&self) -> bool {
        self.scope.starts_with(Self::OF_PASSWORD)
    }
}

/// The answer of a finished write, kept under its `Idempotency-Key`.
#[derive(Debug, Clone)]
pub enum StoredReply {
    /// A person, registered or changed now or there before.
    Candidate {
        /// Whether it was registered now.
        created: bool,
        /// The person.
        candidate: Box<Candidate>,
        /// The password the gateway made up.
        initial_password: Option<Secret>,
    },
    /// A booking.
    Assignment {
        /// Whether it was made now.
        created: bool,
        /// The booking.
        assignment: Box<Assignment>,
    },
    /// Something is erased or withdrawn.
    Gone,
    /// A program's employees were changed.
    Enrolled(Enrolled),
    /// An operation was accepted; its state is looked up anew.
    Operation(OperationId),
}
