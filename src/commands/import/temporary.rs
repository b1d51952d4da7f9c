//! Temporary files without a name: private, and gone when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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

/// Opens the file, or standard input without one. What can be read only once is copied to a temporary file.
pub(super) fn open_table(path: Option<&Path>, process: &Process) -> io::Result<File> {
    let Some(path) = path else { return spool(io::stdin().lock(), process) };
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is a directory; expected a table"));
    }
    let file = File::open(path)?;
    if metadata.is_file() { Ok(file) } else { spool(file, process) }
}

fn spool(mut content: impl io::Read, process: &Process) -> io::Result<File> {
    let mut file = create_nameless(process)?;
    io::copy(&mut content, &mut file)?;
    file.rewind()?;
    Ok(file)
}
