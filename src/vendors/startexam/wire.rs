//! The vendor's own field names, in both directions, and the parsing of its responses.
//!
//! It must never guess: a response that does not show each row's outcome in the documented format is unreadable.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::guid::guid;
use super::settings::ProfileFields;
use crate::domain::assignment::Proctoring;
use crate::domain::candidate::{Address, Name, Person, PhoneKind};
use crate::domain::program::EnrolmentCounts;
use crate::domain::validation::pointer_token;
use crate::vendors::is_touched;

/// Body of `POST /v1/employees` (vendor page `/Methods/SyncEmployees`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Employees<'a> {
    pub(super) profile_id: &'a str,
    pub(super) employees: Vec<Employee<'a>>,
}

/// One person in the vendor's format.
#[derive(Serialize)]
pub(super) struct Employee<'a> {
    pub(super) id: &'a str,
    pub(super) status: &'static str,
    pub(super) data: Vec<Field<'a>>,
}

/// A named value of a profile or of proctoring.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Field<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
}

/// Body of `POST /v2/employees-participants` (vendor page `/Methods/RegisterEmployees`); one test per call, because the
/// order of the ids of several tests is undocumented.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EmployeesParticipants<'a> {
    pub(super) center: &'a str,
    pub(super) valid_from: String,
    pub(super) valid_till: String,
    /// Only for accounts with proctoring, so omitted when off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) proctoring: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) proctoring_activation_parameters: Vec<Field<'a>>,
    pub(super) do_not_create_if_exist: bool,
    pub(super) tests: [&'a str; 1],
    pub(super) employees: Vec<EmployeeId<'a>>,
}

/// An employee named by id.
#[derive(Serialize)]
pub(super) struct EmployeeId<'a> {
    pub(super) id: &'a str,
}

/// Body of `POST /v1/program/employees` (vendor page `/Methods/RegisterProgramEmployees`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProgramEmployees<'a> {
    pub(super) program_id: Option<&'a str>,
    pub(super) program_external_id: Option<&'a str>,
    pub(super) module_tests_scope: &'static str,
    pub(super) module_tests: Option<&'a [String]>,
    pub(super) register_employees: &'a [String],
    pub(super) unregister_employees: &'a [String],
}

/// An attribute of a person that a profile may have a field for.
struct ProfileMember<'a> {
    /// JSON pointer for warnings if there is no profile field.
    pointer: String,
    /// JSON pointer that an update lists when it changes this attribute.
    announced: &'static str,
    field: &'a str,
    value: Option<Cow<'a, str>>,
}

/// Returns the person's name and value pairs: every attribute with a profile field, then `custom`. A `touched`
/// attribute without a value is sent empty, because it is undocumented whether omitting a field keeps or clears it.
pub(super) fn data<'a>(fields: &'a ProfileFields, person: &'a Person, touched: &[String]) -> Vec<Field<'a>> {
    let mut pairs = Vec::new();
    for ProfileMember { announced, field, value, .. } in members(fields, person) {
        let cleared = value.is_none() && is_touched(touched, announced) && !person.custom.contains_key(field);
        if let Some(value) = value.or(cleared.then_some(Cow::Borrowed("")))
            && !field.is_empty()
        {
            pairs.push(Field { name: Cow::Borrowed(field), value });
        }
    }
    pairs.extend(
        person
            .custom
            .iter()
            .map(|(name, value)| Field { name: Cow::Borrowed(name.as_str()), value: Cow::Borrowed(value) }),
    );
    for token in touched.iter().filter_map(|pointer| pointer.strip_prefix("/custom/")) {
        let name = token.replace("~1", "/").replace("~0", "~");
        if !pairs.iter().any(|pair| pair.name == name) {
            pairs.push(Field { name: Cow::Owned(name), value: Cow::Borrowed("") });
        }
    }
    pairs
}

