//! The vendor's own field names, outward and inward, and what its answers say.
//!
//! It must never guess: an answer that does not tell each row's fate in the documented shape is no answer.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::settings::ProfileFields;
use crate::domain::assignment::Proctoring;
use crate::domain::candidate::{Address, Name, Person, PhoneKind};
use crate::domain::program::EnrolmentCounts;
use crate::domain::validation::pointer_token;

/// Body of `POST /v1/employees` (vendor page `/Methods/SyncEmployees`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Employees<'a> {
    pub(super) profile_id: &'a str,
    pub(super) employees: Vec<Employee<'a>>,
}

/// One person as the vendor sees them.
#[derive(Serialize)]
pub(super) struct Employee<'a> {
    pub(super) id: &'a str,
    pub(super) status: &'static str,
    pub(super) data: Vec<Field<'a>>,
}

/// A named value of a profile, or of proctoring.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Field<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a str,
}

/// Body of `POST /v2/employees-participants` (vendor page `/Methods/RegisterEmployees`); one test a call, since how the
/// ids of several tests are ordered is undocumented.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EmployeesParticipants<'a> {
    pub(super) center: &'a str,
    pub(super) valid_from: String,
    pub(super) valid_till: String,
    /// Only for accounts with proctoring, hence left out where it is off.
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

/// A GUID in the vendor's form, lower case with hyphens; braces and bare digits are understood. The nil GUID names
/// nothing.
pub(super) fn guid(text: &str) -> Option<String> {
    // Longer is only the `urn:uuid:` form, which the vendor does not know.
    let id = Uuid::try_parse(text).ok().filter(|id| text.len() <= 38 && !id.is_nil())?;
    Some(id.hyphenated().to_string())
}

/// A member of a person that a profile may have a field for.
struct ProfileMember<'a> {
    /// Pointer of the member, to be named where there is no field.
    pointer: String,
    /// Pointer under which a change of it is announced.
    announced: &'static str,
    field: &'a str,
    value: Option<&'a str>,
}

/// Name and value pairs of the person: every given member the profile has a field for, then `custom`. A `touched`
/// member without a value is sent empty, since whether leaving a field out keeps or clears it is undocumented.
pub(super) fn data<'a>(fields: &'a ProfileFields, person: &'a Person, touched: &[String]) -> Vec<Field<'a>> {
    let mut pairs = Vec::new();
    for ProfileMember { announced, field, value, .. } in members(fields, person) {
        let cleared = value.is_none() && is_touched(touched, announced) && !person.custom.contains_key(field);
        if let Some(value) = value.or(cleared.then_some(""))
            && !field.is_empty()
        {
            pairs.push(Field { name: Cow::Borrowed(field), value });
        }
    }
    pairs.extend(person.custom.iter().map(|(name, value)| Field { name: Cow::Borrowed(name.as_str()), value }));
    for token in touched.iter().filter_map(|pointer| pointer.strip_prefix("/custom/")) {
        let name = token.replace("~1", "/").replace("~0", "~");
        if !pairs.iter().any(|pair| pair.name == name) {
            pairs.push(Field { name: Cow::Owned(name), value: "" });
        }
    }
    pairs
}

/// Pointers of the given members the vendor has no place for.
pub(super) fn without_place(fields: &ProfileFields, person: &Person) -> Vec<String> {
    let unfielded = members(fields, person).into_iter().filter(|member| member.field.is_empty());
    let unfielded = unfielded.filter(|member| member.value.is_some()).map(|member| member.pointer);
    // Name, address, numbers, e-mail and custom are profile fields; id and activity have a place of their own.
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

/// Pointers of `custom` members named like a field that another given member fills.
pub(super) fn taken_twice(fields: &ProfileFields, person: &Person) -> Vec<String> {
    let filled: HashSet<&str> = members(fields, person)
        .into_iter()
        .filter(|member| member.value.is_some())
        .map(|member| member.field)
        .collect();
    let twice = person.custom.keys().filter(|name| filled.contains(name.as_str()));
    twice.map(|name| format!("/custom/{}", pointer_token(name))).collect()
}

/// Whether a change announced by these pointers reaches this member.
pub(super) fn is_touched(touched: &[String], pointer: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    touched.iter().any(|touched| touched == pointer || within(touched, pointer) || within(pointer, touched))
}

fn members<'a>(fields: &'a ProfileFields, person: &'a Person) -> Vec<ProfileMember<'a>> {
    let Name { given_name, family_name, formatted } = &person.name;
    let Address { street_address, locality, region, postal_code, country } = &person.address;
    let simple = [
        ("/name/givenName", &fields.given_name, given_name),
        ("/name/familyName", &fields.family_name, family_name),
        ("/name/formatted", &fields.formatted, formatted),
        ("/email", &fields.email, &person.email),
        ("/address/streetAddress", &fields.street, street_address),
        ("/address/locality", &fields.locality, locality),
        ("/address/region", &fields.region, region),
        ("/address/postalCode", &fields.postal_code, postal_code),
        ("/address/country", &fields.country, country),
    ];
    let simple = simple.into_iter().map(|(pointer, field, value)| ProfileMember {
        pointer: pointer.to_owned(),
        announced: pointer,
        field,
        value: value.as_deref(),
    });
    let phones = [(PhoneKind::Mobile, &fields.phone_mobile), (PhoneKind::Work, &fields.phone_work)];
    let phones = phones.into_iter().map(|(kind, field)| {
        let index = person.phone_numbers.iter().position(|number| number.kind == kind).unwrap_or(0);
        let value = person.phone(kind);
        ProfileMember { pointer: format!("/phoneNumbers/{index}"), announced: "/phoneNumbers", field, value }
    });
    simple.chain(phones).collect()
}

/// Proctoring parameters as the vendor takes them; none where it is off.
pub(super) fn proctoring_pairs(proctoring: &Proctoring) -> Vec<Field<'_>> {
    let Proctoring { enabled, parameters } = proctoring;
    let given = parameters.iter().filter(|_| *enabled);
    given.map(|(name, value)| Field { name: Cow::Borrowed(name.as_str()), value }).collect()
}

