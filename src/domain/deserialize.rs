//! Reads a JSON tree into a typed document and reports every fault, not only the first: what cannot be read is noted with
//! its place, taken out, and the reading goes on. Used for request bodies and for configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::validation::pointer_token;

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeserializeError {
    /// Names and indices from the root to the place.
    pub path: Vec<String>,
    /// Whether the place is unknown, missing or of the wrong kind.
    pub kind: DeserializeErrorKind,
    /// The reader's sentence.
    pub detail: String,
}

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeserializeErrorKind {
    /// Nobody knows this member.
    Unknown,
    /// The document needs a member that is not there.
    Missing,
    /// The value has the wrong type or form.
    Invalid,
}

impl DeserializeError {
    /// RFC 6901 pointer to the place.
    #[must_use]
    pub fn pointer(&self) -> String {
        self.path.iter().flat_map(|name| ["/".to_owned(), pointer_token(name)]).collect()
    }
}

/// Most faults told of one document. Each costs another reading, so that without a bound a document of nothing but faults
/// would take time by the square of its length.
const MAX_FAULTS: usize = 100;

/// Reads the tree.
///
/// # Errors
/// Every fault found, in the order of the document, up to a bound. Members nobody knows are faults.
pub fn read<T: DeserializeOwned>(mut tree: Value) -> Result<T, Vec<DeserializeError>> {
    let mut faults: Vec<DeserializeError> = Vec::new();
    let mut gone = Gone::default();
    loop {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&tree, &mut track);
        let result: Result<T, _> = serde_ignored::deserialize(deserializer, |path| unknown.push(ignored_path(&path)));
        let error = match result {
            Ok(value) => {
                faults.extend(unknown.iter().map(|path| unknown_member(gone.original(path))));
                return if faults.is_empty() { Ok(value) } else { Err(faults) };
            }
            Err(error) => error,
        };
        let path: Vec<String> = track.path().iter().filter_map(segment_name).collect();
        let mut place = gone.original(&path);
        let detail = error.to_string();
        let kind = match missing_member(&detail) {
            Some(member) => {
                place.push(member.to_owned());
                DeserializeErrorKind::Missing
            }
            None => DeserializeErrorKind::Invalid,
        };
        // What is missing because it, or a part of it, was taken out before is told already.
        if !faults.iter().any(|fault| fault.path.starts_with(&place)) {
            let detail = if kind == DeserializeErrorKind::Missing { "is missing".to_owned() } else { detail };
            faults.push(DeserializeError { path: place, kind, detail });
        }
        if faults.len() >= MAX_FAULTS || !take_out(&mut tree, &path) {
            // What was met on the way to the end is told as well.
            faults.extend(unknown.iter().map(|path| unknown_member(gone.original(path))));
            return Err(faults);
        }
        gone.note(gone.original(&path));
    }
}

fn unknown_member(path: Vec<String>) -> DeserializeError {
    let detail = format!("unknown member `{}`", path.last().map_or("", String::as_str));
    DeserializeError { path, kind: DeserializeErrorKind::Unknown, detail }
}

/// The list elements taken out so far, so that later faults are told by the places the caller knows.
#[derive(Default)]
struct Gone(BTreeMap<Vec<String>, BTreeSet<usize>>);

impl Gone {
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

// serde tells a missing member only in its sentence (`missing field `x``); the wording is part of serde's stable output.
fn missing_member(detail: &str) -> Option<&str> {
    detail.strip_prefix("missing field `")?.split('`').next()
}

/// Removes the value at this path; false where there is none, which ends the reading.
fn take_out(tree: &mut Value, path: &[String]) -> bool {
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
    #[expect(dead_code, reason = "only whether it can be read matters here")]
    struct Document {
        name: Option<String>,
        #[serde(default)]
        list: Vec<Entry>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read matters here")]
    struct Entry {
        count: u8,
    }

    fn pointers(tree: Value) -> Vec<(String, DeserializeErrorKind)> {
        let faults = read::<Document>(tree).unwrap_err();
        faults.iter().map(|fault| (fault.pointer(), fault.kind)).collect()
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
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
    fn elements_of_lists_keep_their_numbers() {
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
    fn a_missing_member_is_named() {
        assert_eq!(pointers(json!({ "list": [{}] })), [("/list/0/count".to_owned(), DeserializeErrorKind::Missing)]);
    }
}
