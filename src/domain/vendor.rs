//! What the gateway asks of a vendor: [`Vendor`], the one trait every adapter implements.
//!
//! An adapter plans a write (everything that can be said before a byte is sent), performs it for one row or a batch, and
//! reads the answer into one result a row. It never stores, never schedules and never repeats a write by itself; only a
//! request the vendor refused for its signature or date is sent once more, freshly signed.
//! There are no default bodies: an adapter says "unsupported" out loud.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::assignment::{CandidateKey, IfAssignmentExists, Launch, NewAssignment, Notify, Proctoring};
use super::candidate::{NewCandidate, Person};
use super::capability::{RetrySafety, VendorDescriptor};
use super::error::{Error, FieldError};
use super::exchange::Exchange;
use super::ids::{AssignmentId, CandidateId};
use super::outcome::Warning;
use super::program::{Enrolment, EnrolmentCounts, ProgramRef};
use super::system::System;
use crate::secret::Secret;

/// Why a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPurpose {
    /// For the first time.
    Initial,
    /// Again, to learn what became of an earlier attempt. The adapter uses the harmless form of the write and reads the
    /// answer accordingly; only a success, or a fault it marks as [`Fault::proof`], settles anything.
    Reconcile,
}

/// Who waits for a call: where calls have to queue, those somebody waits for go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A caller with a single request.
    Interactive,
    /// An operation, or the background.
    Bulk,
}

impl Priority {
    /// The other one.
    #[must_use]
    pub const fn other_priority(self) -> Self {
        match self {
            Self::Interactive => Self::Bulk,
            Self::Bulk => Self::Interactive,
        }
    }
}

/// The circumstances of a call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Why it is made.
    pub purpose: CallPurpose,
    /// Who waits for it.
    pub priority: Priority,
    /// The exchange it belongs to, with the request's id and trace.
    pub exchange: Exchange,
}

/// A row the vendor has done.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteSuccess<T> {
    /// What it answered.
    pub value: T,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl<T> WriteSuccess<T> {
    /// Done, nothing to remark.
    pub const fn new(value: T) -> Self {
        Self { value, warnings: Vec::new() }
    }

    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> WriteSuccess<U> {
        WriteSuccess { value: change(self.value), warnings: self.warnings }
    }
}

/// What became of one row: done, or a fault whose `outcome` says what is known.
pub type RowResult<T> = Result<WriteSuccess<T>, Error>;

/// A write that may be sent, and what the caller should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<T> {
    /// The write.
    pub write: T,
    /// Members the vendor has no place for, and the like.
    pub warnings: Vec<Warning>,
}

/// Which rows may share a vendor call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchGroup {
    /// This row needs a call of its own.
    Single,
    /// Rows with the same key may share a call of at most this many.
    Keyed {
        /// What they have in common.
        key: String,
        /// Most rows in one call.
        at_most: usize,
        /// What this row adds to the call's body, in bytes.
        bytes: usize,
    },
}

/// A registration ready to be sent; also the form in which an unfinished one is kept.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The gateway's candidate.
    pub id: CandidateId,
    /// The person as the vendor will know them: defaults filled in.
    pub person: Person,
    /// Whether the gateway made up `person.user_name`.
    pub own_user_name: bool,
    /// The password to set, if any.
    pub password: Option<Secret>,
    /// Whether the gateway made up the password, so that the caller has to be told.
    pub own_password: bool,
}

/// What a vendor answers to a registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// How the vendor names the person (`id`, …), as far as it tells.
    pub vendor_ref: Map<String, Value>,
    /// What the adapter wants to see again with later writes and nobody is shown.
    pub private: BTreeMap<String, String>,
}

/// A candidate as later writes need it.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateSnapshot {
    /// The gateway's candidate.
    pub id: CandidateId,
    /// The person as it is (for an update: as it shall be).
    pub person: Person,
    /// How the vendor names the person.
    pub vendor_ref: Map<String, Value>,
    /// What the adapter kept.
    pub private: BTreeMap<String, String>,
}

/// A change of a candidate ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The candidate; `person` as it shall be.
    pub candidate: CandidateSnapshot,
    /// Pointers of the members that change.
    pub touched: Vec<String>,
}

/// A booking ready to be sent; also the form in which an unfinished one is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// The gateway's assignment.
    pub id: AssignmentId,
    /// The candidate's key at the vendor.
    pub candidate: VendorKey,
    /// What the adapter kept at the candidate's registration.
    pub private: BTreeMap<String, String>,
    /// The vendor's own id of the assessment.
    pub assessment: String,
    /// The centre, where the vendor has centres: filled in.
    pub center: Option<String>,
    /// From when it may be taken, where the vendor limits that: filled in.
    pub valid_from: Option<Timestamp>,
    /// Until when it may be taken, where the vendor limits that: filled in.
    pub valid_until: Option<Timestamp>,
    /// Who tells the candidate.
    pub notify: Notify,
    /// Whether the candidate need not enter a password.
    pub passwordless: bool,
    /// Supervision.
    pub proctoring: Proctoring,
    /// What to do when there is a booking already.
    pub if_exists: IfAssignmentExists,
    /// Whether the gateway can rule out any booking of this subject before this one (its record has none, and the vendor
    /// is only written to through it as far as it knows). Decides whether a `create_new` or `fail` may be settled by flag.
    pub first_booking: bool,
}

