//! The API description in OpenAPI 3.0, for generators that cannot read 3.1. A conversion of the 3.1 document, never a
//! second source.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// Keywords of JSON Schema 2020-12 that OpenAPI 3.0 does not define and that have no counterpart there.
const UNKNOWN_KEYWORDS: [&str; 12] = [
    "$schema",
    "$id",
    "$defs",
    "$comment",
    "propertyNames",
    "patternProperties",
    "prefixItems",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
    "contentMediaType",
];

/// Prints the document in OpenAPI 3.0.3 as it is served: on one line.
///
/// # Errors
/// If the document cannot be serialised, which would be a bug in this program.
pub(in crate::http) fn printed(document: &OpenApi) -> Result<String, serde_json::Error> {
    Ok(converted(&serde_json::to_value(document)?).to_string())
}

/// Converts the document to OpenAPI 3.0.3.
#[must_use]
pub fn converted(document: &Value) -> Value {
    let mut document = document.clone();
    document["openapi"] = json!("3.0.3");
    if let Some(root) = document.as_object_mut() {
        root.remove("webhooks");
        root.remove("jsonSchemaDialect");
    }
    if let Some(info) = document.get_mut("info").and_then(Value::as_object_mut) {
        info.remove("summary");
        if let Some(license) = info.get_mut("license").and_then(Value::as_object_mut)
            && let Some(Value::String(identifier)) = license.remove("identifier")
        {
            license.insert("url".to_owned(), json!(format!("https://spdx.org/licenses/{identifier}.html")));
        }
    }
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.values_mut().for_each(schema);
    }
    outside(&mut document, true);
    document
}

/// Converts everything outside schemas: finds the schemas and translates other differences.
fn outside(node: &mut Value, root: bool) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| outside(item, false)),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                match name.as_str() {
                    // Example data, not part of the description.
                    "example" | "examples" | "default" => {}
                    "schemas" if !root => {}
                    "schema" => schema(value),
                    "security" => without_scopes(value),
                    _ => outside(value, false),
                }
            }
        }
        _ => {}
    }
}

/// Removes scopes: in 3.0 only requirements of OAuth and of `openIdConnect` have them.
fn without_scopes(security: &mut Value) {
    let requirements = security.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
    requirements.flat_map(Map::values_mut).for_each(|scopes| *scopes = json!([]));
}

fn schema(node: &mut Value) {
    if let Value::Bool(anything) = node {
        *node = if *anything { json!({}) } else { json!({ "not": {} }) };
        return;
    }
    let Some(members) = node.as_object_mut() else { return };
    if let Some(reference) = members.remove("$ref") {
        *node = referring(&reference, std::mem::take(members));
        return;
    }
    members.retain(|name, _| !UNKNOWN_KEYWORDS.contains(&name.as_str()));
    for name in ["allOf", "anyOf", "oneOf"] {
        alternatives(members, name);
    }
    types(members);
    bound(members, "exclusiveMinimum", "minimum");
    bound(members, "exclusiveMaximum", "maximum");
    if let Some(only) = members.remove("const") {
        members.insert("enum".to_owned(), json!([only]));
    }
    if let Some(Value::Array(examples)) = members.remove("examples") {
        members.extend(examples.into_iter().next().map(|example| ("example".to_owned(), example)));
    }
    if members.remove("contentEncoding").is_some_and(|encoding| encoding == "base64") {
        members.insert("format".to_owned(), json!("byte"));
    }
    if members.get("nullable") == Some(&json!(true))
        && let Some(Value::Array(words)) = members.get_mut("enum")
        && !words.contains(&Value::Null)
    {
        words.push(Value::Null);
    }
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(schema);
    }
    for name in ["items", "not"] {
        members.get_mut(name).into_iter().for_each(schema);
    }
    if let Some(additional) = members.get_mut("additionalProperties").filter(|additional| additional.is_object()) {
        schema(additional);
    }
}

/// Wraps a reference that has siblings: 3.0 ignores everything beside a reference.
fn referring(reference: &Value, mut beside: Map<String, Value>) -> Value {
    beside.remove("summary");
    let reference = json!({ "$ref": reference });
    if beside.is_empty() {
        return reference;
    }
    let mut node = Value::Object(beside);
    schema(&mut node);
    node["allOf"] = json!([reference]);
    node
}

/// Converts the alternatives of a schema. Generators drop a schema that wraps a reference in an alternative, so that it
/// becomes the plain reference: what it is about is said where it is defined, or beside the alternatives if they are the
/// reference or `null`.
fn alternatives(members: &mut Map<String, Value>, name: &str) {
    let Some(Value::Array(mut items)) = members.remove(name) else { return };
    let before = items.len();
    items.retain(|item| item.get("type") != Some(&json!("null")));
    let nullable = items.len() < before;
    if nullable
        && let [only] = &mut *items
        && let Some(Value::String(text)) = only.as_object_mut().and_then(|only| only.remove("description"))
    {
        members.entry("description").or_insert(Value::String(text));
    }
    for item in &mut items {
        match item.get("$ref").cloned() {
            Some(reference) => *item = json!({ "$ref": reference }),
            None => schema(item),
        }
    }
    items.extend(nullable.then(only_null));
    members.insert(name.to_owned(), Value::Array(items));
}

