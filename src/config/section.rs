//! Deserialises a section of the merged configuration and reports all of its errors.
//!
//! Adds three things to `domain::deserialize`: converts text from the environment to the type of its key; after an
//! error, continues with a stand-in value, so that later errors are reported too; and rewrites serde's messages, which
//! quote values, so that no secret is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::error::{ConfigErrors, Location, Locations, Path, place};
use crate::config::suggest;
use crate::domain::deserialize::{DeserializeError, DeserializeErrorKind, read};

const NO_SUCH_KEY: &str = "unknown key";

/// Reads the section at `at`. After an error, which is reported, stand-in values replace what cannot be read, so that
/// the rest can be checked too; returns `None` if that does not help.
pub(super) fn section<T: DeserializeOwned>(
    tree: &Value,
    at: &[&str],
    places: &Locations,
    faults: &mut ConfigErrors<'_>,
) -> Option<T> {
    section_with(tree, at, places, faults, read::<T>).map(|part| part.value)
}

/// A deserialised section.
pub(super) struct Section<T> {
    pub(super) value: T,
    /// Whether the value contains no stand-ins.
    pub(super) as_given: bool,
}

/// Like [`section`], with another reader, for types that a keyword selects.
pub(super) fn section_with<T>(
    tree: &Value,
    at: &[&str],
    places: &Locations,
    faults: &mut ConfigErrors<'_>,
    read: impl Fn(Value) -> Result<T, Vec<DeserializeError>>,
) -> Option<Section<T>> {
    let at: Path = at.iter().map(|&name| name.to_owned()).collect();
    let mut reading = SectionReader { tree: tree.clone(), at, places, told: BTreeSet::new(), tried: BTreeMap::new() };
    reading.retype_whole();
    loop {
        match read(reading.tree.clone()) {
            Ok(value) => return Some(Section { value, as_given: reading.tried.is_empty() }),
            Err(found) => {
                let found: Vec<DeserializeError> = found.into_iter().map(named).collect();
                if !(reading.retype(&found, &read) || reading.report(&found, faults)) {
                    return None;
                }
            }
        }
    }
}

/// Returns the table at this path; text from the environment may spell one as JSON. If there is none, reports an error
/// and returns `None`.
pub(super) fn table(
    value: &Value,
    at: &[&str],
    faults: &mut ConfigErrors<'_>,
) -> Option<serde_json::Map<String, Value>> {
    let table = match value {
        Value::Object(members) => Some(members.clone()),
        Value::String(text) if faults.is_variable(at) => serde_json::from_str(text).ok(),
        _ => None,
    };
    if table.is_none() {
        faults.push(at, "expected a table");
    }
    table
}

struct SectionReader<'a> {
    tree: Value,
    at: Path,
    places: &'a Locations,
    /// Paths whose errors are already reported.
    told: BTreeSet<Path>,
    /// Number of stand-ins tried at each path.
    tried: BTreeMap<Path, usize>,
}

