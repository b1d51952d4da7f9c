//! Whose a report is: from exact to weak, each weaker step with a warning; what is ambiguous is parked. Never across tenants.
//! Pure functions of the reading and of what was looked up.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::identity::ExternalId;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::WarningCode;
use crate::domain::results::{ExamResult, FoldedAttempt, MatchHints, ParkReason, Reading, SeriesKey};
use crate::service::results::directory::Directory;
use crate::service::results::hints::participant_of;

/// How far the vendor's clock may be from the one by which a booking's window was set.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Whose a report is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) tenant: String,
    pub(super) candidate: CandidateId,
    /// The vendor's own id of the assessment.
    pub(super) assessment_ref: String,
    /// The booking of all attempts of the series.
    pub(super) booking: Option<Arc<Assignment>>,
    /// The candidate's bookings of the assessment, the oldest first: each attempt belongs to the one of its time.
    pub(super) bookings: Vec<Arc<Assignment>>,
    /// The caller's id of the candidate, where the candidate was looked up.
    pub(super) external_id: Option<ExternalId>,
    /// How weak the match is.
    pub(super) warning: Option<WarningCode>,
    /// Whether a person has said whose it is.
    pub(super) by_hand: bool,
}

/// What is known of a report's owner.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It is known whose it is.
    Matched(Box<Owner>),
    /// It is not known. Holds the booking if that names a person who is not registered.
    Parked(ParkReason, Option<Arc<Assignment>>),
    /// A booking of this tenant that it may belong to is being written.
    Busy(String),
    /// It is about an erased person.
    Erased,
}

/// How a connection's reports are matched.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatchRules {
    /// Whether the vendor knows people by e-mail address.
    pub(super) by_email: bool,
    /// Whether a report that names no test is matched with the candidate's only open booking.
    pub(super) only_open: bool,
}

/// Finds out whose a report is. `recorded` is a result of its series: whose that is was decided before.
pub(super) fn match_reading(
    reading: &Reading,
    recorded: Option<&ExamResult>,
    directory: &Directory,
    rules: MatchRules,
) -> Verdict {
    let hints = &reading.hints;
    if directory.is_erased_registration(hints) {
        return Verdict::Erased;
    }
    let registered = hints.participant.as_deref().map_or(&[][..], |id| directory.registered(id));
    let foreign = |booking: &Arc<Assignment>| recorded.is_some_and(|result| result.tenant != booking.tenant);
    if let Some(first) = registered.first().filter(|first| !foreign(first)) {
        if registered.iter().any(|booking| booking.tenant != first.tenant) {
            return Verdict::Parked(ParkReason::SeveralCandidates, None);
        }
        let assigned = registered.iter().rev().find(|booking| booking.state == AssignmentState::Assigned);
        return of_registration(assigned.unwrap_or(first), recorded, directory);
    }
    let owner = match recorded.map(|result| Ok(Owner::of_result(result))) {
        Some(decided) => decided,
        None => person(hints, directory, rules).map(|(candidate, warning)| Owner { warning, ..Owner::new(candidate) }),
    };
    let mut owner = match owner {
        Ok(owner) => owner,
        Err(ParkReason::UnknownCandidate) if directory.is_erased(hints) => return Verdict::Erased,
        Err(reason) => return Verdict::Parked(reason, None),
    };
    if let Some(test) = &hints.test {
        owner.assessment_ref.clone_from(test);
    }
    let own = directory.bookings(&owner.candidate).iter().filter(|booking| booking.tenant == owner.tenant);
    owner.bookings = own.cloned().collect();
    match reading.series {
        SeriesKey::Participant(_) => of_participant(owner, reading, recorded.is_some()),
        SeriesKey::CandidateAtTest { .. } => of_candidate(owner, rules),
    }
}

fn of_registration(booking: &Arc<Assignment>, recorded: Option<&ExamResult>, directory: &Directory) -> Verdict {
    if booking.is_erased() {
        return Verdict::Erased;
    }
    let by_identity = || {
        let people = booking.identity.as_ref().map_or(&[][..], |identity| directory.people(identity));
        let mut own = people.iter().filter(|candidate| candidate.tenant == booking.tenant);
        own.next().filter(|_| own.next().is_none()).map(|candidate| candidate.id.clone())
    };
    let of_result = || recorded.map(|result| result.state.candidate.clone());
    let Some(candidate) = booking.candidate_id.clone().or_else(by_identity).or_else(of_result) else {
        return Verdict::Parked(ParkReason::UnknownCandidate, Some(Arc::clone(booking)));
    };
    Verdict::Matched(Box::new(Owner {
        tenant: booking.tenant.clone(),
        candidate,
        assessment_ref: booking.assessment_ref.clone(),
        booking: Some(Arc::clone(booking)),
        bookings: Vec::new(),
        external_id: None,
        warning: None,
        by_hand: false,
    }))
}

