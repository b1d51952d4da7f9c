//! Inspects a database file without changing anything, even while a process serves from it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::connect;
use crate::store::{Inspection, Keyring, SchemaChange, StoreError};

/// Characters that need no escaping in a `file:` URI.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Reports what opening the file would change.
///
/// # Errors
/// As opening it, as far as they can be detected without writing.
pub(super) fn inspect(path: &Path, keyring: &Keyring) -> Result<Inspection, StoreError> {
    let path = connect::location(path)?;
    let unusable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match path.parent().map(Path::is_dir) {
                Some(true) => Ok(Inspection { schema: SchemaChange::Create, registers_key: true }),
                _ => Err(StoreError::Unavailable(format!("{}: its directory does not exist", path.display()))),
            };
        }
        found => found.map_err(unusable)?,
    };
    let path = connect::canonical(&path)?;
    // Test write access before `SQLite` opens the file: closing any descriptor of a file releases all locks of the
    // process on it.
    drop(OpenOptions::new().write(true).open(&path).map_err(unusable)?);
    if !has_log(&path) {
        let found = immutable(&path)
            .and_then(|connection| look(&connection, keyring))
            .map_err(|error| connect::with_path(&path, error));
        // A process that started serving meanwhile may have changed the file during the read.
        if !has_log(&path) {
            return found;
        }
    }
    connect::reader(&path, connect::BUSY_TIMEOUT)
        .and_then(|connection| look(&connection, keyring))
        .map_err(|error| connect::with_path(&path, error))
}

/// Returns whether the file has a write-ahead log: one exists while a process serves, and after a process was killed.
pub(super) fn has_log(path: &Path) -> bool {
    let mut log = OsString::from(path);
    log.push("-wal");
    Path::new(&log).exists()
}

/// Opens a connection to a file that no process writes to. Any other kind of connection would create the log files
/// beside it and leave them there.
pub(super) fn immutable(path: &Path) -> Result<Connection, StoreError> {
    let address = format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_encoded_bytes(), PLAIN));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE
        | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(address, flags)?)
}

/// Reports what serving from the database of this connection would change.
pub(super) fn look(connection: &Connection, keyring: &Keyring) -> Result<Inspection, StoreError> {
    connect::refuse_foreign(connection)?;
    let (version, _) = connect::version(connection)?;
    let schema = SchemaChange::between(version, connect::MIGRATIONS.len());
    let mut registers_key = true;
    if schema != SchemaChange::Create {
        let mut statement = connection.prepare("SELECT id FROM keys")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: Vec<u8> = row.get(0)?;
            keyring.require(&id)?;
            registers_key &= id != keyring.current_id();
        }
    }
    Ok(Inspection { schema, registers_key })
}
