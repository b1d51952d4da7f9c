//! Merge patches (RFC 7396) on the API's form of a candidate.

use serde_json::{Map, Value};

use crate::domain::candidate as domain;
use crate::domain::error::{Error, FieldError};
use crate::domain::validation::pointer_token;
use crate::http::dto::candidate::{Candidate, CandidateChanges, NewCandidate, ValidRegistration};
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
    if let Err(error) = parse::<CandidateChanges>(&Value::Object(rest)) {
        errors.extend(error.errors);
    }
    if !errors.is_empty() {
        return Err(fault_of(errors));
    }
    Ok(Box::new(move |candidate: &domain::Candidate| changed(candidate, patch)))
}

fn changed(
    candidate: &domain::Candidate,
    patch: Map<String, Value>,
) -> Result<domain::CandidateChanges, Vec<FieldError>> {
    let present = api_form(candidate);
    let touched = touched(&present, &patch);
    let says_active = patch.contains_key("active");
    let mut merged = Value::Object(present);
    merge(&mut merged, Value::Object(patch));
    let ValidRegistration { connection: _, new } = parse::<NewCandidate>(&merged).map_err(|error| error.errors)?;
    let mut person = new.person;
    person.external_id.clone_from(&candidate.person.external_id);
    if !says_active {
        // The API's form always has `active`; the record keeps "never set".
        person.active = candidate.person.active;
    }
    Ok(domain::CandidateChanges { person, touched })
}

/// Returns the changeable fields as `GET` returns them.
fn api_form(candidate: &domain::Candidate) -> Map<String, Value> {
    let Ok(Value::Object(members)) = serde_json::to_value(Candidate::from(candidate.clone())) else {
        return Map::new();
    };
    members.into_iter().filter(|(name, _)| !IMMUTABLE.contains(&name.as_str())).collect()
}

/// Merges as in RFC 7396 §2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
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
                external_id: Some("x".to_owned()),
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
        let expected = domain::Person { external_id: Some("x".to_owned()), ..domain::Person::default() };
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
    fn fixed_fields_are_rejected() {
        for name in IMMUTABLE {
            assert_eq!(patched(&json!({ name: null })).unwrap_err(), [format!("/{name}")]);
        }
        assert_eq!(patched(&json!({ "nmae": null, "email": 1 })).unwrap_err().len(), 2);
        assert_eq!(patched(&json!({ "email": "nobody" })).unwrap_err(), ["/email"]);
        assert_eq!(patched(&json!({ "name": "Jane" })).unwrap_err(), ["/name"]);
    }
}
