//! Encodings of text files: recognised from the bytes, then decoded to UTF-8 as the file is read.

use std::io::{self, BufRead, BufReader, Read};

use clap::ValueEnum;
use encoding_rs::{Decoder, DecoderResult, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::domain::table::lines::LineCounter;
use crate::sheet::wording::Wording;

const CHUNK: usize = 64 << 10;
/// How much of a file decides whether it is UTF-16 without a byte order mark.
const SAMPLE: u64 = CHUNK as u64;
/// The zero bytes that the shortest table has in UTF-16.
const MIN_ZEROS: usize = 4;
/// Bytes that have no character in windows-1252.
const UNDEFINED_1252: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// The value of `--encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EncodingName {
    #[value(name = "utf-8")]
    Utf8,
    /// UTF-16 with a byte order mark, or little-endian
    #[value(name = "utf-16")]
    Utf16,
    #[value(name = "utf-16le")]
    Utf16Le,
    #[value(name = "utf-16be")]
    Utf16Be,
    /// Western European, as Excel's plain "CSV"
    #[value(name = "windows-1252", alias = "cp1252", alias = "latin1", alias = "iso-8859-1")]
    Windows1252,
}

impl EncodingName {
    /// Returns whether a file that begins with the byte order mark of this encoding can be in the one named.
    const fn admits(self, marked: Encoding) -> bool {
        match self {
            Self::Utf8 => matches!(marked, Encoding::Utf8),
            Self::Utf16 => matches!(marked, Encoding::Utf16Le | Encoding::Utf16Be),
            Self::Utf16Le => matches!(marked, Encoding::Utf16Le),
            Self::Utf16Be => matches!(marked, Encoding::Utf16Be),
            Self::Windows1252 => false,
        }
    }
}

/// An encoding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    Windows1252,
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le | Self::Utf16Be => "UTF-16",
            Self::Windows1252 => "windows-1252",
        }
    }

    fn decoder(self) -> Decoder {
        let encoding = match self {
            Self::Utf8 => UTF_8,
            Self::Utf16Le => UTF_16LE,
            Self::Utf16Be => UTF_16BE,
            Self::Windows1252 => WINDOWS_1252,
        };
        encoding.new_decoder_without_bom_handling()
    }
}

/// The encoding of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextEncoding {
    pub(super) encoding: Encoding,
    /// Length of the byte order mark in bytes.
    pub(super) mark: u64,
    /// The first line that is not UTF-8, if windows-1252 is a guess.
    pub(super) guessed_at_line: Option<u64>,
}

