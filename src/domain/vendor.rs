//! The interface to exam vendors: [`Vendor`], the trait that every adapter implements.
//!
//! An adapter plans a write (all checks that need no network), performs it for one row or a batch, and maps the
//! response to one result per row. It never stores, never schedules and never retries a write; the only exception is a
//! request that the vendor rejected for its signature or date, which the adapter sends once more, freshly signed. There
//! are no default bodies: each adapter states explicitly what it does not support.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::assignment::{CandidateKey, IfAssignmentExists, Launch, NewAssignment, Notify, Proctoring};
use super::candidate::{NewCandidate, Person};
use super::capability::{RetrySafety, VendorDescriptor};
use super::error::FieldError;
use super::exchange::Exchange;
use super::ids::{AssignmentId, CandidateId};
use super::outcome::Warning;
use super::program::{Enrolment, EnrolmentCounts, ProgramRef};
use super::results::ReportSource;
use super::system::System;
use super::vendor_error::VendorError;
use crate::secret::Secret;

/// The purpose of a vendor call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPurpose {
    /// The first attempt.
    Initial,
    /// A retry that determines the outcome of an earlier attempt. The adapter uses the harmless form of the write and
    /// interprets the response accordingly; only a success, or an error marked as [`VendorError::proves_no_effect`], reconciles the
    /// write.
    Reconcile,
}

/// The priority of a call: interactive calls go first when calls have to queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A caller is waiting for this single request.
    Interactive,
    /// An operation or background work.
    Bulk,
}

impl Priority {
    /// Returns the other priority.
    #[must_use]
    pub const fn other_priority(self) -> Self {
        match self {
            Self::Interactive => Self::Bulk,
            Self::Bulk => Self::Interactive,
        }
    }
}

/// The context of a vendor call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The purpose of the call.
    pub purpose: CallPurpose,
    /// The priority of the call.
    pub priority: Priority,
    /// The exchange the call belongs to, with the request's id and trace.
    pub exchange: Exchange,
}

/// A row that the vendor has applied.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteSuccess<T> {
    /// The vendor's result.
    pub value: T,
    /// Warnings for the caller.
    pub warnings: Vec<Warning>,
}

impl<T> WriteSuccess<T> {
    /// Creates a success without warnings.
    pub const fn new(value: T) -> Self {
        Self { value, warnings: Vec::new() }
    }

    /// Converts the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> WriteSuccess<U> {
        WriteSuccess { value: change(self.value), warnings: self.warnings }
    }
}

/// The result of one row: applied, or an error whose `outcome` states what is known.
pub type RowResult<T> = Result<WriteSuccess<T>, VendorError>;

/// A write ready to be sent, with warnings for the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<T> {
    /// The write.
    pub write: T,
    /// Warnings, for example about fields that the vendor does not support.
    pub warnings: Vec<Warning>,
}

/// The rows that may share a vendor call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchGroup {
    /// This row needs a call of its own.
    Single,
    /// Rows with the same key may share a call, up to `at_most` rows.
    Keyed {
        /// The property that the rows share.
        key: String,
        /// Maximum rows per call.
        at_most: usize,
        /// Bytes that this row adds to the call's body.
        bytes: usize,
    },
}

/// A registration ready to be sent; also the persisted form of an unfinished one.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The gateway's candidate id.
    pub id: CandidateId,
    /// The person as sent to the vendor, with defaults applied.
    pub person: Person,
    /// Whether the gateway generated `person.user_name`.
    pub own_user_name: bool,
    /// The password to set, if any.
    pub password: Option<Secret>,
    /// Whether the gateway generated the password, so that it must be returned to the caller.
    pub own_password: bool,
}

/// The vendor's result of a registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The vendor's identifiers for the person (`id`, …), as far as it returns them.
    pub vendor_ref: Map<String, Value>,
    /// Data that the adapter needs for later writes and the gateway never shows.
    pub private: BTreeMap<String, String>,
}

/// A candidate as later writes need it.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateSnapshot {
    /// The gateway's candidate id.
    pub id: CandidateId,
    /// The person as it is (for an update: as it will be).
    pub person: Person,
    /// The vendor's identifiers for the person.
    pub vendor_ref: Map<String, Value>,
    /// Data kept by the adapter.
    pub private: BTreeMap<String, String>,
}

/// An update of a candidate ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The candidate; `person` as it will be.
    pub candidate: CandidateSnapshot,
    /// Pointers of the fields that change.
    pub touched: Vec<String>,
}

/// A booking ready to be sent; also the persisted form of an unfinished one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// The gateway's assignment id.
    pub id: AssignmentId,
    /// The candidate's key at the vendor.
    pub candidate: VendorKey,
    /// Data kept by the adapter when the candidate was registered.
    pub private: BTreeMap<String, String>,
    /// The vendor's id of the assessment.
    pub assessment: String,
    /// The centre, with its default applied, if the vendor has centres.
    pub center: Option<String>,
    /// Start of the validity window, with its default applied, if the vendor has one.
    pub valid_from: Option<Timestamp>,
    /// End of the validity window, with its default applied, if the vendor has one.
    pub valid_until: Option<Timestamp>,
    /// Who notifies the candidate.
    pub notify: Notify,
    /// Whether the candidate can start without a password.
    pub passwordless: bool,
    /// Proctoring settings.
    pub proctoring: Proctoring,
    /// The action if a booking already exists.
    pub if_exists: IfAssignmentExists,
    /// Whether the gateway can rule out an earlier booking of this subject (its records have none, and as far as it
    /// knows only the gateway writes to the vendor). Decides whether a `create_new` or `fail` may be reconciled by
    /// flag.
    pub first_booking: bool,
}

