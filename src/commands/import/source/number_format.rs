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
    pub(super) fn open(file: &Arc<File>, sheet: &str) -> io::Result<Option<Self>> {
        let part = |name: &str| archive::open_part(BufReader::new(FileReader::new(file, 0)), name);
        let Some(styles) = part("xl/styles.xml")? else { return Ok(None) };
        let formats = read_formats(BufReader::new(styles)).map_err(invalid)?;
        if formats.iter().all(|format| *format == NumberFormat::Plain) {
            return Ok(None);
        }
        let (Some(workbook), Some(relations)) = (part("xl/workbook.xml")?, part("xl/_rels/workbook.xml.rels")?) else {
            return Ok(None);
        };
        let id = find(BufReader::new(workbook), "sheet", ("name", sheet), "r:id").map_err(invalid)?;
        let target = match id {
            Some(id) => find(BufReader::new(relations), "Relationship", ("Id", &id), "Target").map_err(invalid)?,
            None => None,
        };
        let Some(target) = target else { return Ok(None) };
        let path = target.strip_prefix('/').map_or_else(|| format!("xl/{target}"), str::to_owned);
        let Some(content) = part(&path)? else { return Ok(None) };
        Ok(Some(Self { sheet: reader(BufReader::new(content)), formats, buffer: Vec::new() }))
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

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// Returns the attribute `wanted` of the first element of this name with this attribute.
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
                return Ok(attribute(&found, wanted));
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
    let code = code.split(';').next().unwrap_or_default();
    let zeros = code.bytes().filter(|byte| *byte == b'0').count();
    if code.len() == zeros {
        return if zeros > 1 { NumberFormat::Padded(zeros) } else { NumberFormat::Plain };
    }
    let (mut has_letters, mut padding) = (false, 0);
    let (mut is_quoted, mut is_escaped, mut is_in_brackets, mut is_fraction) = (false, false, false, false);
    for sign in code.chars() {
        let is_literal = std::mem::take(&mut is_escaped) || is_quoted && sign != '"';
        match sign {
            _ if is_literal => has_letters |= sign.is_alphanumeric(),
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = true,
            '[' => is_in_brackets = true,
            ']' => is_in_brackets = false,
            '.' if !is_in_brackets => is_fraction = true,
            '0' if !is_in_brackets && !is_fraction => padding += 1,
            _ => {}
        }
    }
    if padding > 1 || has_letters { NumberFormat::Text } else { NumberFormat::Plain }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::padded(NumberFormat::Padded(5), &["00000", "00000;-00000"])]
    #[case::text(NumberFormat::Text, &["\"EMP-\"0000", "00000\\-0000", "000-00-0000", "\\E0", "0 \"x\""])]
    #[case::plain(NumberFormat::Plain, &["0", "#,##0", "#,##0.00", "0.00", "General", "@", "0.00%", "[$-407]#,##0"])]
    fn formats_are_understood(#[case] format: NumberFormat, #[case] codes: &[&str]) {
        for code in codes {
            assert_eq!(format_of(code), format, "{code}");
        }
    }
}
