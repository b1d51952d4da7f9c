//! What is written down before a vendor is called: the intent. As long as it stands without an answer, nobody may say
//! that the write happened, nor that it did not.

use jiff::Timestamp;

use super::capability::{Operation, Repeat};
use super::vendor::{Booking, Cancellation, KnownCandidate, Registration, Update, Vendor};

/// One write at a vendor, with everything needed to send it again.
#[derive(Debug, Clone)]
pub enum Write {
    /// Register a person.
    Register(Registration),
    /// Change a person.
    Update(Update),
    /// Hide a person.
    Hide(KnownCandidate),
    /// Book a candidate.
    Assign(Booking),
    /// Withdraw a booking.
    Cancel(Cancellation),
}

impl Write {
    /// Which operation it is.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Register(_) => Operation::CandidatesCreate,
            Self::Update(_) => Operation::CandidatesUpdate,
            Self::Hide(_) => Operation::CandidatesDelete,
            Self::Assign(_) => Operation::AssignmentsCreate,
            Self::Cancel(_) => Operation::AssignmentsCancel,
        }
    }

    /// How it is settled when its answer was lost, by the vendor's own word.
    #[must_use]
    pub fn repeat(&self, vendor: &dyn Vendor) -> Repeat {
        match self {
            Self::Register(registration) => vendor.repeat_of_registration(registration),
            Self::Assign(booking) => vendor.repeat_of_booking(booking),
            Self::Update(_) | Self::Hide(_) | Self::Cancel(_) => {
                vendor.descriptor().capability(self.operation()).repeat
            }
        }
    }

    /// The identifier of the record it is about, which is also the intent's key: a record has at most one open write.
    #[must_use]
    pub fn record(&self) -> &str {
        match self {
            Self::Register(registration) => registration.id.as_str(),
            Self::Update(update) => update.candidate.id.as_str(),
            Self::Hide(candidate) => candidate.id.as_str(),
            Self::Assign(booking) => booking.id.as_str(),
            Self::Cancel(cancellation) => cancellation.id.as_str(),
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
    /// What is written.
    pub write: Write,
    /// When the last attempt began.
    pub started: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Not before this moment may it be settled: an attempt without an answer may still take effect for a while.
    pub settle_from: Timestamp,
    /// Why it is still open, in a sentence, where an attempt has ended without settling it.
    pub reason: Option<String>,
}