/// The key by which the vendor identifies a person: the caller's id or the e-mail address, depending on the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorKey(pub String);

/// The vendor's result of a booking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Booked {
    /// The vendor's identifiers for the booking, as far as it returns them.
    pub vendor_ref: Map<String, Value>,
    /// The launch link, if known.
    pub launch: Option<Launch>,
    /// Whether the vendor reported that this booking already existed.
    pub already_there: bool,
}

/// A cancellation ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// The gateway's assignment id.
    pub id: AssignmentId,
    /// The candidate's key at the vendor.
    pub candidate: VendorKey,
    /// The vendor's id of the assessment.
    pub assessment: String,
}

/// A change of a program's employees ready to be sent in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentBatch {
    /// The program.
    pub program: ProgramRef,
    /// The employees to enrol and withdraw; each list within [`super::capability::Capability::max_batch`].
    pub enrolment: Enrolment,
}

/// The result of a connection check without side effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialCheck {
    /// The vendor responds and accepts the credentials.
    Ok {
        /// What was checked.
        detail: String,
    },
    /// The vendor offers no check without side effects, so nothing was sent.
    Unchecked {
        /// The reason.
        detail: String,
    },
    /// The check failed.
    Faulty(VendorError),
}

/// An exam vendor accessed through one configured account.
#[async_trait]
pub trait Vendor: Send + Sync {
    /// Returns the kind of vendor and its capabilities.
    fn descriptor(&self) -> &'static VendorDescriptor;

    /// Turns a request into a registration: checks required fields, rejects significant fields that the vendor does not
    /// support, applies defaults, generates the user name and password.
    ///
    /// # Errors
    /// All invalid fields (`missing_field`, `invalid_field`, `capability_unsupported`).
    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>>;

    /// Turns changes into an update.
    ///
    /// # Errors
    /// All invalid fields; `capability_unsupported` for a field that the vendor cannot change.
    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>>;

    /// Returns the vendor's own form of an assessment id (for example a lower-case GUID), or `None` if the text cannot
    /// be one.
    fn assessment_ref(&self, text: &str) -> Option<String>;

    /// Returns the vendor's own form of a program id, or `None` if the text cannot be one or the vendor has no
    /// programs.
    fn program_ref(&self, text: &str) -> Option<ProgramRef>;

    /// Returns the key by which the vendor identifies this person; `key` is the caller's reference, `person` the
    /// gateway's record, if any.
    ///
    /// # Errors
    /// A field error if the vendor does not identify people by this key.
    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError>;

    /// Turns an order into a booking. `assessment` is already the vendor's own id.
    ///
    /// # Errors
    /// All invalid fields.
    fn plan_assignment(
        &self,
        id: &AssignmentId,
        order: &NewAssignment,
        candidate: VendorKey,
        private: BTreeMap<String, String>,
        assessment: String,
        now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>>;

    /// Returns which registrations may share a call.
    fn registration_batch(&self, registration: &Registration) -> BatchGroup;

    /// Returns which registrations may share a reconciling call. Batching is allowed only if the vendor rejects calls
    /// as a whole or reports each row, because the response must give every row's outcome.
    fn reconcile_batch(&self, registration: &Registration) -> BatchGroup;

    /// Returns which bookings may share a call.
    fn booking_batch(&self, booking: &Booking) -> BatchGroup;

    /// Returns how an unknown registration is reconciled.
    fn registration_retry_safety(&self, registration: &Registration) -> RetrySafety;

    /// Returns how an unknown booking is reconciled.
    fn booking_retry_safety(&self, booking: &Booking) -> RetrySafety;

    /// Returns whether an order with `ifExists: reuse` books again if the window of the existing booking is over.
    fn rebooks_expired(&self) -> bool;

    /// Registers people in one vendor call; returns one result per row, in order.
    async fn register(&self, rows: &[Registration], call: &CallContext) -> Vec<RowResult<Registered>>;

    /// Updates a person.
    async fn update(&self, update: &Update, call: &CallContext) -> RowResult<Registered>;

    /// Hides a person.
    async fn hide(&self, candidate: &CandidateSnapshot, call: &CallContext) -> RowResult<()>;

    /// Books candidates in one vendor call; returns one result per row, in order.
    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>>;

    /// Cancels a booking.
    async fn cancel(&self, cancellation: &Cancellation, call: &CallContext) -> RowResult<()>;

    /// Enrols and withdraws employees in one vendor call.
    async fn enrol(&self, enrolment: &EnrolmentBatch, call: &CallContext) -> RowResult<EnrolmentCounts>;

    /// Returns what the vendor says of attempts; `None` if it documents no results, or the operator has not asked for them.
    fn report_source(&self) -> Option<&dyn ReportSource>;

    /// Checks the connection as far as possible without side effects at the vendor.
    async fn check(&self, call: &CallContext) -> CredentialCheck;
}
