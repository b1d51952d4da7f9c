//! The table as the user has it: a text file in any usual encoding and with any usual separator, or an Excel
//! workbook. Everything about the form is settled here; the other modules see rows of cells,
//! each with the line an editor shows.

use std::io::{self, BufReader, Read as _};

use self::csv::Records;
use self::encoding::{DecodingReader, Encoding, TextEncoding};
use self::row::RowVisitor;
use crate::sheet::blob::{Blob, BlobReader};
use crate::sheet::wording::Wording;

mod archive;
mod csv;
mod encoding;
mod number_format;
mod row;
mod xlsx;

pub(crate) use self::archive::WorkbookLimits;
pub(crate) use self::encoding::EncodingName;
pub(crate) use self::row::{CellCheck, OddCell};

/// How much of a text decides its separator.
const SAMPLE: usize = 64 << 10;

/// The options about the form of the table.
#[derive(Default)]
pub(crate) struct SourceOptions<'a> {
    pub(crate) separator: Option<u8>,
    pub(crate) encoding: Option<EncodingName>,
    pub(crate) sheet: Option<&'a str>,
    pub(crate) limits: WorkbookLimits,
    pub(crate) wording: Wording,
}

/// An open table.
pub(crate) struct Source {
    pub(crate) content: Blob,
    form: Form,
    wording: Wording,
    /// What was guessed, for the user.
    pub(crate) notes: Vec<String>,
    /// What to do if no column of the table is known, and if the table is not understood.
    pub(crate) wrong_separator: Option<String>,
    pub(crate) other_sheets: Option<String>,
}

enum Form {
    Text { encoding: Encoding, mark: u64, separator: u8, has_separator_line: bool },
    Workbook { sheet: String, others: Vec<String> },
}

impl Source {
    /// Opens the content and finds out its form. `count_known` counts the column names it
    /// knows in a row.
    ///
    /// # Errors
    /// A sentence for the user, without the file's name and content.
    pub(crate) fn open(
        content: Blob,
        options: &SourceOptions<'_>,
        count_known: &dyn Fn(&[String]) -> usize,
    ) -> Result<Self, String> {
        let mut first = Vec::new();
        BlobReader::new(&content, 0).take(8).read_to_end(&mut first).map_err(unreadable)?;
        match first.as_slice() {
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" => Err(OLD_WORKBOOK.to_owned()),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::open_workbook(content, options),
            _ => Self::open_text(content, options, count_known),
        }
    }

    fn open_workbook(content: Blob, options: &SourceOptions<'_>) -> Result<Self, String> {
        let wording = options.wording;
        let unfit = [
            ("--separator", options.separator.is_some()),
            (wording.choose("--encoding", "an encoding"), options.encoding.is_some()),
        ];
        if let Some((option, _)) = unfit.iter().find(|(_, is_given)| *is_given) {
            return Err(format!("is an Excel workbook, and {option} is for text files; omit it"));
        }
        let chosen = xlsx::choose_sheet(&content, options)?;
        let (mut notes, mut other_sheets) = (Vec::new(), None);
        if options.sheet.is_none() && !chosen.others.is_empty() {
            let (name, count) = (&chosen.name, chosen.others.len() + 1);
            let other = wording.choose("--sheet names another", "you can choose another");
            notes.push(format!("read the sheet {name:?}, the first of {count}; {other}"));
            let others = chosen.others.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            other_sheets = Some(format!(
                "this is the sheet {name:?}; if the table is in another one, {}: {others}",
                wording.choose("name it with --sheet", "choose that")
            ));
        }
        let form = Form::Workbook { sheet: chosen.name, others: chosen.others };
        Ok(Self { content, form, wording, notes, wrong_separator: None, other_sheets })
    }

