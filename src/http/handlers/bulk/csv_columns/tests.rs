use super::*;
use crate::domain::table::columns::names;
use crate::http::dto::assignment_input::AssignmentItem;
use crate::http::dto::candidate::CandidateItem;
use crate::http::extract::validate::parse;

fn header(names: &str) -> Vec<&str> {
    names.split(',').collect()
}

fn read(kind: BulkItem, names: &str, cells: &str, allow_damaged_ids: bool) -> (Value, Vec<FieldError>) {
    let cells: Vec<&str> = cells.split(',').collect();
    CsvColumns::of(kind, &header(names)).unwrap().row(2, &cells, allow_damaged_ids).unwrap()
}

fn row(kind: BulkItem, names: &str, cells: &str) -> Value {
    let (row, errors) = read(kind, names, cells, false);
    assert_eq!(errors, []);
    row
}

/// Returns pointer and code of the errors in a row.
fn cell_errors(kind: BulkItem, names: &str, cells: &str) -> Vec<(String, String)> {
    let errors = read(kind, names, cells, false).1;
    errors.into_iter().map(|error| (error.pointer, error.code.into_owned())).collect()
}

fn faults(kind: BulkItem, names: &str) -> Vec<(String, String)> {
    let errors = CsvColumns::of(kind, &header(names)).unwrap_err();
    errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
}

#[test]
fn cells_become_fields() {
    let names =
        "externalId, name.givenName ,active,phoneNumbers.work,phoneNumbers.mobile,custom.Cost Centre,custom.a.b,group";
    let expected = json!({
        "externalId": "1", "name": { "givenName": "Jane" }, "active": true, "custom": { "Cost Centre": "7", "a.b": "x" },
        "phoneNumbers": [{ "type": "work", "value": "3" }, { "type": "mobile", "value": "4" }],
    });
    assert_eq!(row(BulkItem::Candidates, names, "1,Jane,TRUE,3,4,7,x,"), expected);
    let names = "candidate.externalId,assessment,proctoring.enabled,proctoring.parameters.camera,passwordless";
    let expected = json!({
        "candidate": { "externalId": "1" }, "assessment": "a", "passwordless": true,
        "proctoring": { "enabled": false, "parameters": { "camera": "false" } },
    });
    assert_eq!(row(BulkItem::Assignments, names, "1,a,False,false, Yes "), expected);
}

#[test]
fn every_column_is_a_field_of_the_row() {
    for name in names(BulkItem::Candidates).chain(["custom.x"]) {
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
    for name in names(BulkItem::Assignments).chain(["proctoring.parameters.x"]) {
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
        let (names, cells): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
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
            assert!(find(kind, inner).is_some(), "{member}");
        }
    }
}

#[test]
fn every_invalid_column_is_reported() {
    let found = faults(BulkItem::Candidates, "email,emial,EMAIL,First Name,email,,custom.,candidate.id,phoneNumbers,");
    let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let expected = ["/emial", "/EMAIL", "/First Name", "/email", "/custom/", "/candidate/id", "/phoneNumbers"];
    assert_eq!(pointers, expected);
    assert_eq!(found[0].1, "unknown column 2 `emial` (did you mean email?)");
    assert_eq!(found[1].1, "unknown column 3 `EMAIL` (did you mean email?)");
    assert_eq!(found[2].1, "unknown column 4 `First Name` (did you mean name.givenName?)");
    assert_eq!(found[3].1, "is a duplicate column: 5 has the same name as 1");
    assert_eq!(faults(BulkItem::Assignments, "assessment,custom.x")[0].0, "/custom/x");
    let many = faults(BulkItem::Candidates, &vec!["surname"; 60].join(","));
    assert_eq!((many.len(), many.iter().filter(|(_, detail)| detail.contains("did you mean")).count()), (60, 50));
}

#[test]
fn wrong_separators_are_named() {
    for (names, separator) in
        [("externalId;email", "semicolons"), ("externalId\temail", "tabs"), ("externalId|email", "vertical bars")]
    {
        let found = faults(BulkItem::Candidates, names);
        assert!(found.len() == 1 && found[0].1.contains(separator), "{found:?}");
    }
    assert_eq!(faults(BulkItem::Candidates, "email,a;b")[0].0, "/a;b");
    assert_eq!(faults(BulkItem::Candidates, "foo,bar").len(), 2);
}

#[test]
fn wrong_flags_are_errors_of_their_cells() {
    let (row, errors) = read(BulkItem::Candidates, "externalId,active", "1,ja", false);
    assert_eq!(row, json!({ "externalId": "1", "active": "ja" }));
    assert_eq!(errors, [FieldError::invalid("/active", "must be true or false, yes or no, 1 or 0")]);
    let names = "candidate.externalId,passwordless,proctoring.enabled";
    let flags = |pointer: &str| (pointer.to_owned(), "invalid_field".to_owned());
    assert_eq!(cell_errors(BulkItem::Assignments, names, "1,2,-"), ["/passwordless", "/proctoring/enabled"].map(flags));
    assert_eq!(cell_errors(BulkItem::Assignments, names, "1,, "), []);
}

#[test]
fn damaged_ids_are_errors_of_their_cells() {
    let damaged = |pointer: &str| (pointer.to_owned(), "damaged_id".to_owned());
    let names = "externalId,userName,name.givenName,phoneNumbers.work,phoneNumbers.mobile,custom.x,itemId";
    let cells = "1.23457E+11,'00124,=A1,+49 1,4.91512E+11,#N/A,####";
    let pointers = ["/externalId", "/userName", "/phoneNumbers/1/value"];
    assert_eq!(cell_errors(BulkItem::Candidates, names, cells), pointers.map(damaged));
    let (row, errors) = read(BulkItem::Candidates, names, cells, true);
    assert_eq!((&row["externalId"], errors), (&json!("1.23457E+11"), vec![]));
    let names = "candidate.externalId,assessment,reference,center";
    let pointers = ["/candidate/externalId", "/assessment", "/reference"];
    assert_eq!(cell_errors(BulkItem::Assignments, names, "=\"00123\",#REF!,##,#N/A"), pointers.map(damaged));
    assert_eq!(cell_errors(BulkItem::Assignments, "candidate.id", "#NAME?"), [damaged("/candidate/id")]);
}

#[test]
fn words_are_read_without_the_white_space_around_them() {
    let row =
        row(BulkItem::Assignments, "candidate.externalId,validUntil,notify", "1, 2026-11-22T10:00:00Z\u{a0},none ");
    let expected = json!({
        "candidate": { "externalId": "1" }, "validUntil": "2026-11-22T10:00:00Z", "notify": "none",
    });
    assert_eq!(row, expected);
}
