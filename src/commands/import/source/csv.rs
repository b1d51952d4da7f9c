//! Records of separated text, each with the line it begins on, and the guess which character separates.

use std::io::{self, BufRead, BufReader, Read};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::domain::table::lines::LineCounter;

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
    core: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    lines: LineCounter,
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R, separator: u8) -> Self {
        let mut core = ReaderBuilder::new().delimiter(separator).build();
        // The byte order mark is removed already. The reader would remove another; it stops looking once it has read
        // something.
        let _nothing = core.read_record(b"\n", &mut [0], &mut [0]);
        let input = BufReader::with_capacity(64 << 10, input);
        Self { input, core, text: vec![0; 4096], ends: vec![0; 64], lines: LineCounter::default() }
    }

    /// Skips the rest of the current line.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        let line = self.lines.number();
        while self.lines.number() == line {
            let bytes = self.input.fill_buf()?;
            let Some(byte) = bytes.first().copied() else { return Ok(()) };
            self.lines.pass(&[byte]);
            self.input.consume(1);
        }
        Ok(())
    }

    /// Reads the next record into `cells` and returns the line it begins on; `None` at the end. Empty lines are not
    /// records.
    ///
    /// # Errors
    /// I/O errors, and a sentence (`InvalidData`) about a record that cannot be read.
    pub(super) fn read(&mut self, cells: &mut Vec<String>) -> io::Result<Option<u64>> {
        self.skip_line_breaks()?;
        let line = self.lines.number();
        let broken = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {line} {what}")));
        let (mut written, mut count) = (0, 0);
        let mut has_begun = false;
        loop {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            if at_end && !has_begun {
                return Ok(None);
            }
            // The file need not end with a line break. Within a quoted cell another one would be part of the cell.
            let input = if at_end { b"\n" } else { input };
            let (result, read, wrote, ends) =
                self.core.read_record(input, &mut self.text[written..], &mut self.ends[count..]);
            if !at_end {
                has_begun |= read > 0;
                self.lines.pass(&input[..read]);
                self.input.consume(read);
            }
            (written, count) = (written + wrote, count + ends);
            match result {
                ReadRecordResult::InputEmpty if at_end => {
                    return broken(
                        "has a quotation mark (\") that is never closed; close it, or double it if it is text",
                    );
                }
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.text.len() >= MAX_RECORD => {
                    return broken("begins a row of more than 16 MiB; is a quotation mark missing?");
                }
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= MAX_COLUMNS => {
                    return broken(&format!("has more than {MAX_COLUMNS} cells"));
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize((self.ends.len() * 2).min(MAX_COLUMNS), 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        self.take_cells(count, cells);
        Ok(Some(line))
    }

    fn take_cells(&self, count: usize, cells: &mut Vec<String>) {
        cells.resize_with(count, String::new);
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        for (cell, (start, end)) in cells.iter_mut().zip(starts.zip(&self.ends[..count])) {
            cell.clear();
            // The input is UTF-8, and the separators are ASCII.
            cell.push_str(&String::from_utf8_lossy(&self.text[start..*end]));
        }
    }

    fn skip_line_breaks(&mut self) -> io::Result<()> {
        loop {
            let input = self.input.fill_buf()?;
            let breaks = input.iter().take_while(|byte| [b'\r', b'\n'].contains(byte)).count();
            if breaks == 0 {
                return Ok(());
            }
            self.lines.pass(&input[..breaks]);
            self.input.consume(breaks);
        }
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