/// The participant ids an answer holds, `None` for `null`. Nothing at all when it is not of the documented shape
/// `{"participantIds": [GUID, …]}`.
pub(super) fn participant_ids(body: &[u8]) -> Option<Vec<Option<String>>> {
    let answer = object(body)?;
    let ids = member(&answer, "participantIds")?.as_array()?;
    ids.iter().map(|id| if id.is_null() { Some(None) } else { guid(id.as_str()?).map(Some) }).collect()
}

/// Which id belongs to which row; `None` at a row whose registration was there before and whose id was not told.
/// Nothing at all when the answer does not say.
///
/// What stands in the list for an employee skipped by `doNotCreateIfExist` is undocumented, so the flag decides how an
/// answer is read, and the operator's `existing_registration` decides how many flagged rows are put into one call:
///
/// | rows | setting | answer | read as |
/// |---|---|---|---|
/// | unflagged, n | any | n different GUIDs | the ids by position (the vendor's own page relies on it) |
/// | unflagged, n | any | a `null`, a repeat, another count | nothing |
/// | one, flagged | any | `[]`, `[null]` | there before (1) |
/// | one, flagged | any | `[GUID]` | the id (2) |
/// | one, flagged | any | more than one entry | nothing |
/// | flagged, n > 1 | `repeated` | n different GUIDs | the ids by position (2) |
/// | flagged, n > 1 | `repeated` | n entries, some `null` | as with `null` (3) |
/// | flagged, n > 1 | `null` | n entries, GUIDs different | the ids by position; there before at `null` (1) |
/// | flagged, n > 1 | `repeated`, `null` | a repeat, another count, `[]` too | nothing (3) |
/// | flagged, n > 1 | `unknown`, `left_out` | – | never sent (4) |
///
/// 1. The flag forbids a new registration and the 200 tells of no fault: there is one, its id was not told.
/// 2. With `null` and `left_out` of the new registration; with `repeated` of either, which cannot be told.
/// 3. The setting is wrong; places that are clear all the same are used, others are not guessed.
/// 4. A shorter list would not say whose id is missing.
///
/// So the setting never changes how one answer is read, and a wrong setting can cost knowledge but not invent it.
pub(super) fn by_row(ids: Vec<Option<String>>, rows: usize, flagged: bool) -> Option<Vec<Option<String>>> {
    if flagged && rows == 1 && ids.is_empty() {
        return Some(vec![None]);
    }
    let mut seen = HashSet::new();
    let distinct = ids.iter().flatten().all(|id| seen.insert(id));
    let complete = flagged || ids.iter().all(Option::is_some);
    (ids.len() == rows && distinct && complete).then_some(ids)
}

/// The counters of `POST /v1/program/employees`; nothing when one of them is missing or no count.
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

/// Whether this is a list of tests (vendor page `/Methods/GetTests`).
pub(super) fn is_test_list(body: &[u8]) -> bool {
    object(body).is_some_and(|answer| member(&answer, "tests").is_some_and(Value::is_array))
}

/// The answer as a JSON object.
pub(super) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(without_mark(body)).ok()
}

/// The body without a byte order mark, which proxies and .NET services put before JSON now and then.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The member of this name in any case (the vendor's pages write both `PascalCase` and `camelCase`); nothing when two
/// differ in case only.
pub(super) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let mut found = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let only = found.next();
    if found.next().is_some() { None } else { only }
}

/// A count as a number, as a number with a zero fraction, or as digits in a string.
fn whole_number(value: &Value) -> Option<u64> {
    /// Above this, neighbouring whole numbers are no longer told apart.
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
