//! Assignments: one candidate booked for one assessment, as ordered by a caller and as recorded by the gateway.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::candidate::Identity;
use super::error::{Error, FieldError};
use super::identity::{EmailAddress, ExternalId};
use super::ids::{AssignmentId, CandidateId};
use super::outcome::{Outcome, Warning};
use super::subject::SubjectKey;
use super::validation::{FieldErrors, pointer_token};
use super::words::words;

/// The caller's reference to a candidate, in exactly one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKey {
    /// The gateway's identifier.
    Id(CandidateId),
    /// The caller's own id.
    ExternalId(ExternalId),
    /// The e-mail address.
    Email(EmailAddress),
}

words! {
    /// Who notifies the candidate.
    #[derive(Default)]
    pub enum Notify {
        /// No notification.
        #[default]
        None "none",
        /// The vendor sends an e-mail.
        VendorEmail "vendor_email",
    }
}

/// Maximum number of proctoring parameters.
pub const MAX_PARAMETERS: usize = 100;

/// Proctoring of the attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proctoring {
    /// Whether the attempt is proctored.
    pub enabled: bool,
    /// Parameters defined by the vendor.
    pub parameters: BTreeMap<String, String>,
}

words! {
    /// What to do if the gateway already has a booking of this candidate for this assessment.
    #[derive(Default)]
    pub enum IfAssignmentExists {
        /// Return the existing booking.
        #[default]
        Reuse "reuse",
        /// Book again.
        CreateNew "create_new",
        /// Reject the request with `assignment_already_exists`.
        Fail "fail",
    }
}

/// A caller's order. Valid by construction through [`NewAssignment::checked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAssignment {
    /// The candidate.
    pub candidate: CandidateKey,
    /// A catalogue id, or the vendor's own id.
    pub assessment: String,
    /// Start of the validity window.
    pub valid_from: Option<Timestamp>,
    /// End of the validity window.
    pub valid_until: Option<Timestamp>,
    /// The vendor-side centre.
    pub center: Option<String>,
    /// Who notifies the candidate.
    pub notify: Notify,
    /// Whether the candidate can start without a password.
    pub passwordless: bool,
    /// Proctoring settings.
    pub proctoring: Proctoring,
    /// The action if a booking already exists.
    pub if_exists: IfAssignmentExists,
    /// The caller's order id, at most 200 characters.
    pub reference: Option<String>,
}

impl NewAssignment {
    /// Validates the order, and brings the candidate's identity into its one form.
    ///
    /// # Errors
    /// All invalid fields.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut faults = FieldErrors::new();
        let candidate = match &self.candidate {
            CandidateKey::Id(_) => None,
            CandidateKey::ExternalId(id) => {
                faults.take("/candidate/externalId", Some(id.reparse())).map(CandidateKey::ExternalId)
            }
            CandidateKey::Email(email) => {
                faults.take("/candidate/email", Some(email.reparse())).map(CandidateKey::Email)
            }
        };
        faults.check_line("/assessment", Some(&self.assessment), 250);
        faults.check_line("/center", self.center.as_deref(), 200);
        faults.check_line("/reference", self.reference.as_deref(), 200);
        if let (Some(from), Some(until)) = (self.valid_from, self.valid_until)
            && until <= from
        {
            faults.push(FieldError::invalid("/validUntil", "must be later than validFrom"));
        }
        for (name, value) in &self.proctoring.parameters {
            let pointer = format!("/proctoring/parameters/{}", pointer_token(name));
            faults.check_line(&pointer, Some(name), 200);
            faults.check_line(&pointer, Some(value), 200);
        }
        if self.proctoring.parameters.len() > MAX_PARAMETERS {
            let detail = format!("must not have more than {MAX_PARAMETERS} entries");
            faults.push(FieldError::invalid("/proctoring/parameters", detail));
        }
        if !self.proctoring.enabled && !self.proctoring.parameters.is_empty() {
            faults.push(FieldError::invalid("/proctoring/parameters", "is only valid when proctoring is enabled"));
        }
        faults.into_result(Self { candidate: candidate.unwrap_or_else(|| self.candidate.clone()), ..self })
    }

    /// Returns the order with the candidate's identity as the caller gave it, for a row that is checked again before it
    /// is sent.
    #[must_use]
    pub fn as_given(mut self) -> Self {
        self.candidate = match self.candidate {
            CandidateKey::Id(id) => CandidateKey::Id(id),
            CandidateKey::ExternalId(id) => CandidateKey::ExternalId(id.as_given().into()),
            CandidateKey::Email(email) => CandidateKey::Email(email.as_given().into()),
        };
        self
    }
}

words! {
    /// What the gateway knows about an assignment.
    pub enum AssignmentState {
        /// The vendor has the booking.
        Assigned "assigned",
        /// A write is in progress.
        Pending "pending",
        /// The booking was cancelled.
        Cancelled "cancelled",
        /// The vendor rejected the order; there is no booking.
        Failed "failed",
        /// It is unknown whether there is a booking.
        Unknown "unknown",
    }
}

impl AssignmentState {
    /// Returns whether no write about the assignment is open.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Unknown)
    }
}

/// The launch link. Anyone who has the address can enter the assessment, so logs treat it as a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The address to open.
    pub url: String,
    /// The expiry of the link, if known.
    pub expires_at: Option<Timestamp>,
}

/// An assignment as recorded by the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The gateway's identifier.
    pub id: AssignmentId,
    /// The tenant that owns the assignment.
    pub tenant: String,
    /// The connection that the assignment belongs to.
    pub connection: String,
    /// The gateway's candidate, if known.
    pub candidate_id: Option<CandidateId>,
    /// The order as accepted; `candidate` in the form sent to the vendor.
    pub order: NewAssignment,
    /// The candidate's key at the vendor. Empty after the person was erased.
    pub vendor_key: String,
    /// The identity behind that key, if it was stored when the record was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The vendor's own id of the assessment.
    pub assessment_ref: String,
    /// The key that makes two bookings the same one: candidate, assessment and centre at the vendor.
    pub subject: String,
    /// The state of the assignment.
    pub state: AssignmentState,
    /// The outcome of the last write.
    pub outcome: Outcome,
    /// The vendor's identifiers for the booking, as far as it has returned them.
    pub vendor_ref: Map<String, Value>,
    /// The launch link, if known.
    pub launch: Option<Launch>,
    /// Why the last write failed or is unknown; kept until the next write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Error>>,
    /// Warnings for the caller.
    pub warnings: Vec<Warning>,
    /// The creation time of the record.
    pub created: Timestamp,
    /// The time of the last change.
    pub last_modified: Timestamp,
    /// Whether an event has reported that its window ended without an attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expiry_reported: bool,
}

impl Assignment {
    /// Returns the subject by which writes about the same booking are ordered.
    #[must_use]
    pub fn subject_key(&self) -> SubjectKey {
        SubjectKey::booking(&self.connection, &self.subject)
    }

    /// Returns whether the person was erased, so that the vendor can no longer be asked about the booking.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.vendor_key.is_empty()
    }

    /// Removes the person, who was erased as this candidate. While a write is open, the record keeps the data needed to
    /// reconcile it.
    #[must_use]
    pub fn without_person(mut self, id: &CandidateId) -> Self {
        self.order.candidate = CandidateKey::Id(id.clone());
        self.order.proctoring.parameters.clear();
        self.launch = None;
        self.problem = None;
        self.identity = None;
        self.candidate_id = Some(id.clone()).filter(|_| !self.state.is_terminal());
        if self.state.is_terminal() {
            self.vendor_key.clear();
            self.subject.clear();
        }
        self
    }
}
