//! The number formats of a sheet's cells, which the reader of workbooks does not pass on: `00000` shows 123 as 00123, and
//! the person with that id is 00123.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::commands::import::source::archive;
use crate::commands::import::temporary::FileReader;

/// What a number format makes of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// Its digits, perhaps with separators, a currency or decimals.
    Plain,
    /// At least this many digits.
    Padded(usize),
    /// Other text, such as `EMP-00123` or `00-123`.
    Text,
}

/// The formats of a sheet's cells, in their order.
pub(super) struct CellFormats {
    sheet: Reader<BufReader<Box<dyn Read>>>,
    formats: Vec<NumberFormat>,
    buffer: Vec<u8>,
}

impl CellFormats {
    /// Opens the sheet of this name; `None` if all formats of the workbook are plain.
    ///
    /// # Errors
    /// I/O errors, and `InvalidData` if the workbook has other formats and its sheet is not found.
    pub(super) fn open(file: &Arc<File>, sheet: &str) -> io::Result<Option<Self>> {
        let part = |name: &str| archive::open_part(BufReader::new(FileReader::new(file, 0)), name);
        let Some(styles) = part("xl/styles.xml")? else { return Ok(None) };
        let formats = read_formats(BufReader::new(styles)).map_err(invalid)?;
        if formats.iter().all(|format| *format == NumberFormat::Plain) {
            return Ok(None);
        }
        // Without the sheet's formats a number would be sent without the zeros that it is shown with.
        let open = |name: &str| part(name).and_then(|found| found.map(BufReader::new).ok_or_else(no_formats));
        let id = find(open("xl/workbook.xml")?, "sheet", ("name", sheet), "id").map_err(invalid)?;
        let id = id.ok_or_else(no_formats)?;
        let target = find(open("xl/_rels/workbook.xml.rels")?, "Relationship", ("Id", &id), "Target");
        let target = target.map_err(invalid)?.ok_or_else(no_formats)?;
        let path = target.strip_prefix('/').map_or_else(|| format!("xl/{target}"), str::to_owned);
        Ok(Some(Self { sheet: reader(open(&path)?), formats, buffer: Vec::new() }))
    }

    /// Returns the format of the next cell.
    pub(super) fn read_next(&mut self) -> io::Result<NumberFormat> {
        loop {
            self.buffer.clear();
            match self.sheet.read_event_into(&mut self.buffer).map_err(invalid)? {
                Event::Start(cell) if cell.local_name().as_ref() == "c" => {
                    let style = attribute(&cell, "s").and_then(|style| style.parse().ok()).unwrap_or(0_usize);
                    return Ok(self.formats.get(style).copied().unwrap_or(NumberFormat::Plain));
                }
                Event::Eof => return Ok(NumberFormat::Plain),
                _ => {}
            }
        }
    }
}

fn reader<R: BufRead>(content: R) -> Reader<R> {
    let mut reader = Reader::from_reader(content);
    // As the reader of workbooks reads it.
    let config = reader.config_mut();
    config.check_end_names = false;
    config.expand_empty_elements = true;
    reader
}

fn invalid(error: quick_xml::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn no_formats() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the number formats of the sheet are not found")
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// Returns the attribute of this name with any prefix; of several the last, as the reader of workbooks does.
fn prefixed_attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = element.attributes();
    let named = attributes.with_checks(false).flatten().filter(|it| it.key.local_name().as_ref() == name);
    Some(named.last()?.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// Returns the attribute `wanted`, with any prefix, of the first element of this name with this attribute.
fn find(
    content: impl BufRead,
    element: &str,
    (name, value): (&str, &str),
    wanted: &str,
) -> Result<Option<String>, quick_xml::Error> {
    let (mut reader, mut buffer) = (reader(content), Vec::new());
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer)? {
            Event::Start(found)
                if found.local_name().as_ref() == element && attribute(&found, name).as_deref() == Some(value) =>
            {
                return Ok(prefixed_attribute(&found, wanted));
            }
            Event::Eof => return Ok(None),
            _ => {}
        }
    }
}

