//! The columns of a CSV body: each is a field of the row's JSON, named with dots (`name.givenName`).

use serde_json::{Map, Value, json};

use crate::domain::error::FieldError;
use crate::domain::validation::{pointer_token, sanitize_for_display};
use crate::http::handlers::bulk::rows::BulkItem;

/// Text fields.
const CANDIDATE_TEXT: [&str; 20] = [
    "itemId",
    "connection",
    "externalId",
    "userName",
    "password",
    "name.givenName",
    "name.familyName",
    "name.formatted",
    "email",
    "address.streetAddress",
    "address.locality",
    "address.region",
    "address.postalCode",
    "address.country",
    "group",
    "birthDate",
    "gender",
    "photo",
    "ifExists",
    "active",
];
const ASSIGNMENT_TEXT: [&str; 14] = [
    "itemId",
    "connection",
    "candidate.id",
    "candidate.externalId",
    "candidate.email",
    "assessment",
    "validFrom",
    "validUntil",
    "center",
    "notify",
    "ifExists",
    "reference",
    "passwordless",
    "proctoring.enabled",
];
/// Boolean fields, whose cells are `true` or `false`.
const FLAGS: [&str; 3] = ["active", "passwordless", "proctoring.enabled"];
/// Telephone numbers, which are a list in JSON, by their type.
const PHONES: [(&str, &str); 2] = [("phoneNumbers.mobile", "mobile"), ("phoneNumbers.work", "work")];

/// The columns of a CSV body, in its order.
#[derive(Debug, PartialEq)]
pub(super) struct CsvColumns(Vec<ColumnTarget>);

/// Where a cell goes.
#[derive(Debug, Clone, PartialEq)]
enum ColumnTarget {
    /// A field, by its path.
    Text(Vec<String>),
    Flag(Vec<String>),
    Phone(&'static str),
}

impl CsvColumns {
    /// Parses the header into columns.
    ///
    /// # Errors
    /// Every unknown or duplicate column, with the pointer its field would have.
    pub(super) fn of(kind: BulkItem, header: &[String]) -> Result<Self, Vec<FieldError>> {
        let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        let places: Vec<Option<ColumnTarget>> = names.iter().map(|name| place(kind, name)).collect();
        let mut errors = Vec::new();
        for (index, (name, found)) in names.iter().zip(&places).enumerate() {
            let pointer = format!("/{}", name.split('.').map(pointer_token).collect::<Vec<_>>().join("/"));
            let number = index + 1;
            if found.is_none() {
                let detail = unknown(kind, name, number);
                errors.push(FieldError::new(sanitize_for_display(&pointer, 200), FieldError::UNKNOWN, detail));
            } else if names[..index].contains(name) {
                let detail = format!("is a duplicate column, again at position {number}");
                errors.push(FieldError::invalid(sanitize_for_display(&pointer, 200), detail));
            }
        }
        if places.iter().all(Option::is_none)
            && let Some(separator) = other_separator(header)
        {
            let detail = format!("the header names no known column; its {separator} should be commas");
            return Err(vec![FieldError::invalid("", detail)]);
        }
        if errors.is_empty() { Ok(Self(places.into_iter().flatten().collect())) } else { Err(errors) }
    }

    /// Returns the number of columns.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Builds the JSON of a row from its cells; an empty cell is a field not given.
    pub(super) fn row<'a>(&self, cells: impl Iterator<Item = &'a str>) -> Value {
        let mut row = Map::new();
        for (place, cell) in self.0.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            match place {
                ColumnTarget::Text(path) => put(&mut row, path, Value::from(cell)),
                ColumnTarget::Flag(path) => put(&mut row, path, flag(cell)),
                ColumnTarget::Phone(kind) => {
                    let numbers = row.entry("phoneNumbers").or_insert_with(|| json!([]));
                    numbers
                        .as_array_mut()
                        .into_iter()
                        .for_each(|list| list.push(json!({ "type": kind, "value": cell })));
                }
            }
        }
        Value::Object(row)
    }
}

