//! Write intents, stored before a vendor is called. While an intent is open, the gateway must claim neither that the
//! write happened nor that it did not.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::candidate::Candidate;
use super::capability::{RetrySafety, WriteKind};
use super::ids::{EnrolmentId, OperationId};
use super::operation::ItemId;
use super::program::Enrolled;
use super::record::RecordId;
use super::subject::SubjectKey;
use super::vendor::{Booking, Cancellation, CandidateSnapshot, EnrolmentBatch, Registration, Update, Vendor};
use super::webhook::{Delivery, PingResult, Webhook, WebhookPosition};
use crate::secret::Secret;

/// Initial back-off between two background attempts at the same write.
pub const MIN_BACKOFF: Duration = Duration::from_secs(5);
/// Maximum back-off between two background attempts.
pub const MAX_BACKOFF: Duration = Duration::from_mins(10);
/// Total back-off after which background reconciliation gives up and leaves the write to a person. Time in which no
/// attempts were made, such as downtime, does not count, whatever the clocks say.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// One write at a vendor, with everything needed to send it again.
#[derive(Debug, Clone)]
pub enum Write {
    /// Registers a person.
    Register(Registration),
    /// Updates a person.
    Update(Update),
    /// Hides a person.
    Hide(CandidateSnapshot),
    /// Books a candidate.
    Assign(Booking),
    /// Cancels a booking.
    Cancel(Cancellation),
    /// Changes a program's employees.
    Enrol(EnrolmentWrite),
}

/// One vendor call that changes a program's employees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentWrite {
    /// The id of the call.
    pub id: EnrolmentId,
    /// The call.
    pub call: EnrolmentBatch,
}

impl Write {
    /// Returns the write kind.
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

    /// Returns how the write is reconciled if its response is lost, as declared by the vendor.
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

    /// Returns the id of the record written.
    #[must_use]
    pub fn record(&self) -> RecordId {
        match self {
            Self::Register(registration) => RecordId::Candidate(registration.id.clone()),
            Self::Update(update) => RecordId::Candidate(update.candidate.id.clone()),
            Self::Hide(candidate) => RecordId::Candidate(candidate.id.clone()),
            Self::Assign(booking) => RecordId::Assignment(booking.id.clone()),
            Self::Cancel(cancellation) => RecordId::Assignment(cancellation.id.clone()),
            Self::Enrol(enrolment) => RecordId::Enrolment(enrolment.id.clone()),
        }
    }

    /// Returns the password that the write sets, if any.
    #[must_use]
    pub const fn sent_password(&self) -> Option<&Secret> {
        match self {
            Self::Register(Registration { password: Some(password), .. }) => Some(password),
            _ => None,
        }
    }

    /// Returns the password that the gateway generated for the person, if any.
    #[must_use]
    pub const fn generated_password(&self) -> Option<&Secret> {
        match self {
            Self::Register(Registration { own_password: true, password: Some(password), .. }) => Some(password),
            _ => None,
        }
    }

    /// Returns the id of the record written, as the store keeps it.
    #[must_use]
    pub fn record_id(&self) -> &str {
        match self {
            Self::Register(registration) => registration.id.as_str(),
            Self::Update(update) => update.candidate.id.as_str(),
            Self::Hide(candidate) => candidate.id.as_str(),
            Self::Assign(booking) => booking.id.as_str(),
            Self::Cancel(cancellation) => cancellation.id.as_str(),
            Self::Enrol(enrolment) => enrolment.id.as_str(),
        }
    }
}

/// A write that was or is about to be sent and whose outcome is not yet known.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The tenant that owns the record.
    pub tenant: String,
    /// The connection of the write.
    pub connection: String,
    /// The account and address of the connection when the intent was stored; the write can be reconciled only there.
    /// Unset in intents of earlier versions.
    pub destination: Option<Box<str>>,
    /// The write.
    pub write: Write,
    /// The subject by which writes are ordered: no two writes of one subject run at once.
    pub subject: SubjectKey,
    /// The origin of the write.
    pub origin: WriteOrigin,
    /// The time at which the intent was first stored.
    pub opened: Timestamp,
    /// The start of the last attempt.
    pub started: Timestamp,
    /// The number of attempts so far that may have had an effect.
    pub attempts: u32,
    /// Whether the instance that stored this intent is sending the write now; if that instance dies, the outcome is
    /// unknown.
    pub in_flight: bool,
    /// Whether the last attempt ended without a complete response, so that it may still take effect for a while.
    pub may_still_complete: bool,
    /// The end of that grace period, by the clock of the process that saw the attempt end.
    pub settle_from: Timestamp,
    /// The total back-off of the background reconciler so far.
    pub backed_off: Duration,
    /// The time of the next background reconciliation; `None` if only a person can determine the outcome.
    pub due: Option<Timestamp>,
    /// A sentence on why the write is still open, if an attempt ended without reconciling it.
    pub reason: Option<String>,
}

impl Intent {
    /// Marks the beginning of an attempt, whose grace period will end at `settle_from` if it gets no response.
    pub fn begin_attempt(&mut self, now: Timestamp, settle_from: Timestamp) {
        self.started = now;
        self.in_flight = true;
        self.may_still_complete = true;
        self.settle_from = settle_from;
    }

