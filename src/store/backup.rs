//! Results of backing up and restoring a store.

use std::path::PathBuf;

use jiff::Timestamp;

/// Why a store cannot be backed up or restored: a sentence for the operator that names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(pub String);

/// A backup that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenBackup {
    /// The faults of the index of blind values that were found in the database and mended in the copy, if any.
    pub mended: Option<String>,
}

/// A restored backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredBackup {
    /// The file that holds the replaced database, if there was one.
    pub kept: Option<PathBuf>,
    /// The last time that a gateway noted in the backup, within a minute of its end; older schemas have none.
    pub until: Option<Timestamp>,
    /// The faults of the index of blind values that were found in the backup and mended, if any.
    pub mended: Option<String>,
}
