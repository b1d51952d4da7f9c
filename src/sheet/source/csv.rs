//! Records of separated text, each with the line it begins on, and the guess which character separates.

use std::io::{self, BufRead, BufReader, Read};

use crate::domain::table::records::{BadRecord, BadRecordKind, RecordLimits, RecordSplitter};

/// Maximum number of columns, as the gateway's.
pub(super) const MAX_COLUMNS: usize = 1000;
/// Maximum length of a record; the gateway takes 2 MiB of what is sent of it.
const MAX_RECORD: usize = 16 << 20;
/// Separators in the order in which they win a tie.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How many records decide which of them separates.
const SAMPLE_RECORDS: usize = 50;

/// The records of a text; holds only the current one.
pub(super) struct Records<R> {
    input: BufReader<R>,
    splitter: RecordSplitter,
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R, separator: u8) -> Self {
        let limits = RecordLimits { bytes: MAX_RECORD, cells: MAX_COLUMNS };
        Self { input: BufReader::with_capacity(64 << 10, input), splitter: RecordSplitter::new(separator, limits) }
    }

    /// Reads the next record into `cells` and returns the line it begins on; `None` at the end. Empty lines are not
    /// records.
    ///
    /// # Errors
    /// I/O errors, and a sentence (`InvalidData`) about a record that cannot be read.
    pub(super) fn read(&mut self, cells: &mut Vec<String>) -> io::Result<Option<u64>> {
        loop {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                if !self.splitter.finish().map_err(|bad| self.broken(&bad))? {
                    return Ok(None);
                }
                break;
            }
            let (read, is_complete) = self.splitter.feed(input);
            self.input.consume(read);
            if is_complete {
                break;
            }
        }
        let record = self.splitter.record().map_err(|bad| self.broken(&bad))?;
        cells.resize_with(record.len(), String::new);
        for (cell, text) in cells.iter_mut().zip(record) {
            cell.clear();
            cell.push_str(text);
        }
        Ok(Some(self.splitter.line()))
    }

    fn broken(&self, bad: &BadRecord) -> io::Error {
        let what = match bad.kind {
            BadRecordKind::Unfinished => {
                "has a quotation mark (\") that is never closed; close it, or double it if it is text".to_owned()
            }
            BadRecordKind::TooLong if self.splitter.length() > MAX_RECORD => {
                "begins a row of more than 16 MiB; is a quotation mark missing?".to_owned()
            }
            BadRecordKind::TooLong => format!("has more than {MAX_COLUMNS} cells"),
            BadRecordKind::NotText => "is not text".to_owned(),
        };
        io::Error::new(io::ErrorKind::InvalidData, format!("line {} {what}", bad.line))
    }
}

/// Returns the separator that a first line `sep=;` names, as Excel writes and reads it.
pub(super) fn read_separator_line(text: &str) -> Option<u8> {
    let line = text.lines().next()?.trim_matches('"');
    let (name, rest) = line.split_at_checked(4)?;
    let separator = rest.chars().next().filter(char::is_ascii)?;
    // A program that saved the line as a row may have padded it with separators.
    let is_alone = rest.chars().all(|sign| sign == separator || sign == '"');
    (name.eq_ignore_ascii_case("sep=") && is_alone).then(|| u8::try_from(separator).ok()).flatten()
}

/// Guesses the separator: the one with which the header has the most known names, else the one that gives most rows as
/// many cells as the header.
pub(super) fn guess_separator(sample: &str, count_known: &dyn Fn(&[String]) -> usize) -> u8 {
    let mut best = (SEPARATORS[0], (0, 0, 0));
    for separator in SEPARATORS {
        let score = score(sample, separator, count_known);
        if score > best.1 {
            best = (separator, score);
        }
    }
    best.0
}