    fn open_text(
        content: Blob,
        options: &SourceOptions<'_>,
        count_known: &dyn Fn(&[String]) -> usize,
    ) -> Result<Self, String> {
        if options.sheet.is_some() {
            let option = options.wording.choose("--sheet", "a sheet");
            return Err(format!("is a text file, and {option} is for Excel workbooks; omit it"));
        }
        let reader = BufReader::with_capacity(SAMPLE, BlobReader::new(&content, 0));
        let found = encoding::detect(reader, options.encoding, options.wording).map_err(unreadable)?;
        let TextEncoding { encoding, mark, guessed_at_line } = found;
        let mut notes = Vec::new();
        if let Some(line) = guessed_at_line {
            let other = options.wording.choose("--encoding names another", "you can choose another encoding");
            notes.push(format!("not UTF-8 (line {line}); read as {}; {other}", encoding.name()));
        } else if encoding != Encoding::Utf8 && options.encoding.is_none() {
            notes.push(format!("read as {}", encoding.name()));
        }
        let mut sample = Vec::new();
        let reader = DecodingReader::new(BlobReader::new(&content, mark), encoding, options.wording);
        reader.take(SAMPLE as u64).read_to_end(&mut sample).map_err(unreadable)?;
        // The sample may end within a character.
        let sample = String::from_utf8_lossy(&sample);
        let line = csv::read_separator_line(&sample);
        let guess = csv::guess_separator(&sample, count_known);
        let given = options.separator.or(line);
        if given.is_none() && guess != b',' {
            notes.push(format!("separated by {}", name_separator(guess)));
        }
        let wrong_separator = given.filter(|given| *given != guess).map(|given| {
            let (given, guess) = (char::from(given), name_separator(guess));
            let cure = match options.separator {
                Some(_) => "omit --separator, or give another",
                None => options
                    .wording
                    .choose("delete the first line, or name the separator with --separator", "delete the first line"),
            };
            format!("no column is known if {given:?} separates the cells; they seem to be separated by {guess}: {cure}")
        });
        let separator = given.unwrap_or(guess);
        let form = Form::Text { encoding, mark, separator, has_separator_line: line.is_some() };
        Ok(Self { content, form, wording: options.wording, notes, wrong_separator, other_sheets: None })
    }

    /// Returns where the content begins, behind a byte order mark, if the file is what the gateway itself reads: UTF-8,
    /// separated by commas.
    pub(crate) fn plain_start(&self) -> Option<u64> {
        match self.form {
            Form::Text { encoding: Encoding::Utf8, mark, separator: b',', has_separator_line: false } => Some(mark),
            _ => None,
        }
    }

    /// Returns whether a row with fewer cells than the header is complete: a workbook stores no empty cells.
    pub(crate) fn omits_empty_cells(&self) -> bool {
        matches!(self.form, Form::Workbook { .. })
    }

    /// Returns the sheet that is read and the others that the workbook shows; `None` for a text.
    pub(crate) fn sheets(&self) -> Option<(&str, &[String])> {
        match &self.form {
            Form::Workbook { sheet, others } => Some((sheet, others)),
            Form::Text { .. } => None,
        }
    }

    /// Passes each row and its line to `each` until that returns false. Empty lines are not rows.
    ///
    /// # Errors
    /// A sentence about the file, and the errors of `each`.
    pub(crate) fn read_rows(&self, each: &mut RowVisitor<'_>) -> Result<(), String> {
        self.read_checked_rows(&|_, _, _, _| false, each)
    }

