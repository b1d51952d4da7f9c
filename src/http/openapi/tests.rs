//! What holds for the whole description.

use serde_json::json;

use super::*;

fn value() -> Value {
    serde_json::to_value(document(None)).unwrap()
}

fn each_operation(mut check: impl FnMut(&str, &Value)) {
    let document = value();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            check(&format!("{method} {path}"), operation);
            count += 1;
        }
    }
    assert!(count >= 25, "{count} operations");
}

#[test]
fn every_body_has_an_example() {
    each_operation(|name, operation| {
        let bodies =
            operation.get("requestBody").into_iter().chain(operation["responses"].as_object().unwrap().values());
        for content in bodies.filter_map(|body| body.get("content")).flat_map(|c| c.as_object().unwrap().values()) {
            assert!(content.get("example").is_some() || content.get("examples").is_some(), "{name}: {content}");
        }
    });
}

#[test]
fn every_protected_operation_documents_its_scope_and_errors() {
    each_operation(|name, operation| {
        let open = operation["tags"][0] == "Service" || operation["tags"][0] == "Receivers";
        assert_eq!(operation["security"] == json!([]), open, "{name}");
        if !open {
            let needs_scope = operation["tags"][0] != "Client";
            for status in ["401", "403", "406", "422", "429", "500", "503"] {
                let expected = needs_scope || status != "403";
                assert_eq!(operation["responses"].get(status).is_some(), expected, "{name} lacks {status}");
            }
            let sentence = if needs_scope { "Requires the scope" } else { "no particular scope" };
            assert!(operation["description"].as_str().unwrap().contains(sentence), "{name}");
        }
    });
}

#[test]
fn operations_have_unique_ids_and_summaries() {
    let mut names = BTreeSet::new();
    each_operation(|name, operation| {
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
    });
    assert!(names.contains("createCandidate") && names.contains("listAssignments"));
    let singular = |name: &String| name.strip_suffix('s').is_some_and(|singular| names.contains(singular));
    assert_eq!(names.iter().find(|name| singular(name)), None, "differs from another by an `s` only");
}

#[test]
fn only_request_schemas_forbid_unknown_fields() {
    let mut document = document(None);
    let components = document.components.clone().unwrap();
    let inputs = reachable(&components, operations(&mut document.paths.paths), Side::Request);
    let outputs = reachable(&components, operations(&mut document.paths.paths), Side::Response);
    assert!(inputs.len() > 8 && outputs.len() > 15);
    for (name, schema) in &components.schemas {
        let schema = serde_json::to_value(schema).unwrap();
        if schema.get("properties").is_some() {
            assert!(!(inputs.contains(name) && outputs.contains(name)), "{name} is on both sides");
            assert_eq!(
                schema.get("additionalProperties") == Some(&Value::Bool(false)),
                inputs.contains(name),
                "{name}"
            );
        }
    }
}

#[test]
fn every_reference_resolves() {
    fn walk(value: &Value, root: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    assert!(root.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                }
                members.values().for_each(|value| walk(value, root));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
            _ => {}
        }
    }
    let document = value();
    walk(&document, &document);
}

#[test]
fn server_url_is_relative_unless_configured() {
    assert_eq!(value()["servers"][0]["url"], ".");
    let public = serde_json::to_value(document(Some("https://exams.example.com/api/"))).unwrap();
    assert_eq!(public["servers"][0]["url"], "https://exams.example.com/api");
    assert_eq!(value()["openapi"].as_str().unwrap().get(..3), Some("3.1"));
}

#[test]
fn credentials_are_the_rule_and_open_operations_the_exception() {
    let document = value();
    assert_eq!(document["security"], json!([{ "bearer": [] }, { "apiKey": [] }]));
    assert_eq!(document["paths"]["/livez"]["get"]["security"], json!([]));
    assert_eq!(
        document["paths"]["/candidates"]["post"]["security"],
        json!([{ "bearer": ["candidates:write"] }, { "apiKey": ["candidates:write"] }])
    );
}

#[test]
fn only_what_a_reader_must_fill_in_has_an_example() {
    let document = value();
    each_operation(|name, operation| {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let target = parameter["$ref"].as_str().and_then(|target| document.pointer(target.trim_start_matches('#')));
            let parameter = target.unwrap_or(parameter);
            let filled = ["example", "examples"]
                .iter()
                .any(|key| parameter.get(key).or_else(|| parameter["schema"].get(key)).is_some());
            assert_eq!(filled, parameter["required"] == true, "{name}: {parameter}");
        }
    });
}

#[test]
fn every_value_of_an_enum_is_described() {
    fn walk(value: &Value, place: &str, found: &mut usize) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Array(words)) = members.get("enum") {
                    let description = members.get("description").and_then(Value::as_str).unwrap_or_default();
                    for word in words {
                        let line = format!("\n* `{}`: ", word.as_str().unwrap());
                        assert!(description.contains(&line), "{place} lacks {line:?}: {description}");
                    }
                    *found += 1;
                }
                members.iter().for_each(|(name, value)| walk(value, &format!("{place}/{name}"), found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, place, found)),
            _ => {}
        }
    }
    let mut found = 0;
    walk(&value(), "", &mut found);
    assert!(found >= 20, "{found}");
    let description = &value()["components"]["schemas"]["IfCandidateExists"]["description"];
    assert_eq!(
        *description,
        "What to do if the gateway already has the candidate.\n\n\
         * `reuse`: Return the existing candidate; a warning `existing_differs` names the fields that differ.\n\
         * `update`: Send the new field values to the vendor.\n\
         * `fail`: Reject the request with `candidate_already_exists`."
    );
}

#[test]
fn every_example_of_a_problem_belongs_to_an_operation() {
    let document = value();
    let text = document["paths"].to_string();
    for name in document["components"]["examples"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("#/components/examples/{name}\"")), "{name}");
    }
}