impl SectionReader<'_> {
    fn whole(&self, path: &[String]) -> Path {
        self.at.iter().chain(path).cloned().collect()
    }

    /// Returns the paths, at or below this one, of texts from the environment.
    fn texts(&self, path: &[String]) -> Vec<Path> {
        let whole = self.whole(path);
        self.places
            .range(whole.clone()..)
            .take_while(|(place, _)| place.starts_with(&whole))
            .filter(|(_, place)| matches!(place, Location::Environment(_)))
            .map(|(place, _)| place[self.at.len()..].to_vec())
            .filter(|place| find(&self.tree, place).is_some_and(Value::is_string))
            .collect()
    }

    /// Parses the section if one variable sets it as a whole.
    fn retype_whole(&mut self) {
        if let Value::String(text) = &self.tree
            && matches!(place(self.places, &self.at), Some(Location::Environment(_)))
            && let Ok(Value::Object(members)) = serde_json::from_str(text)
        {
            self.tree = Value::Object(members);
        }
    }

    /// Parses text from the environment as JSON if its key needs another type. Returns whether something changed.
    fn retype<T>(
        &mut self,
        found: &[DeserializeError],
        read: &impl Fn(Value) -> Result<T, Vec<DeserializeError>>,
    ) -> bool {
        let before = found.len();
        for fault in found.iter().filter(|fault| fault.kind == DeserializeErrorKind::Invalid) {
            for path in self.texts(&fault.path) {
                let Some(text) = find(&self.tree, &path).and_then(Value::as_str) else { continue };
                let Some(value) = serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string()) else {
                    continue;
                };
                let mut tree = self.tree.clone();
                put(&mut tree, &path, value);
                // A choice between types reports only its own path; accept the change only if it removes an error.
                let helps = path == fault.path
                    || read(tree.clone())
                        .err()
                        .is_none_or(|now| now.len() < before || !now.into_iter().map(named).any(|now| now == *fault));
                if helps {
                    self.tree = tree;
                    return true;
                }
            }
        }
        false
    }

    /// Reports new errors and repairs the tree; returns false if that is not possible.
    fn report(&mut self, found: &[DeserializeError], faults: &mut ConfigErrors<'_>) -> bool {
        let mut mended: BTreeMap<&Path, bool> = BTreeMap::new();
        for fault in found {
            if self.told.insert(fault.path.clone()) {
                let place = self.whole(&fault.path);
                let hint =
                    if fault.kind == DeserializeErrorKind::Unknown { suggest::key(&place) } else { String::new() };
                faults.push(&place, format!("{}{hint}", fault.detail));
            }
            if !mended.contains_key(&fault.path) {
                let mends = match fault.kind {
                    DeserializeErrorKind::Unknown => remove(&mut self.tree, &fault.path),
                    DeserializeErrorKind::Missing | DeserializeErrorKind::Invalid => self.substitute(&fault.path),
                };
                mended.insert(&fault.path, mends);
            }
        }
        !mended.is_empty() && mended.values().all(|mends| *mends)
    }

    /// Sets the next stand-in at this path; after the last one, removes the key, which may be optional.
    fn substitute(&mut self, path: &[String]) -> bool {
        let values = [
            json!("plain:x"),
            json!("https://x.invalid"),
            json!("1s"),
            json!("1B"),
            json!(1),
            json!(true),
            json!([]),
            json!({}),
        ];
        let tried = self.tried.entry(path.to_vec()).or_default();
        *tried += 1;
        match values.get(*tried - 1) {
            Some(value) => put(&mut self.tree, path, value.clone()),
            None => *tried == values.len() + 1 && remove(&mut self.tree, path),
        }
    }
}

/// Rewrites an error so that it quotes no value. serde's wording is stable (`Display` of `Unexpected`).
fn named(mut fault: DeserializeError) -> DeserializeError {
    if fault.kind == DeserializeErrorKind::Unknown {
        NO_SUCH_KEY.clone_into(&mut fault.detail);
    }
    if fault.kind != DeserializeErrorKind::Invalid {
        return fault;
    }
    if let Some(name) = quoted(&fault.detail, "unknown field `") {
        fault.path.push(name);
        fault.kind = DeserializeErrorKind::Unknown;
        NO_SUCH_KEY.clone_into(&mut fault.detail);
        return fault;
    }
    let detail = &fault.detail;
    let expected = detail.rsplit_once(", expected ").map(|(_, expected)| expected);
    let quotes = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if quotes.iter().any(|start| detail.starts_with(start)) {
        fault.detail = format!("expected {}", expected.map_or("another value", operator_terms));
    }
    fault
}

fn quoted(detail: &str, start: &str) -> Option<String> {
    Some(detail.strip_prefix(start)?.split('`').next()?.to_owned())
}

/// Translates Rust's type names for operators.
fn operator_terms(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "relative URL without a base" | "a string representing an URL" => "an absolute URL such as \"https://…\"",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    }
}

fn find<'a>(tree: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |node, name| match node {
        Value::Object(members) => members.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn put(tree: &mut Value, path: &[String], value: Value) -> bool {
    let Some((name, rest)) = path.split_first() else {
        *tree = value;
        return true;
    };
    match tree {
        Value::Object(members) => put(members.entry(name.clone()).or_insert(Value::Null), rest, value),
        Value::Array(items) => {
            name.parse::<usize>().ok().and_then(|index| items.get_mut(index)).is_some_and(|item| put(item, rest, value))
        }
        _ => false,
    }
}

fn remove(tree: &mut Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    match tree {
        Value::Object(members) if rest.is_empty() => members.remove(name).is_some(),
        Value::Object(members) => members.get_mut(name).is_some_and(|member| remove(member, rest)),
        // Never remove an element: that would change the indices of the others.
        Value::Array(items) => {
            name.parse::<usize>().ok().and_then(|index| items.get_mut(index)).is_some_and(|item| remove(item, rest))
        }
        _ => false,
    }
}
