//! Merge patches (RFC 7396) on the API's form of a candidate.

use serde_json::{Map, Value};

use crate::domain::candidate as domain;
use crate::domain::error::{Error, FieldError};
use crate::domain::validation::pointer_token;
use crate::http::dto::candidate::{Candidate, CandidateChanges};
use crate::http::extract::validate::{fault_of, parse};
use crate::service::CandidatePatch;

/// Fields of a candidate that cannot be changed.
const IMMUTABLE: [&str; 12] = [
    "id",
    "connection",
    "state",
    "outcome",
    "externalId",
    "initialPassword",
    "password",
    "ifExists",
    "vendorRef",
    "problem",
    "warnings",
    "meta",
];

/// Returns the change this patch makes to a candidate.
///
/// # Errors
/// `validation_failed` for every error that does not depend on the candidate.
pub(in crate::http) fn of(patch: Map<String, Value>) -> Result<CandidatePatch, Error> {
    let fixed = IMMUTABLE.iter().filter(|name| patch.contains_key(**name));
    let mut errors: Vec<FieldError> =
        fixed.map(|name| FieldError::invalid(format!("/{name}"), "cannot be changed")).collect();
    let rest = patch.iter().filter(|(name, _)| !IMMUTABLE.contains(&name.as_str()));
    let rest: Map<String, Value> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    let given = parse::<CandidateChanges>(&Value::Object(rest));
    match given {
        Ok(given) if errors.is_empty() => {
            Ok(Box::new(move |candidate: &domain::Candidate| changed(candidate, &patch, given)))
        }
        given => {
            errors.extend(given.err().map(|error| error.errors).unwrap_or_default());
            Err(fault_of(errors))
        }
    }
}

/// Applies the patch, whose fields with a value are `given`. Takes over nothing else: the record may have spellings that
/// a request must not have, and the vendor knows the person by them.
fn changed(
    candidate: &domain::Candidate,
    patch: &Map<String, Value>,
    given: domain::Person,
) -> Result<domain::CandidateChanges, Vec<FieldError>> {
    let touched = touched(&api_form(candidate), patch);
    let mut person = candidate.person.clone();
    let domain::Person {
        external_id: _,
        user_name,
        name,
        email,
        active,
        phone_numbers,
        address,
        group,
        birth_date,
        gender,
        photo,
        custom,
    } = given;
    set(patch, "userName", &mut person.user_name, user_name);
    set(patch, "email", &mut person.email, email);
    set(patch, "active", &mut person.active, active);
    set(patch, "phoneNumbers", &mut person.phone_numbers, phone_numbers);
    set(patch, "group", &mut person.group, group);
    set(patch, "birthDate", &mut person.birth_date, birth_date);
    set(patch, "gender", &mut person.gender, gender);
    set(patch, "photo", &mut person.photo, photo);
    let part = Part::of(patch, "name");
    part.set("givenName", &mut person.name.given_name, name.given_name);
    part.set("familyName", &mut person.name.family_name, name.family_name);
    part.set("formatted", &mut person.name.formatted, name.formatted);
    let part = Part::of(patch, "address");
    part.set("streetAddress", &mut person.address.street_address, address.street_address);
    part.set("locality", &mut person.address.locality, address.locality);
    part.set("region", &mut person.address.region, address.region);
    part.set("postalCode", &mut person.address.postal_code, address.postal_code);
    part.set("country", &mut person.address.country, address.country);
    let part = Part::of(patch, "custom");
    person.custom.retain(|name, _| !part.has(name));
    person.custom.extend(custom);
    if let Some(error) = person.too_many_custom_fields() {
        return Err(vec![error]);
    }
    Ok(domain::CandidateChanges { person, touched })
}

/// Sets a field that the patch names.
fn set<T>(patch: &Map<String, Value>, name: &str, field: &mut T, given: T) {
    if patch.contains_key(name) {
        *field = given;
    }
}

/// What the patch says of the fields of an object.
enum Part<'a> {
    /// Nothing.
    Absent,
    /// It clears all of them.
    Cleared,
    /// It names these.
    Named(&'a Map<String, Value>),
}

impl<'a> Part<'a> {
    fn of(patch: &'a Map<String, Value>, name: &str) -> Self {
        match patch.get(name) {
            None => Self::Absent,
            Some(Value::Object(members)) => Self::Named(members),
            Some(_) => Self::Cleared,
        }
    }

    fn has(&self, member: &str) -> bool {
        match self {
            Self::Absent => false,
            Self::Cleared => true,
            Self::Named(members) => members.contains_key(member),
        }
    }

    fn set<T>(&self, member: &str, field: &mut T, given: T) {
        if self.has(member) {
            *field = given;
        }
    }
}

/// Returns the changeable fields as `GET` returns them.
fn api_form(candidate: &domain::Candidate) -> Map<String, Value> {
    let Ok(Value::Object(members)) = serde_json::to_value(Candidate::from(candidate.clone())) else {
        return Map::new();
    };
    members.into_iter().filter(|(name, _)| !IMMUTABLE.contains(&name.as_str())).collect()
}

