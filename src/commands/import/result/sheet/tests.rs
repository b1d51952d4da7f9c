use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::commands::Process;
use crate::domain::table::formulas::unguard;

fn environment() -> System {
    Process::current().environment
}

fn target(folder: &TempDir) -> ResultTarget {
    ResultTarget::File(folder.path().join("people.result.csv"))
}

fn write(folder: &TempDir, kind: Kind, rows: &[(&[&str], Value)]) -> Finish {
    let target = target(folder);
    let columns = ["externalId".to_owned(), "name".to_owned()];
    let mut sheet = ResultSheet::create(&target, kind, &columns, &environment()).unwrap();
    for (index, (cells, item)) in rows.iter().enumerate() {
        let cells: Vec<String> = cells.iter().map(|cell| (*cell).to_owned()).collect();
        let mut item = item.clone();
        item["index"] = index.into();
        sheet.add(index as u64 + 2, &cells, &serde_json::from_value(item).unwrap()).unwrap();
    }
    sheet.finish().unwrap()
}

fn text(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("people.result.csv")).unwrap()
}

/// The table as a sheet: a byte order mark, every cell in quotation marks, CRLF.
fn sheet(table: &str) -> String {
    table.lines().fold("\u{feff}".to_owned(), |text, line| text + "\"" + &line.trim().replace('|', "\",\"") + "\"\r\n")
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn applied(id: &str, password: Option<&str>) -> Value {
    json!({ "status": 201, "outcome": "applied", "resource": { "id": id, "initialPassword": password } })
}

#[test]
fn bookings_have_candidate_assessment_window_and_link() {
    let folder = tempfile::tempdir().unwrap();
    let invalid = json!({ "code": "validation_failed", "detail": "wrong", "errors": [
        { "pointer": "/a", "detail": "b" }, { "pointer": "/c", "detail": "d" } ] });
    let finish = write(
        &folder,
        Kind::Assignments,
        &[
            (
                &["=x", "A"],
                json!({ "status": 200, "outcome": "applied", "resource": {
                    "id": "asg_1", "state": "assigned", "candidate": { "externalId": "=x", "id": "cand_1" },
                    "assessment": "rust-101", "validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z",
                    "launch": { "url": "https://a.example/#1", "expiresAt": "2027-02-01T00:00:00Z" },
                    "warnings": [{ "code": "existing_differs", "pointer": "/validUntil" },
                                 { "code": "existing_differs", "pointer": "/center" }, { "code": "odd" }] } }),
            ),
            (&["b", "B"], json!({ "status": 422, "outcome": "not_applied", "problem": invalid })),
            (
                &["c"],
                json!({ "status": 424, "outcome": "not_applied", "problem": { "code": "skipped", "detail": "s" } }),
            ),
            (
                &["d", "D"],
                json!({ "status": 504, "outcome": "unknown", "problem": {
                    "code": "vendor_timeout", "resource": "/assignments/asg_4", "detail": "t",
                    "vendor": { "connection": "x", "httpStatus": 500, "code": "E7", "message": "+sorry" } } }),
            ),
            (&["e", "E", "beyond"], json!({ "outcome": "a word of tomorrow" })),
        ],
    );
    assert_eq!(finish, Finish::default());
    let header = "externalId|name|result.line|result.outcome|result.id|result.state|result.candidate|result.assessment|\
                  result.validFrom|result.validUntil|result.launchUrl|result.launchExpiresAt|result.differs|\
                  result.warnings|result.code|result.detail|result.vendorCode|result.vendorMessage|result.pointer|result.zeros\n";
    let rows = "'=x|A|2|applied|asg_1|assigned|'=x|rust-101|2027-01-01T00:00:00Z|2027-02-01T00:00:00Z|\
                https://a.example/#1|2027-02-01T00:00:00Z|/validUntil; /center|existing_differs; odd||||||\n\
                b|B|3|not_applied|||||||||||validation_failed|wrong; /a b; /c d|||/a; /c|\n\
                c||4|not_applied|||||||||||skipped|s||||\n\
                d|D|5|unknown|asg_4||||||||||vendor_timeout|t|E7|'+sorry||\n\
                e|E|6|a word of tomorrow||||||||||||||||\n";
    assert_eq!(text(&folder), sheet(&(header.to_owned() + rows)));
    assert_eq!(names(&folder), ["people.result.csv"]);
}

#[test]
fn original_cells_read_back_to_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    let cells = ["+491510000001", "-7", "'=1", "a;=1\n+2", "\"quoted\"", "\u{feff}x", "plain", ""];
    for pair in cells.chunks(2) {
        write(&folder, Kind::Candidates, &[(pair, applied("cand_1", None))]);
        let content = text(&folder);
        let mut reader = csv::Reader::from_reader(content.as_bytes());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!([unguard(&record[0]), unguard(&record[1])], pair);
    }
}