fn place(kind: BulkItem, name: &str) -> Option<ColumnTarget> {
    let (known, open, phones): (&[&str], _, &[_]) = match kind {
        BulkItem::Candidates => (&CANDIDATE_TEXT, "custom.", &PHONES),
        BulkItem::Assignments => (&ASSIGNMENT_TEXT, "proctoring.parameters.", &[]),
    };
    if known.contains(&name) {
        let path = name.split('.').map(str::to_owned).collect();
        return Some(if FLAGS.contains(&name) { ColumnTarget::Flag(path) } else { ColumnTarget::Text(path) });
    }
    if let Some(own) = name.strip_prefix(open).filter(|own| !own.is_empty()) {
        // Everything after the prefix is one name, dots included.
        let path = open.split('.').filter(|part| !part.is_empty()).chain([own]);
        return Some(ColumnTarget::Text(path.map(str::to_owned).collect()));
    }
    phones.iter().find(|(phone, _)| *phone == name).map(|(_, kind)| ColumnTarget::Phone(kind))
}

fn unknown(kind: BulkItem, name: &str, number: usize) -> String {
    if name.is_empty() {
        return format!("column {number} has no name");
    }
    let known = match kind {
        BulkItem::Candidates => CANDIDATE_TEXT.iter().chain(PHONES.iter().map(|(name, _)| name)).collect::<Vec<_>>(),
        BulkItem::Assignments => ASSIGNMENT_TEXT.iter().collect(),
    };
    let meant = known.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    format!("unknown column {number} `{}`{hint}", sanitize_for_display(name, 100))
}

fn other_separator(header: &[String]) -> Option<&'static str> {
    let holds = |character| header.iter().any(|name| name.contains(character));
    if holds(';') {
        Some("semicolons")
    } else if holds('\t') {
        Some("tabs")
    } else {
        None
    }
}

/// Converts a boolean cell; anything but `true` or `false` stays text and is reported as such.
fn flag(cell: &str) -> Value {
    if cell.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if cell.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else {
        Value::from(cell)
    }
}

