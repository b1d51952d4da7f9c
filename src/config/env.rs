//! Environment variables over the file: `EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__TIMEOUT` sets
//! `connections.startexam-main.timeout`.
//!
//! A value stays text until its key needs another type (`section`): `config`'s own environment source would turn the
//! secret `007` into the number 7.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::error::{ConfigError, Location, Locations, Path, key};

/// Prefix of variables that set a key. `EXAMGATE_CONFIG`, which names the file, does not have it.
pub const PREFIX: &str = "EXAMGATE__";

/// Sets what the variables set, matched against the names already in the tree. Returns the errors of malformed,
/// ambiguous or duplicate names, and of values that are no table.
pub(super) fn apply(environment: &[(String, String)], tree: &mut Value, places: &mut Locations) -> Vec<ConfigError> {
    let mut variables: Vec<(Vec<&str>, &String, &String)> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.split("__").collect(), name, value)))
        .collect();
    // Tables before their keys, so that the more specific variable wins.
    variables.sort_by(|a, b| (a.0.len(), a.1).cmp(&(b.0.len(), b.1)));

    let mut errors = Vec::new();
    let mut taken: BTreeMap<Path, &String> = BTreeMap::new();
    for (parts, name, text) in variables {
        let place = Location::Environment(name.clone());
        let set = resolve(&parts, tree).and_then(|path| {
            if let Some(other) = taken.get(&path) {
                return Err(format!("sets the same key as environment variable {other}"));
            }
            let present = path.iter().try_fold(&*tree, |node, name| node.get(name));
            let value = if present.is_some_and(Value::is_object) {
                object(text).ok_or_else(|| format!("{}: expected a table as JSON, {{ … }}", key(&path)))?
            } else {
                Value::from(text.as_str())
            };
            Ok((path, value))
        });
        match set {
            Ok((path, value)) => {
                insert(tree, (&path, 0), value, &place, places);
                taken.insert(path, name);
            }
            Err(detail) => errors.push(ConfigError { place: Some(place), key: String::new(), detail }),
        }
    }
    errors
}

/// Returns the path whose names the parts match; parts without a match become new names in lower case.
fn resolve(parts: &[&str], tree: &Value) -> Result<Path, String> {
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("must have the form {PREFIX}A__B; a name between double underscores is empty"));
    }
    let mut node = Some(tree);
    let mut path = Path::new();
    for part in parts {
        let table = node.and_then(Value::as_object);
        let mut found: Vec<&String> = table.into_iter().flat_map(Map::keys).filter(|n| matches(part, n)).collect();
        found.sort();
        let name = match found.as_slice() {
            [] => part.to_lowercase(),
            [name] => (*name).clone(),
            several => {
                let names = several.iter().map(|name| key(&[path.as_slice(), &[(*name).clone()]].concat()));
                return Err(format!("is ambiguous: it matches {}", names.collect::<Vec<_>>().join(" and ")));
            }
        };
        node = table.and_then(|table| table.get(&name));
        path.push(name);
    }
    Ok(path)
}

/// Returns whether the variable's part matches this name: case does not matter, and `_` also matches `-`.
fn matches(part: &str, name: &str) -> bool {
    let mut letters = name.chars();
    part.chars().all(|wanted| {
        letters.next().is_some_and(|found| wanted.eq_ignore_ascii_case(&found) || (wanted == '_' && found == '-'))
    }) && letters.next().is_none()
}

fn object(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// Sets the value at this path below a node at `depth`.
fn insert(node: &mut Value, (path, depth): (&[String], usize), value: Value, place: &Location, places: &mut Locations) {
    let Some(name) = path.get(depth) else {
        merge(node, &mut path.to_vec(), value, place, places);
        return;
    };
    // Another variable may have given the whole table as text; parse it once a variable sets a key inside it.
    let at = &path[..depth];
    if let Some(earlier @ Location::Environment(_)) = places.get(at).cloned()
        && let Some(table) = node.as_str().and_then(object)
    {
        merge(node, &mut at.to_vec(), table, &earlier, places);
    }
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    insert(&mut node[name], (path, depth + 1), value, place, places);
}

/// Merges tables; replaces any other value and notes where each part of the new one was set.
fn merge(node: &mut Value, path: &mut Path, value: Value, place: &Location, places: &mut Locations) {
    if !node.is_object() || !value.is_object() {
        places.retain(|other, _| !other.starts_with(path));
        places.insert(path.clone(), place.clone());
    }
    match value {
        Value::Object(more) => {
            if !node.is_object() {
                *node = Value::Object(Map::new());
            }
            for (name, value) in more {
                path.push(name.clone());
                merge(&mut node[name], path, value, place, places);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                merge(&mut Value::Null, path, item.clone(), place, places);
                path.pop();
            }
            *node = Value::Array(items);
        }
        value => *node = value,
    }
}
