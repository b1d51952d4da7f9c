//! The content that is sent: hashed when it was validated, then streamed, so that its size does not matter.

use std::fmt;
use std::io::{self, Read as _, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::sheet::blob::{Blob, BlobReader};

const CHUNK: usize = 64 << 10;

/// A hash of the whole content.
pub(super) type Hash = [u8; 32];

/// The content of an open table from a position on.
pub(super) struct Content {
    blob: Blob,
    start: u64,
    /// Length in bytes.
    pub(super) length: u64,
    pub(super) hash: Hash,
}

impl Content {
    /// Reads and hashes the table from this position on.
    pub(super) fn read(blob: Blob, start: u64) -> io::Result<Self> {
        let mut writer = HashingWriter::new(io::sink());
        io::copy(&mut BlobReader::new(&blob, start), &mut writer)?;
        let (length, hash) = writer.finish()?;
        Ok(Self { blob, start, length, hash })
    }

    /// Returns what a [`HashingWriter`] has written here.
    pub(super) fn written(blob: Blob, length: u64, hash: Hash) -> Self {
        Self { blob, start: 0, length, hash }
    }

    /// Returns a reader of the content.
    pub(super) fn reader(&self) -> impl io::Read + use<> {
        BlobReader::new(&self.blob, self.start).take(self.length)
    }

    /// Returns the content as a streamed body. A long one begins after `head_start`: a gateway that rejects the headers
    /// closes the connection, and a client still writing may then never read the response.
    pub(super) fn body(&self, head_start: Duration) -> SheetBody {
        SheetBody {
            wait: (self.length > CHUNK as u64).then(|| Box::pin(tokio::time::sleep(head_start))),
            blob: self.blob.clone(),
            position: self.start,
            left: self.length,
            hasher: Sha256::new(),
            expected: self.hash,
            reading: None,
        }
    }
}

/// A writer that hashes and counts the bytes passing through it.
pub(super) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    length: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), length: 0 }
    }

    /// Flushes the writer and returns length and hash of all that was written.
    pub(super) fn finish(mut self) -> io::Result<(u64, Hash)> {
        self.inner.flush()?;
        Ok((self.length, self.hasher.finalize().into()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
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

/// The content as a request body of known length. It releases the last chunk only if the whole content still has the
/// validated hash: no other content may arrive under that content's key.
pub(super) struct SheetBody {
    wait: Option<Pin<Box<Sleep>>>,
    blob: Blob,
    position: u64,
    left: u64,
    hasher: Sha256,
    expected: Hash,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
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
        let most = this.left.min(CHUNK as u64);
        let reader = BlobReader::new(&this.blob, this.position);
        let reading = this.reading.get_or_insert_with(|| tokio::task::spawn_blocking(move || read_chunk(reader, most)));
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        let chunk = match read.map_err(io::Error::from).flatten() {
            Ok(chunk) => chunk,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        this.hasher.update(&chunk);
        this.position += chunk.len() as u64;
        this.left -= chunk.len() as u64;
        let whole = this.left > 0 || Hash::from(this.hasher.clone().finalize()) == this.expected;
        if chunk.is_empty() || !whole {
            return Poll::Ready(Some(Err(Changed.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn read_chunk(reader: BlobReader, most: u64) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    reader.take(most).read_to_end(&mut chunk)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn content(folder: &tempfile::TempDir, text: &str, start: u64) -> Content {
        let path = folder.path().join("people.csv");
        std::fs::write(&path, text).unwrap();
        Content::read(std::fs::File::open(path).unwrap().into(), start).unwrap()
    }

    #[tokio::test]
    async fn the_body_is_the_content_from_its_start_on() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("externalId\n{}", "0123456789\n".repeat(30_000));
        let content = content(&folder, &format!("\u{feff}{text}"), 3);
        for _ in 0..2 {
            let body = content.body(Duration::ZERO);
            assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
            assert!(body.collect().await.unwrap().to_bytes() == text.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_not_sent_completely() {
        for other in ["externalId\nb\n", "externalId\n", ""] {
            let folder = tempfile::tempdir().unwrap();
            let content = content(&folder, "externalId\na\n", 0);
            std::fs::write(folder.path().join("people.csv"), other).unwrap();
            let error = content.body(Duration::ZERO).collect().await.unwrap_err();
            assert!(error.is::<Changed>(), "{other:?}: {error}");
        }
    }
}
