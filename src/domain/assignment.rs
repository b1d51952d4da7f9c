//! One candidate booked for one assessment: what a caller may order, and what the gateway remembers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::candidate::Identity;
use super::error::{Error, FieldError};
use super::ids::{AssignmentId, CandidateId};
use super::outcome::{Outcome, Warning};
use super::validation::{FieldErrors, pointer_token};

/// The candidate an assignment is for, as the caller names it: exactly one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKey {
    /// By the gateway's identifier.
    Id(CandidateId),
    /// By the caller's own id.
    ExternalId(String),
    /// By e-mail address.
    Email(String),
}

/// Who tells the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notify {
    /// Nobody.
    #[default]
    None,
    /// The vendor, by e-mail.
    VendorEmail,
}

/// Most parameters of a supervision.
pub const MAX_PARAMETERS: usize = 100;

/// Supervision of the attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proctoring {
    /// Whether the attempt is supervised.
    pub enabled: bool,
    /// Names and values the vendor defines.
    pub parameters: BTreeMap<String, String>,
}

/// What to do when the gateway already knows a booking of this candidate for this assessment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfAssignmentExists {
    /// Answer the one there is.
    #[default]
    Reuse,
    /// Book once more.
    CreateNew,
    /// Refuse.
    Fail,
}

/// What a caller orders. Valid by construction through [`NewAssignment::checked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAssignment {
    /// For whom.
    pub candidate: CandidateKey,
    /// A catalogue id, or the vendor's own id.
    pub assessment: String,
    /// From when it may be taken.
    pub valid_from: Option<Timestamp>,
    /// Until when it may be taken.
    pub valid_until: Option<Timestamp>,
    /// The vendor-side centre.
    pub center: Option<String>,
    /// Who tells the candidate.
    pub notify: Notify,
    /// Whether the candidate need not enter a password.
    pub passwordless: bool,
    /// Supervision.
    pub proctoring: Proctoring,
    /// What to do when there is one already.
    pub if_exists: IfAssignmentExists,
    /// The caller's order id, at most 200 characters.
    pub reference: Option<String>,
}

impl NewAssignment {
    /// The order, if every member is in order.
    ///
    /// # Errors
    /// Every member at fault.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut faults = FieldErrors::new();
        match &self.candidate {
            CandidateKey::Id(_) => {}
            CandidateKey::ExternalId(id) => faults.line("/candidate/externalId", Some(id), 250),
            CandidateKey::Email(email) => faults.email("/candidate/email", Some(email)),
        }
        faults.line("/assessment", Some(&self.assessment), 250);
        faults.line("/center", self.center.as_deref(), 200);
        faults.line("/reference", self.reference.as_deref(), 200);
        if let (Some(from), Some(until)) = (self.valid_from, self.valid_until)
            && until <= from
        {
            faults.push(FieldError::invalid("/validUntil", "must be later than validFrom"));
        }
        for (name, value) in &self.proctoring.parameters {
            let pointer = format!("/proctoring/parameters/{}", pointer_token(name));
            faults.line(&pointer, Some(name), 200);
            faults.line(&pointer, Some(value), 200);
        }
        if self.proctoring.parameters.len() > MAX_PARAMETERS {
            let detail = format!("must not have more than {MAX_PARAMETERS} members");
            faults.push(FieldError::invalid("/proctoring/parameters", detail));
        }
        if !self.proctoring.enabled && !self.proctoring.parameters.is_empty() {
            faults.push(FieldError::invalid("/proctoring/parameters", "has a meaning only with proctoring enabled"));
        }
        faults.into_result(self)
    }
}

/// What the gateway knows an assignment to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// The vendor has the booking.
    Assigned,
    /// A write is under way.
    Pending,
    /// The booking was withdrawn.
    Cancelled,
    /// The vendor refused; there is no booking.
    Failed,
    /// It is not known whether there is a booking.
    Unknown,
}

impl AssignmentState {
    /// Whether no write about it is open.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Unknown)
    }
}

/// The way into the assessment. Whoever has the address is let in, so it is a secret in logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The address to open.
    pub url: String,
    /// Until when it works, where known.
    pub expires_at: Option<Timestamp>,
}

/// An assignment as the gateway remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The gateway's identifier.
    pub id: AssignmentId,
    /// Who owns it.
    pub tenant: String,
    /// The connection it lives at.
    pub connection: String,
    /// The gateway's candidate, where it knows one.
    pub candidate_id: Option<CandidateId>,
    /// The order as it was accepted; `candidate` as the vendor is told.
    pub order: NewAssignment,
    /// How the vendor is told who the candidate is. Empty once the person was erased.
    pub vendor_key: String,
    /// The identity that key is, where it was kept when the record was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The vendor's own id of the assessment.
    pub assessment_ref: String,
    /// What makes two bookings the same one: candidate, assessment and centre at the vendor.
    pub subject: String,
    /// What the gateway knows it to be.
    pub state: AssignmentState,
    /// What is known of the last write.
    pub outcome: Outcome,
    /// How the vendor names the booking, as far as it has told.
    pub vendor_ref: Map<String, Value>,
    /// The way in, where known.
    pub launch: Option<Launch>,
    /// Why the last write failed or is unknown; kept until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Error>>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// When the record was made.
    pub created: Timestamp,
    /// When it last changed.
    pub last_modified: Timestamp,
}

impl Assignment {
    /// What writes about the same booking are ordered by.
    #[must_use]
    pub fn turn(&self) -> String {
        format!("{}\n{}", self.connection, self.subject)
    }

    /// Whether the person it was about was erased, so that nothing can be asked of the vendor about it any more.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.vendor_key.is_empty()
    }

    /// The record without the person, who was erased as this candidate. While a write about it is open it keeps what is
    /// needed to settle that.
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