/// Returns the only candidate that a report names, and how weak that is.
fn person<'a>(
    hints: &MatchHints,
    directory: &'a Directory,
    rules: MatchRules,
) -> Result<(&'a Candidate, Option<WarningCode>), ParkReason> {
    let people = |identity: Option<Identity>| match identity {
        Some(identity) => directory.people(&identity),
        None => &[],
    };
    let by_id = people(hints.external_id.clone().map(Identity::ExternalId));
    let by_email = people(hints.email.clone().map(Identity::Email));
    let same = |id: &Candidate| by_email.iter().any(|candidate| candidate.id == id.id);
    match by_id {
        [] => {}
        [only] if by_email.is_empty() || !rules.by_email || same(only) => return Ok((only, None)),
        _ => return Err(ParkReason::SeveralCandidates),
    }
    // Someone with another id is someone else, whose address was perhaps given to this person; unless the vendor knows people
    // by their addresses: there, the id is perhaps one that the vendor has generated.
    let fits = |candidate: &&Arc<Candidate>| match (&hints.external_id, &candidate.person.external_id) {
        (Some(reported), Some(known)) => rules.by_email || known.is_same(reported),
        _ => true,
    };
    let mut fitting = by_email.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (None, _) => Err(ParkReason::UnknownCandidate),
        (Some(only), None) => Ok((only, (!rules.by_email).then_some(WarningCode::MatchedByEmail))),
        _ => Err(ParkReason::SeveralCandidates),
    }
}

/// Matches a registration that no booking names: with the open booking whose registration is not known.
fn of_participant(owner: Owner, reading: &Reading, is_recorded: bool) -> Verdict {
    let hints = &reading.hints;
    let same_center = |booking: &Assignment| match (&booking.order.center, &hints.center) {
        (Some(booked), Some(reported)) => booked == reported,
        _ => true,
    };
    let started = reading.times.started;
    let mut fitting = owner.bookings.iter().filter(|booking| {
        is_open(booking)
            && participant_of(booking).is_none()
            && hints.test.as_deref().is_none_or(|test| booking.assessment_ref == test)
            && same_center(booking)
            && started.map_or(!is_recorded, |started| covers(booking, started))
    });
    match (fitting.next(), fitting.next()) {
        (None, _) if owner.assessment_ref.is_empty() => Verdict::Parked(ParkReason::NoOpenBooking, None),
        (None, _) => Verdict::Matched(Box::new(Owner { bookings: Vec::new(), ..owner })),
        (Some(only), None) if only.state == AssignmentState::Pending => Verdict::Busy(owner.tenant),
        (Some(only), None) => {
            let (booking, assessment_ref) = (Some(Arc::clone(only)), only.assessment_ref.clone());
            Verdict::Matched(Box::new(Owner { booking, assessment_ref, bookings: Vec::new(), ..owner }))
        }
        _ if is_recorded => Verdict::Matched(Box::new(Owner { bookings: Vec::new(), ..owner })),
        _ => Verdict::Parked(ParkReason::SeveralOpenBookings, None),
    }
}

/// Matches a report about a candidate at a test, which it may not name.
fn of_candidate(owner: Owner, rules: MatchRules) -> Verdict {
    let mut owner = owner;
    if owner.assessment_ref.is_empty() {
        let mut tests: Vec<&str> =
            owner.bookings.iter().filter(|booking| is_open(booking)).map(|it| it.assessment_ref.as_str()).collect();
        tests.sort_unstable();
        tests.dedup();
        owner.assessment_ref = match tests.as_slice() {
            // The weakest proof: a booking that perhaps was never made is not taken if there is any other.
            [only] if rules.only_open && is_doubtful(&owner.bookings, only) => {
                return Verdict::Parked(ParkReason::NoOpenBooking, None);
            }
            [only] if rules.only_open => (*only).to_owned(),
            [_, _, ..] if rules.only_open => return Verdict::Parked(ParkReason::SeveralOpenBookings, None),
            _ => return Verdict::Parked(ParkReason::NoOpenBooking, None),
        };
        owner.warning = Some(WarningCode::MatchedByOnlyOpen);
    }
    owner.bookings.retain(|booking| booking.assessment_ref == owner.assessment_ref);
    if owner.bookings.iter().any(|booking| booking.state == AssignmentState::Pending) {
        return Verdict::Busy(owner.tenant);
    }
    owner.bookings.retain(|booking| booking.state != AssignmentState::Failed);
    Verdict::Matched(Box::new(owner))
}

