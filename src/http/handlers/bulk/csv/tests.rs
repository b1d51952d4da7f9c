use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::domain::operation::ItemRequest;
use crate::http::handlers::bulk::chunk_reader::tests::{crumbled, cut};
use crate::http::handlers::bulk::rows::tests::{kept, summary};

type Summary = (Result<(), ReadError>, Vec<(Option<String>, Vec<String>)>);

fn of(input: impl BufRead, most: u64) -> Summary {
    let (kept, mut rows) = kept(BulkItem::Candidates, most, None);
    let end = read(input, &mut rows, false);
    (end, summary(&kept))
}

fn fault(text: &[u8]) -> Error {
    match of(text, 3).0 {
        Err(ReadError::Fault(error)) => *error,
        end => panic!("{end:?}"),
    }
}

fn good(mark: &str) -> (Option<String>, Vec<String>) {
    (Some(mark.to_owned()), Vec::new())
}

fn broken() -> (Option<String>, Vec<String>) {
    (None, vec![" invalid_field".to_owned()])
}

fn details(text: &[u8]) -> Vec<String> {
    let (kept, mut rows) = kept(BulkItem::Candidates, 100, None);
    read(crumbled(text), &mut rows, false).unwrap();
    let kept = kept.borrow();
    kept.iter().filter_map(|row| Some(row.row.as_ref().err()?.errors[0].detail.clone())).collect()
}

#[test]
fn malformed_record_fails_alone() {
    let text = b"itemId,externalId,email\r\na,1,\r\nb,2\r\nc,\xff,\r\nd,4,,x\r\ne,5,nobody\r\nf,6,f@example.com";
    let wrong = (Some("e".to_owned()), vec!["/email invalid_field".to_owned()]);
    let expected = vec![good("a"), broken(), broken(), broken(), wrong, good("f")];
    assert_eq!(of(crumbled(text), 10), (Ok(()), expected));
}

#[test]
fn malformed_records_are_named_by_their_first_line() {
    for breaks in ["\n", "\r\n", "\r"] {
        let text = "itemId,group\n\n\na,\"x\ny\"\"\nz\"\nb\n\nc,1,2\n\"d\ne\",\"f".replace('\n', breaks);
        let details = details(text.as_bytes());
        assert!(details[0].contains("control characters"), "{details:?}");
        let expected = [
            "the record of line 7 has 1 cell, the header 2",
            "the record of line 9 has 3 cells, the header 2",
            "the record of line 10 has a quoted cell that does not end",
        ];
        assert_eq!(details[1..], expected, "{breaks:?}");
    }
}

#[test]
fn quoted_cells_may_hold_any_text() {
    let (kept, mut rows) = kept(BulkItem::Candidates, 10, None);
    let text = "\u{feff}\"externalId\",name.formatted,custom.Note\r\n\"a,b\",\"Jane \"\"J\"\" Doe\",ä\r\n";
    read(crumbled(text.as_bytes()).without_mark(), &mut rows, false).unwrap();
    let kept = kept.borrow();
    let [BulkRow { row: Ok(ItemRequest::Candidate(new)), .. }] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(new.person.external_id.as_deref(), Some("a,b"));
    assert_eq!(new.person.name.formatted.as_deref(), Some("Jane \"J\" Doe"));
    assert_eq!(new.person.custom["Note"], "ä");
}

#[test]
fn second_byte_order_mark_is_text() {
    let text = b"\xef\xbb\xbf\xef\xbb\xbfitemId,group\na,1\n";
    for places in [&[][..], &[4], &[1, 2, 3, 4, 5]] {
        let (_, mut rows) = kept(BulkItem::Candidates, 10, None);
        let Err(ReadError::Fault(error)) = read(cut(text, places).without_mark(), &mut rows, false) else {
            panic!("{places:?}")
        };
        assert_eq!(error.errors[0].pointer, "/\u{feff}itemId", "{places:?}");
    }
}

#[test]
fn split_utf8_characters_do_not_join_across_cells() {
    let text = b"itemId,group\n\xc3,\xa4\na,b\n";
    assert_eq!(of(&text[..], 10), (Ok(()), vec![broken(), good("a")]));
}

