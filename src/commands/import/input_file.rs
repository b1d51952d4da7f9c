//! The spreadsheet: validated in one pass before anything is sent, then streamed from disk, so that its size does not
//! matter. The gateway validates the rows; this module reports only errors that affect the whole file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use csv::{ByteRecord, ReaderBuilder};
use data_encoding::HEXLOWER;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead as _, AsyncSeekExt as _, ReadBuf};
use tokio::time::Sleep;

use crate::commands::import::kind::Kind;

/// The byte order mark that Excel writes before UTF-8. Not part of the content: with or without it, the file is the
/// same import.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const CHUNK: usize = 64 << 10;

type Hash = [u8; 32];

/// A validated file, ready to be sent.
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    /// Number of rows below the header.
    pub(super) rows: usize,
    /// Whether the file begins with a byte order mark.
    pub(super) marked: bool,
    /// Length in bytes, without the byte order mark.
    pub(super) length: u64,
    hash: Hash,
}

impl InputFile {
    /// Opens, validates and hashes the file.
    ///
    /// # Errors
    /// A message for the user, without the file's name and content.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err("is a directory; expected a CSV file".to_owned());
        }
        if !metadata.is_file() {
            return Err("is not a regular file; the import reads it twice, so save it to a file first".to_owned());
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let marked = is_marked(&mut file).map_err(unreadable)?;
        let mut read = Hashing { inner: BufReader::new(file), hasher: Sha256::new(), length: 0 };
        let rows = rows(&mut read)?;
        Ok(Self { path: path.to_owned(), rows, marked, length: read.length, hash: read.hasher.finalize().into() })
    }

    /// Returns the `Idempotency-Key` of this content: the same content for the same connection is the same import,
    /// whatever the file's name and whenever it is sent.
    pub(super) fn key(&self, kind: Kind, connection: &str) -> String {
        let mut hasher = Sha256::new();
        // Neither the kind nor a connection's name contains a NUL.
        for part in [kind.word(), "\0", connection, "\0"] {
            hasher.update(part);
        }
        hasher.update(self.hash);
        format!("import-{}", HEXLOWER.encode(&hasher.finalize()))
    }

    /// Opens the content as a streamed body. A long one begins after `head_start`: a gateway that rejects the headers
    /// closes the connection, and a client still writing may then never read the response.
    pub(super) async fn body(&self, head_start: Duration) -> io::Result<SheetBody> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        if self.marked {
            file.seek(SeekFrom::Start(BYTE_ORDER_MARK.len() as u64)).await?;
        }
        let wait = (self.length > CHUNK as u64).then(|| Box::pin(tokio::time::sleep(head_start)));
        let (left, expected) = (self.length, self.hash);
        Ok(SheetBody { wait, file, left, hasher: Sha256::new(), expected, buffer: vec![0; CHUNK] })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Skips a byte order mark; returns whether there was one.
fn is_marked(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::with_capacity(BYTE_ORDER_MARK.len());
    file.take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut first)?;
    let marked = first == BYTE_ORDER_MARK;
    if !marked {
        file.rewind()?;
    }
    Ok(marked)
}

/// Reads the whole content and counts the rows below the header.
fn rows(content: impl Read) -> Result<usize, String> {
    let mut reader = ReaderBuilder::new().flexible(true).has_headers(false).from_reader(content);
    let mut record = ByteRecord::new();
    let mut seen = 0_usize;
    while reader.read_byte_record(&mut record).map_err(|error| format!("cannot be read: {error}"))? {
        if seen == 0 {
            check_header(&record)?;
        }
        if record.iter().any(|cell| std::str::from_utf8(cell).is_err()) {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(format!("line {line} is not UTF-8; save the file as \"CSV UTF-8\""));
        }
        seen += 1;
    }
    match seen {
        0 => Err("is empty; expected a line of column names and a line for each row".to_owned()),
        1 => Err("has no rows below the line of column names".to_owned()),
        _ => Ok(seen - 1),
    }
}

/// Rejects two common mistakes of spreadsheet exports that would invalidate every row.
fn check_header(header: &ByteRecord) -> Result<(), String> {
    let first = header.get(0).unwrap_or_default();
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") {
        return Err("is UTF-16; save it as \"CSV UTF-8\"".to_owned());
    }
    let other = [(b';', "semicolons"), (b'\t', "tabs")].into_iter().find(|(byte, _)| first.contains(byte));
    match other {
        Some((_, separators)) if header.len() == 1 => {
            Err(format!("its columns are separated by {separators}; save it with commas"))
        }
        _ => Ok(()),
    }
}

/// A reader that hashes and counts the bytes passing through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    length: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.length += count as u64;
        Ok(count)
    }
}

