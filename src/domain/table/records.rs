//! Splits text with separators (CSV, RFC 4180) into records, chunk by chunk: only the current record is held in memory.
//! Empty lines are not records.

use std::fmt;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::domain::table::lines::LineCounter;

/// Maximum length of a record, in bytes of the text: one with a picture of the maximum size has about half of it.
pub const MAX_RECORD_BYTES: usize = 2 << 20;
/// Maximum number of cells in a record: the columns of a spreadsheet.
pub const MAX_CELLS: usize = 16_384;

/// Bounds of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Maximum length, in bytes of the text.
    pub bytes: usize,
    /// Maximum number of cells.
    pub cells: usize,
}

impl RecordLimits {
    /// Those of the gateway.
    pub const GATEWAY: Self = Self { bytes: MAX_RECORD_BYTES, cells: MAX_CELLS };
}

/// A splitter of text into records.
pub struct RecordSplitter {
    core: Reader,
    limits: RecordLimits,
    /// The cells of the record, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// Bytes written to `text`, ends written to `ends`, and cells found.
    written: usize,
    noted: usize,
    cells: usize,
    /// Number of bytes of the current record.
    length: usize,
    /// The line on which it begins.
    line: u64,
    /// Whether its end has not been found yet.
    open: bool,
    lines: LineCounter,
}

/// A record that cannot be parsed, and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The line on which the record begins, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub kind: BadRecordKind,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRecordKind {
    /// It has too many bytes or cells.
    TooLong,
    /// It is not UTF-8.
    NotText,
    /// A quoted cell does not end.
    Unfinished,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        match self.kind {
            BadRecordKind::TooLong => {
                write!(f, "the record of line {line} is longer than {MAX_RECORD_BYTES} bytes or {MAX_CELLS} cells")
            }
            BadRecordKind::NotText => write!(f, "the record of line {line} is not UTF-8"),
            BadRecordKind::Unfinished => write!(f, "the record of line {line} has a quoted cell that does not end"),
        }
    }
}

impl RecordSplitter {
    /// Creates a splitter for cells with this separator between them.
    #[must_use]
    pub fn new(separator: u8, limits: RecordLimits) -> Self {
        let mut core = ReaderBuilder::new().delimiter(separator).build();
        // The caller has removed a byte order mark. The reader would remove another if it came in one chunk with the
        // first record; it stops looking once it has read something.
        let _nothing = core.read_record(b"\n", &mut [0], &mut [0]);
        Self {
            core,
            limits,
            text: vec![0; 4096],
            ends: vec![0; 64],
            written: 0,
            noted: 0,
            cells: 0,
            length: 0,
            line: 1,
            open: false,
            lines: LineCounter::default(),
        }
    }

