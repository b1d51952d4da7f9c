//! Identities of writes and people. The vendor sees no requests, so every request carries a token through to it.

use crate::domain::candidate::Person;
use crate::domain::intent::Write;
use crate::domain::program::AssessmentScope;

/// Returns the token of the request behind a write, as far as the vendor receives it.
pub(super) fn token(write: &Write) -> Option<String> {
    match write {
        Write::Register(registration) => registration.person.name.formatted.clone(),
        Write::Update(update) => update.candidate.person.name.formatted.clone(),
        Write::Assign(booking) => booking.proctoring.parameters.get("token").cloned(),
        Write::Enrol(enrolment) => match &enrolment.call.enrolment.scope {
            AssessmentScope::Selected(assessments) => assessments.last().cloned(),
            AssessmentScope::All => None,
        },
        Write::Hide(_) | Write::Cancel(_) => None,
    }
}

/// Returns the identity of a person, independent of the gateway's candidate records.
pub(super) fn who(person: &Person) -> String {
    person.email.as_deref().unwrap_or_default().to_lowercase()
}

pub(super) fn content(person: &Person) -> String {
    person.name.formatted.clone().unwrap_or_default()
}

/// Returns the subject by which writes are ordered.
pub(super) fn subject(write: &Write) -> String {
    match write {
        Write::Register(registration) => who(&registration.person),
        Write::Update(update) => who(&update.candidate.person),
        Write::Hide(candidate) => who(&candidate.person),
        Write::Assign(booking) => format!("{} at {}", booking.candidate.0.to_lowercase(), booking.assessment),
        Write::Cancel(cancellation) => {
            format!("{} at {}", cancellation.candidate.0.to_lowercase(), cancellation.assessment)
        }
        Write::Enrol(enrolment) => format!("{:?}", enrolment.call.program),
    }
}

/// Returns all subjects a write is ordered by: a program change is ordered per employee.
pub(super) fn subjects(write: &Write) -> Vec<String> {
    let Write::Enrol(enrolment) = write else { return vec![subject(write)] };
    enrolment.call.enrolment.employees().map(|employee| format!("employee {employee}")).collect()
}

pub(super) fn name(write: &Write) -> String {
    let token = token(write).unwrap_or_default();
    let kind = write.kind().as_str();
    // A program call does not carry the operation it belongs to.
    if let Write::Enrol(enrolment) = write {
        return format!("{kind} {token} {:?}", enrolment.call.enrolment.register);
    }
    format!("{kind} {token} {}", write.record_id())
}

/// Returns whether the vendor never accepts this row.
pub(super) fn is_bad(write: &Write) -> bool {
    matches!(write, Write::Register(registration) if who(&registration.person).starts_with("bad"))
}