    /// Marks the write as no longer in flight and schedules the next background attempt with exponential back-off, but
    /// not before `settle_from`, the end of the last attempt's grace period.
    pub fn schedule_next_attempt(&mut self, safety: RetrySafety, settle_from: Timestamp, now: Timestamp) {
        self.in_flight = false;
        self.settle_from = settle_from;
        if self.backed_off >= GIVE_UP_AFTER || safety == RetrySafety::Unsafe {
            self.due = None;
            return;
        }
        let doublings = 1_u32.checked_shl(self.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let back_off = MIN_BACKOFF.saturating_mul(doublings).min(MAX_BACKOFF);
        self.backed_off = self.backed_off.saturating_add(back_off);
        let earliest = SignedDuration::try_from(back_off).ok().and_then(|back_off| now.checked_add(back_off).ok());
        self.due = Some(settle_from.max(earliest.unwrap_or(now)));
    }

    /// Credits back the remaining back-off that a request skips by reconciling now.
    pub fn expedite(&mut self, now: Timestamp) {
        let left = self.due.and_then(|due| Duration::try_from(due.duration_since(now)).ok()).unwrap_or_default();
        self.backed_off = self.backed_off.saturating_sub(left.min(MAX_BACKOFF));
    }
}

/// The origin of a write: the key and row that receive its outcome, besides the waiting caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOrigin {
    /// The `Idempotency-Key` of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKeyUse>,
    /// The row of an operation that caused the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
}

/// An `Idempotency-Key` in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKeyUse {
    /// Method, path and the caller's key; a tenant has scopes of its own.
    pub scope: String,
    /// Identifies this use of the key, so that a late result of an earlier use is ignored after the key was released.
    pub token: String,
}

impl IdempotencyKeyUse {
    /// The scope prefix of keys that the gateway assigns to requests itself. No caller's key can have it, because a
    /// caller's scope begins with a method.
    pub const OF_PASSWORD: &'static str = "initial password\n";

    /// Returns whether the gateway assigned the key to a request without one, to store the generated password.
    #[must_use]
    pub fn is_for_password(&self) -> bool {
        self.scope.starts_with(Self::OF_PASSWORD)
    }
}

/// The reply of a finished write, stored under its `Idempotency-Key`.
#[derive(Debug, Clone)]
pub enum StoredReply {
    /// A candidate, registered or updated now or already present.
    Candidate {
        /// Whether the candidate was registered now.
        created: bool,
        /// The candidate.
        candidate: Box<Candidate>,
        /// The password that the gateway generated.
        initial_password: Option<Secret>,
    },
    /// An assignment.
    Assignment {
        /// Whether the assignment was booked now.
        created: bool,
        /// The assignment.
        assignment: Box<Assignment>,
    },
    /// A webhook, without its secrets.
    Webhook {
        /// Whether the webhook was created now.
        created: bool,
        /// The webhook.
        webhook: Box<Webhook>,
        /// How far its deliveries were.
        position: WebhookPosition,
        /// Its new secret.
        secret: Option<Secret>,
        /// What came back for the ping of a new webhook.
        ping: Option<PingResult>,
    },
    /// What came back for a ping.
    Ping(PingResult),
    /// A delivery.
    Delivery(Box<Delivery>),
    /// The resource was deleted or cancelled.
    Gone,
    /// A program's employees were changed.
    Enrolled(Enrolled),
    /// An operation was accepted; its current state is looked up for each reply.
    Operation(OperationId),
}

#[cfg(test)]
mod tests {
    use super::super::ids::AssignmentId;
    use super::super::vendor::VendorKey;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn intent() -> Intent {
        let id = AssignmentId::parse(&format!("asg_{}", "0".repeat(32))).unwrap();
        Intent {
            tenant: String::new(),
            connection: String::new(),
            destination: None,
            write: Write::Cancel(Cancellation { id, candidate: VendorKey("a".into()), assessment: "1".into() }),
            subject: String::new().into(),
            origin: WriteOrigin::default(),
            opened: at(0),
            started: at(0),
            attempts: 1,
            in_flight: true,
            may_still_complete: true,
            settle_from: at(30),
            backed_off: Duration::ZERO,
            due: None,
            reason: None,
        }
    }

    #[test]
    fn back_off_respects_the_grace_and_grows() {
        let mut intent = intent();
        intent.schedule_next_attempt(RetrySafety::Idempotent, at(130), at(100));
        assert_eq!((intent.in_flight, intent.settle_from, intent.due), (false, at(130), Some(at(130))));
        for (attempts, pause) in [(1, 5), (2, 10), (3, 20), (30, 600), (u32::MAX, 600)] {
            intent.attempts = attempts;
            intent.backed_off = Duration::ZERO;
            intent.schedule_next_attempt(RetrySafety::Idempotent, at(100), at(100));
            assert_eq!((intent.settle_from, intent.due), (at(100), Some(at(100 + pause))));
        }
    }

    #[test]
    fn unsafe_or_exhausted_writes_are_left_to_a_person() {
        let mut intent = intent();
        intent.schedule_next_attempt(RetrySafety::Unsafe, at(100), at(100));
        assert_eq!(intent.due, None);
        // Idle time does not count towards giving up.
        let year = 365 * 24 * 3600;
        intent.schedule_next_attempt(RetrySafety::Idempotent, at(year), at(year));
        assert!(intent.due.is_some());
        let (mut now, mut attempts) = (at(0), 0);
        while let Some(due) = intent.due {
            (intent.attempts, now, attempts) = (intent.attempts + 1, due, attempts + 1);
            intent.schedule_next_attempt(RetrySafety::Idempotent, now, now);
        }
        assert_eq!((attempts, now.duration_since(at(year)).as_hours()), (150, 24));
    }

    #[test]
    fn attempts_made_by_requests_do_not_count_as_back_off() {
        let mut intent = intent();
        for second in 0..10_000 {
            intent.expedite(at(second));
            intent.schedule_next_attempt(RetrySafety::Idempotent, at(second), at(second));
            intent.attempts += 1;
        }
        assert!(intent.due.is_some() && intent.backed_off < Duration::from_secs(11_000), "{:?}", intent.backed_off);
    }
}