/// Returns the pointers of the given fields that the vendor does not support.
pub(super) fn unsupported_fields(fields: &ProfileFields, person: &Person) -> Vec<String> {
    let unfielded = members(fields, person).into_iter().filter(|member| member.field.is_empty());
    let unfielded = unfielded.filter(|member| member.value.is_some()).map(|member| member.pointer);
    // Name, address, phone numbers, e-mail and custom are profile fields; id and activity have their own fields.
    let Person {
        external_id: _,
        user_name,
        name: _,
        email: _,
        active: _,
        phone_numbers: _,
        address: _,
        group,
        birth_date,
        gender,
        photo,
        custom: _,
    } = person;
    let never = [
        ("/userName", user_name.is_some()),
        ("/group", group.is_some()),
        ("/birthDate", birth_date.is_some()),
        ("/gender", gender.is_some()),
        ("/photo", photo.is_some()),
    ];
    unfielded.chain(never.into_iter().filter(|(_, given)| *given).map(|(pointer, _)| pointer.to_owned())).collect()
}

/// Returns the pointers of `custom` fields whose profile field another given field also fills.
pub(super) fn duplicate_custom_fields(fields: &ProfileFields, person: &Person) -> Vec<String> {
    let filled: HashSet<&str> = members(fields, person)
        .into_iter()
        .filter(|member| member.value.is_some())
        .map(|member| member.field)
        .collect();
    let twice = person.custom.keys().filter(|name| filled.contains(name.as_str()));
    twice.map(|name| format!("/custom/{}", pointer_token(name))).collect()
}

fn members<'a>(fields: &'a ProfileFields, person: &'a Person) -> Vec<ProfileMember<'a>> {
    let Name { given_name, family_name, formatted } = &person.name;
    let Address { street_address: _, locality, region, postal_code, country } = &person.address;
    // A profile field is one line. The order is part of what is resent.
    let street = person.address.street_line();
    let borrowed = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
    let simple = [
        ("/name/givenName", &fields.given_name, borrowed(given_name)),
        ("/name/familyName", &fields.family_name, borrowed(family_name)),
        ("/name/formatted", &fields.formatted, borrowed(formatted)),
        ("/email", &fields.email, person.email.as_deref().map(Cow::Borrowed)),
        ("/address/streetAddress", &fields.street, street),
        ("/address/locality", &fields.locality, borrowed(locality)),
        ("/address/region", &fields.region, borrowed(region)),
        ("/address/postalCode", &fields.postal_code, borrowed(postal_code)),
        ("/address/country", &fields.country, borrowed(country)),
    ];
    let simple = simple.into_iter().map(|(pointer, field, value)| ProfileMember {
        pointer: pointer.to_owned(),
        announced: pointer,
        field,
        value,
    });
    let phones = [(PhoneKind::Mobile, &fields.phone_mobile), (PhoneKind::Work, &fields.phone_work)];
    let phones = phones.into_iter().map(|(kind, field)| {
        let index = person.phone_numbers.iter().position(|number| number.kind == kind).unwrap_or(0);
        let value = person.phone(kind).map(Cow::Borrowed);
        ProfileMember { pointer: format!("/phoneNumbers/{index}"), announced: "/phoneNumbers", field, value }
    });
    simple.chain(phones).collect()
}

/// Returns the proctoring parameters in the vendor's format; none if proctoring is off.
pub(super) fn proctoring_pairs(proctoring: &Proctoring) -> Vec<Field<'_>> {
    let Proctoring { enabled, parameters } = proctoring;
    let given = parameters.iter().filter(|_| *enabled);
    given.map(|(name, value)| Field { name: Cow::Borrowed(name.as_str()), value: Cow::Borrowed(value) }).collect()
}

/// Returns the participant ids in a response, `None` for `null`. Returns nothing at all unless the response has the
/// documented format `{"participantIds": [GUID, …]}`.
pub(super) fn participant_ids(body: &[u8]) -> Option<Vec<Option<String>>> {
    let answer = object(body)?;
    let ids = member(&answer, "participantIds")?.as_array()?;
    ids.iter().map(|id| if id.is_null() { Some(None) } else { guid(id.as_str()?).map(Some) }).collect()
}

