//! Validation before a write is sent: fields that `ThinkExam` needs, and fields it does not support.

use std::collections::BTreeMap;

use super::wire::EXTRAS;
use crate::domain::assignment::{CandidateKey, IfAssignmentExists, NewAssignment};
use crate::domain::candidate::{NewCandidate, Person, PhoneKind};
use crate::domain::error::FieldError;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::validation::{FieldErrors, pointer_token};
use crate::domain::vendor::{Booking, CandidateSnapshot, Plan, Registration, Update, VendorKey};

pub(super) fn registration(
    id: &CandidateId,
    new: NewCandidate,
    default_group: Option<&str>,
) -> Result<Plan<Registration>, Vec<FieldError>> {
    let NewCandidate { mut person, password, if_exists: _ } = new;
    let mut faults = FieldErrors::new();
    needed(&mut faults, &person);
    if !person.is_active() {
        faults.push(FieldError::unsupported("/active", "ThinkExam cannot register a person as inactive."));
    }
    let warnings = ignored(&person);
    person.group = person.group.or_else(|| default_group.map(str::to_owned));
    let write = Registration { id: id.clone(), person, own_user_name: false, password, own_password: false };
    faults.into_result(Plan { write, warnings })
}

pub(super) fn update(candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
    let mut faults = FieldErrors::new();
    needed(&mut faults, &candidate.person);
    for pointer in touched.iter().filter(|pointer| *pointer != "/group") {
        faults.push(FieldError::unsupported(pointer.as_str(), "ThinkExam can change only the group."));
    }
    let regrouped = touched.iter().any(|pointer| pointer == "/group");
    if regrouped && candidate.person.group.is_none() {
        faults.push(FieldError::unsupported("/group", "ThinkExam cannot remove a person from a group."));
    }
    let detail = "ThinkExam adds the group; the person also stays in earlier groups.";
    let warnings =
        if regrouped { vec![Warning::with_pointer(WarningCode::GroupAdded, "/group", detail)] } else { Vec::new() };
    faults.into_result(Plan { write: Update { candidate, touched }, warnings })
}

pub(super) fn assignment(
    id: &AssignmentId,
    order: &NewAssignment,
    candidate: VendorKey,
    private: BTreeMap<String, String>,
    assessment: String,
) -> Result<Plan<Booking>, Vec<FieldError>> {
    let NewAssignment {
        candidate: _,
        assessment: _,
        valid_from,
        valid_until,
        center,
        notify,
        passwordless,
        proctoring,
        if_exists,
        reference: _,
    } = order;
    let decisive = [
        ("/validFrom", valid_from.is_some(), "ThinkExam does not support a time window for an assignment."),
        ("/validUntil", valid_until.is_some(), "ThinkExam does not support a time window for an assignment."),
        ("/center", center.is_some(), "ThinkExam has no centres."),
        ("/proctoring/enabled", proctoring.enabled, "ThinkExam does not support proctoring for an assignment."),
        (
            "/ifExists",
            *if_exists == IfAssignmentExists::CreateNew,
            "ThinkExam allows only one assignment per candidate and test.",
        ),
    ];
    let mut faults = FieldErrors::new();
    faults.extend(
        decisive
            .into_iter()
            .filter(|(_, given, _)| *given)
            .map(|(pointer, _, detail)| FieldError::unsupported(pointer, detail)),
    );
    let write = Booking {
        id: id.clone(),
        candidate,
        private,
        assessment,
        center: None,
        valid_from: None,
        valid_until: None,
        notify: *notify,
        passwordless: *passwordless,
        proctoring: proctoring.clone(),
        if_exists: *if_exists,
        // Only the store knows, and a retry at ThinkExam does not depend on it.
        first_booking: false,
    };
    faults.into_result(Plan { write, warnings: Vec::new() })
}

/// Returns the candidate's e-mail address, by which `ThinkExam` identifies people. The registered spelling takes
/// precedence over the caller's.
pub(super) fn candidate_key(key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
    if let Some(email) = person.and_then(|person| person.email.clone()) {
        return Ok(VendorKey(email.into()));
    }
    match key {
        CandidateKey::Email(email) => Ok(VendorKey(email.as_str().to_owned())),
        CandidateKey::ExternalId(_) => {
            let detail =
                "ThinkExam identifies candidates by e-mail, and the gateway has none for this person; use `email`.";
            Err(FieldError::invalid("/candidate/externalId", detail))
        }
        CandidateKey::Id(_) => {
            let detail = "ThinkExam identifies candidates by e-mail, and this candidate has none.";
            Err(FieldError::invalid("/candidate/id", detail))
        }
    }
}

/// Validates a test id. Its format is undocumented (the vendor's sample is text), so any text a person could have
/// copied is accepted.
pub(super) fn assessment_ref(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.chars().count() <= 100 && text.trim() == text;
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn needed(faults: &mut FieldErrors, person: &Person) {
    if person.name.display_name().is_none() {
        faults.push(FieldError::missing("/name", "ThinkExam needs a name."));
    }
    if person.email.is_none() {
        faults.push(FieldError::missing("/email", "ThinkExam needs an e-mail address."));
    }
}

fn ignored(person: &Person) -> Vec<Warning> {
    let placeless = |pointer: &str| {
        let phone = pointer.strip_prefix("/phoneNumbers/").and_then(|index| index.parse::<usize>().ok());
        let custom = pointer.strip_prefix("/custom/");
        pointer == "/userName"
            || pointer.starts_with("/address/")
            || phone.and_then(|index| person.phone_numbers.get(index)).is_some_and(|it| it.kind == PhoneKind::Work)
            || custom.is_some_and(|name| !EXTRAS.iter().any(|extra| pointer_token(extra) == name))
    };
    person
        .present_members()
        .iter()
        .filter(|pointer| placeless(pointer))
        .map(|pointer| Warning::field_ignored(pointer))
        .collect()
}