#[test]
fn header_and_number_of_rows_are_checked() {
    let at = |text: &str| fault(text.as_bytes()).errors[0].pointer.clone();
    assert_eq!(at(""), "");
    assert_eq!(at("\r\n\n"), "");
    assert_eq!(at("itemId,email\n"), "");
    assert_eq!(at("itemId,emial\na,b\n"), "/emial");
    assert_eq!(at("itemId,itemId\na,b\n"), "/itemId");
    assert_eq!(at("itemId\na\nb\nc\nd\n"), "");
    assert_eq!(at("\"itemId\na\n"), "");
    let wide = vec!["custom.x"; 1005].join(",");
    assert!(fault(wide.as_bytes()).errors[0].detail.contains("columns"));
    assert_eq!(of(&b"itemId\na\nb\n\nc\n\n"[..], 3).0, Ok(()));
}

#[test]
fn endless_record_uses_bounded_memory() {
    let mut text = b"itemId,group\na,\"".to_vec();
    text.resize(text.len() + 2 * MAX_RECORD_BYTES, b'x');
    text.extend_from_slice(b"\"\nb,1\n");
    text.extend_from_slice(&vec![b','; MAX_CELLS + 5]);
    text.extend_from_slice(b"\nc,1\n");
    let (kept, mut rows) = kept(BulkItem::Candidates, 10, None);
    read(cut(&text, &[100, 7000]), &mut rows, false).unwrap();
    assert_eq!(summary(&kept), [broken(), good("b"), broken(), good("c")]);
}

#[test]
fn row_of_maximum_length_is_read() {
    let photo = "A".repeat(1 << 20);
    let text = format!("itemId,photo\na,\"{photo}\"\n");
    assert_eq!(of(text.as_bytes(), 10), (Ok(()), vec![good("a")]));
}

/// Returns the line and the `externalId` of every row that was read.
fn ids(text: &str) -> Vec<(u64, String)> {
    let (kept, mut rows) = kept(BulkItem::Candidates, 100, None);
    read(crumbled(text.as_bytes()).without_mark(), &mut rows, false).unwrap();
    let kept = kept.borrow();
    let id = |row: &BulkRow| match &row.row {
        Ok(ItemRequest::Candidate(new)) => new.person.external_id.clone().unwrap().into(),
        other => panic!("{other:?}"),
    };
    kept.iter().map(|row| (row.line.unwrap(), id(row))).collect()
}

#[rstest]
#[case::trailing_columns("externalId,name.givenName,,,\nemp-4,Ana,,,\n", &[(2, "emp-4")])]
#[case::rows_of_empty_cells("externalId,group\n,\n1,a\n,\n , \n\u{a0},\t\n2,b\n,,,\n", &[(3, "1"), (7, "2")])]
#[case::unnamed_column_in_the_middle("externalId,,group, \n1,,a\n2, ,b,\n3,,c,,,,\n", &[(2, "1"), (3, "2"), (4, "3")])]
#[case::surplus_blank_cells("externalId,group\n1,a,,,\n2,b, \n", &[(2, "1"), (3, "2")])]
#[case::blank_rows_above("\n,,\n\nexternalId,group,\n1,a\n", &[(5, "1")])]
#[case::separator_line("sep=,\r\nexternalId,name.givenName\r\nemp-8,Ana\r\n", &[(3, "emp-8")])]
#[case::padded_separator_line("\u{feff}sep=,,,\n\nexternalId,group,,\nemp-8,a,,\n", &[(4, "emp-8")])]
#[case::quoted_separator_line("\"sep=,\"\nexternalId\nemp-8\n", &[(3, "emp-8")])]
#[case::one_column("externalId\n1\n\"\"\n \n2\n", &[(2, "1"), (5, "2")])]
fn empty_parts_of_a_sheet_are_nothing(#[case] text: &str, #[case] expected: &[(u64, &str)]) {
    let expected: Vec<(u64, String)> = expected.iter().map(|(line, id)| (*line, (*id).to_owned())).collect();
    assert_eq!(ids(text), expected);
    assert_eq!(ids(&text.replace("\r\n", "\n").replace('\n', "\r\n")), expected);
    assert_eq!(ids(&text.replace("\r\n", "\n").replace('\n', "\r")), expected);
}