/// Returns whether the test has bookings of unknown outcome only, and the candidate has other bookings: the report may be about
/// one of those, such as one that was cancelled.
fn is_doubtful(bookings: &[Arc<Assignment>], test: &str) -> bool {
    let made = || bookings.iter().filter(|booking| booking.state != AssignmentState::Failed);
    let open = bookings.iter().filter(|booking| booking.assessment_ref == test && is_open(booking));
    open.map(|booking| booking.state).all(|state| state == AssignmentState::Unknown) && made().count() > 1
}

/// Returns whether the vendor has the booking, or perhaps has it.
fn is_open(booking: &Assignment) -> bool {
    use AssignmentState::{Assigned, Pending, Unknown};
    !booking.is_erased() && matches!(booking.state, Assigned | Pending | Unknown)
}

/// Returns whether the booking's window covers this time, or nearly: the vendor's clock may differ from the one by which the
/// window was set.
fn covers(booking: &Assignment, time: Timestamp) -> bool {
    let begins = |from: Timestamp| from.saturating_sub(CLOCK_TOLERANCE).unwrap_or(Timestamp::MIN);
    let ends = |until: Timestamp| until.saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX);
    booking.order.valid_from.is_none_or(|from| begins(from) <= time)
        && booking.order.valid_until.is_none_or(|until| time <= ends(until))
}

/// Returns the time of an attempt that is compared with a booking's window.
pub(super) fn time_of(attempt: &FoldedAttempt) -> Option<Timestamp> {
    attempt.state.times.started.or(attempt.state.times.completed)
}

/// Returns whether an attempt took place outside the booking's window.
pub(super) fn is_outside_window(booking: &Assignment, attempt: &FoldedAttempt) -> bool {
    time_of(attempt).is_some_and(|time| !covers(booking, time))
}

impl Owner {
    /// Creates the owner of what this candidate has done, at a test that is not known yet.
    pub(super) fn new(candidate: &Candidate) -> Self {
        Self {
            tenant: candidate.tenant.clone(),
            candidate: candidate.id.clone(),
            assessment_ref: String::new(),
            booking: None,
            bookings: Vec::new(),
            external_id: candidate.person.external_id.clone(),
            warning: None,
            by_hand: false,
        }
    }

    /// Creates the owner as it was decided before.
    pub(super) fn of_result(result: &ExamResult) -> Self {
        Self {
            tenant: result.tenant.clone(),
            candidate: result.state.candidate.clone(),
            assessment_ref: result.state.assessment_ref.clone(),
            booking: None,
            bookings: Vec::new(),
            external_id: None,
            warning: None,
            by_hand: false,
        }
    }

    /// Returns the booking that an attempt belongs to: that of the series, else the latest of the candidate's bookings of
    /// the assessment that was made before the attempt was seen and covers it. A withdrawn one is the last resort.
    pub(super) fn claim(&self, attempt: &FoldedAttempt) -> Option<&Arc<Assignment>> {
        if self.booking.is_some() {
            return self.booking.as_ref();
        }
        let seen = attempt.first_seen;
        let covering = self.bookings.iter().filter(|booking| covers(booking, seen));
        covering.max_by_key(|booking| {
            let live = booking.state != AssignmentState::Cancelled;
            let earlier = booking.created <= seen;
            // Of those made later, the first.
            let made = if earlier { booking.created } else { Timestamp::MAX };
            (live, earlier, made, std::cmp::Reverse(booking.id.clone()))
        })
    }

    /// Returns the booking that a report proves to be made: the only one that explains it.
    pub(super) fn proved_booking(&self) -> Option<&Arc<Assignment>> {
        match (&self.booking, self.bookings.as_slice()) {
            (Some(booking), _) | (None, [booking]) => Some(booking),
            _ => None,
        }
    }

    /// Replaces a booking by what is known of it now.
    pub(super) fn replace(&mut self, booking: &Arc<Assignment>) {
        let known = self.booking.iter_mut().chain(&mut self.bookings);
        known.filter(|known| known.id == booking.id).for_each(|known| *known = Arc::clone(booking));
    }
}
