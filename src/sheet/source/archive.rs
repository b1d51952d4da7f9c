//! Bounds of a workbook before it is opened. An .xlsx file is a ZIP archive of XML, and a small one can hold gigabytes:
//! the parts that are read are inflated once without being kept, so that none can exhaust the memory.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

/// How large a workbook may be when it is inflated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkbookLimits {
    /// The parts that are kept in memory: texts, styles, names of sheets.
    pub(crate) kept: u64,
    /// The sheets, which are read as a stream.
    pub(crate) sheets: u64,
}

impl Default for WorkbookLimits {
    fn default() -> Self {
        Self { kept: 256 << 20, sheets: 4 << 30 }
    }
}

/// Maximum length of one text or tag. A cell has at most 32,767 characters.
const MAX_TOKEN: u64 = 1 << 20;
const MAX_PARTS: usize = 10_000;
const MAX_DIRECTORY: u64 = 16 << 20;

/// Length and signature of the end-of-central-directory record, and of what precedes each part
/// (<https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, sections 4.3.7, 4.3.12 and 4.3.16).
const END_LENGTH: usize = 22;
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const MAX_COMMENT: u64 = 0xffff;
const ENTRY_LENGTH: usize = 46;
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
const LOCAL_LENGTH: usize = 30;

const DEFLATED: u16 = 8;

/// A part of the archive.
struct Part {
    name: String,
    method: u16,
    compressed: u64,
    offset: u64,
}

/// Checks that the workbook can be read in bounded memory.
///
/// # Errors
/// I/O errors, and a sentence (`InvalidData`) about an archive that is damaged or too large.
pub(super) fn check(mut file: impl Read + Seek, limits: WorkbookLimits) -> io::Result<()> {
    let parts = read_parts(&mut file)?;
    if !parts.iter().any(|part| part.name.eq_ignore_ascii_case("xl/workbook.xml")) {
        return Err(invalid(
            "is a ZIP archive but not an Excel workbook; extract it, or save the table as .xlsx or CSV",
        ));
    }
    let (mut kept, mut sheets) = (0, 0);
    for part in parts.iter().filter(|part| is_read(&part.name)) {
        let scan = inflate(&mut file, part, limits.kept.max(limits.sheets))?;
        if scan.name_count.is_some_and(|count| count > scan.length) {
            return Err(damaged());
        }
        let (sum, most) = if part.name.to_ascii_lowercase().starts_with("xl/worksheets/") {
            (&mut sheets, limits.sheets)
        } else {
            (&mut kept, limits.kept)
        };
        *sum += scan.length;
        if *sum > most {
            return Err(too_large());
        }
    }
    Ok(())
}

/// Returns whether the reader of the workbook may open this part.
fn is_read(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_xml = [".xml", ".rels"].iter().any(|end| name.ends_with(end));
    is_xml && !["docprops/", "customxml/", "xl/drawings/", "xl/charts/"].iter().any(|folder| name.starts_with(folder))
}

fn read_parts(file: &mut (impl Read + Seek)) -> io::Result<Vec<Part>> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail = read_at(file, length.saturating_sub(MAX_COMMENT + END_LENGTH as u64), MAX_COMMENT + END_LENGTH as u64)?;
    let starts = (0..=tail.len().saturating_sub(END_LENGTH)).rev();
    let start = starts.into_iter().find(|start| tail[*start..].starts_with(END_SIGNATURE)).ok_or_else(damaged)?;
    let end = &tail[start..];
    let (size, offset) = (u64::from(u32_at(end, 12)?), u64::from(u32_at(end, 16)?));
    if size > MAX_DIRECTORY || offset == u64::from(u32::MAX) {
        return Err(too_large());
    }
    let directory = read_at(file, offset, size)?;
    let mut rest = directory.as_slice();
    let mut parts = Vec::new();
    while rest.starts_with(ENTRY_SIGNATURE) {
        if parts.len() == MAX_PARTS {
            return Err(too_large());
        }
        let lengths = [28, 30, 32].map(|place| u16_at(rest, place).map(usize::from));
        let [name, extra, comment] = lengths;
        let (name, extra, comment) = (name?, extra?, comment?);
        let bytes = rest.get(ENTRY_LENGTH..ENTRY_LENGTH + name).ok_or_else(damaged)?;
        parts.push(Part {
            name: String::from_utf8_lossy(bytes).replace('\\', "/"),
            method: u16_at(rest, 10)?,
            compressed: u32_at(rest, 20)?.into(),
            offset: u32_at(rest, 42)?.into(),
        });
        rest = rest.get(ENTRY_LENGTH + name + extra + comment..).ok_or_else(damaged)?;
    }
    Ok(parts)
}

