//! Environment variables as a layer: `EXAMGATE__CONNECTIONS__STARTEXAM_MAIN__TIMEOUT` sets
//! `connections.startexam-main.timeout`.
//!
//! A value stays text until its key needs another type (`section`): `config`'s own environment source would turn the
//! secret `007` into the number 7.

use std::collections::BTreeMap;

use config::{Map, ValueKind};
use serde_json::Value as Json;

use crate::config::error::{ConfigError, Location, Path, key};

/// Prefix of variables that set a key. `EXAMGATE_CONFIG`, which names the file, does not have it.
pub const PREFIX: &str = "EXAMGATE__";

/// Returns the values that the variables set, matched against the names already in `below`.
pub(super) fn layer(
    environment: &[(String, String)],
    below: &config::Value,
    errors: &mut Vec<ConfigError>,
) -> config::Value {
    let mut variables: Vec<(Vec<&str>, &String, &String)> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.split("__").collect(), name, value)))
        .collect();
    // Tables before their keys, so that the more specific variable wins.
    variables.sort_by(|a, b| (a.0.len(), a.1).cmp(&(b.0.len(), b.1)));

    let mut known = below.clone();
    let mut overlay: config::Value = Map::<String, config::Value>::new().into();
    let mut taken: BTreeMap<Path, &String> = BTreeMap::new();
    for (parts, name, text) in variables {
        let set = resolve(&parts, &known).and_then(|path| {
            if let Some(other) = taken.get(&path) {
                return Err(format!("sets the same key as environment variable {other}"));
            }
            let value = typed(text, find(&known, &path), name)
                .ok_or_else(|| format!("{}: expected a table as JSON, {{ … }}", key(&path)))?;
            Ok((path, value))
        });
        match set {
            Ok((path, value)) => {
                insert(&mut known, &path, value.clone());
                insert(&mut overlay, &path, value);
                taken.insert(path, name);
            }
            Err(detail) => {
                let place = Some(Location::Environment(name.clone()));
                errors.push(ConfigError { place, key: String::new(), detail });
            }
        }
    }
    overlay
}

/// Returns the path whose names the parts match; parts without a match become new names in lower case.
fn resolve(parts: &[&str], known: &config::Value) -> Result<Path, String> {
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("must have the form {PREFIX}A__B; a name between double underscores is empty"));
    }
    let mut node = Some(known);
    let mut path = Path::new();
    for part in parts {
        let table = node.and_then(table);
        let mut found: Vec<&String> =
            table.iter().flat_map(|table| table.keys()).filter(|n| matches(part, n)).collect();
        found.sort();
        let name = match found.as_slice() {
            [] => part.to_lowercase(),
            [name] => (*name).clone(),
            several => {
                let mut names = several.iter().map(|name| {
                    let whole: Path = path.iter().chain([*name]).cloned().collect();
                    key(&whole)
                });
                let first = names.next().unwrap_or_default();
                return Err(format!(
                    "is ambiguous: it matches {first} and {}",
                    names.collect::<Vec<_>>().join(" and ")
                ));
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

/// Returns the text, or, if the key already holds a table, the table that the text spells as JSON, so that it can be
/// merged over it. `None` if that text is not a table.
fn typed(text: &str, present: Option<&config::Value>, origin: &String) -> Option<config::Value> {
    if present.and_then(table).is_none() {
        return Some(config::Value::new(Some(origin), ValueKind::String(text.to_owned())));
    }
    object(text).map(|json| from_json(&json, origin))
}

fn object(text: &str) -> Option<Json> {
    serde_json::from_str::<Json>(text).ok().filter(Json::is_object)
}

fn from_json(json: &Json, origin: &String) -> config::Value {
    let kind = match json {
        Json::Null => ValueKind::Nil,
        Json::Bool(flag) => ValueKind::Boolean(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => ValueKind::I64(number),
            (None, Some(number), _) => ValueKind::U64(number),
            (None, None, number) => ValueKind::Float(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => ValueKind::String(text.clone()),
        Json::Array(items) => ValueKind::Array(items.iter().map(|item| from_json(item, origin)).collect()),
        Json::Object(members) => {
            ValueKind::Table(members.iter().map(|(name, value)| (name.clone(), from_json(value, origin))).collect())
        }
    };
    config::Value::new(Some(origin), kind)
}

fn find<'a>(root: &'a config::Value, path: &[String]) -> Option<&'a config::Value> {
    path.iter().try_fold(root, |node, name| table(node)?.get(name))
}

fn table(value: &config::Value) -> Option<&Map<String, config::Value>> {
    if let ValueKind::Table(members) = &value.kind { Some(members) } else { None }
}

fn insert(root: &mut config::Value, path: &[String], value: config::Value) {
    let Some((name, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    // Another variable may have given the whole table as text; parse it once a variable sets a key inside it.
    if let ValueKind::String(text) = &root.kind
        && let (Some(json), Some(origin)) = (object(text), root.origin().map(str::to_owned))
    {
        *root = from_json(&json, &origin);
    }
    if !matches!(root.kind, ValueKind::Table(_)) {
        *root = Map::<String, config::Value>::new().into();
    }
    if let ValueKind::Table(members) = &mut root.kind {
        let child = members.entry(name.clone()).or_insert_with(|| config::Value::new(None, ValueKind::Nil));
        insert(child, rest, value);
    }
}