    /// Reads some bytes, up to the end of a record at most. Returns how many it read, and whether a record is complete.
    pub fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut from = 0;
        if !self.open {
            from = input.iter().take_while(|byte| [b'\r', b'\n'].contains(byte)).count();
            self.lines.pass(&input[..from]);
            if from == input.len() {
                return (from, false);
            }
            (self.written, self.noted, self.cells, self.length) = (0, 0, 0, 0);
            (self.line, self.open) = (self.lines.number(), true);
        }
        let read = self.read(&input[from..]);
        self.lines.pass(&input[from..from + read]);
        self.length += read;
        (from + read, !self.open)
    }

    /// Ends the text, which need not end with a line break. Returns whether that completes a record.
    ///
    /// # Errors
    /// A record with a quoted cell that does not end.
    pub fn finish(&mut self) -> Result<bool, BadRecord> {
        if !self.open {
            return Ok(false);
        }
        // Within a quoted cell another line break would be part of the cell.
        self.read(b"\n");
        if std::mem::take(&mut self.open) { Err(self.bad(BadRecordKind::Unfinished)) } else { Ok(true) }
    }

    /// Returns the number of bytes of the record that was completed last.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Returns the line on which the record that was completed last begins.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// Returns the cells of the record that was completed last.
    ///
    /// # Errors
    /// A record that is too long or not UTF-8.
    pub fn record(&self) -> Result<Vec<&str>, BadRecord> {
        if self.length > self.limits.bytes || self.cells > self.limits.cells {
            return Err(self.bad(BadRecordKind::TooLong));
        }
        let from = [0].into_iter().chain(self.ends.iter().copied());
        let cells = from.zip(&self.ends[..self.cells]).map(|(from, to)| std::str::from_utf8(&self.text[from..*to]));
        cells.collect::<Result<_, _>>().map_err(|_| self.bad(BadRecordKind::NotText))
    }

    /// Returns the first bytes of the record that was completed last.
    #[must_use]
    pub fn first_bytes(&self) -> &[u8] {
        &self.text[..self.written.min(64)]
    }

    const fn bad(&self, kind: BadRecordKind) -> BadRecord {
        BadRecord { line: self.line, kind }
    }

    /// Reads bytes of the current record; closes it at its end. Returns how many it read.
    fn read(&mut self, input: &[u8]) -> usize {
        let mut from = 0;
        loop {
            let (result, read, wrote, ends) =
                self.core.read_record(&input[from..], &mut self.text[self.written..], &mut self.ends[self.noted..]);
            from += read;
            self.written += wrote;
            self.noted += ends;
            self.cells += ends;
            match result {
                // Nothing more to read now; more may follow.
                ReadRecordResult::InputEmpty => return from,
                // Read an oversized record to its end without keeping it.
                ReadRecordResult::OutputFull if self.text.len() >= self.limits.bytes => self.written = 0,
                ReadRecordResult::OutputFull => self.text.resize((self.text.len() * 2).min(self.limits.bytes), 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() > self.limits.cells => self.noted = 0,
                ReadRecordResult::OutputEndsFull => {
                    self.ends.resize((self.ends.len() * 2).min(self.limits.cells + 1), 0);
                }
                ReadRecordResult::Record | ReadRecordResult::End => {
                    self.open = false;
                    return from;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Records = Vec<(u64, Result<Vec<String>, BadRecordKind>)>;

    fn owned(splitter: &RecordSplitter) -> (u64, Result<Vec<String>, BadRecordKind>) {
        let cells = splitter.record().map(|cells| cells.into_iter().map(str::to_owned).collect());
        (splitter.line(), cells.map_err(|bad| bad.kind))
    }

    fn split(separator: u8, chunks: &[&[u8]]) -> Records {
        let mut splitter = RecordSplitter::new(separator, RecordLimits::GATEWAY);
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (read, complete) = splitter.feed(rest);
                rest = &rest[read..];
                if complete {
                    found.push(owned(&splitter));
                }
            }
        }
        match splitter.finish() {
            Ok(true) => found.push(owned(&splitter)),
            Ok(false) => {}
            Err(bad) => found.push((bad.line, Err(bad.kind))),
        }
        found
    }

    fn record(line: u64, cells: &[&str]) -> (u64, Result<Vec<String>, BadRecordKind>) {
        (line, Ok(cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    #[test]
    fn records_begin_on_their_lines() {
        for breaks in ["\n", "\r\n", "\r"] {
            let text = "\na;b\n\n\"c\nd\";\"e\"\"\nf\"\n\ng".replace('\n', breaks);
            let inner = [format!("c{breaks}d"), format!("e\"{breaks}f")];
            let expected = vec![record(2, &["a", "b"]), (4, Ok(inner.to_vec())), record(8, &["g"])];
            assert_eq!(split(b';', &[text.as_bytes()]), expected, "{breaks:?}");
        }
    }

    #[test]
    fn separator_is_configurable() {
        for separator in [b',', b';', b'\t', b'|'] {
            let text = [&b"a"[..], &[separator], b"b\n"].concat();
            assert_eq!(split(separator, &[&text]), [record(1, &["a", "b"])]);
        }
    }

    #[test]
    fn bad_record_is_no_obstacle_to_the_next() {
        let wide = vec![b','; MAX_CELLS + 10];
        let chunks: [&[u8]; 5] = [b"a\n\xff,b\n", &wide, b"\nc\n", b"\"d\n", b"e"];
        let expected = [
            record(1, &["a"]),
            (2, Err(BadRecordKind::NotText)),
            (3, Err(BadRecordKind::TooLong)),
            record(4, &["c"]),
            (5, Err(BadRecordKind::Unfinished)),
        ];
        assert_eq!(split(b',', &chunks), expected);
    }

    #[test]
    fn widest_record_is_read() {
        let wide = vec![b','; MAX_CELLS - 1];
        assert_eq!(split(b',', &[&wide])[0].1.as_ref().unwrap().len(), MAX_CELLS);
    }

    #[test]
    fn long_record_uses_bounded_memory() {
        let mut splitter = RecordSplitter::new(b',', RecordLimits::GATEWAY);
        for chunk in [&b"\""[..], &vec![b'x'; 2 * MAX_RECORD_BYTES], &vec![b'x'; MAX_RECORD_BYTES], b"\"\n"] {
            splitter.feed(chunk);
        }
        assert_eq!(splitter.record().unwrap_err().kind, BadRecordKind::TooLong);
        assert!(splitter.text.len() <= MAX_RECORD_BYTES);
    }

    proptest! {
        #[test]
        fn chunking_does_not_change_the_records(
            text in "([a,\"\r\nä]|\"\"|\r\n|a,b\n){0,40}",
            places in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
            places.sort_unstable();
            places.push(bytes.len());
            let mut from = 0;
            let chunks: Vec<&[u8]> =
                places.iter().map(|to| &bytes[std::mem::replace(&mut from, *to)..*to]).collect();
            prop_assert_eq!(split(b',', &chunks), split(b',', &[bytes]));
        }
    }
}