/// What a pass over a part finds.
struct Scan {
    /// Inflated length.
    length: u64,
    /// The number of texts that the part claims to have.
    name_count: Option<u64>,
}

/// Opens a part of a workbook that was checked; `None` if it has none of this name.
pub(super) fn open_part<'f>(mut file: impl Read + Seek + 'f, name: &str) -> io::Result<Option<Box<dyn Read + 'f>>> {
    let parts = read_parts(&mut file)?;
    let Some(part) = parts.iter().find(|part| part.name.eq_ignore_ascii_case(name)) else { return Ok(None) };
    inflated(file, part).map(Some)
}

fn inflate(file: &mut (impl Read + Seek), part: &Part, most: u64) -> io::Result<Scan> {
    scan(inflated(file, part)?, most)
}

fn inflated<'f>(mut file: impl Read + Seek + 'f, part: &Part) -> io::Result<Box<dyn Read + 'f>> {
    let local = read_at(&mut file, part.offset, LOCAL_LENGTH as u64)?;
    let skipped = u64::from(u16_at(&local, 26)?) + u64::from(u16_at(&local, 28)?);
    file.seek(SeekFrom::Start(part.offset + LOCAL_LENGTH as u64 + skipped))?;
    let compressed = file.take(part.compressed);
    Ok(if part.method == DEFLATED { Box::new(DeflateDecoder::new(compressed)) } else { Box::new(compressed) })
}

/// Reads the content to its end, or fails where it is longer than `most`.
fn scan(mut content: impl Read, most: u64) -> io::Result<Scan> {
    let mut found = Scan { length: 0, name_count: None };
    let mut token = 0;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = match content.read(&mut chunk) {
            Ok(0) => return Ok(found),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(damaged()),
        };
        if found.length == 0 {
            found.name_count = read_count(&chunk[..count]);
        }
        found.length += count as u64;
        for piece in chunk[..count].split_inclusive(|byte| *byte == b'<') {
            token += piece.len() as u64;
            if token > MAX_TOKEN || found.length > most {
                return Err(too_large());
            }
            if piece.ends_with(b"<") {
                token = 0;
            }
        }
    }
}

/// Reads `uniqueCount="…"` of the texts: the reader reserves memory for that many.
fn read_count(beginning: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"uniqueCount";
    let place = beginning.windows(NAME.len()).position(|window| window == NAME)?;
    let value = beginning[place + NAME.len()..].iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = value.take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

fn read_at(file: &mut (impl Read + Seek), offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], place: usize) -> io::Result<u16> {
    let bytes = bytes.get(place..place + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_le_bytes).ok_or_else(damaged)
}