/// How a vendor is told which person is meant: the caller's id or the e-mail address, whichever the vendor goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorKey(pub String);

/// What a vendor answers to a booking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Booked {
    /// How the vendor names the booking, as far as it tells.
    pub vendor_ref: Map<String, Value>,
    /// The way in, where known.
    pub launch: Option<Launch>,
    /// Whether the vendor said that this booking was there before.
    pub already_there: bool,
}

/// A withdrawal ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// The gateway's assignment.
    pub id: AssignmentId,
    /// The candidate's key at the vendor.
    pub candidate: VendorKey,
    /// The vendor's own id of the assessment.
    pub assessment: String,
}

/// A change of a program's employees ready to be sent in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentBatch {
    /// The program.
    pub program: ProgramRef,
    /// Who comes and goes; each list within [`super::capability::Capability::max_batch`].
    pub enrolment: Enrolment,
}

/// What a harmless look at a connection found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialCheck {
    /// The vendor answers and accepts the credentials.
    Ok {
        /// What was looked at.
        detail: String,
    },
    /// The vendor cannot be asked without side effects, so nothing was tried.
    Unchecked {
        /// Why.
        detail: String,
    },
    /// Something is wrong.
    Faulty(Box<Error>),
}

/// An exam vendor at one configured account.
#[async_trait]
pub trait Vendor: Send + Sync {
    /// What kind of vendor it is and what it can do.
    fn descriptor(&self) -> &'static VendorDescriptor;

    /// Turns a request into a registration: required members, decisive ones the vendor has no place for, defaults,
    /// generated user name and password.
    ///
    /// # Errors
    /// Every member at fault (`missing_field`, `invalid_field`, `capability_unsupported`).
    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>>;

    /// Turns a change into an update.
    ///
    /// # Errors
    /// Every member at fault; `capability_unsupported` where the vendor cannot change it.
    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>>;

    /// Returns the vendor's own form of an assessment id (a GUID in lower case, say), or `None` for text that cannot be one.
    fn assessment_ref(&self, text: &str) -> Option<String>;

    /// Returns the vendor's own form of a program id, or `None` for text that cannot be one or if the vendor has no programs.
    fn program_ref(&self, text: &str) -> Option<ProgramRef>;

    /// The key by which the vendor knows this person; `key` is how the caller named them, `person` what the gateway
    /// knows of them, if anything.
    ///
    /// # Errors
    /// The fault of a key the vendor does not go by.
    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError>;

    /// Turns an order into a booking. `assessment` is already the vendor's own id.
    ///
    /// # Errors
    /// Every member at fault.
    fn plan_assignment(
        &self,
        id: &AssignmentId,
        order: &NewAssignment,
        candidate: VendorKey,
        private: BTreeMap<String, String>,
        assessment: String,
        now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>>;

    /// Which registrations may share a call.
    fn registration_batch(&self, registration: &Registration) -> BatchGroup;

    /// Which registrations may share a call that settles them. Only what the vendor refuses whole, or answers row by row, may
    /// be packed: the answer has to say of each row what became of it.
    fn reconcile_batch(&self, registration: &Registration) -> BatchGroup;

    /// Which bookings may share a call.
    fn booking_batch(&self, booking: &Booking) -> BatchGroup;

    /// How an unclear registration is settled.
    fn registration_retry_safety(&self, registration: &Registration) -> RetrySafety;

    /// How an unclear booking is settled.
    fn booking_retry_safety(&self, booking: &Booking) -> RetrySafety;

    /// Whether an order that is content with an existing booking books again where that one's window is over.
    fn rebooks_expired(&self) -> bool;

    /// Registers people in one vendor call: one result a row, in order.
    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>>;

    /// Changes a person.
    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered>;

    /// Hides a person.
    async fn hide(&self, candidate: &CandidateSnapshot, call: &CallContext) -> RowResult<()>;

    /// Books candidates in one vendor call: one result a row, in order.
    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>>;

    /// Withdraws a booking.
    async fn cancel(&self, cancellation: &Cancellation, call: &CallContext) -> RowResult<()>;

    /// Enrols and withdraws employees in one vendor call.
    async fn enrol(&self, enrolment: &EnrolmentBatch, call: &CallContext) -> RowResult<EnrolmentCounts>;

    /// Looks at the connection as far as that has no side effects at the vendor.
    async fn check(&self, call: &CallContext) -> CredentialCheck;
}
