//! Rows as CSV (`text/csv`, RFC 4180): the first record names the columns; a record that cannot be parsed fails alone.
//! Empty lines, and records of blank cells, are not records. Every message names the line as an editor shows it.

use std::io::BufRead;

use crate::domain::error::{Error, FieldError};
use crate::domain::table::records::{
    BadRecord, BadRecordKind, MAX_CELLS, MAX_RECORD_BYTES, RecordLimits, RecordSplitter,
};
use crate::domain::table::{BulkItem, declared_separator, is_blank_record};
use crate::http::extract::validate::fault_of;
use crate::http::handlers::bulk::csv_columns::{CsvColumns, separator_name};
use crate::http::handlers::bulk::rows::{RawRow, ReadError, RowSink};
use crate::service::BulkRow;

/// What to do to a table that is not written as the gateway reads it.
const CURE: &str = "save it as CSV UTF-8 with commas, or send it with `examgate import`";

/// Parses the header and every record.
///
/// # Errors
/// `validation_failed` for a header that is missing or has invalid columns, for too many rows, or none.
pub(super) fn read<S: FnMut(Vec<BulkRow>) -> bool>(
    input: impl BufRead,
    rows: &mut RowSink<S>,
    allow_damaged_ids: bool,
) -> Result<(), ReadError> {
    let kind = rows.kind();
    read_table(input, kind, allow_damaged_ids, |row| {
        if rows.take(row)? { Ok(()) } else { Err(fault_of(vec![rows.count_error("")]).into()) }
    })?;
    if rows.taken() == 0 {
        return Err(fault_of(vec![rows.count_error("")]).into());
    }
    rows.flush()
}

/// Parses the header and every record, and passes each row on. Returns the columns.
///
/// # Errors
/// `validation_failed` for a header that is missing or has invalid columns, and every error of `take`.
pub(super) fn read_table(
    input: impl BufRead,
    kind: BulkItem,
    allow_damaged_ids: bool,
    mut take: impl FnMut(RawRow) -> Result<(), ReadError>,
) -> Result<CsvColumns, ReadError> {
    let mut records = Records { input, splitter: RecordSplitter::new(b',', RecordLimits::GATEWAY) };
    let columns = read_header(&mut records, kind)?;
    while let Some(found) = records.advance() {
        let (line, bytes) = (records.splitter.line(), records.splitter.length());
        let row = match found.and_then(|()| records.splitter.record()) {
            Ok(cells) if is_blank_record(cells.iter().copied()) => continue,
            Ok(cells) => columns.row(line, &cells, allow_damaged_ids).map_err(|detail| of_bulk(&detail)),
            Err(bad) => Err(of_bulk(&in_row(&bad))),
        };
        let (tree, errors) = row.map_or_else(|error| (Err(error), Vec::new()), |(tree, errors)| (Ok(tree), errors));
        take(RawRow { line: Some(line), bytes, tree, errors })?;
    }
    Ok(columns)
}

/// Reads the record that names the columns: the first that is neither blank nor declares the separator.
fn read_header<R: BufRead>(records: &mut Records<R>, kind: BulkItem) -> Result<CsvColumns, Error> {
    while let Some(found) = records.advance() {
        let cells = match found.and_then(|()| records.splitter.record()) {
            Ok(cells) => cells,
            Err(bad) => return Err(of_bulk(&in_header(&bad, records.splitter.first_bytes()))),
        };
        match declared_separator(&cells) {
            Some(',') => continue,
            Some(other) => {
                let (line, name) = (records.splitter.line(), separator_name(other));
                let detail = format!("line {line} says that {name} separate the cells; {CURE}");
                return Err(of_bulk(&detail));
            }
            None if is_blank_record(cells.iter().copied()) => continue,
            None => {}
        }
        if cells.iter().any(|name| name.contains('\0')) {
            return Err(of_bulk(&format!("the header is not UTF-8, but seems to be UTF-16; {CURE}")));
        }
        return CsvColumns::of(kind, &cells).map_err(fault_of);
    }
    Err(of_bulk("must have a header that names the columns"))
}

fn of_bulk(detail: &str) -> Error {
    Error::from_fields(vec![FieldError::invalid("", detail)])
}

/// Says what is wrong with the header.
fn in_header(bad: &BadRecord, first: &[u8]) -> String {
    match bad.kind {
        BadRecordKind::TooLong => {
            format!("the header is longer than {MAX_RECORD_BYTES} bytes or has more than {MAX_CELLS} columns")
        }
        BadRecordKind::NotText if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") => {
            format!("the header is not UTF-8, but UTF-16; {CURE}")
        }
        BadRecordKind::NotText => format!("the header is not UTF-8; {CURE}"),
        BadRecordKind::Unfinished => "the header has a quoted name that does not end".to_owned(),
    }
}

/// Says what is wrong with a record below the header.
fn in_row(bad: &BadRecord) -> String {
    match bad.kind {
        BadRecordKind::NotText => format!("{bad}; {CURE}"),
        BadRecordKind::TooLong | BadRecordKind::Unfinished => bad.to_string(),
    }
}

/// The records of a CSV body.
struct Records<R> {
    input: R,
    splitter: RecordSplitter,
}

impl<R: BufRead> Records<R> {
    /// Reads to the end of the next record; returns none if there is no more.
    fn advance(&mut self) -> Option<Result<(), BadRecord>> {
        loop {
            // The reader never fails; an error would only mean its end.
            let input = self.input.fill_buf().unwrap_or_default();
            if input.is_empty() {
                return match self.splitter.finish() {
                    Ok(true) => Some(Ok(())),
                    Ok(false) => None,
                    Err(bad) => Some(Err(bad)),
                };
            }
            let (read, complete) = self.splitter.feed(input);
            self.input.consume(read);
            if complete {
                return Some(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
