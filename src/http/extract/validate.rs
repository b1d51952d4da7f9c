//! From JSON to a checked value: reports parse errors and validation errors together, each with its pointer.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer as _, MapAccess, Visitor};
use serde_json::Value;

use crate::domain::date_time::parse_date_time;
use crate::domain::deserialize::{DeserializeError, DeserializeErrorKind, read, read_in_place};
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::table::BulkItem;
use crate::domain::table::aliases::suggest_field;
use crate::domain::validation::sanitize_for_display;
use crate::service::{Gateway, RequestContext};

/// A document callers may send.
pub(in crate::http) trait ApiInput: DeserializeOwned {
    /// The checked value.
    type Checked;

    /// The table whose columns are the fields of this document; unknown fields then get a suggestion.
    const TABLE: Option<BulkItem> = None;

    /// Returns the checked value if every field is valid. Error pointers are relative to this document.
    fn checked(self) -> Result<Self::Checked, Vec<FieldError>>;

    /// Runs vendor validation on the valid remainder of a rejected document, so that the caller sees all errors at
    /// once. Default: none, because most documents do not go to a vendor.
    fn review(_rest: Self::Checked, _gateway: &Gateway, _caller: &RequestContext) -> Vec<FieldError> {
        Vec::new()
    }
}

/// Parses and checks a document.
///
/// # Errors
/// `validation_failed` with every error found; `invalid_reference` or `capability_unsupported` if every error is of
/// that kind.
pub(in crate::http) fn parse<I: ApiInput>(tree: &Value) -> Result<I::Checked, Error> {
    let (errors, readable) = match read_in_place::<StrictObject<I>>(tree) {
        Ok(document) => (Vec::new(), Some(document)),
        // The remainder without the invalid fields may have further errors, and the caller should see all of them.
        Err(errors) => {
            let rest = without(tree.clone(), &errors);
            (field_errors(&errors, I::TABLE), read::<StrictObject<I>>(rest).ok())
        }
    };
    match readable.map(|StrictObject(document)| document.checked()) {
        Some(Ok(value)) if errors.is_empty() => Ok(value),
        Some(Err(more)) => Err(fault_of(merge_errors(errors, more))),
        Some(Ok(_)) | None => Err(fault_of(errors)),
    }
}

/// Parses and checks a document; if it is rejected, `review` checks the remainder without the invalid fields.
///
/// # Errors
/// As [`parse`], plus the errors of the review.
pub(in crate::http) fn parse_or_explain<I: ApiInput>(
    tree: Value,
    review: impl FnOnce(I::Checked) -> Vec<FieldError>,
) -> Result<I::Checked, Error> {
    let fault = match parse::<I>(&tree) {
        Ok(checked) => return Ok(checked),
        Err(fault) => fault,
    };
    let mut rest = tree;
    for error in &fault.errors {
        remove(&mut rest, &path_of(&error.pointer));
    }
    let rest = read::<StrictObject<I>>(rest).ok().and_then(|StrictObject(document)| document.checked().ok());
    let Some(rest) = rest else { return Err(fault) };
    Err(fault_of(merge_errors(fault.errors, review(rest))))
}

