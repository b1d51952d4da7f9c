//! Changes of an assignment in requests: a merge patch (RFC 7396).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::error::{Error, FieldError};
use crate::domain::validation::FieldErrors;
use crate::http::extract::validate::{ApiInput, StrictObject, date_time, fault_of, parse};

/// Fields of an assignment that cannot be changed.
const IMMUTABLE: [&str; 16] = [
    "id",
    "connection",
    "state",
    "outcome",
    "candidate",
    "assessment",
    "center",
    "notify",
    "passwordless",
    "ifExists",
    "reference",
    "vendorRef",
    "launch",
    "problem",
    "warnings",
    "meta",
];

/// Changes of a booking, as a merge patch: `null` clears a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "validUntil": "2026-12-20T18:00:00Z" })))]
pub struct AssignmentChanges {
    /// Start of the period in which the assessment may be taken.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_from: Option<Timestamp>,
    /// End of the period in which it may be taken; later than `validFrom`.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_until: Option<Timestamp>,
    /// Supervision of the attempt.
    #[schema(value_type = Option<ProctoringChanges>)]
    #[expect(dead_code, reason = "as those of `ProctoringChanges`")]
    proctoring: Option<StrictObject<ProctoringChanges>>,
}

/// Changes of the supervision of an attempt.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "no vendor can change a booking, so the values are checked and not used")]
pub struct ProctoringChanges {
    /// Whether the attempt is supervised.
    enabled: Option<bool>,
    /// Parameter names and values that the vendor defines; `null` removes a parameter.
    parameters: Option<BTreeMap<String, Option<String>>>,
}

impl ApiInput for AssignmentChanges {
    type Checked = ();

    fn checked(self) -> Result<(), Vec<FieldError>> {
        let Self { valid_from, valid_until, .. } = self;
        let mut errors = FieldErrors::new();
        if valid_from.zip(valid_until).is_some_and(|(from, until)| until <= from) {
            errors.push(FieldError::invalid("/validUntil", "must be later than validFrom"));
        }
        errors.into_result(())
    }
}

/// Checks a patch and returns pointers to the fields it names, in alphabetical order.
///
/// # Errors
/// `validation_failed` with every invalid field.
pub(in crate::http) fn touched_fields(patch: Map<String, Value>) -> Result<Vec<String>, Error> {
    let touched: Vec<String> = patch.keys().map(|name| format!("/{name}")).collect();
    let (fixed, rest): (Vec<_>, Vec<_>) = patch.into_iter().partition(|(name, _)| IMMUTABLE.contains(&name.as_str()));
    let mut errors: Vec<FieldError> =
        fixed.iter().map(|(name, _)| FieldError::invalid(format!("/{name}"), "cannot be changed")).collect();
    if let Err(error) = parse::<AssignmentChanges>(&Value::Object(rest.into_iter().collect())) {
        errors.extend(error.errors);
    }
    if errors.is_empty() { Ok(touched) } else { Err(fault_of(errors)) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::window(&json!({ "validFrom": "2030-01-01T00:00:00Z", "validUntil": null }), Ok(&["/validFrom", "/validUntil"][..]))]
    #[case::supervision(
        &json!({ "proctoring": { "enabled": true, "parameters": { "room": null, "camera": "on" } } }),
        Ok(&["/proctoring"][..])
    )]
    #[case::nothing(&json!({}), Ok(&[][..]))]
    #[case::fixed(&json!({ "candidate": null, "assessment": "x" }), Err(&["/assessment", "/candidate"][..]))]
    #[case::unknown(&json!({ "validTill": "2030-01-01T00:00:00Z" }), Err(&["/validTill"][..]))]
    #[case::wrong(&json!({ "validFrom": 1, "proctoring": [true] }), Err(&["/proctoring", "/validFrom"][..]))]
    #[case::nested(&json!({ "proctoring": { "on": true } }), Err(&["/proctoring/on"][..]))]
    #[case::backwards(
        &json!({ "validFrom": "2030-01-02T00:00:00Z", "validUntil": "2030-01-01T00:00:00Z" }), Err(&["/validUntil"][..])
    )]
    fn a_patch_names_its_fields_or_its_errors(#[case] patch: &Value, #[case] expected: Result<&[&str], &[&str]>) {
        let touched = touched_fields(patch.as_object().unwrap().clone());
        let sorted = |mut pointers: Vec<String>| {
            pointers.sort();
            pointers
        };
        let pointers = |error: Error| sorted(error.errors.into_iter().map(|error| error.pointer).collect());
        let owned = |pointers: &[&str]| pointers.iter().map(|pointer| (*pointer).to_owned()).collect::<Vec<_>>();
        assert_eq!(touched.map(sorted).map_err(pointers), expected.map(owned).map_err(owned));
    }

    #[test]
    fn fixed_fields_are_all_named() {
        for name in IMMUTABLE {
            let patch = Map::from_iter([(name.to_owned(), json!(1))]);
            assert_eq!(touched_fields(patch).unwrap_err().errors[0].detail, "cannot be changed", "{name}");
        }
    }
}
