//! The number formats of a sheet's cells, which the reader of workbooks does not pass on: `00000` shows 123 as 00123, and
//! the person with that id is 00123.

use std::io::{self, BufRead, BufReader, Read};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::sheet::blob::{Blob, BlobReader};
use crate::sheet::source::archive;

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
    formats: Vec<CellFormat>,
    buffer: Vec<u8>,
}

/// The number format of a cell: what it makes of a number depends on the number (ECMA-376-1, 18.8.31).
#[derive(Debug, Clone)]
pub(super) struct CellFormat {
    /// The first whose condition the number meets counts.
    cases: Vec<(Condition, NumberFormat)>,
    /// What counts for the others.
    rest: NumberFormat,
}

/// A condition of a section, such as `[<1000]`.
type Condition = (Comparison, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl CellFormats {
    /// Opens the sheet of this name; `None` if all formats of the workbook are plain.
    ///
    /// # Errors
    /// I/O errors, and `InvalidData` if the workbook has other formats and its sheet is not found.
    pub(super) fn open(file: &Blob, sheet: &str) -> io::Result<Option<Self>> {
        let part = |name: &str| archive::open_part(BufReader::new(BlobReader::new(file, 0)), name);
        let Some(styles) = part("xl/styles.xml")? else { return Ok(None) };
        let formats = read_formats(BufReader::new(styles)).map_err(invalid)?;
        if formats.iter().all(CellFormat::is_plain) {
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

    /// Returns the format of the next cell; `None` if it is plain.
    pub(super) fn read_next(&mut self) -> io::Result<Option<&CellFormat>> {
        loop {
            self.buffer.clear();
            match self.sheet.read_event_into(&mut self.buffer).map_err(invalid)? {
                Event::Start(cell) if cell.local_name().as_ref() == "c" => {
                    let style = attribute(&cell, "s").and_then(|style| style.parse().ok()).unwrap_or(0_usize);
                    return Ok(self.formats.get(style));
                }
                Event::Eof => return Ok(None),
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
fn read_formats(styles: impl BufRead) -> Result<Vec<CellFormat>, quick_xml::Error> {
    let (mut reader, mut buffer) = (reader(styles), Vec::new());
    let (mut custom, mut formats, mut is_in_cells): (Vec<(String, CellFormat)>, _, _) = (Vec::new(), Vec::new(), false);
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer)? {
            Event::Start(element) => match element.local_name().as_ref() {
                "numFmt" => {
                    let id = attribute(&element, "numFmtId").zip(attribute(&element, "formatCode"));
                    custom.extend(id.map(|(id, code)| (id, CellFormat::parse(&code))));
                }
                "cellXfs" => is_in_cells = true,
                "xf" if is_in_cells => {
                    let id = attribute(&element, "numFmtId");
                    let own = custom.iter().find(|(known, _)| Some(known) == id.as_ref());
                    formats.push(own.map_or_else(CellFormat::plain, |(_, format)| format.clone()));
                }
                _ => {}
            },
            Event::End(element) if element.local_name().as_ref() == "cellXfs" => is_in_cells = false,
            Event::Eof => return Ok(formats),
            _ => {}
        }
    }
}

impl CellFormat {
    const fn plain() -> Self {
        Self { cases: Vec::new(), rest: NumberFormat::Plain }
    }

    /// Parses a format code. Where the standard leaves open which section counts and they differ, the number is text.
    fn parse(code: &str) -> Self {
        use Comparison::{Greater, Less};

        let mut sections: Vec<Section<'_>> = split_sections(code).into_iter().map(Section::parse).collect();
        // The last may be that of texts.
        if sections.len() > 3 || (sections.len() > 1 && sections.last().is_some_and(|last| last.is_of_text)) {
            sections.pop();
        }
        let formats: Vec<NumberFormat> = sections.iter().map(|section| format_of(section.code)).collect();
        let (cases, rest) = match (formats.as_slice(), sections.iter().any(|section| section.has_condition)) {
            ([positive], false) => (Vec::new(), *positive),
            ([positive, negative], false) => (vec![((Less, 0.0), *negative)], *positive),
            ([positive, negative, zero], false) => (vec![((Greater, 0.0), *positive), ((Less, 0.0), *negative)], *zero),
            _ => Self::conditional(&sections, &formats),
        };
        Self { cases, rest }
    }

    /// Returns the cases of sections with conditions, and what counts for other numbers.
    fn conditional(
        sections: &[Section<'_>],
        formats: &[NumberFormat],
    ) -> (Vec<(Condition, NumberFormat)>, NumberFormat) {
        let conditions: Vec<Option<Condition>> = sections.iter().map(|section| section.condition).collect();
        if sections.iter().any(|section| section.has_condition && section.condition.is_none()) {
            return (Vec::new(), agreed(formats));
        }
        match (conditions.as_slice(), formats) {
            ([Some(first)], [own]) => (vec![(*first, *own)], agreed(&[*own, NumberFormat::Plain])),
            ([Some(first), None], [own, other]) => (vec![(*first, *own)], *other),
            ([Some(first), Some(second)], [own, other]) => {
                (vec![(*first, *own), (*second, *other)], agreed(&[*own, *other]))
            }
            ([Some(first), None, None], [own, others @ ..]) => (vec![(*first, *own)], agreed(others)),
            ([Some(first), Some(second), None], [own, other, last]) => (vec![(*first, *own), (*second, *other)], *last),
            _ => (Vec::new(), agreed(formats)),
        }
    }

    fn is_plain(&self) -> bool {
        self.rest == NumberFormat::Plain && self.cases.iter().all(|(_, format)| *format == NumberFormat::Plain)
    }

    /// Returns what it makes of this number.
    pub(super) fn of(&self, number: f64) -> NumberFormat {
        let case = self.cases.iter().find(|((comparison, other), _)| comparison.holds(number, *other));
        case.map_or(self.rest, |(_, format)| *format)
    }
}

impl Comparison {
    #[expect(clippy::float_cmp, reason = "a spreadsheet program compares exactly, too")]
    fn holds(self, number: f64, other: f64) -> bool {
        match self {
            Self::Less => number < other,
            Self::LessOrEqual => number <= other,
            Self::Equal => number == other,
            Self::NotEqual => number != other,
            Self::GreaterOrEqual => number >= other,
            Self::Greater => number > other,
        }
    }
}

/// Returns the format if all are the same.
fn agreed(formats: &[NumberFormat]) -> NumberFormat {
    let first = formats.first().copied().unwrap_or(NumberFormat::Plain);
    if formats.iter().all(|format| *format == first) { first } else { NumberFormat::Text }
}

/// Splits a format code at its semicolons, but for those that are quoted.
fn split_sections(code: &str) -> Vec<&str> {
    let (mut sections, mut from, mut is_quoted, mut is_in_brackets) = (Vec::new(), 0, false, false);
    let mut signs = code.char_indices();
    while let Some((at, sign)) = signs.next() {
        match sign {
            '"' if !is_in_brackets => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '[' => is_in_brackets = true,
            ']' => is_in_brackets = false,
            _ if is_in_brackets => {}
            '\\' | '_' | '*' => {
                signs.next();
            }
            ';' => {
                sections.push(&code[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    sections.push(&code[from..]);
    sections
}

/// A section of a format code.
struct Section<'a> {
    /// What is behind colour and condition.
    code: &'a str,
    has_condition: bool,
    /// The condition, if it can be read.
    condition: Option<Condition>,
    /// Whether it is for texts.
    is_of_text: bool,
}

const COLOURS: [&str; 8] = ["black", "blue", "cyan", "green", "magenta", "red", "white", "yellow"];

impl<'a> Section<'a> {
    fn parse(text: &'a str) -> Self {
        let (mut code, mut has_condition, mut condition) = (text, false, None);
        while let Some((word, rest)) = code.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let folded = word.to_ascii_lowercase();
            if word.starts_with(['<', '>', '=']) {
                (has_condition, condition) = (true, parse_condition(word));
            } else if !COLOURS.contains(&folded.as_str()) && !folded.starts_with("color") {
                break;
            }
            code = rest;
        }
        Self { code, has_condition, condition, is_of_text: code.contains('@') && !code.contains(['0', '#', '?']) }
    }
}

fn parse_condition(word: &str) -> Option<Condition> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};

    let signs =
        [("<=", LessOrEqual), (">=", GreaterOrEqual), ("<>", NotEqual), ("<", Less), (">", Greater), ("=", Equal)];
    let (sign, comparison) = signs.into_iter().find(|(sign, _)| word.starts_with(sign))?;
    Some((comparison, word[sign.len()..].trim().parse().ok()?))
}

/// Returns what a section makes of a whole number.
fn format_of(section: &str) -> NumberFormat {
    let zeros = section.bytes().filter(|byte| *byte == b'0').count();
    if section.len() == zeros {
        return if zeros > 1 { NumberFormat::Padded(zeros) } else { NumberFormat::Plain };
    }
    let (mut is_quoted, mut is_in_brackets, mut is_fraction) = (false, false, false);
    let (mut has_digits, mut is_interrupted, mut is_text, mut padding) = (false, false, false, 0);
    let mut signs = section.chars();
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
            assert_eq!(CellFormat::parse(code).of(1.0), format, "{code}");
        }
    }

    /// The code, a number, and what the section that applies to the number makes of it.
    #[rstest]
    #[case::below("[<1000]000;0", 7.0, NumberFormat::Padded(3))]
    #[case::not_below("[<1000]000;0", 1000.0, NumberFormat::Plain)]
    #[case::other_section_padded("[<1000]0;00000", 1000.0, NumberFormat::Padded(5))]
    #[case::up_to("[<=1000]000;0", 1000.0, NumberFormat::Padded(3))]
    #[case::colour_first("[Red][>=5]000;[Blue]0", 5.0, NumberFormat::Padded(3))]
    #[case::second_condition("[=1]0;[<>2]000;00", 3.0, NumberFormat::Padded(3))]
    #[case::neither_condition("[=1]0;[<>2]000;00", 2.0, NumberFormat::Padded(2))]
    #[case::negative("0;\"minus \"0", -7.0, NumberFormat::Text)]
    #[case::positive("0;\"minus \"0", 7.0, NumberFormat::Plain)]
    #[case::zero("000;-000;\"none\"", 0.0, NumberFormat::Text)]
    #[case::zero_of_two("000;-000", 0.0, NumberFormat::Padded(3))]
    #[case::zero_of_two_and_text("000;-000;@", 0.0, NumberFormat::Padded(3))]
    #[case::section_of_texts("0;@\" (text)\"", -7.0, NumberFormat::Plain)]
    #[case::four("0;-0;000;@", 0.0, NumberFormat::Padded(3))]
    #[case::quoted_semicolon("\"a;b\"0;0", -1.0, NumberFormat::Plain)]
    #[case::unclear_where_they_differ("[<1000]000", 1000.0, NumberFormat::Text)]
    #[case::unclear_and_the_same("0;[<5]0", 1.0, NumberFormat::Plain)]
    #[case::unclear_second("0;[<5]00", 7.0, NumberFormat::Text)]
    #[case::unclear_third("[<5]0;00;000", 7.0, NumberFormat::Text)]
    #[case::no_number("[<A1]000;0", 7.0, NumberFormat::Text)]
    fn the_section_that_applies_to_the_number_decides(
        #[case] code: &str,
        #[case] number: f64,
        #[case] format: NumberFormat,
    ) {
        assert_eq!(CellFormat::parse(code).of(number), format);
    }
}