fn score(sample: &str, separator: u8, count_known: &dyn Fn(&[String]) -> usize) -> (usize, usize, usize) {
    let mut records = Records::new(sample.as_bytes(), separator);
    let (mut known, mut columns) = (0, 0);
    let mut lengths = Vec::new();
    let mut cells = Vec::new();
    // The sample may end within a record: an error is its end.
    while lengths.len() < SAMPLE_RECORDS && records.read(&mut cells).is_ok_and(|line| line.is_some()) {
        let names = count_known(&cells);
        if lengths.is_empty() || names > known {
            (known, columns) = (names, cells.len());
        }
        lengths.push(cells.len());
    }
    let alike = lengths.iter().filter(|length| columns > 1 && **length == columns).count();
    (known, alike * 100 / lengths.len().max(1), columns)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn records(text: &str, separator: u8) -> Vec<(u64, Vec<String>)> {
        let mut records = Records::new(text.as_bytes(), separator);
        let (mut all, mut cells) = (Vec::new(), Vec::new());
        while let Some(line) = records.read(&mut cells).unwrap() {
            all.push((line, cells.clone()));
        }
        all
    }

    #[rstest]
    #[case::unix("\n")]
    #[case::windows("\r\n")]
    #[case::old_mac("\r")]
    fn records_have_the_lines_an_editor_shows(#[case] line_break: &str) {
        let text = "a,b\n\n1,\"x\ny\"\n\n\n2,\"q \"\"r\"\"\"\n3".replace('\n', line_break);
        let records = records(&text, b',');
        let lines: Vec<u64> = records.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 7, 8]);
        assert_eq!(records[1].1, ["1".to_owned(), format!("x{line_break}y")]);
        assert_eq!(records[2].1, ["2", "q \"r\""]);
        assert_eq!(records[3].1, ["3"]);
    }

    #[test]
    fn an_unclosed_quotation_mark_is_an_error_of_its_line() {
        let mut records = Records::new(&b"a,b\n1,\"x\n2,y\n"[..], b',');
        let mut cells = Vec::new();
        assert_eq!(records.read(&mut cells).unwrap(), Some(1));
        assert!(records.read(&mut cells).unwrap_err().to_string().starts_with("line 2 has a quotation mark"));
    }

    #[test]
    fn too_many_cells_are_an_error() {
        let error = Records::new(",".repeat(MAX_COLUMNS + 10).as_bytes(), b',').read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "line 1 has more than 1000 cells");
        let mut cells = Vec::new();
        Records::new(",".repeat(MAX_COLUMNS - 1).as_bytes(), b',').read(&mut cells).unwrap();
        assert_eq!(cells.len(), MAX_COLUMNS);
    }

    #[test]
    fn long_cells_are_read() {
        let photo = "A".repeat(1 << 20);
        assert_eq!(records(&format!("a,\"{photo}\"\n"), b',')[0].1[1].len(), 1 << 20);
    }

    #[rstest]
    #[case("sep=,\r\na,b", Some(b','))]
    #[case("SEP=;\na;b", Some(b';'))]
    #[case("sep=\t\na\tb", Some(b'\t'))]
    #[case("\"sep=;\"\na;b", Some(b';'))]
    #[case("sep=;;;;\na;b", Some(b';'))]
    #[case("sep=\na;b", None)]
    #[case("sep=ä\na", None)]
    #[case("separator,b\n", None)]
    #[case("sep=a,b\n", None)]
    #[case("", None)]
    fn separator_lines_are_recognised(#[case] text: &str, #[case] separator: Option<u8>) {
        assert_eq!(read_separator_line(text), separator);
    }

    #[rstest]
    #[case::comma("email,group\na,b\n", b',')]
    #[case::semicolon("email;group\n1,5;2,5\n", b';')]
    #[case::tab("email\tgroup\nLima, Ana\tx\n", b'\t')]
    #[case::bar("email|group\na|b\n", b'|')]
    #[case::one_column("email\na;b\n", b',')]
    #[case::unknown_names("Vorname;Nachname;Ort\nAna;Lima;a,b\nBo;X;c\n", b';')]
    #[case::names_below_a_title("Report; of, today\nemail;group\na;b\n", b';')]
    #[case::quoted("\"email\";\"group, main\"\n\"a\";\"b\"\n", b';')]
    fn the_separator_is_guessed(#[case] text: &str, #[case] separator: u8) {
        let known = |cells: &[String]| cells.iter().filter(|cell| ["email", "group"].contains(&cell.as_str())).count();
        assert_eq!(char::from(guess_separator(text, &known)), char::from(separator));
    }
}