/// Reads the number formats of the cell styles, in their order.
fn read_formats(styles: impl BufRead) -> Result<Vec<NumberFormat>, quick_xml::Error> {
    let (mut reader, mut buffer) = (reader(styles), Vec::new());
    let (mut custom, mut formats, mut is_in_cells): (Vec<(String, NumberFormat)>, _, _) =
        (Vec::new(), Vec::new(), false);
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer)? {
            Event::Start(element) => match element.local_name().as_ref() {
                "numFmt" => {
                    let id = attribute(&element, "numFmtId").zip(attribute(&element, "formatCode"));
                    custom.extend(id.map(|(id, code)| (id, format_of(&code))));
                }
                "cellXfs" => is_in_cells = true,
                "xf" if is_in_cells => {
                    let id = attribute(&element, "numFmtId");
                    let own = custom.iter().find(|(known, _)| Some(known) == id.as_ref());
                    formats.push(own.map_or(NumberFormat::Plain, |(_, format)| *format));
                }
                _ => {}
            },
            Event::End(element) if element.local_name().as_ref() == "cellXfs" => is_in_cells = false,
            Event::Eof => return Ok(formats),
            _ => {}
        }
    }
}

/// Returns what the first section of a format code, that of positive numbers, makes of a whole number.
fn format_of(code: &str) -> NumberFormat {
    let first = code.split(';').next().unwrap_or_default();
    let zeros = first.bytes().filter(|byte| *byte == b'0').count();
    if first.len() == zeros {
        return if zeros > 1 { NumberFormat::Padded(zeros) } else { NumberFormat::Plain };
    }
    let (mut is_quoted, mut is_in_brackets, mut is_fraction) = (false, false, false);
    let (mut has_digits, mut is_interrupted, mut is_text, mut padding) = (false, false, false, 0);
    let mut signs = code.chars();
    while let Some(sign) = signs.next() {
        let literal = match sign {
            _ if is_in_brackets => {
                is_in_brackets = sign != ']';
                None
            }
            '"' => {
                is_quoted = !is_quoted;
                None
            }
            _ if is_quoted => Some(sign),
            ';' => break,
            '\\' => signs.next(),
            '-' | '/' | '(' | ')' | ':' => Some(sign),
            // A blank as wide as the next character, and one that fills the cell.
            '_' | '*' => {
                signs.next();
                None
            }
            '[' => {
                is_in_brackets = true;
                None
            }
            '.' => {
                is_fraction = true;
                None
            }
            '0' | '#' | '?' => {
                is_text |= is_interrupted;
                has_digits = true;
                padding += usize::from(sign == '0' && !is_fraction);
                None
            }
            _ => None,
        };
        if let Some(literal) = literal {
            let is_separator = literal.is_whitespace() || matches!(literal, ',' | '.' | '%');
            is_text |= literal.is_alphanumeric();
            is_interrupted |= has_digits && !is_separator;
        }
    }
    if padding > 1 || is_text { NumberFormat::Text } else { NumberFormat::Plain }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::padded(NumberFormat::Padded(5), &["00000", "00000;-00000"])]
    #[case::text(NumberFormat::Text, &["\"EMP-\"0000", "00000\\-0000", "000-00-0000", "\\E0", "0 \"x\""])]
    #[case::interrupted(NumberFormat::Text, &["#-####", "##\"/\"###", "#\\-0", "(###)###", "#:##", "0.0-0", "\";\"00"])]
    #[case::width_and_fill(NumberFormat::Plain, &["0_0", "0*0", "_-* #,##0_-", "_(* #,##0_);_(* \\(#,##0\\)", "#_-#"])]
    #[case::not_interrupted(NumberFormat::Plain, &["(0)", "-#,##0", "#\\ ##0", "#\".\"###", "[$-407]0", "0;#-#"])]
    #[case::plain(NumberFormat::Plain, &["0", "#,##0", "#,##0.00", "0.00", "General", "@", "0.00%", "[$-407]#,##0"])]
    fn formats_are_understood(#[case] format: NumberFormat, #[case] codes: &[&str]) {
        for code in codes {
            assert_eq!(format_of(code), format, "{code}");
        }
    }
}
