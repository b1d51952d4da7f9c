//! What a vendor can do, as data: shown at `GET /vendors`, walked by the conformance test, and the reason behind every
//! `capability_unsupported`.

use std::time::Duration;

use super::candidate::IdentityKind;

/// A write the gateway can ask of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Register a person.
    CandidatesCreate,
    /// Change a person.
    CandidatesUpdate,
    /// Hide a person.
    CandidatesDelete,
    /// Book a candidate for an assessment.
    AssignmentsCreate,
    /// Withdraw a booking.
    AssignmentsCancel,
    /// Enrol employees in a program.
    ProgramsEmployees,
}

impl WriteKind {
    /// Every operation.
    pub const ALL: [Self; 6] = [
        Self::CandidatesCreate,
        Self::CandidatesUpdate,
        Self::CandidatesDelete,
        Self::AssignmentsCreate,
        Self::AssignmentsCancel,
        Self::ProgramsEmployees,
    ];

    /// The word used in problems, logs and metrics.
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

/// How an unclear write is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrySafety {
    /// Sending it again changes nothing that is not meant.
    Idempotent,
    /// Sending it again is harmless in a changed form.
    IdempotentWithFlag,
    /// A repeat that is refused as a conflict proves the first one.
    ConflictConfirms,
    /// It must never be sent again; only a person can say.
    Unsafe,
}

impl RetrySafety {
    /// The word used in the API.
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

/// What a vendor declares about one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Which operation.
    pub kind: WriteKind,
    /// Whether the vendor has it. Where it does not, the rest has no meaning and is empty.
    pub supported: bool,
    /// Pointers of members the vendor needs.
    pub required: &'static [&'static str],
    /// Pointers of members the vendor has no place for.
    pub ignored: &'static [&'static str],
    /// Most rows in one vendor call.
    pub max_batch: usize,
    /// How an unclear write is settled in the usual case.
    pub retry_safety: RetrySafety,
    /// Whether the vendor's answer tells each row's outcome.
    pub per_item_outcome: bool,
    /// Whether what was written can be read back.
    pub read_back: bool,
    /// What an integrator should know, in a sentence.
    pub note: &'static str,
}

impl Capability {
    /// An operation the vendor does not have.
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
    /// Where the vendor describes its interface.
    pub documentation: &'static str,
    /// By what the vendor knows people. Two people cannot share one of these, and nothing else tells who is meant.
    pub identities: &'static [IdentityKind],
    /// How far apart the clocks may be; `None` where the vendor's calls carry no time of ours.
    pub clock_tolerance: Option<Duration>,
    /// One entry for every [`WriteKind`].
    pub capabilities: [Capability; WriteKind::ALL.len()],
}

impl VendorDescriptor {
    /// Whether the vendor knows people by e-mail address.
    #[must_use]
    pub fn identifies_by_email(&self) -> bool {
        self.identities.contains(&IdentityKind::Email)
    }

    /// What the vendor declares about this operation.
    #[must_use]
    pub fn capability(&self, operation: WriteKind) -> &Capability {
        // Every operation has its entry; the conformance test holds each vendor to that.
        let position = WriteKind::ALL.iter().position(|known| *known == operation).unwrap_or(0);
        &self.capabilities[position]
    }
}
