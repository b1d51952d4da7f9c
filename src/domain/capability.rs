//! What a vendor can do, as data: shown at `GET /vendors`, walked by the conformance test, and the reason behind every
//! `capability_unsupported`.

use std::time::Duration;

use super::candidate::IdentityKind;

/// A write the gateway can ask of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
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

impl Operation {
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
pub enum Repeat {
    /// Sending it again changes nothing that is not meant.
    Harmless,
    /// Sending it again is harmless in a changed form.
    HarmlessWithFlag,
    /// A repeat that is refused as a conflict proves the first one.
    ConflictProves,
    /// It must never be sent again; only a person can say.
    Never,
}

impl Repeat {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::HarmlessWithFlag => "harmless_with_flag",
            Self::ConflictProves => "conflict_proves",
            Self::Never => "never",
        }
    }
}

/// What a vendor declares about one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Which operation.
    pub operation: Operation,
    /// Whether the vendor has it. Where it does not, the rest has no meaning and is empty.
    pub supported: bool,
    /// Pointers of members the vendor needs.
    pub required: &'static [&'static str],
    /// Pointers of members the vendor has no place for.
    pub ignored: &'static [&'static str],
    /// Most rows in one vendor call.
    pub max_batch: usize,
    /// How an unclear write is settled in the usual case.
    pub repeat: Repeat,
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
    pub const fn unsupported(operation: Operation, note: &'static str) -> Self {
        Self {
            operation,
            supported: false,
            required: &[],
            ignored: &[],
            max_batch: 0,
            repeat: Repeat::Never,
            per_item_outcome: false,
            read_back: false,
            note,
        }
    }
}

/// A kind of vendor.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
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
    /// One entry for every [`Operation`].
    pub capabilities: [Capability; Operation::ALL.len()],
}

impl Descriptor {
    /// Whether the vendor knows people by e-mail address.
    #[must_use]
    pub fn by_email(&self) -> bool {
        self.identities.contains(&IdentityKind::Email)
    }

    /// What the vendor declares about this operation.
    #[must_use]
    pub fn capability(&self, operation: Operation) -> &Capability {
        // Every operation has its entry; the conformance test holds each vendor to that.
        let position = Operation::ALL.iter().position(|known| *known == operation).unwrap_or(0);
        &self.capabilities[position]
    }
}
