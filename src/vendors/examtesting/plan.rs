//! Validation before a write is sent: defaults, a user name and a password if the caller gave none, and every field
//! that the vendor would reject or does not support.

use super::wire::{self, MAX_LENGTH, Parameter};
use crate::domain::candidate::{NewCandidate, Person};
use crate::domain::error::FieldError;
use crate::domain::ids::CandidateId;
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::system::System;
use crate::domain::vendor::{CandidateSnapshot, Plan, Registration, Update};
use crate::secret::Secret;

/// Settings of the connection that affect planning.
pub(super) struct PlanSettings {
    pub(super) send_student_id: bool,
    pub(super) default_group: Option<String>,
}

/// Fields the vendor does not support.
pub(super) const IGNORED: [&str; 4] = ["/birthDate", "/gender", "/photo", "/custom"];

const PASSWORD_LENGTH: u32 = 12;
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGITS: &[u8; 10] = b"0123456789";

/// Plans a registration and fills in defaults.
///
/// # Errors
/// Every invalid field.
pub(super) fn registration(
    rules: &PlanSettings,
    id: &CandidateId,
    new: NewCandidate,
    environment: &System,
) -> Result<Plan<Registration>, Vec<FieldError>> {
    let NewCandidate { mut person, password, if_exists: _ } = new;
    let mut warnings = ignored(&person, person.present_members());
    warnings.extend(unsplit(&person));
    let own_user_name = person.user_name.is_none();
    if own_user_name {
        person.user_name = Some(user_name(person.external_id.as_deref(), id).into());
    }
    person.group = person.group.or_else(|| rules.default_group.clone());
    let own_password = password.is_none();
    let password = password.unwrap_or_else(|| generated_password(environment));
    let faults = faults(&wire::parameters(&person, student_id(rules, &person), Some(&password)));
    if !faults.is_empty() {
        return Err(faults);
    }
    let write = Registration { id: id.clone(), person, own_user_name, password: Some(password), own_password };
    Ok(Plan { write, warnings })
}

/// Plans an update.
///
/// # Errors
/// Every invalid field.
pub(super) fn update(
    rules: &PlanSettings,
    mut candidate: CandidateSnapshot,
    touched: Vec<String>,
) -> Result<Plan<Update>, Vec<FieldError>> {
    if vendor_id(&candidate).is_none() {
        let detail = "the vendor's id of this candidate is unknown, and an update cannot be sent without it";
        return Err(vec![FieldError::unsupported("", detail)]);
    }
    candidate.person.group = candidate.person.group.or_else(|| rules.default_group.clone());
    let mut warnings = ignored(&candidate.person, touched.clone());
    if touched.iter().any(|pointer| pointer == "/externalId") {
        // On an update, `stusID` identifies the student, so it cannot carry a new id.
        warnings.push(Warning::field_ignored("/externalId"));
    }
    if touched.iter().any(|pointer| pointer.starts_with("/name")) {
        warnings.extend(unsplit(&candidate.person));
    }
    let parameters = wire::parameters(&candidate.person, vendor_id(&candidate), None);
    let mut faults = faults(&parameters);
    if candidate.person.user_name.is_none() {
        faults.push(FieldError::missing("/userName", "is required by the vendor"));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Plan { write: Update { candidate, touched }, warnings })
}

/// Returns `stusID` for a registration.
pub(super) fn student_id<'a>(rules: &PlanSettings, person: &'a Person) -> Option<&'a str> {
    person.external_id.as_deref().filter(|_| rules.send_student_id)
}

/// Returns the `StudentId` that the vendor returned.
pub(super) fn vendor_id(candidate: &CandidateSnapshot) -> Option<&str> {
    candidate.vendor_ref.get("id").and_then(serde_json::Value::as_str)
}

fn faults(parameters: &[Parameter<'_>]) -> Vec<FieldError> {
    let fault = |parameter: &Parameter<'_>| match &parameter.value {
        Some(value) => wire::refusal(value).map(|detail| FieldError::invalid(parameter.pointer.clone(), detail)),
        None if matches!(parameter.name, "groupName" | "email") => {
            Some(FieldError::missing(parameter.pointer.clone(), "is required by the vendor"))
        }
        None => None,
    };
    parameters.iter().filter_map(fault).collect()
}

fn ignored(person: &Person, members: Vec<String>) -> Vec<Warning> {
    let has_no_place = |pointer: &String| {
        IGNORED
            .iter()
            .any(|known| pointer.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
            || pointer == "/name/formatted" && !wire::is_unsplit(&person.name) && !is_redundant_formatted_name(person)
    };
    members.into_iter().filter(has_no_place).map(|pointer| Warning::field_ignored(&pointer)).collect()
}

/// Returns whether `formatted` is absent or equals the two parts that are sent.
fn is_redundant_formatted_name(person: &Person) -> bool {
    let Some(formatted) = &person.name.formatted else { return true };
    let parts = [&person.name.given_name, &person.name.family_name].into_iter().flatten();
    formatted.split_whitespace().eq(parts.flat_map(|part| part.split_whitespace()))
}

fn unsplit(person: &Person) -> Option<Warning> {
    let detail = "The vendor stores first and last name separately; the whole name was sent as the last name. Set \
                  givenName and familyName to avoid this.";
    wire::is_unsplit(&person.name).then(|| Warning::with_pointer(WarningCode::NameUnsplit, "/name/formatted", detail))
}

/// Generates `<externalId or "c">-<last 8 of the candidate id>`: the same for every retry of this registration, and
/// unique to it. Truncates an external id that is too long; omits one with characters that the vendor rejects.
fn user_name(external_id: Option<&str>, id: &CandidateId) -> String {
    let id = id.as_str();
    let tail = &id[id.len().saturating_sub(8)..];
    let most = MAX_LENGTH - tail.len() - 1;
    let head: String = external_id.unwrap_or_default().chars().take(most).collect();
    let head = if wire::refusal(&head).is_some() { "c" } else { &head };
    format!("{head}-{tail}")
}

/// Generates twelve letters and digits, at least one of each, every such password equally likely (to within 2⁻⁵⁶):
/// draws a number below their count and converts it to the password of that rank, so no draw is ever discarded.
fn generated_password(environment: &System) -> Secret {
    let total = passwords(PASSWORD_LENGTH, false, false);
    let mut rest = u128::from_be_bytes(environment.random()) % total;
    let (mut letter, mut digit) = (false, false);
    let mut password = String::new();
    for left in (0..PASSWORD_LENGTH).rev() {
        let after_letter = passwords(left, true, digit);
        let letters = 52 * after_letter;
        let (alphabet, each): (&[u8], _) = if rest < letters {
            letter = true;
            (LETTERS, after_letter)
        } else {
            rest -= letters;
            digit = true;
            (DIGITS, passwords(left, letter, true))
        };
        let index = usize::try_from(rest / each).unwrap_or_default();
        rest %= each;
        password.push(char::from(alphabet[index]));
    }
    Secret::new(password)
}

/// Returns how many endings of this length complete a password, given whether it already has a letter and a digit.
const fn passwords(left: u32, letter: bool, digit: bool) -> u128 {
    let all = 62_u128.pow(left);
    match (letter, digit) {
        (true, true) => all,
        (true, false) => all - 52_u128.pow(left),
        (false, true) => all - 10_u128.pow(left),
        // Only used for the whole password; for length 0 it would subtract the empty ending twice.
        (false, false) => all - 52_u128.pow(left) - 10_u128.pow(left),
    }
}
