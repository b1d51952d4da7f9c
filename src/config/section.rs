//! Deserialises a section of the merged configuration and reports all of its errors.
//!
//! Adds three things to `domain::deserialize`: converts text from the environment to the type of its key; after an
//! error, puts defaults in place of what cannot be read, so that the rest can be checked too; and rewrites serde's
//! messages, which quote values, so that no secret is shown.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::error::{ConfigErrors, Path};
use crate::config::layers::DEFAULT_TREE;
use crate::config::suggest;
use crate::domain::deserialize::{DeserializeError, DeserializeErrorKind, read};

/// Reads the section at `at`. Reports every error; the value is then good for further checks only.
pub(super) fn section<T: DeserializeOwned>(tree: &Value, at: &[&str], errors: &mut ConfigErrors<'_>) -> Option<T> {
    let mut tree = tree.clone();
    let found = match read_typed(&mut tree, at, errors, &read::<T>) {
        Ok(value) => return Some(value),
        Err(found) => found,
    };
    let defaults = at.iter().try_fold(&*DEFAULT_TREE, |node, name| node.get(name));
    for error in &found {
        repair(&mut tree, defaults, &error.path);
    }
    report(&found, at, errors);
    read(tree).ok()
}

/// Like [`section`], with another reader, for types that a keyword selects; returns `None` after an error other than an
/// unknown key. Reading notices one missing key of each table; `required` lists them all.
pub(super) fn section_with<T>(
    mut tree: Value,
    at: &[&str],
    required: &[&str],
    errors: &mut ConfigErrors<'_>,
    read: impl Fn(Value) -> Result<T, Vec<DeserializeError>>,
) -> Option<T> {
    let found = match read_typed(&mut tree, at, errors, &read) {
        Ok(value) => return Some(value),
        Err(found) => found,
    };
    report(&found, at, errors);
    for key in required {
        let names = key.split('.');
        if names.clone().try_fold(&tree, |node, name| node.get(name)).is_none() {
            let path: Vec<&str> = at.iter().copied().chain(names).collect();
            errors.push(&path, "is missing");
        }
    }
    for error in found.iter().filter(|error| error.kind == DeserializeErrorKind::Unknown) {
        repair(&mut tree, None, &error.path);
    }
    read(tree).ok()
}

/// Returns the table at this path; text from the environment may spell one as JSON. If there is none, reports an error
/// and returns `None`.
pub(super) fn table(value: &Value, at: &[&str], errors: &mut ConfigErrors<'_>) -> Option<Map<String, Value>> {
    let table = match value {
        Value::Object(members) => Some(members.clone()),
        Value::String(text) if errors.is_variable(at) => serde_json::from_str(text).ok(),
        _ => None,
    };
    if table.is_none() {
        errors.push(at, "expected a table");
    }
    table
}

/// Returns the value of a required key; reports a missing one.
pub(super) fn required<T>(value: Option<T>, at: &[&str], errors: &mut ConfigErrors<'_>) -> Option<T> {
    if value.is_none() {
        errors.push(at, "is missing");
    }
    value
}

/// Reads the tree, and again after each text from the environment that is where another type is needed has been
/// parsed as JSON.
fn read_typed<T>(
    tree: &mut Value,
    at: &[&str],
    errors: &ConfigErrors<'_>,
    read: &impl Fn(Value) -> Result<T, Vec<DeserializeError>>,
) -> Result<T, Vec<DeserializeError>> {
    loop {
        let found = match read(tree.clone()) {
            Ok(value) => return Ok(value),
            Err(found) => found,
        };
        let mut changed = false;
        for error in found.iter().filter(|error| error.kind == DeserializeErrorKind::Invalid) {
            if errors.is_variable(&whole(at, &error.path))
                && let Some(node) = find(tree, &error.path)
                && let Some(value) = node.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
                && !value.is_string()
            {
                *node = value;
                changed = true;
            }
        }
        if !changed {
            return Err(found);
        }
    }
}

fn report(found: &[DeserializeError], at: &[&str], errors: &mut ConfigErrors<'_>) {
    for error in found {
        let path = whole(at, &error.path);
        let detail = match error.kind {
            DeserializeErrorKind::Unknown => format!("unknown key{}", suggest::key(&path)),
            DeserializeErrorKind::Missing => error.detail.clone(),
            DeserializeErrorKind::Invalid => {
                let detail = without_value(&error.detail);
                let form = if errors.is_variable(&path) { json_form(&detail) } else { "" };
                detail + form
            }
        };
        errors.push(&path, detail);
    }
}

/// Replaces the value at this path by its default, or removes it if it has none. An element of a list becomes a text
/// that is also a secret reference, because removing it would shift the others.
fn repair(tree: &mut Value, default: Option<&Value>, path: &[String]) {
    match (path, tree) {
        ([], tree) => *tree = default.cloned().unwrap_or_default(),
        ([name], Value::Object(members)) => match default.and_then(|default| default.get(name)) {
            Some(default) => drop(members.insert(name.clone(), default.clone())),
            None => drop(members.remove(name)),
        },
        ([name, rest @ ..], Value::Object(members)) => {
            if let Some(member) = members.get_mut(name) {
                repair(member, default.and_then(|default| default.get(name)), rest);
            }
        }
        ([index, ..], Value::Array(items)) => {
            if let Some(item) = index.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                *item = Value::from("plain:x");
            }
        }
        _ => {}
    }
}

/// Rewrites serde's message so that it quotes no value. The wording is stable (`Display` of `Unexpected`).
fn without_value(detail: &str) -> String {
    let quotes = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if !quotes.iter().any(|start| detail.starts_with(start)) {
        return detail.to_owned();
    }
    let expected = detail.rsplit_once(", expected ").map(|(_, expected)| expected);
    format!("expected {}", expected.map_or("another value", operator_terms))
}

/// Says how a variable writes what is not text.
fn json_form(detail: &str) -> &'static str {
    match detail {
        "expected a list" => " as JSON, such as [\"a\", \"b\"]",
        "expected a table" => " as JSON, such as {\"a\": 1}",
        _ => "",
    }
}

/// Translates Rust's type names for operators.
fn operator_terms(expected: &str) -> &str {
    match expected {
        "a string" | "a borrowed string" => "text in double quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "relative URL without a base" | "a string representing an URL" => "an absolute URL such as \"https://…\"",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    }
}

fn whole(at: &[&str], path: &[String]) -> Path {
    at.iter().map(|&name| name.to_owned()).chain(path.iter().cloned()).collect()
}

fn find<'a>(tree: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(tree, |node, name| match node {
        Value::Object(members) => members.get_mut(name),
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    })
}