/// Builds a schema that only `null` fits: `nullable` beside a reference would not admit it, and needs a `type`, of no
/// matter which.
fn only_null() -> Value {
    json!({ "type": "string", "nullable": true, "enum": [null] })
}

fn types(members: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = members.get("type") else { return };
    let (nulls, rest): (Vec<Value>, Vec<Value>) = types.iter().cloned().partition(|kind| kind == "null");
    members.remove("type");
    if let [only] = rest.as_slice() {
        members.insert("type".to_owned(), only.clone());
        if !nulls.is_empty() {
            members.insert("nullable".to_owned(), json!(true));
        }
        return;
    }
    let several = rest.iter().map(|kind| json!({ "type": kind })).chain((!nulls.is_empty()).then(only_null));
    members.insert("anyOf".to_owned(), several.collect());
}

fn bound(members: &mut Map<String, Value>, exclusive: &str, inclusive: &str) {
    if members.get(exclusive).is_some_and(Value::is_number)
        && let Some(value) = members.remove(exclusive)
    {
        members.insert(inclusive.to_owned(), value);
        members.insert(exclusive.to_owned(), json!(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi::document;

    fn of(value: Value) -> Value {
        let mut value = value;
        schema(&mut value);
        value
    }

    #[test]
    fn null_becomes_nullable() {
        assert_eq!(of(json!({ "type": ["string", "null"] })), json!({ "type": "string", "nullable": true }));
        assert_eq!(
            of(json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/x" }], "description": "d" })),
            json!({ "oneOf": [{ "$ref": "#/x" }, only_null()], "description": "d" })
        );
        assert_eq!(
            of(json!({ "type": ["string", "integer", "null"] })),
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }, only_null()] })
        );
        assert_eq!(
            of(json!({ "type": ["string", "null"], "enum": ["a"] })),
            json!({ "type": "string", "nullable": true, "enum": ["a", null] })
        );
    }

    #[test]
    fn an_alternative_is_a_plain_reference() {
        assert_eq!(
            of(json!({ "oneOf": [{ "$ref": "#/x", "description": "d" }, { "$ref": "#/y" }, { "type": "string" }] })),
            json!({ "oneOf": [{ "$ref": "#/x" }, { "$ref": "#/y" }, { "type": "string" }] })
        );
        assert_eq!(
            of(json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/x", "description": "d" }], "writeOnly": true })),
            json!({ "oneOf": [{ "$ref": "#/x" }, only_null()], "description": "d", "writeOnly": true })
        );
    }

    #[test]
    fn keywords_of_3_1_are_translated() {
        assert_eq!(of(json!({ "const": 1 })), json!({ "enum": [1] }));
        assert_eq!(of(json!({ "examples": [1, 2] })), json!({ "example": 1 }));
        assert_eq!(of(json!({ "exclusiveMinimum": 0 })), json!({ "minimum": 0, "exclusiveMinimum": true }));
        assert_eq!(
            of(json!({ "$ref": "#/x", "description": "d", "readOnly": true })),
            json!({ "allOf": [{ "$ref": "#/x" }], "description": "d", "readOnly": true })
        );
        assert_eq!(of(json!({ "$ref": "#/x" })), json!({ "$ref": "#/x" }));
        assert_eq!(
            of(json!({ "properties": { "type": { "type": ["null", "integer"] } } }))["properties"]["type"],
            json!({ "type": "integer", "nullable": true })
        );
    }

    #[test]
    fn no_3_1_keyword_is_left() {
        fn walk(node: &Value, path: &str) {
            match node {
                Value::Object(members) => {
                    for (name, value) in members {
                        let here = format!("{path}/{name}");
                        if name == "example" || (name == "value" && path.contains("/examples/")) {
                            continue;
                        }
                        assert!(name != "const" && name != "webhooks", "{here}");
                        assert!(name != "type" || value.is_string() || value.is_object(), "{here}");
                        assert!(name != "examples" || value.is_object(), "{here}");
                        assert!(name != "$ref" || members.len() == 1, "{here}");
                        assert_ne!(value, &json!({ "type": "null" }), "{here}");
                        assert!(name != "nullable" || members.contains_key("type"), "{here}");
                        walk(value, &here);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, path)),
                _ => {}
            }
        }
        let source = serde_json::to_value(document(None)).unwrap();
        let converted = converted(&source);
        assert_eq!(converted["openapi"], "3.0.3");
        assert_eq!(converted["paths"]["/candidates"]["post"]["security"][0]["bearer"], json!([]));
        assert_eq!(converted["paths"].as_object().unwrap().len(), source["paths"].as_object().unwrap().len());
        walk(&converted, "");
    }
}
