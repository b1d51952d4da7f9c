//! One process serves from a database at a time: what another has under way must not be taken for abandoned.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::store::StoreError;

/// The right to serve from a database; the system takes it back when the process ends, however it ends.
pub(super) struct ProcessLock {
    _lock: File,
}

impl ProcessLock {
    /// Takes the right, by a lock on an empty file beside the database (`<name>.lock`), whose path has no symbolic links. The
    /// database's own locks are held for moments only, and a person may look at it or copy it meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if another process has it, or the file cannot be made.
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
