//! Vendor capabilities as data: returned by `GET /vendors`, checked by the conformance test, and the basis of every
//! `capability_unsupported`.

use std::time::Duration;

use super::candidate::IdentityKind;
use super::words::words;

words! {
    /// The kinds of writes at a vendor, as named in problems, logs and metrics.
    pub enum WriteKind {
        /// Registers a person.
        CandidatesCreate "candidates.create",
        /// Updates a person.
        CandidatesUpdate "candidates.update",
        /// Hides a person.
        CandidatesDelete "candidates.delete",
        /// Books a candidate for an assessment.
        AssignmentsCreate "assignments.create",
        /// Changes a booking: its window or its supervision.
        AssignmentsUpdate "assignments.update",
        /// Cancels a booking.
        AssignmentsCancel "assignments.cancel",
        /// Changes the employees of a program.
        ProgramsEmployees "programs.employees",
    }
}

words! {
    /// How a write with an unknown outcome is settled.
    #[schema(as = VendorRepeat)]
    pub enum RetrySafety {
        /// A retry has no unwanted effect.
        Idempotent "harmless",
        /// A retry is harmless in a changed form.
        IdempotentWithFlag "harmless_with_flag",
        /// A retry rejected as a conflict proves that the first attempt succeeded.
        ConflictConfirms "conflict_proves",
        /// The write must never be retried; only a person can determine its outcome.
        Unsafe "never",
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

words! {
    /// How a vendor reports what became of an exam.
    #[schema(as = VendorResultSource)]
    pub enum ResultSource {
        /// It lists what has changed and can be asked at any time.
        Feed "feed",
        /// It sends a request for each result.
        Webhook "webhook",
        /// It documents no way.
        None "none",
    }
}

/// A vendor's declaration about results: what it documents, whether or not the gateway reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the API")]
pub struct ResultCapability {
    /// How it reports them.
    pub source: ResultSource,
    /// Whether it reports attempts that are not finished.
    pub in_progress: bool,
    /// Whether it reports a score that has changed as a change.
    pub corrections: bool,
    /// Whether it reports when an attempt started.
    pub attempt_times: bool,
    /// Whether it reports scores of parts.
    pub parts: bool,
    /// Whether it can be asked for the result of one booking.
    pub refresh: bool,
    /// A sentence for integrators.
    pub note: &'static str,
}

impl ResultCapability {
    /// Declares that the vendor documents no results.
    #[must_use]
    pub const fn unsupported(note: &'static str) -> Self {
        Self {
            source: ResultSource::None,
            in_progress: false,
            corrections: false,
            attempt_times: false,
            parts: false,
            refresh: false,
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
    /// What the vendor documents about results.
    pub results: ResultCapability,
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