fn put(row: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut node = row;
    for name in parents {
        let inner = node.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        match inner {
            Value::Object(members) => node = members,
            // No column is both a field and an object of fields.
            _ => return,
        }
    }
    node.insert(last.clone(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::assignment_input::AssignmentItem;
    use crate::http::dto::candidate::CandidateItem;
    use crate::http::extract::validate::parse;

    fn header(names: &str) -> Vec<String> {
        names.split(',').map(str::to_owned).collect()
    }

    fn row(kind: BulkItem, names: &str, cells: &str) -> Value {
        CsvColumns::of(kind, &header(names)).unwrap().row(cells.split(','))
    }

    fn faults(kind: BulkItem, names: &str) -> Vec<(String, String)> {
        let errors = CsvColumns::of(kind, &header(names)).unwrap_err();
        errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
    }

    #[test]
    fn cells_become_fields() {
        let names = "externalId, name.givenName ,active,phoneNumbers.work,phoneNumbers.mobile,custom.Cost Centre,custom.a.b,group";
        let expected = json!({
            "externalId": "1", "name": { "givenName": "Jane" }, "active": true, "custom": { "Cost Centre": "7", "a.b": "x" },
            "phoneNumbers": [{ "type": "work", "value": "3" }, { "type": "mobile", "value": "4" }],
        });
        assert_eq!(row(BulkItem::Candidates, names, "1,Jane,TRUE,3,4,7,x,"), expected);
        let names = "candidate.externalId,assessment,proctoring.enabled,proctoring.parameters.camera,passwordless";
        let expected = json!({
            "candidate": { "externalId": "1" }, "assessment": "a", "passwordless": "ja",
            "proctoring": { "enabled": false, "parameters": { "camera": "false" } },
        });
        assert_eq!(row(BulkItem::Assignments, names, "1,a,False,false,ja"), expected);
    }

    #[test]
    fn every_column_is_a_field_of_the_row() {
        for name in CANDIDATE_TEXT.into_iter().chain(PHONES.map(|(name, _)| name)).chain(["custom.x"]) {
            let cell = match name {
                "active" => "true",
                "email" => "a@example.com",
                "birthDate" => "1990-01-01",
                "ifExists" => "reuse",
                "photo" => "QUJD",
                _ => "x",
            };
            let row = row(BulkItem::Candidates, name, cell);
            assert!(parse::<CandidateItem>(&row).is_ok(), "{row}");
        }
        for name in ASSIGNMENT_TEXT.into_iter().chain(["proctoring.parameters.x"]) {
            let (cell, candidate) = match name {
                "passwordless" | "proctoring.enabled" => ("true", "candidate.externalId"),
                "validFrom" | "validUntil" => ("2026-11-22T10:00:00Z", "candidate.externalId"),
                "notify" => ("none", "candidate.externalId"),
                "ifExists" => ("reuse", "candidate.externalId"),
                "candidate.id" => ("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", ""),
                "candidate.email" => ("a@example.com", ""),
                "candidate.externalId" => ("x", ""),
                _ => ("x", "candidate.externalId"),
            };
            let mut columns = vec![(name, cell)];
            let proctored = if name.starts_with("proctoring.parameters") { "proctoring.enabled" } else { "" };
            let beside = [(candidate, "y"), ("assessment", "z"), (proctored, "true")];
            columns.extend(beside.into_iter().filter(|(other, _)| !other.is_empty() && *other != name));
            let (names, cells): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            let row = row(BulkItem::Assignments, &names.join(","), &cells.join(","));
            assert!(parse::<AssignmentItem>(&row).is_ok(), "{row}");
        }
    }

    #[test]
    fn every_field_of_the_row_has_a_column() {
        fn schema<T: utoipa::PartialSchema>() -> Vec<String> {
            let schema = serde_json::to_value(T::schema()).unwrap();
            schema["properties"].as_object().unwrap().keys().cloned().collect()
        }
        for (kind, members) in
            [(BulkItem::Candidates, schema::<CandidateItem>()), (BulkItem::Assignments, schema::<AssignmentItem>())]
        {
            for member in members {
                let inner = match member.as_str() {
                    "name" => "name.formatted",
                    "address" => "address.country",
                    "phoneNumbers" => "phoneNumbers.work",
                    "custom" => "custom.x",
                    "candidate" => "candidate.id",
                    "proctoring" => "proctoring.enabled",
                    other => other,
                };
                assert!(place(kind, inner).is_some(), "{member}");
            }
        }
    }

    #[test]
    fn every_invalid_column_is_reported() {
        let found =
            faults(BulkItem::Candidates, "email,emial,EMAIL,name.first,email,,custom.,candidate.id,phoneNumbers");
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        let expected = ["/emial", "/EMAIL", "/name/first", "/email", "/", "/custom/", "/candidate/id", "/phoneNumbers"];
        assert_eq!(pointers, expected);
        assert_eq!(found[0].1, "unknown column 2 `emial`");
        assert_eq!(found[1].1, "unknown column 3 `EMAIL`; did you mean `email`?");
        assert_eq!(found[4].1, "column 6 has no name");
        assert_eq!(faults(BulkItem::Assignments, "assessment,custom.x")[0].0, "/custom/x");
    }

    #[test]
    fn wrong_separators_are_named() {
        for (names, separator) in [("externalId;email", "semicolons"), ("externalId\temail", "tabs")] {
            let found = faults(BulkItem::Candidates, names);
            assert!(found.len() == 1 && found[0].1.contains(separator), "{found:?}");
        }
        assert_eq!(faults(BulkItem::Candidates, "email,a;b")[0].0, "/a;b");
        assert_eq!(faults(BulkItem::Candidates, "foo,bar").len(), 2);
    }
}