/// Splits an RFC 6901 pointer into its names.
fn path_of(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// Builds the error for these fields; its code depends on what is wrong with all of them.
pub(in crate::http) fn fault_of(errors: Vec<FieldError>) -> Error {
    let only_references =
        !errors.is_empty() && errors.iter().all(|error| error.code == Code::InvalidReference.as_str());
    let fault = Error::from_fields(errors);
    if only_references { Error { code: Code::InvalidReference, ..fault } } else { fault }
}

/// Merges two lists of errors: a field that could not be parsed is not reported again as missing or invalid.
pub(in crate::http) fn merge_errors(mut errors: Vec<FieldError>, more: Vec<FieldError>) -> Vec<FieldError> {
    let within =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let reported: Vec<String> = errors.iter().map(|error| error.pointer.clone()).collect();
    let fresh =
        |error: &FieldError| !reported.iter().any(|old| within(&error.pointer, old) || within(old, &error.pointer));
    errors.extend(more.into_iter().filter(fresh));
    errors
}

/// Maximum number of unknown fields of a document that get a suggestion: each costs some time.
const MAX_SUGGESTIONS: usize = 5;

fn field_errors(errors: &[DeserializeError], table: Option<BulkItem>) -> Vec<FieldError> {
    let mut suggestions = 0;
    let with_hint = |error: &DeserializeError| {
        let mut field = field_error(error);
        if let Some(kind) =
            table.filter(|_| error.kind == DeserializeErrorKind::Unknown && suggestions < MAX_SUGGESTIONS)
        {
            suggestions += 1;
            field.detail += &suggest_field(kind, &error.path);
        }
        field
    };
    errors.iter().map(with_hint).collect()
}

fn field_error(error: &DeserializeError) -> FieldError {
    let explained = accepted_words(&error.detail).or_else(|| accepted_number(&error.detail));
    let detail = explained.unwrap_or_else(|| error.detail.clone());
    let detail = sanitize_for_display(&detail, 300);
    match error.kind {
        DeserializeErrorKind::Unknown => FieldError::new(error.pointer(), FieldError::UNKNOWN, detail),
        DeserializeErrorKind::Missing => FieldError::missing(error.pointer(), detail),
        DeserializeErrorKind::Invalid => FieldError::invalid(error.pointer(), detail),
    }
}

/// Returns the sentence for a word that is none of those accepted, from serde's (``unknown variant `x`, expected one of
/// `a`, `b` ``, which is part of its stable output).
fn accepted_words(detail: &str) -> Option<String> {
    let (_, expected) = detail.strip_prefix("unknown variant `")?.rsplit_once("`, expected ")?;
    let words: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let quoted = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    Some(match words.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("must be {} or `{last}`", quoted(others)),
        words => format!("must be {}", quoted(words)),
    })
}

/// Returns the sentence for what is no number of a type without a sign, whose name serde's says (``invalid value: integer
/// `-1`, expected u64``).
fn accepted_number(detail: &str) -> Option<String> {
    let (_, expected) = detail.rsplit_once(", expected ")?;
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => return Some("must be a whole number, 0 or more".to_owned()),
        _ => return None,
    };
    Some(format!("must be a whole number from 0 to {most}"))
}

/// Removes the invalid parts of the tree. Removes a list with an invalid element as a whole: its other elements would
/// change position.
fn without(mut tree: Value, errors: &[DeserializeError]) -> Value {
    for error in errors {
        remove(&mut tree, &error.path);
    }
    tree
}

/// Removes the value at the path; returns true if the parent must remove the value itself.
fn remove(node: &mut Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return true };
    match node {
        Value::Object(members) => {
            if members.get_mut(name).is_some_and(|value| remove(value, rest)) {
                members.remove(name);
            }
            false
        }
        Value::Array(items) => {
            let item = name.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            item.is_some_and(|item| remove(item, rest))
        }
        _ => true,
    }
}

/// A field that must be an object: serde would also accept a list of the struct's values.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::http) struct StrictObject<T>(pub(in crate::http) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for StrictObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = StrictObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<StrictObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(access)).map(StrictObject)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Parses an enum word from a string only: serde would also accept `{"reuse": null}`.
pub(in crate::http) fn word<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| T::deserialize(text.into_deserializer())).transpose()
}

/// Parses a date-time (RFC 3339); for anything else, the error says what is wrong with it.
pub(in crate::http) fn date_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    // Anything but a string is as little a date-time as an empty one.
    parse_date_time(value.as_str().unwrap_or_default()).map(Some).map_err(D::Error::custom)
}

/// The text of a password. Its errors never quote it.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(in crate::http) struct PasswordText(pub(in crate::http) String);

impl fmt::Debug for PasswordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secret::MASK)
    }
}