    /// As [`Self::read_rows`]; refuses the cells of a workbook that `must_refuse` rejects.
    ///
    /// # Errors
    /// A sentence about the file or these cells, and the errors of `each`.
    pub(crate) fn read_checked_rows(
        &self,
        must_refuse: &CellCheck<'_>,
        each: &mut RowVisitor<'_>,
    ) -> Result<(), String> {
        match &self.form {
            Form::Workbook { sheet, .. } => xlsx::read_rows(&self.content, sheet, must_refuse, each),
            Form::Text { encoding, mark, separator, has_separator_line } => {
                let reader = DecodingReader::new(BlobReader::new(&self.content, *mark), *encoding, self.wording);
                let mut records = Records::new(reader, *separator);
                let mut cells = Vec::new();
                if *has_separator_line {
                    records.read(&mut cells).map_err(unreadable)?;
                }
                while let Some(line) = records.read(&mut cells).map_err(unreadable)? {
                    if !each(line, &cells)? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

const OLD_WORKBOOK: &str = "is an old Excel workbook (.xls), or one protected by a password; save it as an Excel \
                            workbook (.xlsx) without a password, or as \"CSV UTF-8\"";

/// Describes the error; the readers' own sentences need no introduction.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn unreadable(error: io::Error) -> String {
    if error.kind() == io::ErrorKind::InvalidData { error.to_string() } else { format!("cannot be read: {error}") }
}

fn name_separator(separator: u8) -> &'static str {
    match separator {
        b';' => "semicolons",
        b'\t' => "tabs",
        b'|' => "bars",
        _ => "commas",
    }
}

/// Parses the value of `--separator`.
///
/// # Errors
/// A sentence about the accepted values.
pub(crate) fn parse_separator(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        "comma" => Ok(b','),
        "semicolon" => Ok(b';'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && ![b'"', b'\r', b'\n'].contains(byte) => {
                Ok(*byte)
            }
            _ => Err("expected one character such as `;`, or `tab`".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    type ReadRows = (Vec<(u64, String)>, Vec<String>);

    fn rows(content: &[u8], options: &SourceOptions<'_>) -> Result<ReadRows, String> {
        let content = Blob::Memory(content.to_vec().into());
        let known = |cells: &[String]| cells.iter().filter(|cell| cell.contains("externalId")).count();
        let source = Source::open(content, options, &known)?;
        let mut rows = Vec::new();
        source.read_rows(&mut |line, cells| {
            rows.push((line, cells.join("·")));
            Ok(true)
        })?;
        Ok((rows, source.notes))
    }

    #[rstest]
    #[case::plain(b"externalId,n\na,b\n", &["1 externalId·n", "2 a·b"], &[])]
    #[case::marked(b"\xef\xbb\xbfexternalId,n\r\na,b", &["1 externalId·n", "2 a·b"], &[])]
    #[case::german_excel(b"externalId;n\r\n1;J\xfcrgen\r\n", &["1 externalId·n", "2 1·Jürgen"],
        &["not UTF-8 (line 2); read as windows-1252; --encoding names another", "separated by semicolons"])]
    #[case::separator_line(b"sep=;\r\nexternalId;n\r\n1;x,y\r\n", &["2 externalId·n", "3 1·x,y"], &[])]
    #[case::utf16(b"\xff\xfee\0x\0t\0e\0r\0n\0a\0l\0I\0d\0\t\0n\0\n\x001\0\t\0\xe9\0\n\0",
        &["1 externalId·n", "2 1·é"], &["read as UTF-16", "separated by tabs"])]
    fn texts_of_every_form_are_read(#[case] content: &[u8], #[case] expected: &[&str], #[case] notes: &[&str]) {
        let (rows, found) = rows(content, &SourceOptions::default()).unwrap();
        assert_eq!(rows.iter().map(|(line, cells)| format!("{line} {cells}")).collect::<Vec<_>>(), expected);
        assert_eq!(found, notes);
    }

    #[rstest]
    #[case::old_workbook(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "is an old Excel workbook (.xls)")]
    #[case::archive(b"PK\x03\x04rest", "is a damaged Excel workbook")]
    #[case::binary(b"a\n\x00\x01", "line 2 has a zero byte")]
    fn other_files_are_named(#[case] content: &[u8], #[case] message: &str) {
        let fault = rows(content, &SourceOptions::default()).unwrap_err();
        assert!(fault.starts_with(message), "{fault}");
    }

    #[test]
    fn options_of_the_other_form_are_errors() {
        let sheet = SourceOptions { sheet: Some("People"), ..SourceOptions::default() };
        assert!(rows(b"a,b\n", &sheet).unwrap_err().contains("--sheet is for Excel workbooks"));
        let separator = SourceOptions { separator: Some(b';'), ..SourceOptions::default() };
        assert!(rows(b"PK\x03\x04", &separator).unwrap_err().contains("--separator is for text files"));
    }

    #[test]
    fn the_options_decide() {
        let (separator, encoding) = (Some(b'|'), Some(EncodingName::Windows1252));
        let options = SourceOptions { separator, encoding, ..SourceOptions::default() };
        let (rows, notes) = rows(b"a|b;c\n\xe9|\xc3\xa9\n", &options).unwrap();
        assert_eq!(rows, [(1, "a·b;c".to_owned()), (2, "é·Ã©".to_owned())]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn separators_are_named_or_written() {
        for (text, separator) in
            [(";", b';'), ("tab", b'\t'), ("\\t", b'\t'), ("\t", b'\t'), ("|", b'|'), ("comma", b',')]
        {
            assert_eq!(parse_separator(text), Ok(separator));
        }
        for text in ["", "ab", "\"", "a", "ä", "\n"] {
            assert!(parse_separator(text).is_err(), "{text:?}");
        }
    }
}
