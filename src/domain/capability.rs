//! Vendor capabilities as data: returned by `GET /vendors`, checked by the conformance test, and the basis of every
//! `capability_unsupported`.

use std::time::Duration;

use super::candidate::IdentityKind;

/// The kinds of writes at a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Registers a person.
    CandidatesCreate,
    /// Updates a person.
    CandidatesUpdate,
    /// Hides a person.
    CandidatesDelete,
    /// Books a candidate for an assessment.
    AssignmentsCreate,
    /// Cancels a booking.
    AssignmentsCancel,
    /// Changes the employees of a program.
    ProgramsEmployees,
}

impl WriteKind {
    /// All write kinds.
    pub const ALL: [Self; 6] = [
        Self::CandidatesCreate,
        Self::CandidatesUpdate,
        Self::CandidatesDelete,
        Self::AssignmentsCreate,
        Self::AssignmentsCancel,
        Self::ProgramsEmployees,
    ];

    /// Returns the word used in problems, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CandidatesCreate => "candidates.create",
            Self::CandidatesUpdate => "candidates.update",
            Self::CandidatesDelete => "candidates.delete",
            Self::AssignmentsCreate => "assignments.create",
            Self::AssignmentsCancel => "assignments.cancel",
            Self::ProgramsEmployees => "programs.employees",
        }
    }
}

/// The way in which an unknown write is reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrySafety {
    /// A retry has no unwanted effect.
    Idempotent,
    /// A retry is harmless in a changed form.
    IdempotentWithFlag,
    /// A retry rejected as a conflict proves that the first attempt succeeded.
    ConflictConfirms,
    /// The write must never be retried; only a person can determine its outcome.
    Unsafe,
}

impl RetrySafety {
    /// Returns the word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idempotent => "harmless",
            Self::IdempotentWithFlag => "harmless_with_flag",
            Self::ConflictConfirms => "conflict_proves",
            Self::Unsafe => "never",
        }
    }
}

/// A vendor's declaration about one write kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The write kind.
    pub kind: WriteKind,
    /// Whether the vendor supports it. If not, the other fields are empty and have no meaning.
    pub supported: bool,
    /// Pointers of the fields that the vendor requires.
    pub required: &'static [&'static str],
    /// Pointers of the fields that the vendor does not support.
    pub ignored: &'static [&'static str],
    /// Maximum rows per vendor call.
    pub max_batch: usize,
    /// How an unknown write is usually reconciled.
    pub retry_safety: RetrySafety,
    /// Whether the vendor's response reports each row's outcome.
    pub per_item_outcome: bool,
    /// Whether the gateway can read back what it wrote.
    pub read_back: bool,
    /// A sentence for integrators.
    pub note: &'static str,
}

impl Capability {
    /// Declares a write kind that the vendor does not support.
    #[must_use]
    pub const fn unsupported(operation: WriteKind, note: &'static str) -> Self {
        Self {
            kind: operation,
            supported: false,
            required: &[],
            ignored: &[],
            max_batch: 0,
            retry_safety: RetrySafety::Unsafe,
            per_item_outcome: false,
            read_back: false,
            note,
        }
    }
}

/// A kind of vendor.
#[derive(Debug, PartialEq, Eq)]
pub struct VendorDescriptor {
    /// The word used in configuration and API, e.g. `startexam`.
    pub kind: &'static str,
    /// The vendor's own name.
    pub name: &'static str,
    /// Where the vendor documents its API.
    pub documentation: &'static str,
    /// The identities by which the vendor recognises people. Each is unique to one person, and no other field
    /// identifies the person.
    pub identities: &'static [IdentityKind],
    /// The permitted clock difference; `None` if calls to the vendor carry no timestamp.
    pub clock_tolerance: Option<Duration>,
    /// One entry per [`WriteKind`].
    pub capabilities: [Capability; WriteKind::ALL.len()],
}

impl VendorDescriptor {
    /// Returns whether the vendor identifies people by e-mail address.
    #[must_use]
    pub fn identifies_by_email(&self) -> bool {
        self.identities.contains(&IdentityKind::Email)
    }

    /// Returns the vendor's declaration about this write kind.
    #[must_use]
    pub fn capability(&self, operation: WriteKind) -> &Capability {
        // The conformance test verifies that each vendor declares every write kind.
        let position = WriteKind::ALL.iter().position(|known| *known == operation).unwrap_or(0);
        &self.capabilities[position]
    }
}
