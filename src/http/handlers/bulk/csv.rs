//! Rows as CSV (`text/csv`, RFC 4180): the first record names the columns; a record that cannot be parsed fails alone.
//! Empty lines are not records.

use std::io::BufRead;

use csv_core::{ReadRecordResult, Reader};

use crate::domain::error::{Error, FieldError};
use crate::http::extract::validate::fault_of;
use crate::http::handlers::bulk::csv_columns::CsvColumns;
use crate::http::handlers::bulk::rows::{MAX_LENGTH, ReadError, RowSink};
use crate::service::BulkRow;

/// Maximum number of columns; the widest legitimate body has about a hundred.
const MAX_COLUMNS: usize = 1000;

/// Parses the header and every record.
///
/// # Errors
/// `validation_failed` for a header that is missing or has invalid columns, for too many rows, or none.
pub(super) fn read<S: FnMut(Vec<BulkRow>) -> bool>(
    input: impl BufRead,
    rows: &mut RowSink<S>,
) -> Result<(), ReadError> {
    let mut records = Records::new(input);
    let header = match records.next() {
        None => return Err(of_bulk("must have a header that names the columns").into()),
        Some(Err(broken)) => return Err(of_bulk(&broken.in_header()).into()),
        Some(Ok(header)) => header.into_iter().map(str::to_owned).collect::<Vec<_>>(),
    };
    let columns = CsvColumns::of(rows.kind(), &header).map_err(fault_of)?;
    records.expect(columns.len());
    while let Some(record) = records.next() {
        let row = match record {
            Ok(cells) => Ok(columns.row(cells.into_iter())),
            Err(broken) => Err(of_bulk(&broken.in_row(columns.len()))),
        };
        let bytes = records.length;
        if !rows.take(row, bytes)? {
            return Err(fault_of(vec![rows.count_error("")]).into());
        }
    }
    if rows.taken() == 0 {
        return Err(fault_of(vec![rows.count_error("")]).into());
    }
    rows.flush()
}

fn of_bulk(detail: &str) -> Error {
    Error::from_fields(vec![FieldError::invalid("", detail)])
}

/// A record that cannot be parsed, and the line it begins on.
#[derive(Debug, PartialEq)]
struct BadRecord {
    line: u64,
    how: BadRecordKind,
}

#[derive(Debug, PartialEq)]
enum BadRecordKind {
    TooLong,
    NotText,
    Unfinished,
    Cells(usize),
}

impl BadRecord {
    fn in_header(&self) -> String {
        match self.how {
            BadRecordKind::TooLong => {
                format!("the header is longer than {MAX_LENGTH} bytes or has more than {MAX_COLUMNS} columns")
            }
            BadRecordKind::NotText => "the header is not UTF-8".to_owned(),
            BadRecordKind::Unfinished | BadRecordKind::Cells(_) => {
                "the header has a quoted name that does not end".to_owned()
            }
        }
    }

    fn in_row(&self, columns: usize) -> String {
        let line = self.line;
        match self.how {
            BadRecordKind::TooLong => format!("the record of line {line} is longer than {MAX_LENGTH} bytes"),
            BadRecordKind::NotText => format!("the record of line {line} is not UTF-8"),
            BadRecordKind::Unfinished => format!("the record of line {line} has a quoted cell that does not end"),
            BadRecordKind::Cells(found) => {
                format!("the record of line {line} has {found} cells, the header {columns}")
            }
        }
    }
}

/// The records of a CSV body; holds only the current one.
struct Records<R> {
    input: R,
    core: Reader,
    /// The cells of the record, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// The number of cells per record; unknown for the header.
    cells: Option<usize>,
    /// Number of bytes of the current record.
    length: usize,
    line: Lines,
}

/// Counts lines, whatever their line endings.
struct Lines {
    number: u64,
    after_return: bool,
}

impl Lines {
    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.number += u64::from(*byte == b'\r' || (*byte == b'\n' && !self.after_return));
            self.after_return = *byte == b'\r';
        }
    }
}

impl<R: BufRead> Records<R> {
    fn new(input: R) -> Self {
        let mut core = Reader::new();
        // The input has one byte order mark removed already. The reader would remove another if it came in one chunk
        // with the first record; it stops looking once it has read something.
        let _nothing = core.read_record(b"\n", &mut [0], &mut [0]);
        Self {
            input,
            core,
            text: vec![0; 4096],
            ends: vec![0; MAX_COLUMNS + 1],
            cells: None,
            length: 0,
            line: Lines { number: 1, after_return: false },
        }
    }

    /// Sets the number of cells of the following records.
    fn expect(&mut self, cells: usize) {
        self.cells = Some(cells);
    }

