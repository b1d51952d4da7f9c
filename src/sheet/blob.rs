//! The bytes of a table: an open file, or a part of the memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes that can be read at any position, by several readers at a time.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    /// An open file.
    File(Arc<File>),
    /// Bytes in memory.
    Memory(Bytes),
}

impl Blob {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, position),
            Self::Memory(bytes) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)
            }
        }
    }
}

impl From<File> for Blob {
    fn from(file: File) -> Self {
        Self::File(Arc::new(file))
    }
}

/// A reader with a position of its own.
pub(crate) struct BlobReader {
    blob: Blob,
    position: u64,
}

impl BlobReader {
    /// Creates a reader that begins at this position.
    pub(crate) fn new(blob: &Blob, position: u64) -> Self {
        Self { blob: blob.clone(), position }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.blob.length()?.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(blob: &Blob) {
        let (mut one, mut other) = (BlobReader::new(blob, 0), BlobReader::new(blob, 4));
        let mut text = [0; 2];
        one.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"01");
        other.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"45");
        one.seek(SeekFrom::End(-1)).unwrap();
        let mut rest = String::new();
        one.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "9");
        assert!(one.seek(SeekFrom::Current(-11)).is_err());
        one.seek(SeekFrom::Start(11)).unwrap();
        assert_eq!(one.read(&mut text).unwrap(), 0, "nothing is behind the end");
    }

    #[test]
    fn readers_do_not_disturb_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        check(&file.into());
        check(&Blob::Memory(Bytes::from_static(b"0123456789")));
    }
}
