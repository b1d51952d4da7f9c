use rstest::rstest;
use serde_json::json;

use super::*;

fn options(kind: BulkItem) -> PreviewOptions {
    PreviewOptions { kind, connection: None, allow_damaged_ids: false }
}

fn preview(text: &[u8], options: PreviewOptions) -> (Result<PreviewSummary, Error>, Vec<PreviewRow>) {
    let mut rows = Vec::new();
    let summary = preview_table(text, options, |row| rows.push(row));
    (summary, rows)
}

/// Returns pointer and code of every error of the row.
fn errors(row: &PreviewRow) -> Vec<(&str, &str)> {
    let errors = row.result.as_ref().err().map(|error| error.errors.as_slice()).unwrap_or_default();
    errors.iter().map(|error| (error.pointer.as_str(), &*error.code)).collect()
}

#[test]
fn rows_are_shown_as_the_gateway_reads_them() {
    let text = "\u{feff}itemId,externalId,name.givenName,active,password,\r\na,1,\"A\nna\",yes,Pw-12345,\r\n,,,,,\r\nb,=2,Ben,maybe,,\r\n\r\nc,3\r\n";
    let (summary, rows) = preview(text.as_bytes(), options(BulkItem::Candidates));
    assert_eq!(summary, Ok(PreviewSummary { rows: 3, connection: None, ignored_columns: vec![] }));
    let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [2, 5, 7]);
    assert_eq!(rows[0].item_id.as_deref(), Some("a"));
    assert_eq!(errors(&rows[0]), [("/name/givenName", "invalid_field")]);
    assert_eq!(errors(&rows[1]), [("/externalId", "damaged_id"), ("/active", "invalid_field")]);
    assert_eq!(errors(&rows[2]), [("", "invalid_field")]);
    let text = "externalId,,active,password\n1,,no,Pw-12345\n";
    let (summary, rows) = preview(text.as_bytes(), options(BulkItem::Candidates));
    assert_eq!(summary.unwrap().ignored_columns, [2]);
    assert_eq!(rows[0].result, Ok(json!({ "externalId": "1", "active": false, "password": "***" })));
}

#[test]
fn damaged_ids_are_shown_as_they_are_if_allowed() {
    let allowed = PreviewOptions { allow_damaged_ids: true, ..options(BulkItem::Candidates) };
    let (_, rows) = preview(b"externalId\n1.23457E+11\n", allowed);
    assert_eq!(rows[0].result, Ok(json!({ "externalId": "1.23457E+11" })));
}

#[rstest]
#[case::no_rows(b"externalId\n", "")]
#[case::nothing(b"", "")]
#[case::unknown_column(b"firstname\nAna\n", "/firstname")]
#[case::semicolons(b"externalId;email\n1;\n", "")]
#[case::some_rows_name_a_connection(b"externalId,connection\n1,a\n2,\n", "?connection")]
fn table_that_would_be_refused_is_refused(#[case] text: &[u8], #[case] pointer: &str) {
    let error = preview(text, options(BulkItem::Candidates)).0.unwrap_err();
    assert_eq!(error.errors[0].pointer, pointer, "{error:?}");
}

#[test]
fn rows_are_limited_as_in_a_request() {
    let rows = usize::try_from(MAX_ROWS).unwrap();
    let text = |rows: usize| format!("externalId\n{}", "1\n".repeat(rows));
    assert_eq!(preview(text(rows).as_bytes(), options(BulkItem::Candidates)).0.unwrap().rows, MAX_ROWS);
    assert!(preview(text(rows + 1).as_bytes(), options(BulkItem::Candidates)).0.is_err());
}

#[test]
fn failed_read_is_not_the_end_of_the_table() {
    struct Failing(&'static [u8]);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("gone")) } else { self.0.read(buffer) }
        }
    }
    for text in [&b"externalId\n1\n2"[..], b"e", b""] {
        let failing = io::BufReader::with_capacity(4, Failing(text));
        let error = preview_table(failing, options(BulkItem::Candidates), |_| ()).unwrap_err();
        assert_eq!(error.detail, "The table cannot be read: gone", "{text:?}");
    }
}