    fn next(&mut self) -> Option<Result<Vec<&str>, BadRecord>> {
        self.pass_empty_lines();
        let line = self.line.number;
        let broken = |how| Some(Err(BadRecord { line, how }));
        // Bytes written, cells recorded, and cells found.
        let (mut written, mut noted, mut cells) = (0, 0, 0);
        self.length = 0;
        loop {
            // The reader never fails; an error would only mean its end.
            let input = self.input.fill_buf().unwrap_or_default();
            let at_end = input.is_empty();
            if at_end && self.length == 0 {
                return None;
            }
            // The body need not end with a line break. Within a quoted cell another one would be part of the cell.
            let input = if at_end { b"\n" } else { input };
            let (result, read, wrote, ends) =
                self.core.read_record(input, &mut self.text[written..], &mut self.ends[noted..]);
            if !at_end {
                self.line.pass(&input[..read]);
                self.length += read;
                self.input.consume(read);
            }
            (written, noted, cells) = (written + wrote, noted + ends, cells + ends);
            match result {
                ReadRecordResult::InputEmpty if at_end => return broken(BadRecordKind::Unfinished),
                ReadRecordResult::InputEmpty => {}
                // Read an oversized record to its end without keeping it.
                ReadRecordResult::OutputFull if self.text.len() >= MAX_LENGTH => written = 0,
                ReadRecordResult::OutputFull => self.text.resize((self.text.len() * 2).min(MAX_LENGTH), 0),
                ReadRecordResult::OutputEndsFull => noted = 0,
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return None,
            }
        }
        let expected = self.cells.unwrap_or(cells);
        if self.length > MAX_LENGTH || expected > MAX_COLUMNS {
            return broken(BadRecordKind::TooLong);
        }
        if cells != expected {
            return broken(BadRecordKind::Cells(cells));
        }
        let from = [0].into_iter().chain(self.ends.iter().copied());
        let read = from.zip(&self.ends[..cells]).map(|(from, to)| std::str::from_utf8(&self.text[from..*to]));
        match read.collect() {
            Ok(texts) => Some(Ok(texts)),
            Err(_) => broken(BadRecordKind::NotText),
        }
    }

    fn pass_empty_lines(&mut self) {
        loop {
            let input = self.input.fill_buf().unwrap_or_default();
            let breaks = input.iter().take_while(|byte| [b'\r', b'\n'].contains(byte)).count();
            if breaks == 0 {
                return;
            }
            self.line.pass(&input[..breaks]);
            self.input.consume(breaks);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::operation::ItemRequest;
    use crate::http::handlers::bulk::chunk_reader::tests::{crumbled, cut};
    use crate::http::handlers::bulk::rows::BulkItem;
    use crate::http::handlers::bulk::rows::tests::{kept, summary};

    type Summary = (Result<(), ReadError>, Vec<(Option<String>, Vec<String>)>);

    fn of(input: impl BufRead, most: u64) -> Summary {
        let (kept, mut rows) = kept(BulkItem::Candidates, most, None);
        let end = read(input, &mut rows);
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
        read(crumbled(text), &mut rows).unwrap();
        let kept = kept.borrow();
        kept.iter().filter_map(|row| Some(row.row.as_ref().err()?.errors[0].detail.clone())).collect()
    }

    #[test]
    fn malformed_record_fails_alone() {
        let text = b"itemId,externalId,email\r\na,1,\r\nb,2\r\nc,\xff,\r\nd,4,,\r\ne,5,nobody\r\nf,6,f@example.com";
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
                "the record of line 7 has 1 cells, the header 2",
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
        read(crumbled(text.as_bytes()).without_mark(), &mut rows).unwrap();
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
            let Err(ReadError::Fault(error)) = read(cut(text, places).without_mark(), &mut rows) else {
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
        assert_eq!(fault(b"itemId,\xff\na,b\n").errors[0].detail, "the header is not UTF-8");
        let wide = vec!["custom.x"; MAX_COLUMNS + 5].join(",");
        assert!(fault(wide.as_bytes()).errors[0].detail.contains("columns"));
        assert_eq!(of(&b"itemId\na\nb\n\nc\n\n"[..], 3).0, Ok(()));
    }

    #[test]
    fn endless_record_uses_bounded_memory() {
        let mut text = b"itemId,group\na,\"".to_vec();
        text.resize(text.len() + 2 * MAX_LENGTH, b'x');
        text.extend_from_slice(b"\"\nb,1\n");
        text.extend_from_slice(&vec![b','; 5 * MAX_COLUMNS]);
        text.extend_from_slice(b"\nc,1\n");
        let (kept, mut rows) = kept(BulkItem::Candidates, 10, None);
        let mut records = Records::new(cut(&text, &[100, 7000]));
        while records.next().is_some() {}
        assert!(records.text.len() <= MAX_LENGTH);
        read(cut(&text, &[100, 7000]), &mut rows).unwrap();
        assert_eq!(summary(&kept), [broken(), good("b"), broken(), good("c")]);
    }

    #[test]
    fn row_of_maximum_length_is_read() {
        let photo = "A".repeat(1 << 20);
        let text = format!("itemId,photo\na,\"{photo}\"\n");
        assert_eq!(of(text.as_bytes(), 10), (Ok(()), vec![good("a")]));
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
            read(text.as_bytes(), &mut rows).unwrap();
            let names: Vec<(String, String)> = kept.borrow().iter().map(|row| {
                let Ok(ItemRequest::Candidate(new)) = &row.row else { panic!("{row:?}") };
                (row.item_id.clone().unwrap(), new.person.name.formatted.clone().unwrap())
            }).collect();
            prop_assert_eq!(names, cells);
        }
    }
}
