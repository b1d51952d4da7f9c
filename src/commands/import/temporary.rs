//! Temporary files without a name: private, and gone when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use crate::commands::Process;

const DEFAULT_FOLDER: &str = "/tmp";

/// Creates an empty file that only this process can reach: its name is removed at once.
pub(super) fn create_nameless(process: &Process) -> io::Result<File> {
    let folder = process.variable("TMPDIR").map_or(Path::new(DEFAULT_FOLDER), Path::new);
    let path = folder.join(format!(".examgate-{}", HEXLOWER.encode(&process.environment.random::<8>())));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// A reader with a position of its own, so that several can read one open file.
pub(super) struct FileReader {
    file: Arc<File>,
    position: u64,
}

impl FileReader {
    /// Creates a reader that begins at this position.
    pub(super) fn new(file: &Arc<File>, position: u64) -> Self {
        Self { file: Arc::clone(file), position }
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file.metadata()?.len().checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn readers_of_one_file_do_not_disturb_each_other() {
        let mut file = create_nameless(&Process::current()).unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        let (mut one, mut other) = (FileReader::new(&file, 0), FileReader::new(&file, 4));
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
    }
}