/// Finds the encoding: the name given, else the byte order mark, else what the bytes can be.
///
/// # Errors
/// I/O errors, and a sentence (`InvalidData`) about a file that is no text, or in an encoding that must be named.
pub(super) fn detect(
    mut content: impl BufRead,
    given: Option<EncodingName>,
    wording: Wording,
) -> io::Result<TextEncoding> {
    let first = read_first(&mut content)?;
    let marked = match first.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => Some((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => Some((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => Some((Encoding::Utf16Be, 2)),
        _ => None,
    };
    // The mark decides: a file that begins with one is in no other encoding.
    if let (Some(name), Some((encoding, _))) = (given, marked)
        && !name.admits(encoding)
    {
        let option = wording.choose("leave out --encoding", "choose no encoding");
        let detail = format!("begins with the byte order mark of {}; {option}", encoding.name());
        return Err(invalid(detail));
    }
    let found = |encoding| {
        let mark = marked.filter(|(marked, _)| *marked == encoding).map_or(0, |(_, length)| length);
        Ok(TextEncoding { encoding, mark, guessed_at_line: None })
    };
    let of_mark = marked.map(|(encoding, _)| encoding);
    let given = given.map(|name| match name {
        EncodingName::Utf8 => Encoding::Utf8,
        EncodingName::Utf16 => of_mark.filter(|it| *it == Encoding::Utf16Be).unwrap_or(Encoding::Utf16Le),
        EncodingName::Utf16Le => Encoding::Utf16Le,
        EncodingName::Utf16Be => Encoding::Utf16Be,
        EncodingName::Windows1252 => Encoding::Windows1252,
    });
    match given.or(of_mark) {
        Some(encoding) => found(encoding),
        None => guess(first.as_slice().chain(content), wording),
    }
}

/// Reads the bytes a byte order mark may have.
fn read_first(content: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(3);
    content.take(3).read_to_end(&mut first)?;
    Ok(first)
}

fn guess(mut content: impl BufRead, wording: Wording) -> io::Result<TextEncoding> {
    let mut sample = Vec::new();
    (&mut content).take(SAMPLE).read_to_end(&mut sample)?;
    let found = |encoding, guessed_at_line| Ok(TextEncoding { encoding, mark: 0, guessed_at_line });
    if let Some(encoding) = guess_utf16(&sample) {
        return found(encoding, None);
    }
    let mut scan = Scan::default();
    let mut content = sample.as_slice().chain(content);
    loop {
        let bytes = content.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        scan.pass(bytes);
        let count = bytes.len();
        content.consume(count);
    }
    match scan.end() {
        Scan { zero_at: Some(line), .. } => Err(invalid(format!(
            "line {line} has a zero byte: this is no text file; save the table as CSV or as an Excel workbook (.xlsx)"
        ))),
        Scan { invalid_at: None, .. } => found(Encoding::Utf8, None),
        Scan { invalid_at: Some(line), has_multibyte: true, .. } => Err(invalid(format!(
            "line {line} is not UTF-8, although others have characters in UTF-8; correct it, or {}",
            wording
                .choose("name the encoding of the whole file with --encoding", "choose the encoding of the whole file")
        ))),
        Scan { undefined_at: Some(line), .. } => Err(invalid(format!(
            "line {line} is neither UTF-8 nor windows-1252; save the file as \"CSV UTF-8\", or as an Excel workbook \
             (.xlsx)"
        ))),
        scan => found(Encoding::Windows1252, scan.invalid_at),
    }
}

/// Recognises UTF-16 by the zero bytes of its ASCII characters: separators, digits and line breaks are such.
fn guess_utf16(sample: &[u8]) -> Option<Encoding> {
    let (even, odd) = sample
        .chunks_exact(2)
        .fold((0, 0), |(even, odd), pair| (even + usize::from(pair[0] == 0), odd + usize::from(pair[1] == 0)));
    // At least a fifth of the characters are ASCII, and hardly a zero is on the other side.
    let is_common =
        |zeros: usize, others: usize| zeros >= MIN_ZEROS && zeros * 10 >= sample.len() && others * 20 <= zeros;
    if is_common(odd, even) {
        Some(Encoding::Utf16Le)
    } else if is_common(even, odd) {
        Some(Encoding::Utf16Be)
    } else {
        None
    }
}

/// What a pass over all bytes finds, by the line where it is first.
#[derive(Default)]
struct Scan {
    lines: LineCounter,
    /// Not UTF-8.
    invalid_at: Option<u64>,
    /// Whether there are characters of UTF-8 beyond ASCII, which hardly occur in another encoding.
    has_multibyte: bool,
    /// Not windows-1252.
    undefined_at: Option<u64>,
    zero_at: Option<u64>,
    /// The beginning of a character that the next bytes complete.
    incomplete: Vec<u8>,
}

impl Scan {
    fn pass(&mut self, bytes: &[u8]) {
        self.pass_utf8(bytes);
        for (index, byte) in bytes.iter().enumerate() {
            if *byte == 0 {
                self.zero_at.get_or_insert(self.lines.number());
            }
            if UNDEFINED_1252.contains(byte) {
                self.undefined_at.get_or_insert(self.lines.number());
            }
            self.lines.pass(&bytes[index..=index]);
        }
    }

    fn pass_utf8(&mut self, bytes: &[u8]) {
        if self.invalid_at.is_some() && self.has_multibyte {
            return;
        }
        let begun = self.incomplete.len();
        let joined = [std::mem::take(&mut self.incomplete).as_slice(), bytes].concat();
        self.has_multibyte |= joined.utf8_chunks().any(|chunk| !chunk.valid().is_ascii());
        let Err(error) = std::str::from_utf8(&joined) else { return };
        if self.invalid_at.is_some() {
            return;
        }
        if error.error_len().is_none() {
            self.incomplete = joined[error.valid_up_to()..].to_vec();
        } else {
            let mut lines = self.lines.clone();
            lines.pass(&bytes[..error.valid_up_to().saturating_sub(begun)]);
            self.invalid_at = Some(lines.number());
        }
    }

    fn end(mut self) -> Self {
        if !self.incomplete.is_empty() {
            self.invalid_at.get_or_insert(self.lines.number());
        }
        self
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A reader that decodes to UTF-8 and fails at the first byte that is not in the encoding.
pub(super) struct DecodingReader<R> {
    inner: BufReader<R>,
    encoding: Encoding,
    decoder: Decoder,
    output: Vec<u8>,
    /// The part of the output that has not been read.
    unread: std::ops::Range<usize>,
    has_ended: bool,
    lines: LineCounter,
    wording: Wording,
}

impl<R: Read> DecodingReader<R> {
    pub(super) fn new(inner: R, encoding: Encoding, wording: Wording) -> Self {
        Self {
            inner: BufReader::with_capacity(CHUNK, inner),
            encoding,
            decoder: encoding.decoder(),
            output: vec![0; CHUNK],
            unread: 0..0,
            has_ended: false,
            lines: LineCounter::default(),
            wording,
        }
    }

    fn decode(&mut self) -> io::Result<()> {
        while self.unread.is_empty() && !self.has_ended {
            let input = self.inner.fill_buf()?;
            let last = input.is_empty();
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(input, &mut self.output, last);
            self.inner.consume(read);
            self.unread = 0..written;
            self.lines.pass(&self.output[..written]);
            self.has_ended = last && result == DecoderResult::InputEmpty;
            if matches!(result, DecoderResult::Malformed(..)) {
                let (line, name) = (self.lines.number(), self.encoding.name());
                let cure = self.wording.choose("name the encoding with --encoding", "choose the encoding");
                return Err(invalid(format!("line {line} is not {name}; {cure}")));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for DecodingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decode()?;
        let count = self.unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.output[self.unread.start..self.unread.start + count]);
        self.unread.start += count;
        Ok(count)
    }
}

/// Encodes a text, for tests of the readers.
#[cfg(test)]
pub(super) fn encoded(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Encoding::Windows1252 => WINDOWS_1252.encode(text).0.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: &str = "externalId;name.givenName\r\n1;Jürgen\r\n2;René\r\n";

    fn detected(content: &[u8]) -> TextEncoding {
        detect(content, None, Wording::Options).unwrap()
    }

    #[rstest]
    #[case::one_byte(b"externalId\nJ\xc3\xbcrgen\nJ\xfcrgen\n", None, "line 3 is not UTF-8, although others have")]
    #[case::before(b"externalId\nJ\xfcrgen\nJ\xc3\xbcrgen\n", None, "line 2 is not UTF-8, although others have")]
    #[case::cut(b"externalId\n\xc3\x9cn\xe2", None, "line 2 is not UTF-8, although others have")]
    #[case::mark(
        b"\xef\xbb\xbfexternalId\n",
        Some(EncodingName::Windows1252),
        "begins with the byte order mark of UTF-8"
    )]
    #[case::order(b"\xfe\xff\0e\0x", Some(EncodingName::Utf16Le), "begins with the byte order mark of UTF-16")]
    fn a_contradiction_is_an_error(
        #[case] content: &[u8],
        #[case] given: Option<EncodingName>,
        #[case] expected: &str,
    ) {
        let message = detect(content, given, Wording::Options).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }

    #[rstest]
    #[case::utf8(Encoding::Utf8, b"\xef\xbb\xbf")]
    #[case::utf16le(Encoding::Utf16Le, b"\xff\xfe")]
    #[case::utf16be(Encoding::Utf16Be, b"\xfe\xff")]
    fn a_byte_order_mark_decides(#[case] encoding: Encoding, #[case] mark: &[u8]) {
        let content = [mark, &encoded(TEXT, encoding)].concat();
        let found = detected(&content);
        assert_eq!(found, TextEncoding { encoding, mark: mark.len() as u64, guessed_at_line: None });
        assert_eq!(detected(mark).encoding, encoding, "an empty file with a byte order mark");
    }

    #[rstest]
    #[case::utf8(Encoding::Utf8, None)]
    #[case::utf16le(Encoding::Utf16Le, None)]
    #[case::utf16be(Encoding::Utf16Be, None)]
    #[case::windows_1252(Encoding::Windows1252, Some(2))]
    fn the_bytes_decide_without_a_mark(#[case] encoding: Encoding, #[case] guessed_at_line: Option<u64>) {
        let content = encoded(TEXT, encoding);
        assert_eq!(detected(&content), TextEncoding { encoding, mark: 0, guessed_at_line });
        let mut text = String::new();
        DecodingReader::new(content.as_slice(), encoding, Wording::Options).read_to_string(&mut text).unwrap();
        assert_eq!(text, TEXT);
    }

    #[test]
    fn a_character_may_lie_across_two_reads() {
        let content = "ä€😀".repeat(10);
        let mut scan = Scan::default();
        content.as_bytes().iter().for_each(|byte| scan.pass(&[*byte]));
        assert_eq!(scan.end().invalid_at, None);
        let mut scan = Scan::default();
        content.as_bytes()[..content.len() - 1].iter().for_each(|byte| scan.pass(&[*byte]));
        assert_eq!(scan.end().invalid_at, Some(1));
    }

    #[test]
    fn the_name_given_decides() {
        let content = encoded(TEXT, Encoding::Utf16Be);
        let given = |content: &[u8], name| detect(content, Some(name), Wording::Options).unwrap().encoding;
        assert_eq!(given(&content, EncodingName::Utf16Be), Encoding::Utf16Be);
        assert_eq!(given(&[b"\xfe\xff", content.as_slice()].concat(), EncodingName::Utf16), Encoding::Utf16Be);
        assert_eq!(given(b"a\0b\0", EncodingName::Utf16), Encoding::Utf16Le);
        assert_eq!(given("ä".as_bytes(), EncodingName::Windows1252), Encoding::Windows1252);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let fault = |content: &[u8]| detect(content, None, Wording::Options).unwrap_err().to_string();
        assert!(fault(b"a,b\n\x00\x01\x02").starts_with("line 2 has a zero byte"));
        assert!(fault(b"a,b\r\n1,2\r\n\x8e\x81,x").starts_with("line 3 is neither UTF-8 nor windows-1252"));
    }

    #[rstest]
    #[case::utf8(Encoding::Utf8, b"a\nb\n\xe9\n", "line 3 is not UTF-8")]
    #[case::utf16(Encoding::Utf16Le, b"a\0\n\0\x00\xd8b\0", "line 2 is not UTF-16")]
    fn a_malformed_line_is_named(#[case] encoding: Encoding, #[case] content: &[u8], #[case] message: &str) {
        let error =
            DecodingReader::new(content, encoding, Wording::Options).read_to_string(&mut String::new()).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