#[test]
fn an_unfinished_result_leaves_the_earlier_one_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, Kind::Candidates, &[(&["a"], applied("cand_1", None))]);
    let former = text(&folder);
    let target = target(&folder);
    let mut sheet = ResultSheet::create(&target, Kind::Candidates, &[], &environment()).unwrap();
    sheet.add(2, &[], &serde_json::from_value(json!({ "index": 0 })).unwrap()).unwrap();
    drop(sheet);
    assert_eq!(text(&folder), former);
    assert_eq!(names(&folder), ["people.result.csv"]);
}

#[test]
fn passwords_of_the_earlier_result_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = [applied("cand_1", Some("-secret-1")), applied("cand_2", Some("secret-2"))];
    write(&folder, Kind::Candidates, &first.map(|item| (&[][..], item)));
    let again = [applied("cand_1", None), applied("cand_2", Some("new"))];
    let finish = write(&folder, Kind::Candidates, &again.map(|item| (&[][..], item)));
    assert_eq!(finish.kept, None);
    for password in ["\"'-secret-1\"", "\"new\""] {
        assert!(text(&folder).contains(password), "{}", text(&folder));
    }
    let kept = write(&folder, Kind::Candidates, &[(&[], applied("cand_3", None))]).kept.unwrap();
    assert_eq!(names(&folder), ["people.result.1.csv", "people.result.csv"]);
    assert!(std::fs::read_to_string(kept).unwrap().contains("'-secret-1"));
    assert!(!text(&folder).contains("secret"));
}

#[test]
fn a_result_for_standard_output_comes_whole() {
    let target = ResultTarget::StandardOutput;
    let columns = ["externalId".to_owned()];
    let mut sheet = ResultSheet::create(&target, Kind::Candidates, &columns, &environment()).unwrap();
    let item = json!({ "index": 0, "outcome": "applied", "resource": { "id": "cand_1" } });
    sheet.add(2, &["a".to_owned()], &serde_json::from_value(item).unwrap()).unwrap();
    let content = String::from_utf8(sheet.finish().unwrap().content.unwrap()).unwrap();
    assert!(content.starts_with("\u{feff}\"externalId\",\"result.line\"") && content.lines().count() == 2, "{content}");
}

#[test]
fn only_an_earlier_result_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("people.csv"), folder.path().join("people.result.csv"));
    let checked = |output: &Path| ResultTarget::File(output.to_owned()).check(Some(&input), &environment());
    std::fs::write(&input, "externalId\na\n").unwrap();
    assert_eq!(checked(&output), Ok(()));
    std::fs::write(&output, "row,name\n1,mine\n").unwrap();
    assert!(checked(&output).unwrap_err().contains(": exists and is not the result of an import"));
    std::fs::write(&output, "\u{feff}\"mine\",\"result.line\",\"result.outcome\"\r\n").unwrap();
    assert_eq!(checked(&output), Ok(()));
    assert!(checked(&input).unwrap_err().contains(": is the file to import itself"));
    assert!(checked(folder.path()).unwrap_err().contains(": is not a regular file"));
    assert!(checked(&folder.path().join("nowhere/a.csv")).unwrap_err().contains(": cannot be written"));
    assert_eq!(names(&folder), ["people.csv", "people.result.csv"]);
    assert_eq!(ResultTarget::StandardOutput.check(Some(&input), &environment()), Ok(()));
}