/// Assigns ids to rows; `None` at a row whose registration existed before and whose id the vendor did not return.
/// Returns nothing at all if the response is ambiguous.
///
/// The vendor does not document the entry for an employee skipped because of `doNotCreateIfExist`. The flag decides how
/// a response is read, and the operator's `existing_registration` decides how many flagged rows share a call:
///
/// | rows | setting | response | read as |
/// |---|---|---|---|
/// | unflagged, n | any | n different GUIDs | the ids by position (the vendor's own page relies on it) |
/// | unflagged, n | any | a `null`, a duplicate, another count | nothing |
/// | one, flagged | any | `[]`, `[null]` | existed before (1) |
/// | one, flagged | any | `[GUID]` | the id (2) |
/// | one, flagged | any | more than one entry | nothing |
/// | flagged, n > 1 | `repeated` | n different GUIDs | the ids by position (2) |
/// | flagged, n > 1 | `repeated` | n entries, some `null` | as with `null` (3) |
/// | flagged, n > 1 | `null` | n entries, GUIDs different | the ids by position; existed before at `null` (1) |
/// | flagged, n > 1 | `repeated`, `null` | a duplicate, another count, `[]` too | nothing (3) |
/// | flagged, n > 1 | `unknown`, `left_out` | – | never sent (4) |
///
/// 1. The flag forbids a new registration and the 200 reports no error: a registration exists, its id is unknown.
/// 2. With `null` and `left_out`, the id of the new registration; with `repeated`, of the new or the existing one.
/// 3. The setting is wrong; unambiguous positions are used, others are not guessed.
/// 4. A shorter list would not show whose id is missing.
///
/// So the setting never changes how a response is read: a wrong setting can lose information but not invent it.
pub(super) fn by_row(ids: Vec<Option<String>>, rows: usize, flagged: bool) -> Option<Vec<Option<String>>> {
    if flagged && rows == 1 && ids.is_empty() {
        return Some(vec![None]);
    }
    let mut seen = HashSet::new();
    let distinct = ids.iter().flatten().all(|id| seen.insert(id));
    let complete = flagged || ids.iter().all(Option::is_some);
    (ids.len() == rows && distinct && complete).then_some(ids)
}

/// Parses the counters of `POST /v1/program/employees`; returns nothing if one is missing or not a count.
pub(super) fn counts(body: &[u8]) -> Option<EnrolmentCounts> {
    let answer = object(body)?;
    let count = |name| member(&answer, name).and_then(whole_number);
    Some(EnrolmentCounts {
        employees_registered: count("employeesRegistered")?,
        attempts_registered: count("attemptsRegistered")?,
        employees_unregistered: count("employeesUnregistered")?,
        attempts_unregistered: count("attemptsUnregistered")?,
        total_employees_in_program: count("totalEmployeesInProgram")?,
    })
}

/// Returns whether this is a list of tests (vendor page `/Methods/GetTests`).
pub(super) fn is_test_list(body: &[u8]) -> bool {
    object(body).is_some_and(|answer| member(&answer, "tests").is_some_and(Value::is_array))
}

/// Returns the message of an error response (vendor page `/Help/Responses`).
pub(super) fn message(body: &[u8]) -> Option<String> {
    Some(member(&object(body)?, "message")?.as_str()?.to_owned())
}

/// Parses the body as a JSON object.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(without_mark(body)).ok()
}

/// Strips a byte order mark, which proxies and .NET services sometimes put before JSON.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns the field of this name in any case (the vendor's pages use both `PascalCase` and `camelCase`); nothing if
/// two names differ only in case.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut found = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let only = found.next();
    if found.next().is_some() { None } else { only }
}

/// Parses a count: a number, a number with a zero fraction, or digits in a string.
fn whole_number(value: &Value) -> Option<u64> {
    /// From here on, `f64` cannot represent every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..EXACT).contains(float))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within range")]
            Some(float as u64)
        }),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}
