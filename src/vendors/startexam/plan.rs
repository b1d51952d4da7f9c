//! What can be said about a write before a byte is sent: required members, decisive ones the vendor has no place for,
//! defaults. A sixth file beside the usual five, since none of it concerns the wire.

use jiff::{SignedDuration, Timestamp};

use super::settings::ProfileFields;
use super::wire::{guid, is_touched, taken_twice, without_place};
use crate::domain::assignment::{CandidateKey, NewAssignment, Notify};
use crate::domain::candidate::{NewCandidate, Person};
use crate::domain::error::FieldError;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::program::ProgramRef;
use crate::domain::validation::FieldErrors;
use crate::domain::vendor::{CandidateSnapshot, Plan, Registration, Update, VendorKey};

/// How long a booking is open when the order does not say.
const DEFAULT_VALIDITY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Longest external id of a program. Undocumented; the limit of an employee's id is assumed.
const EXTERNAL_PROGRAM_ID: usize = 250;

pub(super) fn registration(
    fields: &ProfileFields,
    id: &CandidateId,
    new: NewCandidate,
) -> Result<Plan<Registration>, Vec<FieldError>> {
    let NewCandidate { person, password, if_exists: _ } = new;
    let mut faults = FieldErrors::new();
    if person.external_id.is_none() {
        faults.push(FieldError::missing("/externalId", "is the id by which StartExam knows an employee"));
    }
    faults.extend(doubled(fields, &person));
    let mut warnings: Vec<Warning> = without_place(fields, &person).iter().map(|p| Warning::field_ignored(p)).collect();
    if password.is_some() {
        warnings.push(password_dropped());
    }
    let write = Registration { id: id.clone(), person, own_user_name: false, password: None, own_password: false };
    faults.into_result(Plan { write, warnings })
}

pub(super) fn update(
    fields: &ProfileFields,
    candidate: CandidateSnapshot,
    touched: Vec<String>,
) -> Result<Plan<Update>, Vec<FieldError>> {
    let person = &candidate.person;
    let mut faults = FieldErrors::new();
    let known_as = candidate.vendor_ref.get("id").and_then(serde_json::Value::as_str);
    let renamed = known_as.is_some() && known_as != person.external_id.as_deref();
    if is_touched(&touched, "/externalId") && (renamed || person.external_id.is_none()) {
        let detail = "StartExam knows the employee by this id, so it cannot be changed";
        faults.push(FieldError::unsupported("/externalId", detail));
    }
    if touched.iter().any(|pointer| pointer == "/custom") && person.custom.is_empty() {
        let detail = "cannot be cleared as a whole; clear its members one by one";
        faults.push(FieldError::unsupported("/custom", detail));
    }
    faults.extend(doubled(fields, person));
    let ignored = without_place(fields, person).into_iter().filter(|pointer| is_touched(&touched, pointer));
    let mut warnings: Vec<Warning> = ignored.map(|pointer| Warning::field_ignored(&pointer)).collect();
    if is_touched(&touched, "/password") {
        warnings.push(password_dropped());
    }
    faults.into_result(Plan { write: Update { candidate, touched }, warnings })
}

/// A booking's first and last moment, or the faults of an order the vendor cannot take.
pub(super) fn order(order: &NewAssignment, now: Timestamp) -> Result<(Timestamp, Timestamp), Vec<FieldError>> {
    let mut faults = FieldErrors::new();
    if order.notify == Notify::VendorEmail {
        faults.push(FieldError::unsupported("/notify", "StartExam sends no mail to candidates"));
    }
    if order.passwordless {
        faults.push(FieldError::unsupported("/passwordless", "StartExam knows no passwords of candidates"));
    }
    let from = whole_second(order.valid_from.unwrap_or(now));
    let until = match order.valid_until {
        Some(until) => Some(whole_second(until)),
        None => from.checked_add(DEFAULT_VALIDITY).ok(),
    };
    match until {
        None => faults.push(FieldError::invalid("/validFrom", "is too late")),
        Some(until) if until <= from => {
            let than = if order.valid_from.is_some() { "validFrom" } else { "now, when the assignment begins" };
            faults.push(FieldError::invalid("/validUntil", format!("must be later than {than}, in whole seconds")));
        }
        Some(_) => {}
    }
    faults.into_result((from, until.unwrap_or(from)))
}

pub(super) fn candidate_key(key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
    let known = person.and_then(|person| person.external_id.clone()).map(VendorKey);
    match key {
        CandidateKey::ExternalId(id) => Ok(VendorKey(id.clone())),
        CandidateKey::Id(_) => known.ok_or_else(|| {
            let detail = "has no externalId, by which StartExam knows an employee";
            FieldError::new("/candidate/id", "invalid_reference", detail)
        }),
        CandidateKey::Email(_) => known.ok_or_else(|| {
            FieldError::invalid("/candidate/email", "StartExam does not know employees by e-mail; use externalId or id")
        }),
    }
}

/// A GUID is the vendor's own id, `ext:<id>` the account's. What would change the meaning of a path is refused although
/// it travels in a body: such an id is a mistake or an attempt.
pub(super) fn program_ref(text: &str) -> Option<ProgramRef> {
    let Some(external) = text.strip_prefix("ext:") else {
        return guid(text).map(ProgramRef::Id);
    };
    let fits = !external.trim().is_empty() && external.chars().count() <= EXTERNAL_PROGRAM_ID;
    let odd = external.contains("..") || external.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'));
    (fits && !odd).then(|| ProgramRef::External(external.to_owned()))
}

fn doubled(fields: &ProfileFields, person: &Person) -> Vec<FieldError> {
    let detail = "is the profile field of another member that is given as well";
    taken_twice(fields, person).into_iter().map(|pointer| FieldError::invalid(pointer, detail)).collect()
}

fn password_dropped() -> Warning {
    let detail = "StartExam knows no passwords of candidates; it was dropped and is not kept.";
    Warning::with_pointer(WarningCode::FieldIgnored, "/password", detail)
}

/// The vendor's times have no fraction of a second.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