impl TryFrom<Value> for PasswordText {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, &'static str> {
        if let Value::String(text) = value { Ok(Self(text)) } else { Err("must be a string") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::validation::FieldErrors;

    #[test]
    fn numbers_are_explained_without_the_name_of_a_type() {
        let error = |result: Result<u32, serde_json::Error>| result.unwrap_err().to_string();
        for detail in [error(serde_json::from_value(json!(-1))), error(serde_json::from_value(json!("x")))] {
            assert_eq!(
                accepted_number(&detail).as_deref(),
                Some("must be a whole number from 0 to 4294967295"),
                "{detail}"
            );
        }
        let detail = serde_json::from_value::<u64>(json!(1.5)).unwrap_err().to_string();
        assert_eq!(accepted_number(&detail).as_deref(), Some("must be a whole number, 0 or more"), "{detail}");
        assert_eq!(accepted_number("invalid type: integer `1`, expected a string"), None);
    }

    #[derive(Debug, Deserialize)]
    struct Document {
        #[serde(default)]
        name: Option<StrictObject<Name>>,
        email: Option<String>,
        password: Option<PasswordText>,
        #[serde(default)]
        list: Vec<u8>,
    }

    #[derive(Debug, Deserialize)]
    struct Name {
        given: Option<String>,
        family: Option<String>,
    }

    impl ApiInput for Document {
        type Checked = usize;

        fn checked(self) -> Result<usize, Vec<FieldError>> {
            let mut errors = FieldErrors::new();
            errors.check_email("/email", self.email.as_deref());
            if self.password.is_some_and(|password| password.0.is_empty()) {
                errors.push(FieldError::invalid("/password", "must not be empty"));
            }
            match self.name.map(|StrictObject(Name { given, family })| (given, family)) {
                Some((Some(_), Some(_))) => {}
                _ => errors.push(FieldError::missing("/name/given", "is missing")),
            }
            errors.into_result(self.list.len())
        }
    }

    fn pointers(tree: &Value) -> Vec<(String, String)> {
        let fault = parse::<Document>(tree).unwrap_err();
        let mut found: Vec<_> =
            fault.errors.into_iter().map(|error| (error.pointer, error.code.into_owned())).collect();
        found.sort();
        found
    }

    #[test]
    fn parse_and_validation_errors_are_reported_together() {
        let tree = json!({ "name": { "given": 1, "family": "x" }, "email": "nobody", "odd": 1, "list": [1, 999, "a"] });
        let expected = [
            ("/email", "invalid_field"),
            ("/list/1", "invalid_field"),
            ("/list/2", "invalid_field"),
            ("/name/given", "invalid_field"),
            ("/odd", "unknown_field"),
        ];
        assert_eq!(pointers(&tree), expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    }

    #[test]
    fn objects_are_not_read_from_lists() {
        assert_eq!(pointers(&json!({ "name": ["a", "b"] })), [("/name".to_owned(), "invalid_field".to_owned())]);
        assert_eq!(pointers(&json!([])), [(String::new(), "invalid_field".to_owned())]);
        assert_eq!(pointers(&json!(null)), [(String::new(), "invalid_field".to_owned())]);
    }

    #[test]
    fn password_is_never_quoted_in_errors() {
        let error = parse::<Document>(&json!({ "password": 733_312 })).unwrap_err();
        assert!(!format!("{error:?}").contains("733312"), "{error:?}");
    }

    #[test]
    fn no_errors_are_not_an_invalid_reference() {
        assert_eq!(fault_of(Vec::new()).code, Code::ValidationFailed);
        let reference = FieldError::new("/a", Code::InvalidReference.as_str(), "no");
        assert_eq!(fault_of(vec![reference]).code, Code::InvalidReference);
    }

    #[test]
    fn valid_document_is_accepted() {
        assert_eq!(parse::<Document>(&json!({ "name": { "given": "a", "family": "b" }, "list": [1, 2] })), Ok(2));
    }
}