#[rstest]
#[case::unnamed(
    "itemId,,group\na,,b\nc,x,d\n",
    "the record of line 3 has content in column 2, which has no name in the header"
)]
#[case::beyond("itemId,group\na,b,,\n\nc,d,,x\n", "the record of line 4 has 4 cells, the header 2")]
#[case::trailing(
    "itemId,group,,\nc,d,,x\n",
    "the record of line 2 has content in column 4, which has no name in the header"
)]
#[case::short("itemId,group\r\na,b\r\nc\r\n", "the record of line 3 has 1 cell, the header 2")]
fn stray_content_is_named_by_line_and_column(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(details(text.as_bytes()), [expected]);
}

#[test]
fn other_encodings_and_separators_are_named_with_the_cure() {
    let cure = "save it as CSV UTF-8 with commas, or send it with `examgate import`";
    let windows = b"externalId,name.givenName\r\nx1,Ana\r\nx2,Ren\xe9e\r\n";
    assert_eq!(details(windows), [format!("the record of line 3 is not UTF-8; {cure}")]);
    for (text, expected) in [
        (
            &b"externalId;name.givenName\r\n1;J\xfcrgen\r\n"[..],
            "the header names no known column; its semicolons should be commas: ",
        ),
        (b"externalId\tname.givenName\n1\tA\n", "the header names no known column; its tabs should be commas: "),
        (b"externalId|email\n1|a\n", "the header names no known column; its vertical bars should be commas: "),
        (b"sep=;\nexternalId;email\n1;a\n", "line 1 says that semicolons separate the cells; "),
        (b"\nsep=\t\nexternalId\temail\n", "line 2 says that tabs separate the cells; "),
        (b"itemId,Stra\xdfe\na,b\n", "the header is not UTF-8; "),
        (b"\xff\xfee\0m\0a\0i\0l\0\n\0", "the header is not UTF-8, but UTF-16; "),
        (b"\xfe\xff\0e\0m\0a\0i\0l\0\n", "the header is not UTF-8, but UTF-16; "),
        (b"e\0m\0a\0i\0l\0\n\0", "the header is not UTF-8, but seems to be UTF-16; "),
    ] {
        assert_eq!(fault(text).errors[0].detail, format!("{expected}{cure}"));
    }
}

#[test]
fn sheet_of_maximum_width_is_read() {
    let padding = ",".repeat(MAX_CELLS - 2);
    assert_eq!(ids(&format!("externalId,group{padding}\n1,a{padding}\n")), [(2, "1".to_owned())]);
}

proptest! {
    #[test]
    fn chunking_does_not_change_the_result(
        text in "itemId,group(\r\n|\n)([a,\"\r\nä]|\"\"|\r\n|a,b\n){0,40}",
        places in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = of(text.as_bytes(), 100);
        prop_assert_eq!(of(cut(text.as_bytes(), &places), 100), whole);
    }

    #[test]
    fn every_csv_body_round_trips(
        cells in prop::collection::vec(("[a-z]{1,4}", "[a-zäß,\";]{1,6}"), 1..6),
        breaks in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let lines = cells.iter().map(|(mark, text)| format!("{mark},{}{breaks}", quoted(text)));
        let text = format!("itemId,name.formatted{breaks}{}", lines.collect::<String>());
        let (kept, mut rows) = kept(BulkItem::Candidates, 100, None);
        read(text.as_bytes(), &mut rows, false).unwrap();
        let names: Vec<(String, String)> = kept.borrow().iter().map(|row| {
            let Ok(ItemRequest::Candidate(new)) = &row.row else { panic!("{row:?}") };
            (row.item_id.clone().unwrap(), new.person.name.formatted.clone().unwrap())
        }).collect();
        prop_assert_eq!(names, cells);
    }
}