fn u32_at(bytes: &[u8], place: usize) -> io::Result<u32> {
    let bytes = bytes.get(place..place + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_le_bytes).ok_or_else(damaged)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn damaged() -> io::Error {
    invalid("is a damaged Excel workbook; open it in a spreadsheet program and save it again")
}

fn too_large() -> io::Error {
    invalid("is an Excel workbook that is too large when unpacked; save the sheet as \"CSV UTF-8\"")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use super::*;

    /// An archive with stored or deflated parts; `claim` is the number of texts it claims.
    pub(in crate::sheet::source) fn archive(parts: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, method, data) in parts {
            let offset = u32::try_from(bytes.len()).unwrap();
            let (name_length, length) = (u16::try_from(name.len()).unwrap(), u32::try_from(data.len()).unwrap());
            let mut entry = vec![0; ENTRY_LENGTH];
            entry[..4].copy_from_slice(ENTRY_SIGNATURE);
            entry[10..12].copy_from_slice(&method.to_le_bytes());
            let mut checksum = flate2::Crc::new();
            checksum.update(data);
            entry[16..20].copy_from_slice(&checksum.sum().to_le_bytes());
            entry[20..24].copy_from_slice(&length.to_le_bytes());
            entry[24..28].copy_from_slice(&length.to_le_bytes());
            entry[28..30].copy_from_slice(&name_length.to_le_bytes());
            entry[42..46].copy_from_slice(&offset.to_le_bytes());
            directory.extend([entry.as_slice(), name.as_bytes()].concat());
            let mut local = vec![0; LOCAL_LENGTH];
            local[..4].copy_from_slice(b"PK\x03\x04");
            local[26..28].copy_from_slice(&name_length.to_le_bytes());
            bytes.extend([local.as_slice(), name.as_bytes(), data].concat());
        }
        let mut end = vec![0; END_LENGTH];
        end[..4].copy_from_slice(END_SIGNATURE);
        let count = u16::try_from(parts.len()).unwrap().to_le_bytes();
        end[8..12].copy_from_slice(&[count, count].concat());
        end[12..16].copy_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
        end[16..20].copy_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        [bytes, directory, end].concat()
    }

    fn deflated(data: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        flate2::read::DeflateEncoder::new(data, flate2::Compression::fast()).read_to_end(&mut compressed).unwrap();
        compressed
    }

    fn fault(parts: &[(&str, u16, Vec<u8>)]) -> String {
        check(Cursor::new(archive(parts)), WorkbookLimits::default()).unwrap_err().to_string()
    }

    const WORKBOOK: &str = "xl/workbook.xml";

    #[test]
    fn an_ordinary_workbook_passes() {
        let sheet = deflated("<row><c>1</c></row>".repeat(100_000).as_bytes());
        let parts = [(WORKBOOK, 0, b"<workbook/>".to_vec()), ("xl/worksheets/sheet1.xml", DEFLATED, sheet)];
        check(Cursor::new(archive(&parts)), WorkbookLimits::default()).unwrap();
        let large = check(Cursor::new(archive(&parts)), WorkbookLimits { kept: 1 << 10, sheets: 1 << 20 }).unwrap_err();
        assert!(large.to_string().contains("too large when unpacked"), "{large}");
    }

    #[test]
    fn a_cell_without_end_is_too_large() {
        let bomb = deflated(&vec![b'a'; 2 << 20]);
        let message = fault(&[(WORKBOOK, 0, Vec::new()), ("xl/worksheets/sheet1.xml", DEFLATED, bomb)]);
        assert!(message.contains("too large when unpacked"), "{message}");
    }

    #[test]
    fn a_false_number_of_texts_is_damage() {
        let texts = b"<sst count=\"1\" uniqueCount=\"99999999999\"><si/></sst>".to_vec();
        let message = fault(&[(WORKBOOK, 0, Vec::new()), ("xl/sharedStrings.xml", 0, texts)]);
        assert!(message.contains("damaged"), "{message}");
    }

    #[test]
    fn other_archives_and_damaged_ones_are_named() {
        assert!(fault(&[("people.csv", 0, b"a,b".to_vec())]).contains("ZIP archive but not an Excel workbook"));
        assert!(
            check(Cursor::new(b"PK\x03\x04".to_vec()), WorkbookLimits::default())
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
        let broken = vec![0xff; 100];
        assert!(fault(&[(WORKBOOK, DEFLATED, broken)]).contains("damaged"));
    }
}