/// The error for a file that changed between validating and sending it.
#[derive(Debug)]
pub(super) struct Changed;

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file changed while it was being sent")
    }
}

impl std::error::Error for Changed {}

/// The file as a request body of known length. It releases the last chunk only if the whole content still has the
/// validated hash: no other content may arrive under that content's key.
pub(super) struct SheetBody {
    wait: Option<Pin<Box<Sleep>>>,
    file: tokio::fs::File,
    left: u64,
    hasher: Sha256,
    expected: Hash,
    buffer: Vec<u8>,
}

impl Body for SheetBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(context));
            this.wait = None;
        }
        let most = usize::try_from(this.left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut buffer = ReadBuf::new(&mut this.buffer[..most]);
        if let Err(error) = ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let read = buffer.filled();
        this.hasher.update(read);
        this.left -= read.len() as u64;
        let whole = this.left > 0 || Hash::from(this.hasher.clone().finalize()) == this.expected;
        if read.is_empty() || !whole {
            return Poll::Ready(Some(Err(Changed.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(read)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn sheet(content: &[u8]) -> (tempfile::TempDir, Result<InputFile, String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, content).unwrap();
        let sheet = InputFile::open(&path);
        (folder, sheet)
    }

    fn fault(content: &[u8]) -> String {
        sheet(content).1.err().unwrap()
    }

    fn key(content: &[u8]) -> String {
        sheet(content).1.unwrap().key(Kind::Candidates, "main")
    }

    #[test]
    fn counts_the_rows_below_the_header() {
        for (content, rows) in [
            ("externalId,email\na,b\n", 1),
            ("externalId,email\r\na,b\r\n\r\nc,d", 2),
            ("externalId\n\"two\nlines\"\nb,too,many\n", 2),
        ] {
            assert_eq!(sheet(content.as_bytes()).1.unwrap().rows, rows, "{content:?}");
        }
    }

    #[test]
    fn errors_of_the_whole_file_are_reported() {
        assert!(fault(b"").starts_with("is empty"));
        assert!(fault(b"\n\n").starts_with("is empty"));
        assert!(fault(BYTE_ORDER_MARK).starts_with("is empty"));
        assert!(fault(b"externalId,email\n").starts_with("has no rows"));
        assert!(fault(b"externalId;email\na;b\n").contains("semicolons"));
        assert!(fault(b"externalId\temail\na\tb\n").contains("tabs"));
        assert!(fault(b"\xff\xfee\0x\0\n\0").contains("UTF-16"));
        assert!(fault(b"name\nJos\xe9\n").starts_with("line 2 is not UTF-8"));
        assert!(InputFile::open(Path::new("/")).err().unwrap().starts_with("is a directory"));
        assert!(InputFile::open(Path::new("/dev/null")).err().unwrap().starts_with("is not a regular file"));
        assert!(InputFile::open(Path::new("/nowhere.csv")).err().unwrap().starts_with("cannot be read: No such file"));
    }

    #[test]
    fn the_key_depends_on_content_kind_and_connection() {
        let one = key(b"externalId\na\n");
        assert_eq!(one, key(b"externalId\na\n"));
        assert_eq!(one, key(b"\xef\xbb\xbfexternalId\na\n"), "a byte order mark is not part of the content");
        assert_ne!(one, key(b"externalId\nb\n"));
        let sheet = sheet(b"externalId\na\n").1.unwrap();
        assert_ne!(one, sheet.key(Kind::Assignments, "main"));
        assert_ne!(one, sheet.key(Kind::Candidates, "other"));
        assert!(one.starts_with("import-") && one.len() == "import-".len() + 64, "{one}");
    }

    #[tokio::test]
    async fn the_body_omits_the_byte_order_mark() {
        let content = format!("externalId\n{}", "0123456789\n".repeat(30_000));
        let (_folder, sheet) = sheet(format!("\u{feff}{content}").as_bytes());
        let body = sheet.unwrap().body(Duration::ZERO).await.unwrap();
        assert_eq!(body.size_hint().exact(), Some(content.len() as u64));
        assert!(body.collect().await.unwrap().to_bytes() == content.as_bytes());
    }

    #[tokio::test]
    async fn a_changed_file_is_not_sent_completely() {
        for other in ["externalId\nb\n", "externalId\n", ""] {
            let (folder, sheet) = sheet(b"externalId\na\n");
            std::fs::write(folder.path().join("people.csv"), other).unwrap();
            let error = sheet.unwrap().body(Duration::ZERO).await.unwrap().collect().await.unwrap_err();
            assert!(error.is::<Changed>(), "{other:?}: {error}");
        }
    }
}