/// Returns pointers to the fields the patch changes: for an object its fields, for a cleared object its present fields.
fn touched(present: &Map<String, Value>, patch: &Map<String, Value>) -> Vec<String> {
    let mut pointers = Vec::new();
    for (name, value) in patch {
        let inner = match (value, present.get(name)) {
            (Value::Object(members), _) | (Value::Null, Some(Value::Object(members))) => Some(members),
            _ => None,
        };
        match inner {
            Some(members) => {
                pointers.extend(members.keys().map(|member| format!("/{name}/{}", pointer_token(member))));
            }
            None => pointers.push(format!("/{name}")),
        }
    }
    pointers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::domain::ids::CandidateId;
    use crate::domain::outcome::Outcome;

    fn candidate() -> domain::Candidate {
        domain::Candidate {
            id: CandidateId::parse(&format!("cand_{}", "0".repeat(32))).unwrap(),
            tenant: "t".to_owned(),
            connection: "c".to_owned(),
            person: domain::Person {
                external_id: Some("x".into()),
                name: domain::Name {
                    given_name: Some("Jane".to_owned()),
                    family_name: Some("Doe".to_owned()),
                    formatted: None,
                },
                phone_numbers: vec![domain::PhoneNumber { kind: domain::PhoneKind::Mobile, value: "1".to_owned() }],
                custom: BTreeMap::from([("a/b".to_owned(), "1".to_owned()), ("c".to_owned(), "2".to_owned())]),
                ..domain::Person::default()
            },
            state: domain::CandidateState::Registered,
            outcome: Outcome::Applied,
            vendor_ref: Map::new(),
            private: BTreeMap::new(),
            password_key: None,
            problem: None,
            warnings: Vec::new(),
            created: Timestamp::UNIX_EPOCH,
            last_modified: Timestamp::UNIX_EPOCH,
        }
    }

    fn patched(patch: &Value) -> Result<domain::CandidateChanges, Vec<String>> {
        let pointers = |errors: Vec<FieldError>| errors.into_iter().map(|error| error.pointer).collect();
        let change = of(patch.as_object().unwrap().clone()).map_err(|error| pointers(error.errors))?;
        change(&candidate()).map_err(pointers)
    }

    #[test]
    fn unnamed_fields_are_unchanged() {
        let changes =
            patched(&json!({ "name": { "familyName": "Smith" }, "custom": { "c": null, "d": "3" } })).unwrap();
        let mut expected = candidate().person;
        expected.name.family_name = Some("Smith".to_owned());
        expected.custom = BTreeMap::from([("a/b".to_owned(), "1".to_owned()), ("d".to_owned(), "3".to_owned())]);
        assert_eq!(changes.person, expected);
        assert_eq!(changes.touched, ["/custom/c", "/custom/d", "/name/familyName"]);
    }

    #[test]
    fn null_clears_a_field() {
        let changes = patched(&json!({ "name": null, "phoneNumbers": null, "custom": null, "group": null })).unwrap();
        let expected = domain::Person { external_id: Some("x".into()), ..domain::Person::default() };
        assert_eq!(changes.person, expected);
        let touched = ["/custom/a~1b", "/custom/c", "/group", "/name/familyName", "/name/givenName", "/phoneNumbers"];
        assert_eq!(changes.touched, touched);
    }

    #[test]
    fn empty_patch_changes_nothing() {
        let changes = patched(&json!({})).unwrap();
        assert_eq!((changes.person, changes.touched.len()), (candidate().person, 0));
    }

    #[test]
    fn a_spelling_that_a_request_must_not_have_stays_unless_the_patch_names_it() {
        let mut former = candidate();
        former.person.user_name = Some(" Ana\u{200b}".into());
        former.person.email = Some("Rene\u{301}@x".into());
        former.person.name.given_name = Some(" Jane ".to_owned());
        let patched = |patch: Value| {
            let Ok(change) = of(patch.as_object().unwrap().clone()) else { panic!("the patch is valid") };
            change(&former).unwrap()
        };
        let changes = patched(json!({ "name": { "familyName": " Smith " }, "address": { "country": "DE" } }));
        let mut expected = former.person.clone();
        expected.name.family_name = Some("Smith".to_owned());
        expected.address.country = Some("DE".to_owned());
        assert_eq!(changes.person, expected);
        assert_eq!(changes.touched, ["/address/country", "/name/familyName"]);
        let changes = patched(json!({ "userName": " ana ", "name": { "givenName": null } }));
        assert_eq!(changes.person.user_name.as_deref(), Some("ana"));
        assert_eq!(changes.person.name.given_name, None);
        assert_eq!(changes.person.email, former.person.email);
    }

    #[test]
    fn fixed_fields_are_rejected() {
        for name in IMMUTABLE {
            assert_eq!(patched(&json!({ name: null })).unwrap_err(), [format!("/{name}")]);
        }
        assert_eq!(patched(&json!({ "nmae": null, "email": 1 })).unwrap_err().len(), 2);
        assert_eq!(patched(&json!({ "email": "nobody" })).unwrap_err(), ["/email"]);
        assert_eq!(patched(&json!({ "name": "Jane" })).unwrap_err(), ["/name"]);
    }
}
