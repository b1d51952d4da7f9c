//! Deserialises a JSON tree and reports every error, not only the first: records each unreadable value with its path,
//! removes it and continues. Used for request bodies and for configuration.

mod tree_seed;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

pub use self::tree_seed::{JsonTree, MAX_DEPTH, Scalar, TreeSeed};
use super::validation::pointer_token;

/// One value that could not be deserialised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeserializeError {
    /// Names and indices from the root to the value.
    pub path: Vec<String>,
    /// The kind of error.
    pub kind: DeserializeErrorKind,
    /// The deserialiser's message.
    pub detail: String,
}

/// The kinds of deserialisation errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeserializeErrorKind {
    /// The field is unknown.
    Unknown,
    /// A required field is missing.
    Missing,
    /// The value has a wrong type or form.
    Invalid,
}

impl DeserializeError {
    /// Returns the RFC 6901 pointer to the value.
    #[must_use]
    pub fn pointer(&self) -> String {
        self.path.iter().flat_map(|name| ["/".to_owned(), pointer_token(name)]).collect()
    }
}

/// Maximum errors reported per document. Each error costs another pass, so without a limit a document of nothing but
/// errors would take quadratic time.
const MAX_ERRORS: usize = 100;

/// Deserialises the tree.
///
/// # Errors
/// All errors found, in document order, up to a limit. Unknown fields are errors.
pub fn read<T: DeserializeOwned>(tree: Value) -> Result<T, Vec<DeserializeError>> {
    read_tree(Cow::Owned(tree))
}

/// As [`read`], for a tree that the caller still needs; copied at the first error only.
///
/// # Errors
/// As [`read`].
pub fn read_in_place<T: DeserializeOwned>(tree: &Value) -> Result<T, Vec<DeserializeError>> {
    read_tree(Cow::Borrowed(tree))
}

fn read_tree<T: DeserializeOwned>(mut tree: Cow<'_, Value>) -> Result<T, Vec<DeserializeError>> {
    let mut faults: Vec<DeserializeError> = Vec::new();
    let mut gone = RemovedElements::default();
    loop {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&*tree, &mut track);
        let result: Result<T, _> = serde_ignored::deserialize(deserializer, |path| unknown.push(ignored_path(&path)));
        let error = match result {
            Ok(value) => {
                faults.extend(unknown.iter().map(|path| unknown_field(gone.original(path))));
                return if faults.is_empty() { Ok(value) } else { Err(faults) };
            }
            Err(error) => error,
        };
        let path: Vec<String> = track.path().iter().filter_map(segment_name).collect();
        let mut place = gone.original(&path);
        let detail = error.to_string();
        let kind = match missing_field(&detail) {
            Some(member) => {
                place.push(member.to_owned());
                DeserializeErrorKind::Missing
            }
            None => DeserializeErrorKind::Invalid,
        };
        // A value that is missing because it, or a part of it, was removed has been reported already.
        if !faults.iter().any(|fault| fault.path.starts_with(&place)) {
            let detail = if kind == DeserializeErrorKind::Missing { "is missing".to_owned() } else { detail };
            faults.push(DeserializeError { path: place, kind, detail });
        }
        if faults.len() >= MAX_ERRORS || !remove_value(tree.to_mut(), &path) {
            // Unknown fields found on the way are reported as well.
            faults.extend(unknown.iter().map(|path| unknown_field(gone.original(path))));
            return Err(faults);
        }
        gone.note(gone.original(&path));
    }
}

fn unknown_field(path: Vec<String>) -> DeserializeError {
    let detail = format!("unknown field `{}`", path.last().map_or("", String::as_str));
    DeserializeError { path, kind: DeserializeErrorKind::Unknown, detail }
}

/// List elements removed so far, so that later errors are reported at their original positions.
#[derive(Default)]
struct RemovedElements(BTreeMap<Vec<String>, BTreeSet<usize>>);

impl RemovedElements {
    fn note(&mut self, mut place: Vec<String>) {
        if let Some(Ok(index)) = place.pop().map(|last| last.parse()) {
            self.0.entry(place).or_default().insert(index);
        }
    }

    fn original(&self, path: &[String]) -> Vec<String> {
        let mut original = Vec::with_capacity(path.len());
        for name in path {
            let shifted = self.0.get(&original).zip(name.parse::<usize>().ok()).map(|(gone, index)| {
                gone.iter().fold(index, |index, gone| index + usize::from(*gone <= index)).to_string()
            });
            original.push(shifted.unwrap_or_else(|| name.clone()));
        }
        original
    }
}

fn segment_name(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => joined(parent, index.to_string()),
        Path::Map { parent, key } => joined(parent, key.clone()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

fn joined(parent: &serde_ignored::Path<'_>, name: String) -> Vec<String> {
    let mut path = ignored_path(parent);
    path.push(name);
    path
}

// serde reports a missing field only in its message (`missing field `x``); the wording is part of serde's stable
// output.
fn missing_field(detail: &str) -> Option<&str> {
    detail.strip_prefix("missing field `")?.split('`').next()
}

/// Removes the value at this path; returns false if there is none, which ends deserialisation.
fn remove_value(tree: &mut Value, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut node = tree;
    for name in parents {
        let next = match node {
            Value::Object(members) => members.get_mut(name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return false,
        }
    }
    match node {
        Value::Object(members) => members.remove(last).is_some(),
        Value::Array(items) => {
            let index = last.parse::<usize>().ok().filter(|index| *index < items.len());
            index.map(|index| items.remove(index)).is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "the tests only check whether it can be deserialised")]
    struct Document {
        name: Option<String>,
        #[serde(default)]
        list: Vec<Entry>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "the tests only check whether it can be deserialised")]
    struct Entry {
        count: u8,
    }

    fn pointers(tree: Value) -> Vec<(String, DeserializeErrorKind)> {
        let faults = read::<Document>(tree).unwrap_err();
        faults.iter().map(|fault| (fault.pointer(), fault.kind)).collect()
    }

    #[test]
    fn every_error_is_reported_with_its_path() {
        let tree = json!({ "nmae": 1, "name": 7, "list": [{ "count": 1 }, { "count": "x", "o/k": 2 }, 5, { "count": 300 }, "y"] });
        let mut found = pointers(tree);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let found: Vec<(&str, DeserializeErrorKind)> =
            found.iter().map(|(pointer, kind)| (pointer.as_str(), *kind)).collect();
        let (invalid, unknown) = (DeserializeErrorKind::Invalid, DeserializeErrorKind::Unknown);
        assert_eq!(
            found,
            [
                ("/list/1/count", invalid),
                ("/list/2", invalid),
                ("/list/3/count", invalid),
                ("/list/4", invalid),
                ("/name", invalid),
                ("/nmae", unknown),
            ]
        );
    }

    #[test]
    fn list_elements_keep_their_indices() {
        assert_eq!(
            read::<Vec<u8>>(json!([1, "a", 2, "b", 3, 999]))
                .unwrap_err()
                .iter()
                .map(DeserializeError::pointer)
                .collect::<Vec<_>>(),
            ["/1", "/3", "/5"]
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(pointers(json!({ "list": [{}] })), [("/list/0/count".to_owned(), DeserializeErrorKind::Missing)]);
    }
}
