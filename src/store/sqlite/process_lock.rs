//! Ensures that one process at a time serves from a database: another process must not take its writes under way for
//! abandoned.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::store::StoreError;

/// The exclusive right to serve from a database; the operating system releases it when the process ends, even by a
/// crash.
pub(super) struct ProcessLock {
    _lock: File,
}

impl ProcessLock {
    /// Acquires the right by locking an empty file beside the database (`<name>.lock`). `database` must contain no
    /// symbolic links. The locks of `SQLite` itself would not do: it holds them only for moments, and an operator may
    /// inspect or copy the database meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if another process has the right, or the file cannot be created.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = Path::new(&path);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let unusable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        let file = options.open(path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Unavailable("another process is serving from this database".to_owned()))
            }
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}
